"""Commands in a guest that the caller names: a real OpenSSH daemon on 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest
from given_server import (
    PATH,
    TIMEOUT,
    MakeAgent,
    container,
    no_channel,
    outcome,
    play,
    sh,
    spawner,
    started,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vc_core.driver import (
    Cmd,
    EnvVar,
    TerminalSize,
)
from vc_core.errors import ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO

pytestmark = pytest.mark.root


#: Everything that a program's argument can hold.
ARGUMENT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)


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


@pytest.mark.promise("T18")
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
