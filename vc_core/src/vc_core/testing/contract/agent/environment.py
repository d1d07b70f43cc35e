"""What a process is given: arguments, environment, directory, user and host name; tested with EXEC and STREAMS."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vc_core.config.container import Cmd, EnvVar
from vc_core.driver.agent import Agent, AgentCapability
from vc_core.errors import VCError
from vc_core.testing.contract.agent.base import HOSTNAME, AgentFixtures, StartGuest
from vc_core.testing.contract.agent.probes import WORDS, same
from vc_core.testing.contract.running import run
from vc_core.testing.process_io import RecordedIO

_NEEDED = (AgentCapability.EXEC, AgentCapability.STREAMS)

#: A user, group and additional groups, and their numbers in the guest by ``rootfs.PASSWD``: user, group, all groups.
_USERS: tuple[tuple[dict[str, Any], tuple[int, int, set[int]]], ...] = (
    ({}, (0, 0, {0})),
    ({"user": "bob"}, (1000, 1001, {1001, 29})),
    ({"user": "1000"}, (1000, 1001, {1001, 29})),
    ({"user": "4711", "group": "4712"}, (4711, 4712, {4712})),
    ({"user": "bob", "group": "video"}, (1000, 44, {44, 29})),
    ({"user": "bob", "additional_groups": ["video", "7"]}, (1000, 1001, {1001, 29, 44, 7})),
    ({"additional_groups": ["audio"]}, (0, 0, {0, 29})),
)

#: Directories, users and groups that no guest has.
_IMPOSSIBLE: tuple[dict[str, Any], ...] = (
    {"work_dir": "/no-such-directory"},
    {"user": "nosuchuser"},
    {"group": "nosuchgroup"},
    {"additional_groups": ["nosuchgroup"]},
)


class Environment(AgentFixtures):
    """What a process is given; each promise holds for a container's first process and for further ones."""

    def test_arguments_arrive_byte_for_byte(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    output = await self._output(agent, way, (*self.commands.words, *WORDS))
                    same(f"the arguments of {way}", output, b"".join(word.encode() + b"\0" for word in WORDS))

        run(main())

    def test_variables_arrive_byte_for_byte_and_no_others(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        values = {"VC_TEXT": " a  b\n$HOME='\"\\ ünï-漢", "VC_EMPTY": "", "VC_EQUALS": "a=b=c"}
        envs = [EnvVar(*one) for one in values.items()]

        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    for name, value in values.items():
                        output = await self._output(agent, way, (*self.commands.variable, name), envs=envs)
                        same(f"variable {name} of {way}", output, value.encode() + b"\n")
                    absent = Cmd(args=(*self.commands.variable, "VC_TEXT"))
                    code = await self._run(agent, way, absent, io := RecordedIO())
                    assert code != 0, f"{way} has a variable that only another command was given: {bytes(io.stdout)!r}"

        run(main())

    def test_a_process_starts_in_its_directory(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    for directory in ("/", "/etc"):
                        output = await self._output(agent, way, self.commands.directory, work_dir=directory)
                        same(f"the working directory of {way}", output, f"{directory}\n".encode())

        run(main())

    def test_a_process_that_cannot_have_its_directory_or_user_does_not_run(
        self, make: Callable[..., Agent], guest: StartGuest
    ) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    for cannot in _IMPOSSIBLE:
                        code, io = 1, RecordedIO()
                        with suppress(VCError):
                            code = await self._run(agent, way, Cmd(args=self.commands.identity, **cannot), io)
                        assert code != 0, f"{way} cannot have {cannot}, but it ran as {bytes(io.stdout)!r}"
                        assert not io.stdout, f"{way} cannot have {cannot}, but it ran as {bytes(io.stdout)!r}"

        run(main())

    def test_a_process_is_of_its_user_and_groups(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    for given, wanted in _USERS:
                        output = await self._output(agent, way, self.commands.identity, **given)
                        user, group, *groups = (int(word) for word in output.split())
                        assert (user, group, {*groups}) == wanted, (
                            f"{way} with {given} runs with user {user}, group {group} and groups {sorted({*groups})} "
                            f"instead of {wanted[0]}, {wanted[1]} and {sorted(wanted[2])}"
                        )

        run(main())

    def test_a_container_has_the_host_name_of_the_pod(self, make: Callable[..., Agent], guest: StartGuest) -> None:
        async def main() -> None:
            async with self._with_container(make, guest, *_NEEDED) as agent:
                for way in self._ways(agent):
                    output = await self._output(agent, way, self.commands.hostname)
                    same(f"the host name of {way}", output, f"{HOSTNAME}\n".encode())

        run(main())
