"""What container engines need beyond containers that run: each as the agent's capabilities say."""

from __future__ import annotations

import signal
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vc_core.config.container import Cmd, DeviceNode
from vc_core.config.limits import CapabilitySets, RLimit
from vc_core.driver.agent import Agent, AgentCapability, Confinement, GuestMount
from vc_core.errors import AgentError, NotSupportedError
from vc_core.testing.contract.agent.base import AgentFixtures, StartGuest, Way
from vc_core.testing.contract.running import TIMEOUT, run
from vc_core.testing.process_io import RecordedIO

_STREAMS = (AgentCapability.EXEC, AgentCapability.STREAMS)

#: A command with limits of its own, and what its probe prints: the sets of a user who is not root after an execve.
_LIMITED: Mapping[str, Any] = {
    "user": "bob",
    "umask": 0o027,
    "oom_score_adj": 300,
    "rlimits": [RLimit("nofile", 99, 99)],
    "no_new_privs": False,
    "capabilities": CapabilitySets(
        bounding=["CHOWN", "KILL", "SETUID"],
        effective=["CHOWN"],
        permitted=["CHOWN", "KILL"],
        inheritable=["CHOWN", "KILL"],
        ambient=["KILL"],
    ),
}
_LIMITS_SEEN = {
    "umask": 0o027,
    "oom_score_adj": 300,
    "limit of open files": 99,
    "inheritable set": 1 << 0 | 1 << 5,
    "permitted set": 1 << 5,
    "effective set": 1 << 5,
    "bounding set": 1 << 0 | 1 << 5 | 1 << 7,
    "ambient set": 1 << 5,
    "no_new_privs": 0,
}
#: A program of one instruction that allows every system call (linux/filter.h: BPF_RET with SECCOMP_RET_ALLOW).
_ALLOW_ALL = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)

#: The bases of these numbers.
_BASES = (8, 10, 10, 16, 16, 16, 16, 16, 10)

#: A parameter of the kernel that a pod may have with any value.
_SYSCTL = "net.ipv4.ip_default_ttl"


class EngineNeeds(AgentFixtures):
    """What container engines need."""

    async def _can_store(self, agent: Agent, container_id: str, path: str) -> bool:
        """Return whether a container can write to a file."""
        process = await agent.exec(container_id, Cmd(args=(*self.commands.store, path)), RecordedIO(), TIMEOUT)
        return await self._exit_code(agent, process, f"a command that writes to {path}") == 0

    async def _print(self, agent: Agent, container_id: str, *args: str) -> str:
        """Return what a further command in a container prints that succeeds."""
        io = RecordedIO()
        process = await agent.exec(container_id, Cmd(args=args), io, TIMEOUT)
        code = await self._exit_code(agent, process, f"{args} in container {container_id}")
        assert code == 0, f"{args} ended with {code} and {bytes(io.stderr)[:200]!r}"
        return bytes(io.stdout).decode().strip()

    def test_the_first_process_of_a_pid_namespace_of_its_own_is_number_one(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.PID_NAMESPACE) as agent:
                io = RecordedIO(None)
                own = Confinement(pid_namespace="own")
                await self._start_container(agent, "c2", self.commands.own_number, io, confinement=own)
                await self._until(io, b"\n", f"{Way.FIRST}, {self.commands.own_number},")
                assert io.stdout.split()[0] == b"1", (
                    f"the first process has the number {bytes(io.stdout)!r} in a pid namespace of its own"
                )
                further = (await self._print(agent, "c2", *self.commands.own_number[:-1], "0")).split()[0]
                assert int(further) > 1, "a further process has the number 1"

        run(main())

    def test_a_command_has_limits_of_its_own_in_the_place_of_the_container_s(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.PROCESS_LIMITS) as agent:
                for way in self._ways(agent):
                    output = await self._output(agent, way, self.commands.process_limits, **_LIMITED)
                    words = zip(_LIMITS_SEEN, output.split(), _BASES, strict=True)
                    found = {name: int(word, base) for name, word, base in words}
                    assert found == _LIMITS_SEEN, f"{way} has other limits than its own"

        run(main())

    def test_exact_groups_are_all_groups_of_a_command(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.PROCESS_LIMITS) as agent:
                for way in self._ways(agent):
                    output = await self._output(
                        agent, way, self.commands.identity, user="bob", additional_groups=["7"], exact_groups=True
                    )
                    groups = set(map(int, output.split()[2:]))
                    assert groups == {1001, 7}, f"{way} is in the groups {groups} instead of its own and 7"

        run(main())

    def test_paths_of_a_container_are_masked_or_read_only(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        covered = Confinement(masked_paths=("/etc/passwd", "/no/such/path"), read_only_paths=("/etc", "/no/such/path"))

        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.MOUNT_OPTIONS) as agent:
                io = RecordedIO(None)
                await self._start_container(agent, "c2", self.commands.run_on, io, confinement=covered)
                assert await self._print(agent, "c2", *self.commands.show, "/etc/passwd") == ""
                assert not await self._can_store(agent, "c2", "/etc/made"), "a read-only path can be written"
                assert await self._can_store(agent, "c2", "/tmp/made"), "a path beside it cannot be written"

        run(main())

    def test_a_tmpfs_is_written_by_its_container_and_dev_shm_is_the_pod_s(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        mount = GuestMount("", "/mnt/new", False, "tmpfs", size=1, mode=0o700, options=("noexec", "nosuid"))

        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.MOUNT_OPTIONS) as agent:
                for name in ("c2", "c3"):
                    io = RecordedIO(None)
                    await self._start_container(agent, name, self.commands.run_on, io, shm_size=1, mounts=(mount,))
                assert await self._can_store(agent, "c2", "/mnt/new/file")
                assert await self._print(agent, "c2", *self.commands.show, "/mnt/new/file") == "stored"
                process = await agent.exec("c3", Cmd((*self.commands.show, "/mnt/new/file")), RecordedIO(), TIMEOUT)
                assert await self._exit_code(agent, process, "a command that reads a file") != 0, (
                    "two containers have the same tmpfs"
                )
                assert await self._can_store(agent, "c2", "/dev/shm/file")
                assert await self._print(agent, "c3", *self.commands.show, "/dev/shm/file") == "stored"

        run(main())

    def test_a_paused_container_takes_no_commands_until_it_is_resumed_and_can_be_killed(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS) as agent:
                if AgentCapability.FREEZE not in agent.capabilities:
                    with pytest.raises(NotSupportedError):
                        await agent.pause_container("c1", TIMEOUT)
                    return
                await agent.pause_container("c1", TIMEOUT)
                with pytest.raises(AgentError):
                    await agent.exec("c1", Cmd(args=(*self.commands.exit, "0")), RecordedIO(), TIMEOUT)
                await agent.resume_container("c1", TIMEOUT)
                await agent.resume_container("c1", TIMEOUT)
                assert await self._run(agent, Way.FURTHER, Cmd(args=(*self.commands.exit, "3")), RecordedIO()) == 3
                process = await self._start_container(agent, "c2", self.commands.run_on, RecordedIO(None))
                await agent.pause_container("c2", TIMEOUT)
                await agent.signal_container("c2", signal.SIGKILL, TIMEOUT)
                assert await self._exit_code(agent, process, "a paused container that is killed") == 128 + 9

        run(main())

    def test_the_limits_of_a_running_container_can_be_changed(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS) as agent:
                if AgentCapability.UPDATE not in agent.capabilities:
                    with pytest.raises(NotSupportedError):
                        await agent.update_container("c1", 64, None, None, TIMEOUT)
                    return
                limits = Confinement(memory=32, cpus=0.5)
                io = RecordedIO(None)
                await self._start_container(agent, "c2", self.commands.run_on, io, confinement=limits)
                if AgentCapability.STATS not in agent.capabilities:
                    return
                for memory, found in ((None, 32 << 20), (64, 64 << 20), (0, None)):
                    await agent.update_container("c2", memory, None, 0.25, TIMEOUT)
                    assert (await agent.stats("c2", TIMEOUT)).memory_limit == found

        run(main())

    def test_system_calls_of_each_process_of_a_container_are_filtered(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.SECCOMP) as agent:
                for number, no_new_privs in enumerate((True, False)):
                    limits, name = Confinement(no_new_privs=no_new_privs), f"s{number}"
                    await self._start_container(
                        agent, name, self.commands.run_on, RecordedIO(None), confinement=limits, seccomp=_ALLOW_ALL
                    )
                    status = (await self._print(agent, name, *self.commands.show, "/proc/self/status")).split("\n")
                    assert "Seccomp:\t2" in status, f"system calls are not filtered with {no_new_privs=}"

        run(main())

    def test_a_container_has_the_devices_that_it_asks_for(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        null = DeviceNode(path="/dev/vc/null", major=1, minor=3, mode=0o600)

        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS, AgentCapability.DEVICES) as agent:
                io = RecordedIO(None)
                await self._start_container(agent, "c2", self.commands.run_on, io, devices=(null,))
                assert await self._print(agent, "c2", *self.commands.show, null.path) == ""
                process = await agent.exec("c1", Cmd((*self.commands.show, null.path)), RecordedIO(), TIMEOUT)
                assert await self._exit_code(agent, process, "a command that opens a device") != 0, (
                    "a container has the device of another"
                )

        run(main())

    def test_the_clock_of_the_guest_can_be_set_if_the_agent_claims_it(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS) as agent:
                if AgentCapability.CLOCK in agent.capabilities:
                    await agent.set_clock(TIMEOUT)
                else:
                    with pytest.raises(NotSupportedError):
                        await agent.set_clock(TIMEOUT)

        run(main())

    def test_parameters_of_the_kernel_are_set_or_refused_with_a_reason(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_STREAMS) as agent:
                if AgentCapability.SYSCTLS not in agent.capabilities:
                    with pytest.raises(NotSupportedError):
                        await agent.set_sysctls({_SYSCTL: "61"}, TIMEOUT)
                    return
                await agent.set_sysctls({_SYSCTL: "61"}, TIMEOUT)
                path = f"/proc/sys/{_SYSCTL.replace('.', '/')}"
                found = await self._print(agent, "c1", *self.commands.show, path)
                assert found == "61", f"{_SYSCTL} is {found} instead of 61"
                with pytest.raises(AgentError, match=r"vc\.nothing"):
                    await agent.set_sysctls({"vc.nothing": "1"}, TIMEOUT)

        run(main())
