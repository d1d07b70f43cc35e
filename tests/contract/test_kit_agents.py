"""The contract kit finds agents that break the contract: each is sabotaged on purpose.

One that runs nothing is derived from noop. The others are derived from hyperstart with its fake guest.
"""

from __future__ import annotations

import pytest

from sabotage import Sabotage, check, run_kit

pytestmark = pytest.mark.slow

HEAD = """
import asyncio
from dataclasses import replace

import pytest

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.plugin import HyperstartPlugin
from vc_agent_hyperstart.testing import HyperstartContract, fake_guest
from vc_agent_hyperstart.testing.containers import FakeContainer
from vc_agent_noop.agent import NoopAgent
from vc_agent_noop.plugin import NoopPlugin
from vc_core.driver import (
    CAPABILITIES,
    AgentCapability,
    Cmd,
    ContainerUsage,
    EnvVar,
    ProcessIO,
    TerminalSize,
    hookimpl,
)
from vc_core.errors import CommandError
from vc_core.testing import AgentContract
from vc_core.testing.process_io import RecordedIO


class _IO(ProcessIO):
    # The streams that the core gives an agent, for tests to change.

    def __init__(self, given):
        self.given = given
        self.taken = given.taken
        if "has_input" not in vars(type(self)):
            self.has_input = given.has_input

    async def read_stdin(self):
        return await self.given.read_stdin()

    async def write_stdout(self, data):
        await self.given.write_stdout(data)

    async def write_stderr(self, data):
        await self.given.write_stderr(data)


class _Agent(HyperstartAgent):
    # It works, in steps for tests to break.

    io = _IO

    def change(self, io):
        return self.io(io)

    def command(self, cmd):
        return cmd

    def container(self, container):
        return container

    async def start_container(self, container, io, timeout):
        container = replace(container, cmd=self.command(container.cmd))
        return await super().start_container(self.container(container), self.change(io), timeout)

    async def exec(self, container_id, cmd, io, timeout, terminal=None):
        return await super().exec(container_id, self.command(cmd), self.change(io), timeout, terminal)


class _Real(HyperstartContract):
    agent = _Agent
    inside = FakeContainer
    ends_within = 3.0

    @pytest.fixture(autouse=True)
    def containers_of_the_guest(self, monkeypatch):
        monkeypatch.setattr(fake_guest, "FakeContainer", self.inside)

    @pytest.fixture
    def driver(self):
        agent = self.agent

        class Plugin(HyperstartPlugin):
            @hookimpl
            def vc_agent_create(self, pod, config, saved):
                return agent(pod, config, saved)

        return self.injected(Plugin())


class _Noop(AgentContract):
    agent = NoopAgent

    @pytest.fixture
    def driver(self):
        agent = self.agent

        class Plugin(NoopPlugin):
            @hookimpl
            def vc_agent_create(self, saved):
                return agent(saved)

        return self.injected(Plugin())


class _DriversContract(_Noop):
    __module__ = "vc_agent_noop.testing.contract"

    def test_it_promises_more(self):
        pass
"""

#: What is wrong -> a test class with a driver like that, the promise that it breaks, and what the kit says.
SABOTAGE = {
    "GoodAgent": Sabotage("(_Noop): pass"),
    "GoodAgentThatRunsCommands": Sabotage("(_Real): pass"),
    "StrikesAPromiseOfADriverOut": Sabotage(
        """(_DriversContract):
    test_it_promises_more = None
""",
        "test_no_promise_was_struck_out",
    ),
    "MakesUpAnExitCode": Sabotage(
        """(_Noop):
    class agent(NoopAgent):
        async def wait(self, process):
            return await super().wait(process) and 0
""",
        "test_a_container_runs_until_it_is_killed_and_then_every_wait_returns",
    ),
    "ForgetsAtTakingOver": Sabotage(
        """(_Noop):
    class agent(NoopAgent):
        async def adopt(self, process, io):
            pass
""",
        "test_another_agent_takes_over_through_what_was_saved",
    ),
    "ClaimsToRunCommands": Sabotage(
        """(_Noop):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_ends_with_its_own_exit_code",
    ),
    "RunsInThePodUnclaimed": Sabotage(
        """(_Noop):
    class agent(NoopAgent):
        capabilities = frozenset({AgentCapability.EXEC})
""",
        "test_a_command_can_run_in_the_pod_itself",
    ),
    "IsNotWrittenYet": Sabotage(
        """(_Noop):
    class agent(NoopAgent):
        async def start_container(self, container, io, timeout):
            raise NotImplementedError("start_container: start the container's process")
""",
        "test_a_container_that_ended_can_be_removed_and_started_again",
    ),
    "LosesWhatIsMuch": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            written = 0

            async def write_stdout(self, data):
                self.written += len(data)
                if self.written < 250_000:
                    await super().write_stdout(data)
""",
        "test_input_arrives_and_output_comes_back_byte_for_byte",
        "bytes are lost, from byte",
    ),
    "LosesAPieceOfInput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            pieces = 0

            async def read_stdin(self):
                self.pieces += 1
                return await super().read_stdin() if self.pieces != 2 else (await super().read_stdin())[1:]
""",
        "test_input_arrives_and_output_comes_back_byte_for_byte",
        "1 of 300000 bytes are lost",
    ),
    "DoublesInput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            last = b""

            async def read_stdin(self):
                last, self.last = self.last, b""
                self.last = b"" if last else await super().read_stdin()
                return last or self.last
""",
        "test_input_arrives_and_output_comes_back_byte_for_byte",
        "300000 bytes more than the 300000",
    ),
    "DoublesOutput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stdout(self, data):
                await super().write_stdout(data)
                await super().write_stdout(data)
""",
        "test_input_arrives_and_output_comes_back_byte_for_byte",
        "300000 bytes more than the 300000",
    ),
    "ReordersOutput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stdout(self, data):
                await super().write_stdout(data[len(data) // 2:] + data[:len(data) // 2])
""",
        "test_input_arrives_and_output_comes_back_byte_for_byte",
        "they differ from byte 0 on",
    ),
    "WritesErrorsForOutput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stdout(self, data):
                await super().write_stderr(data)
""",
        "test_output_and_error_output_are_kept_apart",
        "the output of the first process of a container: 7 of 7 bytes are lost",
    ),
    "WritesOutputForErrors": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stderr(self, data):
                await super().write_stdout(data)
""",
        "test_output_and_error_output_are_kept_apart",
        "the output of the first process of a container: 6 bytes more",
    ),
    "LosesOutputBeforeTheEnd": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stdout(self, data):
                asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(self.given.write_stdout(data)))
""",
        "test_all_output_was_written_when_a_wait_returns",
        "which ends right after its output,: ",
    ),
    "WaitsForNoReader": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            async def write_stdout(self, data):
                self.task = asyncio.ensure_future(self.given.write_stdout(data))
""",
        "test_a_stalled_reader_delays_no_other_process",
        "a wait returned before the output of its process was written",
    ),
    "LosesTheEndOfInput": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            has_input = True

            async def read_stdin(self):
                return await super().read_stdin() or await asyncio.Event().wait()
""",
        "test_the_end_of_input_arrives_behind_all_of_it",
        "did not end within 3 s",
    ),
    "EndsInputEarly": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            has_input = False
""",
        "test_the_end_of_input_arrives_behind_all_of_it",
        "read 0 bytes of input up to its end instead of 1",
    ),
    "StallsAllForOne": Sabotage(
        """(_Real):
    class agent(_Agent):
        class io(_IO):
            lock = asyncio.Lock()

            async def write_stdout(self, data):
                async with self.lock:
                    await super().write_stdout(data)

            async def read_stdin(self):
                async with self.lock:
                    return await super().read_stdin()

        async def wait(self, process):
            code = await super().wait(process)
            async with self.io.lock:
                return code
""",
        "test_a_stalled_reader_delays_no_other_process",
        "did not end within 3 s",
    ),
    "MixesExitCodes": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def wait(self, process):
            code = await super().wait(process)
            self.codes = [*getattr(self, "codes", []), code]
            return self.codes[-2 if len(self.codes) % 2 == 0 else -1]
""",
        "test_processes_that_run_at_once_have_their_own",
        "of 8 commands, the one that exits with",
    ),
    "MakesUpExitCodes": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def wait(self, process):
            return min(await super().wait(process), 1)
""",
        "test_a_command_ends_with_its_own_exit_code",
        "a command that exits with 7 ended with [1, 1, 1]",
    ),
    "MixesStreamsOfProcesses": Sabotage(
        """(_Real):
    class agent(_Agent):
        def change(self, io):
            ios = self.ios = [*getattr(self, "ios", []), io]
            return self.io(ios[-2] if len(ios) > 2 else io)
""",
        "test_processes_that_run_at_once_have_their_own",
    ),
    "MixesStreamsOfContainers": Sabotage(
        """(_Real):
    class agent(_Agent):
        def change(self, io):
            self.first = getattr(self, "first", io)
            return self.io(self.first)
""",
        "test_containers_that_run_at_once_have_their_own",
    ),
    "EntersTheFirstContainer": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            return await super().exec("c1", cmd, io, timeout, terminal)
""",
        "test_what_a_container_writes_to_its_root_is_seen_by_it_alone",
        "a command for one container ran in another",
    ),
    "EntersThePodInstead": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            container_id = "" if container_id == "no-such-container" else container_id
            return await super().exec(container_id, cmd, io, timeout, terminal)
""",
        "test_a_command_for_a_container_that_does_not_run_is_refused",
    ),
    "GivesAnotherCodeForAMissingProgram": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            try:
                return await super().exec(container_id, cmd, io, timeout, terminal)
            except CommandError as error:
                raise CommandError(str(error), exit_code=1) from error
""",
        "test_a_missing_program_is_reported_with_exit_code_127",
        "ended with 1 instead of 127",
    ),
    "IgnoresUsers": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, user="")
""",
        "test_a_process_is_of_its_user_and_groups",
        "runs with user 0",
    ),
    "IgnoresGroups": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, group="")
""",
        "test_a_process_is_of_its_user_and_groups",
        "group 0",
    ),
    "IgnoresAdditionalGroups": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, additional_groups=())
""",
        "test_a_process_is_of_its_user_and_groups",
        "groups [29, 1001] instead of",
    ),
    "RunsAsRootForAnUnknownUser": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, user="" if cmd.user == "nosuchuser" else cmd.user)
""",
        "test_a_process_that_cannot_have_its_directory_or_user_does_not_run",
        "cannot have {'user': 'nosuchuser'}, but it ran",
    ),
    "RunsInTheRootForAMissingDirectory": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, work_dir="/" if "no-such" in cmd.work_dir else cmd.work_dir)
""",
        "test_a_process_that_cannot_have_its_directory_or_user_does_not_run",
        "but it ran",
    ),
    "IgnoresDirectories": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, work_dir="/")
""",
        "test_a_process_starts_in_its_directory",
        "the working directory of",
    ),
    "IgnoresVariables": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, envs=())
""",
        "test_variables_arrive_byte_for_byte",
        "ended with 1",
    ),
    "StripsVariables": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, envs=[EnvVar(one.var, one.value.strip()) for one in cmd.envs])
""",
        "test_variables_arrive_byte_for_byte",
        "variable VC_TEXT of",
    ),
    "KeepsVariables": Sabotage(
        """(_Real):
    class agent(_Agent):
        kept = ()

        def command(self, cmd):
            self.kept = cmd.envs or self.kept
            return replace(cmd, envs=self.kept)
""",
        "test_variables_arrive_byte_for_byte_and_no_others",
        "has a variable that only another command was given",
    ),
    "DropsEmptyArguments": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, args=list(filter(None, cmd.args)))
""",
        "test_arguments_arrive_byte_for_byte",
        "bytes are lost, from byte 0 on",
    ),
    "SplitsArguments": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, args=" ".join(cmd.args).split())
""",
        "test_arguments_arrive_byte_for_byte",
        "the arguments of the first process",
    ),
    "WritesArgumentsInAscii": Sabotage(
        """(_Real):
    class agent(_Agent):
        def command(self, cmd):
            return replace(cmd, args=[word.encode("ascii", "replace").decode() for word in cmd.args])
""",
        "test_arguments_arrive_byte_for_byte",
        "the arguments of the first process",
    ),
    "IgnoresTheHostName": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def start_pod(self, hostname, root_fs, timeout, network=None):
            await super().start_pod("localhost", root_fs, timeout, network)
""",
        "test_a_container_has_the_host_name_of_the_pod",
        "the host name of",
    ),
    "IgnoresTerminals": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            return await super().exec(container_id, cmd, io, timeout, None)
""",
        "test_a_process_runs_on_a_terminal_of_its_size_only_if_it_shall",
        "the terminal's size of a further process",
    ),
    "IgnoresSizes": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            return await super().exec(container_id, cmd, io, timeout, terminal and TerminalSize(24, 80))
""",
        "test_a_process_runs_on_a_terminal_of_its_size_only_if_it_shall",
        "b'24 80",
    ),
    "GivesEveryProcessATerminal": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def exec(self, container_id, cmd, io, timeout, terminal=None):
            return await super().exec(container_id, cmd, io, timeout, terminal or TerminalSize(24, 80))
""",
        "test_a_process_runs_on_a_terminal_of_its_size_only_if_it_shall",
        "has a terminal that nobody asked for",
    ),
    "IgnoresNewSizes": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def resize(self, process, rows, columns, timeout):
            pass
""",
        "test_a_process_sees_each_new_size_of_its_terminal",
        "did not print b'41 132",
    ),
    "ResizesTheFirst": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def resize(self, process, rows, columns, timeout):
            self.first = getattr(self, "first", process)
            await super().resize(self.first, rows, columns, timeout)
""",
        "test_a_process_sees_each_new_size_of_its_terminal",
        "did not print b'42 132",
    ),
    "SignalsTheFirst": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def signal(self, process, signal, timeout):
            if not hasattr(self, "first"):
                self.first = await self.exec("c1", Cmd(args=["sleep"]), RecordedIO(), timeout)
            await super().signal(self.first, signal, timeout)
""",
        "test_a_signal_arrives_as_the_one_that_was_sent_and_at_no_other_process",
        "to command 1 ended the commands []",
    ),
    "SendsAlwaysKill": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def signal(self, process, signal, timeout):
            await super().signal(process, 9, timeout)
""",
        "test_a_signal_arrives_as_the_one_that_was_sent_and_at_no_other_process",
        "a command that ends with 10 on SIGUSR1 ended with 137",
    ),
    "SignalsAnotherContainer": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def signal_container(self, container_id, signal, timeout):
            await super().signal_container("c1", signal, timeout)
""",
        "test_a_signal_to_a_container_reaches_its_first_process_and_no_other_container",
    ),
    "KillsContainers": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def signal_container(self, container_id, signal, timeout):
            await super().signal_container(container_id, 9, timeout)
""",
        "test_a_signal_to_a_container_reaches_its_first_process_and_no_other_container",
        "container c2 ended with 137 on SIGUSR1 instead of 10",
    ),
    "MakesUpItsFigures": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def stats(self, container_id, timeout):
            return ContainerUsage(cpu_seconds=1.0, memory=1 << 20, pids=1)
""",
        "test_the_usage_of_a_container_is_measured",
        "three more processes run in a container, but its usage has 0 more",
    ),
    "MeasuresAnotherContainer": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def stats(self, container_id, timeout):
            return await super().stats("c1", timeout)
""",
        "test_the_usage_of_a_container_is_measured",
        "a container with one process has 4 in its usage",
    ),
    "MeasuresNothing": Sabotage(
        """(_Real):
    class agent(_Agent):
        async def stats(self, container_id, timeout):
            return ContainerUsage()
""",
        "test_the_usage_of_a_container_is_measured",
        "the usage is empty",
    ),
    "ForgetsMounts": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, mounts=())
""",
        "test_mounts_are_where_they_belong_and_read_only_if_they_shall_be",
        "on /mnt/share0 is not the mount of c1/mounts/0: None",
    ),
    "MountsOneThingEverywhere": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, mounts=tuple(replace(one, source='c1/mounts/0') for one in container.mounts))
""",
        "test_mounts_are_where_they_belong_and_read_only_if_they_shall_be",
        "on /mnt/share1 is not the mount of",
    ),
    "IgnoresAReadOnlyRoot": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, confinement=replace(container.confinement, read_only=False))
""",
        "test_a_read_only_root_cannot_be_written_and_others_can",
        "a container can write to its root with read_only=True",
    ),
    "MakesEveryRootReadOnly": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, confinement=replace(container.confinement, read_only=True))
""",
        "test_a_read_only_root_cannot_be_written_and_others_can",
        "a container cannot write to its root with read_only=False",
    ),
    "IgnoresResourceLimits": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, confinement=replace(container.confinement, rlimits=()))
""",
        "test_limits_and_capabilities_hold_for_every_process",
        "open files instead of 99",
    ),
    "GivesAllCapabilities": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, confinement=replace(container.confinement, capabilities=CAPABILITIES))
""",
        "test_limits_and_capabilities_hold_for_every_process",
        "has the bounding set",
    ),
    "ForgetsNoNewPrivs": Sabotage(
        """(_Real):
    class agent(_Agent):
        def container(self, container):
            return replace(container, confinement=replace(container.confinement, no_new_privs=False))
""",
        "test_limits_and_capabilities_hold_for_every_process",
        "has NoNewPrivs b'0'",
    ),
    "AdoptsWithAnotherExitCode": Sabotage(
        """(_Real):
    class agent(_Agent):
        adopted = False

        async def adopt(self, process, io):
            self.adopted = True
            await super().adopt(process, io)

        async def wait(self, process):
            return 0 if await super().wait(process) == 7 and self.adopted else await super().wait(process)
""",
        "test_another_agent_takes_over_through_what_was_saved",
        "a container that exits with 7 ended with 0",
    ),
    # Agents whose guests are at fault.
    "LetsReadOnlyMountsBeWritten": Sabotage(
        """(_Real):
    class inside(FakeContainer):
        def __init__(self, spec, *shares):
            mounts = [{**mount, "readOnly": False} for mount in spec.get("fsmap", ())]
            super().__init__({**spec, "fsmap": mounts}, *shares)
""",
        "test_mounts_are_where_they_belong_and_read_only_if_they_shall_be",
        "a container can write to a mount with mount.read_only=True",
    ),
    "SharesOneRootAmongContainers": Sabotage(
        """(_Real):
    class inside(FakeContainer):
        written = {}

        def __init__(self, spec, *shares):
            super().__init__(spec, *shares)
            self._written = self.written
""",
        "test_what_a_container_writes_to_its_root_is_seen_by_it_alone",
        "the root of one is that of the other",
    ),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The failed tests of each class, with their messages."""
    return run_kit(tmp_path_factory.mktemp("sabotage"), HEAD, SABOTAGE)


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if not one.promise])
def test_a_good_agent_keeps_the_contract(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


@pytest.mark.parametrize("name", [name for name, one in SABOTAGE.items() if one.promise])
def test_a_broken_promise_is_found(failed: dict[str, dict[str, str]], name: str) -> None:
    check(SABOTAGE[name], failed[name])


def test_a_method_that_is_not_written_yet_fails_with_one_line(failed: dict[str, dict[str, str]]) -> None:
    (message,) = failed["IsNotWrittenYet"].values()
    assert message.splitlines()[0] == "Failed: still to be written: start_container: start the container's process"
