"""``virtc logs``."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import aclosing, closing

import click
import pytest
from commands import virtc

import vc_core as vc
from vc_core import aio
from vc_core.cli.logs import logs
from vc_core.cli.times import moment
from vc_core.engine.logs import ContainerLog
from vc_core.store.roots import Roots
from vc_core.store.status import container_log


def write(roots: Roots, *pieces: tuple[bytes, int]) -> None:
    """Append to the log of the pod's first container, as its supervisor does."""
    log = ContainerLog(container_log(roots, "p1", "c1"), resumed=True)
    for data, stream in pieces:
        log.write(data, stream)
    log.close()


@pytest.fixture
def logged(roots: Roots, mock_config: Callable[..., vc.PodConfig]) -> vc.Pod:
    """Return a pod whose container, the only one, wrote two lines and a half."""
    pod = vc.create_pod(mock_config())
    write(roots, (b"one\ntw", 0), (b"\xffoops\x1b[2J\n", 1), (b"o\nend", 0))
    return pod


def test_output_and_error_output_are_printed_byte_for_byte_in_their_places(logged: vc.Pod) -> None:
    lines = list(logged.container("c1").logs())
    assert [(line.stream, line.data) for line in lines] == [
        ("stdout", b"one\n"),
        ("stderr", b"\xffoops\x1b[2J\n"),
        ("stdout", b"two\n"),
        ("stdout", b"end"),
    ]
    assert virtc("logs", "--stdout", "p1").stdout == "one\ntwo\nend"


def test_options_choose_lines(logged: vc.Pod) -> None:
    assert virtc("logs", "--tail", "1", "p1/c1").stdout == "end"
    assert virtc("logs", "--stdout", "-n", "0", "p1").stdout == ""
    assert virtc("logs", "--stdout", "--tail", "all", "p1").stdout == "one\ntwo\nend"
    assert virtc("logs", "--stdout", "--since", "1h", "p1").stdout == "one\ntwo\nend"
    assert virtc("logs", "--stdout", "--since", str(time.time() + 60), "p1").stdout == ""


def test_time_stamps_are_those_of_the_arrival_in_utc(logged: vc.Pod) -> None:
    stamp, _, rest = virtc("logs", "--stdout", "-t", "--tail", "1", "p1").stdout.partition(" ")
    assert rest == "end"
    assert stamp.endswith("Z")
    assert abs(since(stamp) - time.time()) < 60


def test_what_a_guest_wrote_cannot_steer_a_terminal(logged: vc.Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    assert virtc("logs", "--stderr", "p1").stderr == "\\udcffoops\\x1b[2J\n"


def test_a_pod_with_several_containers_asks_for_one(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.create_pod(mock_config(containers=2))
    done = virtc("logs", "p1")
    assert done.returncode == 1
    assert "pod 'p1' has the containers 'c1', 'c2'; name one, as p1/c1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nope",), "no pod has the id 'nope'"),
        (("p1/nope",), "pod 'p1' has no container 'nope'; it has 'c1'"),
        (("p1/",), "pod 'p1' has no container ''; it has 'c1'"),
        (("--since", "soon", "p1"), "'soon' is no time; give one such as 10m, 1h30m or 2030-01-31T12:00:00Z"),
    ],
)
def test_bad_input_is_one_sentence(logged: vc.Pod, arguments: tuple[str, ...], sentence: str) -> None:
    done = virtc("logs", *arguments)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr


@pytest.mark.parametrize(("field", "value"), [("tail", -1), ("tail", True), ("since", "today")])
def test_a_bad_argument_is_named(logged: vc.Pod, field: str, value: object) -> None:
    with pytest.raises(vc.ConfigError, match=f"{field} is {value!r}"):
        next(logged.container("c1").logs(**{field: value}))  # type: ignore[arg-type]


def since(text: str) -> float:
    """Return what an option of this value means."""
    context = click.Context(logs)
    found = moment(context, logs.params[0], text)
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["1700000000", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20+00:00"])
def test_a_moment_may_be_written_in_several_ways(text: str) -> None:
    assert since(text) == 1_700_000_000


def test_how_long_ago_a_moment_was_may_be_given() -> None:
    assert abs(time.time() - 93_784.5 - since("1d2h3m4.5s")) < 5


def test_a_follower_waits_for_lines_and_ends_when_the_pod_stops(
    roots: Roots, mock_config: Callable[..., vc.PodConfig]
) -> None:
    pod = vc.run_pod(mock_config())
    write(roots, (b"old\n", 0))
    found = []
    for line in pod.container("c1").logs(follow=True, tail=1):
        found.append(line.data)
        if line.data == b"old\n":
            write(roots, (b"new\n", 0))
        else:
            threading.Thread(target=pod.stop).start()
    assert found == [b"old\n", b"new\n"]


def test_a_follower_that_leaves_releases_what_it_opened(  # the census counts
    roots: Roots, mock_config: Callable[..., vc.PodConfig]
) -> None:
    pod = vc.run_pod(mock_config())
    write(roots, (b"old\n", 0))
    with closing(pod.container("c1").logs(follow=True)) as lines:
        assert next(lines).data == b"old\n"

    async def follow() -> None:
        async with aclosing(aio.Container("p1", "c1").logs(follow=True)) as lines:
            async for line in lines:
                assert line.data == b"old\n"
                break

    asyncio.run(follow())
    pod.delete(force=True)
