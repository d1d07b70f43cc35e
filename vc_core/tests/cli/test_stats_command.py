"""``virtc stats``, and what it reads of the host."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest
from commands import virtc

import vc_core as vc
from vc_core import aio
from vc_core.cli.stats import size
from vc_core.host.usage import usage_of

#: A child of a child that has 64 MiB and works for a while, and then waits.
WORKS = """
import os, sys
if os.fork():
    os.wait()
    sys.exit()
memory = b"x" * (64 << 20)
while os.times().user < 0.3:
    pass
print("done", flush=True)
sys.stdin.read()
"""


def test_what_processes_use_counts_their_descendants() -> None:
    command = [sys.executable, "-c", WORKS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        used = usage_of([process.pid])
        process.communicate()
    assert used.memory is not None
    assert used.cpu_seconds is not None
    assert used.memory > 64 << 20
    assert used.cpu_seconds >= 0.3
    assert used.pids == 2


def test_a_process_that_has_ended_uses_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert usage_of([process.pid]) == vc.VMUsage(cpu_seconds=0.0, pids=0)


def test_a_process_that_is_named_twice_counts_once() -> None:
    assert usage_of([os.getpid(), os.getpid()]).pids == usage_of([os.getpid()]).pids


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (150 << 20, "150MiB"), (3 << 50, "3072TiB")],
)
def test_sizes_are_short(number: int | None, text: str) -> None:
    assert size(number) == text


def test_running_pods_are_measured_once_and_again(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.create_pod(mock_config("p0"))
    pod = vc.run_pod(mock_config("p1", containers=2))
    one = pod.stats()
    assert (one.pod_id, one.vm, list(one.containers)) == ("p1", None, ["c1", "c2"])
    first, second = itertools.islice(vc.watch_stats(interval=0.1), 2)
    assert [len(first), len(second)] == [1, 1]
    assert second[0].time - first[0].time >= 0.09
    pod.stop()
    assert next(vc.watch_stats()) == []

    async def watch() -> None:
        async with aclosing(aio.watch_stats()) as samples:
            async for sample in samples:
                assert sample == []
                break

    asyncio.run(watch())


def test_a_pod_that_stops_is_left_out_from_then_on(mock_config: Callable[..., vc.PodConfig]) -> None:
    pod = vc.run_pod(mock_config())
    samples = vc.watch_stats("p1", interval=0.01)
    assert len(next(samples)) == 1
    pod.stop()
    assert next(samples) == []


def test_the_command_measures_an_interval(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.run_pod(mock_config())
    done = virtc("stats", "--no-stream", "--interval", "0.05")
    assert done.stdout.splitlines()[1].split() == ["p1/c1", *"-------"]
    (pod,) = msgspec.json.decode(virtc("stats", "--no-stream", "--json", "--interval", "0.05", "p1").stdout)
    assert pod["pod_id"] == "p1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nope",), "no pod has the id 'nope'"),
        (("p1",), "pod 'p1' is ready; measuring what it uses needs it running"),
        (("--interval", "0"), "interval is 0.0; give a number of seconds, more than 0"),
    ],
)
def test_bad_input_is_one_sentence(
    mock_config: Callable[..., vc.PodConfig], arguments: tuple[str, ...], sentence: str
) -> None:
    vc.create_pod(mock_config())
    done = virtc("stats", "--no-stream", *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
