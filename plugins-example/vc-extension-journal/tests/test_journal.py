"""What is in the journal after pods lived, through the whole product."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import vc_core as vc
from vc_core.driver import Hypervisor
from vc_core.errors import HypervisorError
from vc_core.testing import Plugins
from vc_extension_journal.journal import PATH_VARIABLE
from vc_extension_journal.timed import TimedHypervisor

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VIRTCONTAINERS_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "journal.jsonl"))
    yield tmp_path / "journal.jsonl"
    Plugins().drain()


@pytest.fixture
def lines(journal: Path) -> Lines:
    """Return a function that returns the lines of one kind of event."""

    def lines(event: str) -> list[dict[str, Any]]:
        Plugins().drain()  # until the extension has got all notifications of this process
        found = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
        return [line for line in found if line["event"] == event]

    return lines


def pod(**options: str) -> vc.PodConfig:
    return vc.PodConfig(
        id="p1",
        hypervisor_type="mock",
        hypervisor_config=vc.HypervisorConfig(options=options),
        agent_type="noop",
        containers=[vc.ContainerConfig(id="c1", cmd=vc.Cmd(args=["sleep", "1"]))],
    )


def test_what_becomes_of_a_pod_and_its_container_is_written(lines: Lines) -> None:
    with vc.run_pod(pod()):
        pass
    states = [(line["old"], line["new"]) for line in lines("pod")]
    assert states == [("", "ready"), ("ready", "running"), ("running", "stopped"), ("stopped", "")]
    assert [(line["container"], line["new"]) for line in lines("container")] == [("c1", "running"), ("c1", "stopped")]
    assert {line["pod"] for line in lines("pod") + lines("container")} == {"p1"}


def test_every_call_of_the_hypervisor_is_timed(lines: Lines) -> None:
    with vc.run_pod(pod()):
        pass
    found = {line["call"]: line for line in lines("call")}
    order = list(found)
    assert order.index("prepare") < order.index("start") < order.index("stop")
    for call in ("prepare", "start", "stop"):
        assert found[call]["seconds"] >= 0
        assert found[call]["error"] is None
        assert found[call]["hypervisor"] == "MockHypervisor"


def test_a_call_that_fails_is_written_with_its_error_and_fails_all_the_same(lines: Lines) -> None:
    vc.create_pod(pod(fail_start="out of order"))
    with pytest.raises(HypervisorError, match="out of order"):
        vc.start_pod("p1")
    assert [line["error"] for line in lines("call") if line["call"] == "start"] == ["VMStartError"]
    vc.delete_pod("p1")


def test_a_journal_that_cannot_be_written_stops_no_pod(journal: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal.symlink_to("/etc/passwd")
    with vc.run_pod(pod()):
        pass
    Plugins().drain()
    assert "cannot be written" in caplog.text


def test_without_a_name_nothing_is_written(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PATH_VARIABLE)
    with vc.run_pod(pod()):
        pass
    Plugins().drain()
    assert not journal.exists()


def test_every_method_that_acts_on_a_vm_is_timed_and_passed_on() -> None:
    noted, called = [], []

    class Inner:
        def __getattr__(self, name: str) -> Any:
            async def call(*arguments: object) -> None:
                called.append((name, arguments))

            return call

    async def main() -> None:
        made: Any = TimedHypervisor(cast(Hypervisor, Inner()), lambda name, seconds, error: noted.append(name))
        for name, arguments in acts:
            await getattr(made, name)(*arguments)

    acts: list[tuple[str, tuple[object, ...]]] = [
        *((name, (7.0,)) for name in ("prepare", "start", "stop", "discard")),
        *((name, ()) for name in ("pause", "resume")),
        *((name, ("disk", 7.0)) for name in ("attach", "detach")),
    ]
    asyncio.run(main())
    assert called == acts
    assert noted == [name for name, _ in acts]
