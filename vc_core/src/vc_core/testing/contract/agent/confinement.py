"""What a container can see, change and use: mounts, its root, limits, statistics; as the capabilities say."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence

import pytest

from vc_core.config.container import Cmd
from vc_core.config.limits import CAPABILITIES, RLimit
from vc_core.driver.agent import Agent, AgentCapability, Confinement, GuestContainer, GuestMount
from vc_core.driver.context import PodContext
from vc_core.errors import NotSupportedError
from vc_core.results import ContainerUsage
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest, Way
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

_STREAMS = (AgentCapability.EXEC, AgentCapability.STREAMS)


class Confinements(AgentFixtures):
    """What a container can see, change and use."""

    async def _store(self, agent: Agent, container_id: str, path: str) -> bool:
        """Let a container write to a file, and return whether it could."""
        process = await agent.exec(container_id, Cmd(args=(*self.commands.store, path)), RecordedIO(), TIMEOUT)
        return await self._exit_code(agent, process, f"a command that writes to {path}") == 0

    async def _show(self, agent: Agent, container_id: str, path: str) -> bytes | None:
        """Let a container read a file; None if it cannot."""
        io = RecordedIO()
        process = await agent.exec(container_id, Cmd(args=(*self.commands.show, path)), io, TIMEOUT)
        code = await self._exit_code(agent, process, f"a command that reads {path}")
        return bytes(io.stdout) if code == 0 else None

    def test_what_a_container_writes_to_its_root_is_seen_by_it_alone(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS) as agent:
                await self._start_container(agent, "c2", self.commands.run_on, RecordedIO(None))
                assert await self._store(agent, "c1", "/vc-new"), "a container cannot write to its root"
                assert await self._show(agent, "c1", "/vc-new") == b"stored\n", "a container lost what it wrote"
                assert await self._show(agent, "c2", "/vc-new") is None, (
                    "a command for one container ran in another, or the root of one is that of the other"
                )

        run(main())

    def test_mounts_are_where_they_belong_and_read_only_if_they_shall_be(
        self, make: Callable[..., Agent], guest: StartGuest, pod: PodContext
    ) -> None:
        if pod.writable_dir is None:
            pytest.fail("the fixture pod gives no writable_dir", pytrace=False)
        hosts = {True: pod.share_dir, False: pod.writable_dir}  # by whether their mounts are read-only
        for top in hosts.values():
            for number in range(2):
                directory = top / "c1" / "mounts" / str(number)
                directory.mkdir(parents=True)
                (directory / "name").write_text(f"{top.name} {number}\n", encoding="utf-8")
        mounts = tuple(
            GuestMount(
                self.mount_source(pod, f"c1/mounts/{number}", read_only=read_only),
                f"/mnt/{top.name}{number}",
                read_only,
            )
            for read_only, top in hosts.items()
            for number in range(2)
        )

        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in (*_STREAMS, AgentCapability.MOUNTS):
                    self._require(agent, capability)
                await self._start_container(agent, "c1", self.commands.run_on, RecordedIO(None), mounts=mounts)
                for mount in mounts:
                    text = f"{mount.target[5:-1]} {mount.target[-1]}\n".encode()
                    found = await self._show(agent, "c1", f"{mount.target}/name")
                    assert found == text, f"on {mount.target} is not the mount of {mount.source}: {found!r}"
                    can = await self._store(agent, "c1", f"{mount.target}/new")
                    assert can is not mount.read_only, (
                        f"a container {'can' if can else 'cannot'} write to a mount with {mount.read_only=}"
                    )
                for read_only, top in hosts.items():
                    files = {path.name for path in (top / "c1/mounts/0").iterdir()}
                    assert ("new" in files) is not read_only, f"the host's {top.name}/c1/mounts/0 has {files}"

        run(main())

    def test_a_container_writes_to_the_directory_that_is_its_root_and_sees_what_the_host_writes_there(
        self, make: Callable[..., Agent], guest: StartGuest, pod: PodContext
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in (*_STREAMS, AgentCapability.WRITABLE_ROOTS):
                    self._require(agent, capability)
                if pod.roots_dir is None:
                    pytest.fail("the fixture pod gives no roots_dir", pytrace=False)
                root = pod.roots_dir / "w1/rootfs"
                shutil.copytree(pod.share_dir / self.root_fs, root, symlinks=True)
                await agent.start_container(
                    GuestContainer(
                        "w1",
                        self.written_root(pod, "w1/rootfs"),
                        Cmd(args=self.commands.run_on),
                        writable_root_fs=True,
                    ),
                    RecordedIO(None),
                    TIMEOUT,
                )
                assert await self._store(agent, "w1", "/vc-kept"), "a container cannot write to its root"
                kept = root / "vc-kept"
                assert kept.is_file(), "what a container wrote to its root is not in the directory of the host"
                assert kept.read_text(encoding="utf-8") == "stored\n", f"it wrote {kept.read_bytes()!r} there"
                (root / "vc-given").write_text("of the host\n", encoding="utf-8")
                found = await self._show(agent, "w1", "/vc-given")
                assert found == b"of the host\n", f"what the host writes there is {found!r} in the container"

        run(main())

    def test_a_read_only_root_cannot_be_written_and_others_can(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in (*_STREAMS, AgentCapability.LIMITS):
                    self._require(agent, capability)
                for name, read_only in (("c1", True), ("c2", False)):
                    confinement = Confinement(read_only=read_only)
                    io = RecordedIO(None)
                    await self._start_container(agent, name, self.commands.run_on, io, confinement=confinement)
                    can = await self._store(agent, name, "/vc-new")
                    assert can is not read_only, (
                        f"a container {'can' if can else 'cannot'} write to its root with {read_only=}"
                    )

        run(main())

    def test_limits_and_capabilities_hold_for_every_process(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        one = Confinement(
            rlimits=(RLimit("nofile", 99, 99),), capabilities=("CAP_CHOWN", "CAP_KILL"), no_new_privs=True
        )
        other = Confinement(rlimits=(RLimit("nofile", 77, 88),), capabilities=CAPABILITIES, no_new_privs=False)

        async def main() -> None:
            async with self._connected(make, guest) as (agent, _):
                for capability in (*_STREAMS, AgentCapability.LIMITS):
                    self._require(agent, capability)
                for number, confinement in enumerate((one, other)):
                    name = f"c{number}"
                    await self._start_container(
                        agent, name, self.commands.run_on, RecordedIO(None), confinement=confinement
                    )
                    container = await self._start_container(
                        agent, f"p{number}", self.commands.limits, first := RecordedIO(), confinement=confinement
                    )
                    command = await agent.exec(name, Cmd(args=self.commands.limits), further := RecordedIO(), TIMEOUT)
                    await self._exit_code(agent, container, "a container")
                    await self._exit_code(agent, command, "a command")
                    for way, words in ((Way.FIRST, bytes(first.stdout)), (Way.FURTHER, bytes(further.stdout))):
                        self._check_limits(way, words.split(), confinement)

        run(main())

    @staticmethod
    def _check_limits(way: Way, words: Sequence[bytes], confinement: Confinement) -> None:
        (limit,) = confinement.rlimits
        assert int(words[0]) == limit.soft, f"{way} has a limit of {words[0]!r} open files instead of {limit.soft}"
        bounding = int(words[1], 16)
        has_all = bin(bounding).count("1") > 20
        if confinement.capabilities == CAPABILITIES:
            assert has_all, f"{way} with all capabilities has the bounding set {bounding:x}"
        else:
            assert bounding == 1 << 0 | 1 << 5, (  # CAP_CHOWN and CAP_KILL, see linux/capability.h
                f"{way} with {confinement.capabilities} has the bounding set {bounding:x}"
            )
        assert bool(int(words[2])) is confinement.no_new_privs, (
            f"{way} has NoNewPrivs {words[2]!r} with {confinement.no_new_privs=}"
        )

    def test_the_usage_of_a_container_is_measured(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest) as agent:
                if AgentCapability.STATS not in agent.capabilities:
                    with pytest.raises(NotSupportedError):
                        await agent.stats("c1", TIMEOUT)
                    return
                await self._start_container(agent, "c2", self.commands.run_on, RecordedIO(None))
                before = await agent.stats("c1", TIMEOUT)
                assert isinstance(before, ContainerUsage)
                if AgentCapability.EXEC not in agent.capabilities:
                    return
                for _ in range(3):
                    await agent.exec("c1", Cmd(args=self.commands.run_on), RecordedIO(None), TIMEOUT)
                await self._run(agent, Way.FURTHER, Cmd(args=self.commands.work), RecordedIO())
                after, other = await asyncio.gather(agent.stats("c1", TIMEOUT), agent.stats("c2", TIMEOUT))
                if before.pids is not None and after.pids is not None:
                    found = after.pids - before.pids
                    assert found >= 3, f"three more processes run in a container, but its usage has {found} more"
                if other.pids is not None and after.pids is not None:
                    assert other.pids < after.pids, f"a container with one process has {other.pids} in its usage"
                if before.cpu_seconds is not None and after.cpu_seconds is not None:
                    assert after.cpu_seconds > before.cpu_seconds, "a container worked, but used no processor time"
                assert (after.pids, after.cpu_seconds, after.memory) != (None, None, None), "the usage is empty"

        run(main())
