"""Connections to a guest that the caller names, which are lost and made again: a real OpenSSH daemon on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest
from given_server import (
    TIMEOUT,
    MakeAgent,
    container,
    no_channel,
    outcome,
    play,
    sh,
    spawner,
    started,
    taken_over,
)

from vc_agent_sshd.agent import SshdAgent
from vc_agent_sshd.testing.openssh import Server, reserved_port, serve
from vc_core.driver import (
    GuestContainer,
    GuestProcessId,
    PodContext,
)
from vc_core.errors import AgentConnectError, AgentError
from vc_core.testing.process_io import RecordedIO
from waiting import wait_until

pytestmark = pytest.mark.root


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
            command = await agent.exec("", sh("sleep 1234567"), RecordedIO(None), TIMEOUT)
            os.kill(await connection_of(agent), signal.SIGKILL)
            with pytest.raises(AgentConnectError, match="sh"):
                await asyncio.wait_for(agent.wait(command), TIMEOUT)
            assert (await outcome(agent, "", sh("echo back; pkill -f 'sleep 123456[7]'")))[1] == b"back\n"
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


def test_calls_that_are_cancelled_leave_no_session_open(make_agent: MakeAgent) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            for _ in range(101):  # the daemon has 100 sessions at most
                call = asyncio.create_task(agent.signal_container("c9", signal.SIGCONT, TIMEOUT))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            while True:  # until those that were on their way are closed
                try:
                    assert (await outcome(agent, "", sh("echo one")))[1] == b"one\n"
                    break
                except AgentError:
                    continue

    play(work)


async def two_that_read(
    agent: SshdAgent, root_fs: Path, inputs: tuple[RecordedIO, RecordedIO]
) -> tuple[list[GuestProcessId], int]:
    """Connect, and start the containers c1 and c2, which end with code 5 when they have read a line.

    Returns their processes, and the daemon's that serves the connection.
    """
    await agent.connect(no_channel, TIMEOUT)
    await agent.start_pod("host1", "", TIMEOUT)
    cmd = sh("read x; exit 5")
    processes = [
        await agent.start_container(GuestContainer(f"c{number}", str(root_fs), cmd), io, TIMEOUT)
        for number, io in enumerate(inputs, 1)
    ]
    return processes, await connection_of(agent)


async def runs_on(agent: SshdAgent, process: GuestProcessId, io: RecordedIO, lost: asyncio.Task[object]) -> None:
    """Check that a container of :func:`two_that_read` still reads, and end all."""
    io.give(b"end\n")
    assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 5
    assert not lost.done()
    lost.cancel()
    await agent.stop_pod(TIMEOUT)
    await agent.aclose()


def test_a_container_that_the_next_connection_has_no_session_for_is_alone_in_failing(
    make_agent: MakeAgent, server: Server, root_fs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_agent_sshd.calls._SESSION_TIMEOUT", 0.5)

    async def work() -> None:
        inputs = RecordedIO(None), RecordedIO(None)
        with reserved_port() as port:
            agent = make_agent(port=port)
            with serve(server.directory, port):
                (first, second), connection = await two_that_read(agent, root_fs, inputs)
            with serve(server.directory, port, max_sessions=1):
                lost = asyncio.create_task(agent.wait_lost())
                os.kill(connection, signal.SIGKILL)
                with pytest.raises(AgentError, match=r"'c2'.*MaxSessions"):
                    await asyncio.wait_for(agent.wait(second), TIMEOUT)
                await runs_on(agent, first, inputs[0], lost)

    play(work)


def test_a_container_gets_the_session_of_a_process_that_ends(
    make_agent: MakeAgent, server: Server, pod: PodContext, root_fs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_agent_sshd.calls._SESSION_TIMEOUT", TIMEOUT)
    place = Path("/run/vc-sshd", pod.id, "c")

    def kill(container_id: str) -> None:
        shell = (place / container_id / "ok").read_text(encoding="utf-8").split()[1]
        os.kill(int(Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="utf-8")), signal.SIGKILL)

    async def work() -> None:
        with reserved_port() as port:
            agent = make_agent(port=port)
            with serve(server.directory, port):
                (first, second), connection = await two_that_read(agent, root_fs, (RecordedIO(None), RecordedIO(None)))
            carriers = place / "c1/carriers"
            before = carriers.read_text(encoding="utf-8")
            with serve(server.directory, port, max_sessions=1):
                os.kill(connection, signal.SIGKILL)
                # Then the first container has the session.
                await asyncio.to_thread(wait_until, lambda: carriers.read_text(encoding="utf-8") not in ("", before))
                for container_id, process in (("c1", first), ("c2", second)):
                    kill(container_id)
                    assert await asyncio.wait_for(agent.wait(process), TIMEOUT) == 128 + signal.SIGKILL
                await agent.stop_pod(TIMEOUT)
                await agent.aclose()

    play(work)


def test_a_container_that_the_guest_removed_without_a_connection_is_alone_in_failing(
    make_agent: MakeAgent, server: Server, pod: PodContext, root_fs: Path
) -> None:
    async def work() -> None:
        inputs = RecordedIO(None), RecordedIO(None)
        with reserved_port() as port:
            agent = make_agent(port=port)
            with serve(server.directory, port):
                (first, second), connection = await two_that_read(agent, root_fs, inputs)
            lost = asyncio.create_task(agent.wait_lost())
            os.kill(connection, signal.SIGKILL)
            script = f"/run/vc-sshd/{pod.id}/containers.sh"
            await asyncio.to_thread(subprocess.run, ["sh", script, "remove", "c1"], check=True)
            with serve(server.directory, port):
                with pytest.raises(AgentError, match="no container 'c1'"):
                    await asyncio.wait_for(agent.wait(first), TIMEOUT)
                await runs_on(agent, second, inputs[1], lost)

    play(work)


def test_a_pod_whose_containers_have_all_sessions_can_be_stopped(
    make_agent: MakeAgent, server: Server, pod: PodContext, root_fs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc_agent_sshd.calls._SESSION_TIMEOUT", 1.0)

    async def work() -> None:
        with serve(server.directory, max_sessions=1) as full:
            agent = make_agent(port=full.port)
            await agent.connect(no_channel, TIMEOUT)
            await agent.start_pod("host1", "", TIMEOUT)
            process = await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(None), TIMEOUT)
            with pytest.raises(AgentError, match="MaxSessions"):
                await outcome(agent, "", sh("true"))
            await agent.stop_pod(TIMEOUT)
            assert not Path("/run/vc-sshd", pod.id).exists()
            with pytest.raises(AgentError, match="stopped"):
                await asyncio.wait_for(agent.wait(process), TIMEOUT)
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


def test_a_cancelled_start_with_the_id_of_another_container_leaves_that_one_running(
    make_agent: MakeAgent, root_fs: Path
) -> None:
    async def work() -> None:
        async with started(make_agent(spawner())) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            task = asyncio.create_task(agent.start_container(container(root_fs, sh("exit 2")), RecordedIO(), TIMEOUT))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            undoing = [task for task in asyncio.all_tasks() if "Calls._abandon" in repr(task)]
            assert undoing
            await asyncio.wait(undoing, timeout=TIMEOUT)
            assert (await outcome(agent, "c1", sh("exit 3")))[0] == 3

    play(work)


def test_no_output_is_lost_when_agents_that_close_follow_each_other(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 7"
        agent, output = make_agent(spawner()), RecordedIO(None)
        await agent.connect(no_channel, TIMEOUT)
        await agent.start_pod("host1", "", TIMEOUT)
        process = await agent.start_container(container(root_fs, sh(script)), output, TIMEOUT)
        for times in range(1, 6):
            await output.until(1000 * times)
            await agent.aclose()
            agent = make_agent(spawner(), dict(agent.save()))
            await agent.connect(no_channel, TIMEOUT)
            await agent.adopt(process, output)
        code = await asyncio.wait_for(agent.wait(process), TIMEOUT)
        await agent.stop_pod(TIMEOUT)
        await agent.aclose()
        assert (code, bytes(output.stdout)) == (7, b"".join(b"%d\n" % number for number in range(20000)))

    play(work)
