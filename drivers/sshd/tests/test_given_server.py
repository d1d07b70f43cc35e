"""A real OpenSSH daemon on 127.0.0.1: what the agent does in a guest that the caller names."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vc_agent_sshd.agent import SshdAgent
from vc_agent_sshd.testing.openssh import Server, reserved_port, serve
from vc_core.driver import (
    Cmd,
    Confinement,
    EnvVar,
    GuestContainer,
    GuestMount,
    GuestProcessId,
    RLimit,
    Spawner,
    TerminalSize,
)
from vc_core.errors import AgentConnectError, AgentError, CommandError, ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO
from vc_spawner_nsenter.plugin import NsenterPlugin

pytestmark = pytest.mark.root

MakeAgent = Callable[..., SshdAgent]
#: Seconds, generous: the machine may be busy.
TIMEOUT = 30.0

PATH = EnvVar("PATH", "/bin:/usr/bin")

#: Everything that a program's argument can hold.
ARGUMENT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)


async def no_channel(name: str) -> socket.socket:
    raise AssertionError("a given server is reached by its address")


def namespace(kind: str, pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def spawner() -> Spawner:
    plugin = NsenterPlugin()
    return plugin.vc_spawner_create(plugin.vc_spawner_config({}))


def sh(script: str, **more: Any) -> Cmd:
    return Cmd(args=["sh", "-c", script], envs=[PATH], **more)


def container(root_fs: Path, cmd: Cmd, **more: Any) -> GuestContainer:
    return GuestContainer("c1", str(root_fs), cmd, **more)


@asynccontextmanager
async def started(agent: SshdAgent) -> AsyncIterator[SshdAgent]:
    """Connect, start the pod, and leave nothing in the guest."""
    await agent.connect(no_channel, TIMEOUT)
    await agent.start_pod("host1", "", TIMEOUT)
    try:
        yield agent
    finally:
        await agent.stop_pod(TIMEOUT)
        await agent.aclose()


@asynccontextmanager
async def taken_over(agent: SshdAgent) -> AsyncIterator[SshdAgent]:
    await agent.connect(no_channel, TIMEOUT)
    try:
        yield agent
    finally:
        await agent.stop_pod(TIMEOUT)
        await agent.aclose()


async def outcome(agent: SshdAgent, container_id: str, cmd: Cmd, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a command to its end."""
    io = RecordedIO(stdin)
    process = await agent.exec(container_id, cmd, io, TIMEOUT)
    code = await asyncio.wait_for(agent.wait(process), TIMEOUT)
    return code, bytes(io.stdout), bytes(io.stderr)


def play(work: Callable[[], Awaitable[object]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 2 * TIMEOUT))


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_command_has_three_streams_and_an_exit_code(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            code, out, err = await outcome(agent, "", sh("cat; echo err >&2; exit 3"), b"in")
            assert (code, out, err) == (3, b"in", b"err\n")

    play(work)


def test_every_exit_code_and_signal_is_returned(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            for code in (0, 1, 126, 127, 128, 255):
                assert await outcome(agent, "", sh(f"exit {code}")) == (code, b"", b"")
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGBUS, signal.SIGRTMIN + 3):
                assert await outcome(agent, "", sh(f"kill -{int(number)} $$")) == (128 + number, b"", b"")

    play(work)


def test_arguments_and_variables_arrive_byte_for_byte_with_and_without_a_spawner(
    make_agent: MakeAgent, root_fs: Path
) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(args=st.lists(ARGUMENT, max_size=4), value=ARGUMENT)
    def round_trip(args: list[str], value: str) -> None:
        script = 'printf "%s\\0" "$V" "$@"'
        cmd = Cmd(args=["sh", "-c", script, "sh", *args], envs=[PATH, EnvVar("V", value)])
        for where in ("", "c1"):
            code, out, err = loop.run_until_complete(outcome(agent, where, cmd))
            assert (code, err) == (0, b"")
            assert out == b"".join(one.encode() + b"\0" for one in (value, *args))

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        agent = make_agent(spawner())
        runner.run(agent.connect(no_channel, TIMEOUT))
        runner.run(agent.start_pod("host1", "", TIMEOUT))
        runner.run(agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT))
        try:
            round_trip()
        finally:
            runner.run(agent.stop_pod(TIMEOUT))
            runner.run(agent.aclose())


def test_a_command_has_its_own_environment_only(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")

    async def work() -> None:
        async with started(make_agent()) as agent:
            _, out, _ = await outcome(agent, "", Cmd(args=["env"], envs=[PATH, EnvVar("a.b", "c d")]))
            names = {line.split(b"=")[0] for line in out.splitlines()}
            assert names == {b"HOME", b"USER", b"PATH", b"a.b"}

    play(work)


def test_arguments_variables_and_input_of_a_command_are_not_logged(
    make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def work() -> None:
        async with started(make_agent()) as agent:
            await outcome(agent, "", Cmd(args=["true"], envs=[PATH, EnvVar("TOKEN", "secret")]))

    play(work)
    assert "secret" not in caplog.text


def test_a_command_runs_in_its_directory_as_its_user(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            code, out, _ = await outcome(agent, "", sh("id -u; pwd", user="nobody", work_dir="/usr"))
            assert (code, out) == (0, b"65534\n/usr\n")
            code, _, err = await outcome(agent, "", sh("true", work_dir="/no such"))
            assert code == 125
            assert b"/no such" in err

    play(work)


def test_a_command_without_a_program_is_refused(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            for bad, error in ((Cmd(), ConfigError), (Cmd(args=["a=b"]), NotSupportedError)):
                with pytest.raises(error):
                    await agent.exec("", bad, RecordedIO(), TIMEOUT)
            with pytest.raises(ConfigError, match="stdin"):
                await agent.exec("", Cmd(args=["echo", "'" * 60000]), RecordedIO(), TIMEOUT)

    play(work)


def test_a_slow_reader_holds_back_no_other_command(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            slow = RecordedIO(stalled=True)
            flood = await agent.exec("", sh("head -c 20000000 /dev/zero"), slow, TIMEOUT)
            for _ in range(3):
                assert (await outcome(agent, "", sh("echo x")))[1] == b"x\n"
            slow.flowing.set()
            assert await asyncio.wait_for(agent.wait(flood), TIMEOUT) == 0
            assert len(slow.stdout) == 20000000

    play(work)


def test_a_command_that_does_not_read_its_input_delays_no_other(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            idle = await agent.exec("", sh("sleep 1000"), RecordedIO(b"x" * 5_000_000), TIMEOUT)
            assert (await outcome(agent, "", sh("cat"), b"y" * 3_000_000))[1] == b"y" * 3_000_000
            await agent.signal(idle, signal.SIGKILL, TIMEOUT)
            assert await agent.wait(idle) == 128 + signal.SIGKILL

    play(work)


def test_a_process_that_a_command_leaves_behind_does_not_keep_it(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            code, out, _ = await outcome(agent, "", sh("sleep 1000 & echo $!"))
            assert code == 0
            os.kill(int(out), signal.SIGKILL)

    play(work)


def test_many_commands_run_at_once_over_one_connection(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            results = await asyncio.gather(*(outcome(agent, "", sh(f"echo {number}; cat")) for number in range(30)))
            assert [out for _, out, _ in results] == [f"{number}\n".encode() for number in range(30)]

    play(work)


def test_a_terminal_has_its_size_and_its_changes(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            for where in ("", "c1"):
                io = RecordedIO(None)
                process = await agent.exec(where, sh("stty size; read x; stty size; tty"), io, TIMEOUT,
                                           TerminalSize(30, 90))  # fmt: skip
                assert await io.until(7) == b"30 90\r\n"
                await agent.resize(process, 40, 100, TIMEOUT)
                io.give(b"\n")
                assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 0
                assert b"40 100\r\n/dev/pts/" in io.stdout

    play(work)


# -- containers --------------------------------------------------------------------------------------------------------


def test_a_container_has_namespaces_and_a_root_of_its_own(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            _, out, _ = await outcome(
                agent, "c1", sh("hostname; for n in mnt uts ipc pid; do readlink /proc/1/ns/$n; done")
            )
            host, *inside = out.decode().split()
            assert host == "host1"
            assert not set(inside) & {namespace(kind) for kind in ("mnt", "uts", "ipc", "pid")}
            _, out, _ = await outcome(agent, "c1", sh("ls /; echo x >/written; cat /proc/mounts; ls /proc/self/fd"))
            assert str(root_fs).encode() not in out
            assert out.split()[:4] == [b"bin", b"dev", b"etc", b"proc"]
            assert out.split()[-4:] == [b"0", b"1", b"2", b"3"]  # ls has the directory open as 3
            assert not (root_fs / "written").exists()

    play(work)


def test_a_container_is_confined_and_so_is_who_enters_it(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        show = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ulimit -n; mount -o remount / 2>&1"
        io = RecordedIO()
        confinement = Confinement(rlimits=(RLimit("nofile", 100, 200),), read_only=True)
        async with started(make_agent(spawner())) as agent:
            first = container(root_fs, sh(f"{show}; touch /x; echo $?; sleep 1000"), confinement=confinement)
            await agent.start_container(first, io, TIMEOUT)
            _, further, _ = await outcome(agent, "c1", sh(show))
            lines = further.decode().splitlines()
            assert [line.split()[-1] for line in lines[:3]] == ["00000000a80425fb", "00000000a80425fb", "1"]
            assert lines[3] == "100"
            assert "ermission denied" in lines[4]
            await io.until(len(further) + 2)
            assert io.stdout.decode().splitlines() == [*lines, "1"]

    play(work)


def test_a_command_in_a_container_is_one_of_its_users(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            for cmd, wanted in (
                (sh("id", user="bob"), b"uid=1000(bob) gid=1001(bob) groups=29(audio)\n"),
                (sh("id", user="1000", group="video"), b"uid=1000(bob) gid=44(video) groups=29(audio)\n"),
                (sh("id", user="77", additional_groups=["5", "video"]), b"uid=77 gid=0(root) groups=5,44(video)\n"),
                (sh("id"), b"uid=0(root) gid=0(root)\n"),
            ):
                code, out, err = await outcome(agent, "c1", cmd)
                assert (code, out, err) == (0, wanted, b"")
            code, _, err = await outcome(agent, "c1", sh("id", user="eve"))
            assert (code, err) == (125, b"user 'eve' is not in /etc/passwd\n")

    play(work)


def test_a_container_inherits_its_environment_to_who_enters_it(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            cmd = Cmd(args=["sleep", "1000"], envs=[PATH, EnvVar("A", "1"), EnvVar("B", "2")])
            await agent.start_container(container(root_fs, cmd), RecordedIO(), TIMEOUT)
            _, out, _ = await outcome(agent, "c1", Cmd(args=["env"], envs=[PATH, EnvVar("B", "3")]))
            assert {b"A=1", b"B=3", b"HOME=/root", b"USER=root", b"HOSTNAME=host1"} < set(out.splitlines())

    play(work)


@pytest.mark.parametrize(
    ("program", "code"), [("no such", 127), ("/etc/plain", 126), ("/etc", 126), ("/bin/../etc/none", 127)]
)
def test_a_container_whose_program_cannot_run_does_not_start(
    make_agent: MakeAgent, root_fs: Path, program: str, code: int
) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            for _ in range(2):  # nothing is in the way of the next attempt
                with pytest.raises(CommandError, match="container 'c1'") as caught:
                    await agent.start_container(
                        container(root_fs, Cmd(args=[program], envs=[PATH])), RecordedIO(), TIMEOUT
                    )
                assert caught.value.exit_code == code

    play(work)


def test_a_container_whose_root_is_missing_is_refused_with_the_reason(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            with pytest.raises(AgentError, match="the root /no/such is no directory"):
                await agent.start_container(container(Path("/no/such"), sh("true")), RecordedIO(), TIMEOUT)

    play(work)


def test_a_container_ends_with_its_program_and_takes_all_its_processes_along(
    make_agent: MakeAgent, root_fs: Path
) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            io = RecordedIO()
            process = await agent.start_container(
                container(root_fs, sh("sleep 1000 & trap 'exit 9' TERM; echo ready; wait")), io, TIMEOUT
            )
            await io.until(6)
            inside = await agent.exec("c1", sh("sleep 1000"), RecordedIO(), TIMEOUT)
            await agent.signal_container("c1", signal.SIGTERM, TIMEOUT)
            assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 9
            assert await asyncio.wait_for(agent.wait(inside), TIMEOUT) == 128 + signal.SIGKILL
            await agent.signal_container("c1", signal.SIGTERM, TIMEOUT)  # no error after its end
            with pytest.raises(AgentError, match="does not run"):
                await agent.exec("c1", sh("true"), RecordedIO(), TIMEOUT)
            await agent.remove_container("c1", TIMEOUT)
            await agent.start_container(container(root_fs, sh("true")), RecordedIO(), TIMEOUT)

    play(work)


def test_a_container_reads_input_to_its_end(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            io = RecordedIO(b"x" * 300_000)
            process = await agent.start_container(container(root_fs, sh("wc -c")), io, TIMEOUT)
            assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 0
            assert io.stdout == b"300000\n"

    play(work)


def test_a_container_can_have_a_terminal(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            io = RecordedIO(None)
            process = await agent.start_container(
                container(root_fs, sh("stty size; read x; echo got $x; exit 4"), terminal=TerminalSize(30, 90)),
                io,
                TIMEOUT,
            )
            await io.until(7)
            io.give(b"it\n")
            assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 4
            assert io.stdout == b"30 90\r\nit\r\ngot it\r\n"

    play(work)


def test_mounts_follow_links_as_the_container_would(make_agent: MakeAgent, root_fs: Path, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown/file").write_text("seen\n", encoding="utf-8")
    linked = tmp_path / "linked"
    subprocess.run(["cp", "-a", str(root_fs), str(linked)], check=True)
    (linked / "etc/outside").symlink_to(f"../../../..{tmp_path}")

    async def work() -> None:
        async with started(make_agent()) as agent:
            mounts = (
                GuestMount(f"{tmp_path}/shown", "/etc/outside/a"),
                GuestMount(f"{tmp_path}/shown/file", "/new/file"),
                GuestMount(f"{tmp_path}/shown", "/rw", read_only=False),
            )
            io = RecordedIO()
            script = f"cat {tmp_path}/a/file /new/file; touch /new/file 2>/dev/null; echo $?; echo y >/rw/written"
            process = await agent.start_container(container(linked, sh(script), mounts=mounts), io, TIMEOUT)
            assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 0
            assert io.stdout == b"seen\nseen\n1\n"
            assert (tmp_path / "shown/written").read_text(encoding="utf-8") == "y\n"
            assert not (tmp_path / "a").exists()

    play(work)


def test_without_a_spawner_entering_a_container_runs_in_the_guest_itself(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            _, out, _ = await outcome(agent, "c1", sh("readlink /proc/self/ns/mnt"))
            assert out.decode().strip() == namespace("mnt")

    play(work)


# -- connections -------------------------------------------------------------------------------------------------------


def test_another_process_takes_over_with_output_and_exit_code(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; read x; echo $x; exit 7"
        first, io, rest = make_agent(spawner()), RecordedIO(None), RecordedIO(None)
        await first.connect(no_channel, TIMEOUT)
        await first.start_pod("host1", "", TIMEOUT)
        process = await first.start_container(container(root_fs, sh(script)), io, TIMEOUT)
        await io.until(100)
        await first.aclose()
        with pytest.raises(AgentConnectError):
            await first.wait(process)
        async with taken_over(make_agent(spawner(), dict(first.save()))) as second:
            await second.adopt(process, rest)
            assert (await outcome(second, "c1", sh("echo in")))[1] == b"in\n"
            rest.give(b"end\n")
            assert await asyncio.wait_for(second.wait(process), TIMEOUT) == 7
            everything = b"".join(b"%d\n" % number for number in range(2000)) + b"end\n"
            assert bytes(io.stdout + rest.stdout) == everything
            with pytest.raises(AgentError, match="c9"):
                await second.adopt(GuestProcessId("c9", "first"), RecordedIO())

    play(work)


def test_a_container_that_ended_between_two_connections_is_not_lost(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        first = make_agent()
        await first.connect(no_channel, TIMEOUT)
        await first.start_pod("host1", "", TIMEOUT)
        before = RecordedIO()
        process = await first.start_container(container(root_fs, sh("sleep 1; echo last; exit 6")), before, TIMEOUT)
        await first.aclose()
        async with taken_over(make_agent()) as second:
            await asyncio.sleep(1.5)
            io = RecordedIO()
            await second.adopt(process, io)
            assert await asyncio.wait_for(second.wait(process), TIMEOUT) == 6
            # On a busy host the agent may leave after the line was written.
            assert bytes(before.stdout + io.stdout) == b"last\n"

    play(work)


async def connection_of(agent: SshdAgent) -> int:
    """Return the daemon's process that serves an agent: the parent of the shell in which a command runs."""
    _, out, _ = await outcome(agent, "", sh("cut -d' ' -f4 /proc/$PPID/stat"))
    return int(out)


def test_a_lost_connection_fails_the_command_and_the_next_one_has_a_new_connection(
    make_agent: MakeAgent, root_fs: Path
) -> None:
    async def work() -> None:
        io = RecordedIO(None)
        async with started(make_agent(spawner())) as agent:
            one = container(root_fs, sh("echo one; read x; echo $x; exit 5"))
            process = await agent.start_container(one, io, TIMEOUT)
            await io.until(4)
            command = await agent.exec("", sh("sleep 1000"), RecordedIO(None), TIMEOUT)
            os.kill(await connection_of(agent), signal.SIGKILL)
            with pytest.raises(AgentConnectError, match="sh"):
                await asyncio.wait_for(agent.wait(command), TIMEOUT)
            assert (await outcome(agent, "", sh("echo back; pkill -f 'sleep 100[0]'")))[1] == b"back\n"
            io.give(b"two\n")
            assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 5
            assert io.stdout == b"one\ntwo\n"

    play(work)


def test_a_server_that_does_not_come_back_is_reported_as_lost(
    make_agent: MakeAgent, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_agent_sshd.agent._RECONNECT_TIMEOUT", 0.5)

    async def work() -> None:
        with reserved_port() as port:
            agent = make_agent(port=port)
            with serve(server.directory, port):
                await agent.connect(no_channel, TIMEOUT)
                await agent.start_pod("host1", "", TIMEOUT)
                command = await agent.exec("", sh("cat"), RecordedIO(None), TIMEOUT)
                connection = await connection_of(agent)
                await agent.stop_pod(TIMEOUT)
            os.kill(connection, signal.SIGKILL)
            assert "127.0.0.1" in await asyncio.wait_for(agent.wait_lost(), TIMEOUT)
            with pytest.raises(AgentConnectError):
                await agent.wait(command)
            await agent.aclose()

    play(work)


def test_a_start_that_is_cancelled_leaves_no_container(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            task = asyncio.create_task(
                agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            )
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            while True:  # until what was on its way is undone
                try:
                    await agent.start_container(container(root_fs, sh("exit 2")), RecordedIO(), TIMEOUT)
                    break
                except AgentError:
                    await asyncio.sleep(0.1)  # there is no event to wait for

    play(work)
