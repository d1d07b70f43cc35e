"""What became of pods: the file of events, and ``virtc events``."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import msgspec
import pytest
from commands import virtc

import vc_core as vc
from vc_core.results import EventKind, PodEvent
from vc_core.states import State
from vc_core.store import events
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.roots import Roots, private_directory


def kinds(*pod_ids: str) -> list[tuple[str, str]]:
    return [(one.container_id, str(one.kind)) for one in vc.pod_events(*pod_ids)]


def test_the_life_of_a_pod_and_its_containers_is_kept_after_its_end(mock_config: Callable[..., vc.PodConfig]) -> None:
    before = time.time()
    pod = vc.run_pod(mock_config())
    pod.create_container(vc.ContainerConfig(id="c2", cmd=vc.Cmd(args=["true"]))).delete()
    pod.stop()
    pod.delete()
    assert kinds() == [
        ("", "created"),
        ("c1", "created"),
        ("c1", "started"),
        ("", "started"),
        ("c2", "created"),
        ("c2", "deleted"),
        ("c1", "stopped"),
        ("", "stopped"),
        ("c1", "deleted"),
        ("", "deleted"),
    ]
    times = [one.time for one in vc.pod_events()]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time()


def test_pods_and_times_choose_events(mock_config: Callable[..., vc.PodConfig]) -> None:
    for pod_id in ("p1", "p2"):
        vc.create_pod(mock_config(pod_id))
    middle = time.time()
    vc.delete_pod("p1")
    assert [one.pod_id for one in vc.pod_events("p2")] == ["p2"] * 2
    assert [(one.pod_id, one.kind) for one in vc.pod_events(since=middle)] == [("p1", "deleted")] * 2
    assert virtc("events", "--since", "1h", "p2").stdout.splitlines()[0].endswith("Z pod p2 created")
    lines = virtc("events", "--json", "--since", str(middle)).stdout.splitlines()
    assert [msgspec.json.decode(line)["kind"] for line in lines] == ["deleted"] * 2


def test_a_follower_gets_what_happens_from_then_on(mock_config: Callable[..., vc.PodConfig]) -> None:
    with closing(vc.pod_events(follow=True, since=time.time())) as following:
        thread = threading.Thread(target=vc.create_pod, args=(mock_config(),))
        thread.start()
        found = list(itertools.islice(following, 2))
        thread.join()
    assert [(one.container_id, one.kind) for one in found] == [("", "created"), ("c1", "created")]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({}, {"state": State.RUNNING}, [("started", None, "")]),
        ({"state": State.PAUSED}, {"state": State.RUNNING}, [("resumed", None, "")]),
        ({"state": State.RUNNING}, {"state": State.PAUSED}, [("paused", None, "")]),
        ({"state": State.RUNNING}, {"state": State.STOPPED, "exit_code": 3}, [("stopped", 3, "")]),
        (
            {"state": State.RUNNING},
            {"state": State.STOPPED, "exit_code": 137, "reason": "out of memory: x"},
            [("oom", None, "out of memory: x"), ("stopped", 137, "out of memory: x")],
        ),
        ({"state": State.RUNNING}, {"state": State.RUNNING, "process": "2"}, []),
    ],
)
def test_an_event_says_how_a_container_ended(
    before: dict[str, Any], after: dict[str, Any], found: list[tuple[str, int | None, str]]
) -> None:
    old, new = (
        PodRecord(
            id="p", hypervisor="h", agent="a", supervised=True, created_at=0, containers={"c": ContainerRecord(**one)}
        )
        for one in (before, after)
    )
    assert [(str(one.kind), one.exit_code, one.reason) for one in events.changes("p", old, new)] == found


def test_the_file_is_bounded_and_events_of_many_writers_are_whole(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_directory(roots.state)
    monkeypatch.setattr(events, "EVENTS_BYTES_MAX", 20_000)

    def write(writer: int) -> None:
        for number in range(200):
            events.append(roots, [PodEvent(0.0, EventKind.CREATED, f"p{writer}", str(number))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    files = [path for path in roots.state.iterdir() if path.is_file()]
    assert sorted(path.name for path in files) == ["events", "events.1"]
    assert sum(path.stat().st_size for path in files) < 22_000
    kept = list(vc.pod_events())
    assert 100 < len(kept) < 800
    for writer in range(4):
        numbers = [int(one.container_id) for one in kept if one.pod_id == f"p{writer}"]
        assert numbers == sorted(numbers)
    assert {one.container_id for one in kept[-4:]} >= {"199"}


def test_a_full_disk_loses_events_and_stops_no_pod(
    mock_config: Callable[..., vc.PodConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events, "_open_locked", full)
    with caplog.at_level(logging.WARNING):
        vc.create_pod(mock_config())
    assert "events of pod p1 are lost" in caplog.text
    assert [one.id for one in vc.list_pods()] == ["p1"]
    assert kinds() == []


def test_a_broken_line_is_left_out(roots: Roots, mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.create_pod(mock_config())
    with events.events_path(roots).open("ab") as file:
        file.write(b'{"time":1,"ki\n\xff\n')
    vc.delete_pod("p1")
    assert [kind for _, kind in kinds()] == ["created", "created", "deleted", "deleted"]


def test_a_pod_whose_record_is_broken_has_an_event_of_its_end(
    roots: Roots, mock_config: Callable[..., vc.PodConfig]
) -> None:
    vc.create_pod(mock_config())
    (roots.pod_state_dir("p1") / "state.json").write_text("{", encoding="utf-8")
    vc.delete_pod("p1", force=True)
    assert kinds()[-1] == ("", "deleted")


def test_a_reason_that_a_guest_chose_is_printed_as_text(roots: Roots) -> None:
    private_directory(roots.state)
    events.append(roots, [PodEvent(0.0, EventKind.FAILED, "p1", "", None, "no \x1b[2J end")])
    assert virtc("events").stdout.endswith("pod p1 failed: no \\x1b[2J end\n")


def test_without_a_pod_there_are_no_events(roots: Roots) -> None:
    assert virtc("events").stdout == ""
    assert not roots.state.exists()
