"""Containers and mounts of the agent, against a guest that keeps to the protocol, ours and originals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hyperstart_agents import TIMEOUT, each_guest, make_agent, pod, run

from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FakeHyperstart
from vc_core.driver import (
    AgentCapability,
    Cmd,
    GuestContainer,
    GuestMount,
    SharedDirectory,
)
from vc_core.errors import AgentError, ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO


@each_guest
def test_the_overlay_is_asked_for_only_where_the_guest_has_it(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (guest, _):
            (payload,) = [payload for code, payload in guest.commands if code == Code.NEWCONTAINER]
            container = json.loads(payload)
            assert (container["id"], container["image"], container["rootfs"]) == ("c1", "c1", "rootfs")
            assert container.get("overlay", False) is guest_options.get("ours", True)

    run(main())


@pytest.mark.parametrize("root_fs", ["", "/c1", "c1/../../etc", ".."])
def test_a_root_file_system_outside_the_share_is_refused(root_fs: str) -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            container = GuestContainer("c2", root_fs, Cmd(args=["true"]))
            with pytest.raises(ConfigError, match="not below the share"):
                await agent.start_container(container, RecordedIO(), TIMEOUT)

    run(main())


@each_guest
def test_a_container_can_start_again_after_it_was_removed(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod(**guest_options) as (_, agent):
            for status in (3, 4):
                container = GuestContainer("c2", "c2", Cmd(args=["exit", str(status)]))
                process = await agent.start_container(container, RecordedIO(), TIMEOUT)
                assert await agent.wait(process) == status
                await agent.remove_container("c2", TIMEOUT)

    run(main())


def test_a_container_that_runs_cannot_be_removed() -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            with pytest.raises(AgentError, match="runs"):
                await agent.remove_container("c1", TIMEOUT)

    run(main())


def test_a_container_starts_after_the_last_one_of_an_original_pod_has_ended() -> None:
    async def main() -> None:
        async with pod(ours=False) as (guest, agent):
            await agent.signal_container("c1", 9, TIMEOUT)
            for status in (6, 7):
                container = GuestContainer("c2", "c2", Cmd(args=["exit", str(status)]))
                process = await agent.start_container(container, RecordedIO(), TIMEOUT)
                assert await agent.wait(process) == status
            assert [code for code, _ in guest.commands].count(Code.STARTPOD) == 3

    run(main())


def test_a_pod_with_writable_mounts_has_a_writable_share_for_them() -> None:
    assert make_agent(writable_dir=Path("/nonexistent/writable")).devices()[-1] == SharedDirectory(
        "hyperWritable", Path("/nonexistent/writable"), read_only=False
    )


MOUNTS = (GuestMount("c2/mounts/0", "/etc/data"), GuestMount("c2/mounts/1", "/var/data", read_only=False))


def test_mounts_are_maps_of_the_share_and_of_the_writable_directory() -> None:
    async def main() -> None:
        async with FakeHyperstart() as guest:
            agent = make_agent(writable_dir=Path("/nonexistent/writable"))
            await agent.connect(guest.open_channel, TIMEOUT)
            await agent.start_pod("p1", "pod/rootfs", TIMEOUT)
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS)
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert AgentCapability.MOUNTS in agent.capabilities
            sent = {code: json.loads(payload) for code, payload in guest.commands if payload}
            assert sent[Code.STARTPOD] == {
                **{"hostname": "p1", "containers": [], "shareDir": "hyperShared", "root": "pod/rootfs"},
                **{"liveDir": "hyperLive", "writableDir": "hyperWritable"},
            }
            assert sent[Code.NEWCONTAINER]["fsmap"] == [
                {"source": "c2/mounts/0", "path": "/etc/data", "readOnly": True},
                {"source": "c2/mounts/1", "path": "/var/data", "readOnly": False, "writable": True},
            ]
            await agent.aclose()
            assert guest.violations == []

    run(main())


def test_a_writable_mount_needs_a_pod_with_a_writable_directory() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS)
            with pytest.raises(ConfigError, match="mount '/var/data' of container 'c2' is writable, but its pod"):
                await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert len(guest.processes) == 1

    run(main())


def test_an_original_has_read_only_mounts_only() -> None:
    async def main() -> None:
        async with pod(ours=False) as (guest, agent):
            container = GuestContainer("c2", "c2/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS[:1])
            await agent.start_container(container, RecordedIO(None), TIMEOUT)
            assert json.loads(guest.commands[-1][1])["fsmap"] == [
                {"source": "c2/mounts/0", "path": "/etc/data", "readOnly": True}
            ]
            container = GuestContainer("c3", "c3/rootfs", Cmd(args=["sleep"]), mounts=MOUNTS[1:])
            with pytest.raises(NotSupportedError, match="can only be read-only"):
                await agent.start_container(container, RecordedIO(None), TIMEOUT)

    run(main())


@pytest.mark.parametrize("path", ["/etc", "..", "c2/../../etc"])
def test_a_mount_from_outside_the_share_is_refused(path: str) -> None:
    async def main() -> None:
        async with pod() as (_, agent):
            container = GuestContainer("c2", "c2", Cmd(args=["true"]), mounts=(GuestMount(path, "/x"),))
            with pytest.raises(ConfigError, match="not below the share"):
                await agent.start_container(container, RecordedIO(), TIMEOUT)

    run(main())
