"""The agent against the real guest agent in a VM. One boot; each test takes the guest over from the one before it."""

import asyncio
import hashlib
import os
import shutil
import socket
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from agent_vm import agent_vm
from hyperstart_agents import make_agent

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.testing.wire import WINDOW
from vc_core.driver import AgentCapability, Cmd, Confinement, EnvVar, GuestContainer, RLimit, TerminalSize
from vc_core.errors import CommandError
from vc_core.testing.process_io import RecordedIO
from vc_core.testing.slowness import scaled

pytestmark = pytest.mark.vm

#: Seconds; a boot under emulation on a busy machine.
BOOT, TIMEOUT = scaled(300), scaled(60)


@dataclass
class Guest:
    """A running VM, and what the last host saved."""

    directory: Path
    saved: Mapping[str, object] = field(default_factory=dict)
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    async def open_channel(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect(str(self.directory / name))
        self.sockets[name] = sock
        return sock

    def kill_host(self, halves: dict[str, bytes]) -> None:
        """End the host as SIGKILL does, with half frames on their way."""
        for name, half in halves.items():
            self.sockets[name].send(half)
            self.sockets[name].shutdown(socket.SHUT_RDWR)

    def run(self, main: Callable[[HyperstartAgent], Awaitable[None]]) -> None:
        """Run ``main(agent)`` on an agent that takes over the guest."""

        async def take_over() -> None:
            agent = make_agent(self.saved)
            await agent.connect(self.open_channel, TIMEOUT)
            try:
                await main(agent)
                self.saved = agent.save()
            finally:
                await agent.aclose()

        asyncio.run(asyncio.wait_for(take_over(), 10 * TIMEOUT))


def make_root_fs(root: Path) -> None:
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "cat", "echo", "head", "seq", "sleep", "sha256sum", "stty", "true", "tty", "vi", "wc"):
        (root / "bin" / applet).symlink_to("busybox")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Guest]:
    directory = tmp_path_factory.mktemp("vm")
    make_root_fs(directory / "share" / "c1" / "rootfs")
    with agent_vm(directory, {"hyperShared": "share,security_model=none,readonly=on"}):
        guest = Guest(directory)
        asyncio.run(start(make_agent(), guest))
        yield guest


async def start(agent: HyperstartAgent, guest: Guest) -> None:
    await agent.connect(guest.open_channel, BOOT)
    assert {AgentCapability.SIGNAL, AgentCapability.REATTACH} <= agent.capabilities
    await agent.start_pod("p1", "", TIMEOUT)
    await agent.start_container(GuestContainer("c1", "c1/rootfs", cmd("sleep", "1000000")), RecordedIO(None), TIMEOUT)
    guest.saved = agent.save()
    await agent.aclose()


def cmd(*args: str) -> Cmd:
    return Cmd(args=args, envs=[EnvVar("PATH", "/bin")])


async def command(
    agent: HyperstartAgent, *args: str, stdin: bytes = b"", terminal: TerminalSize | None = None
) -> tuple[int, RecordedIO]:
    io = RecordedIO(stdin)
    process = await agent.exec("c1", cmd(*args), io, TIMEOUT, terminal=terminal)
    return await agent.wait(process), io


def test_exec_gives_both_outputs_and_the_exit_code(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        status, io = await command(agent, "sh", "-c", "echo out; echo err >&2; exit 42")
        assert (status, bytes(io.stdout), bytes(io.stderr)) == (42, b"out\n", b"err\n")
        arguments = ["", "two words", "quo'te\"s", "$(echo no)", "new\nline", "ünï-\U0001f600", "\x01\x7f\\"]
        status, io = await command(agent, "sh", "-c", 'for word; do echo -n "$word|"; done', "sh", *arguments)
        assert bytes(io.stdout).decode() == "".join(f"{word}|" for word in arguments)

    guest.run(main)


def test_a_missing_program_is_a_command_error_of_127(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        with pytest.raises(CommandError, match="'no-such-program' in container 'c1'") as caught:
            await command(agent, "no-such-program")
        assert caught.value.exit_code == 127

    guest.run(main)


@pytest.mark.promise("T12")
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, WINDOW - 1, WINDOW, WINDOW + 1])
def test_output_and_input_around_the_window_are_exact(guest: Guest, size: int) -> None:
    async def main(agent: HyperstartAgent) -> None:
        data = os.urandom(size)
        status, io = await command(agent, "cat", stdin=data)
        assert (status, bytes(io.stdout)) == (0, data)

    guest.run(main)


@pytest.mark.promise("T12")
def test_ten_mebibytes_in_and_out_arrive_byte_for_byte(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        data = os.urandom(10 * 1024 * 1024)
        status, io = await command(agent, "sha256sum", stdin=data)
        assert (status, bytes(io.stdout).split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())
        status, io = await command(agent, "cat", stdin=data)
        assert (status, hashlib.sha256(io.stdout).hexdigest()) == (0, hashlib.sha256(data).hexdigest())

    guest.run(main)


def test_fifty_commands_at_once_keep_apart(guest: Guest) -> None:
    async def one(agent: HyperstartAgent, number: int) -> None:
        status, io = await command(agent, "sh", "-c", f"cat; exit {number}", stdin=b"%d" % number * 1000)
        assert (status, bytes(io.stdout)) == (number, b"%d" % number * 1000)

    async def main(agent: HyperstartAgent) -> None:
        await asyncio.gather(*(one(agent, number) for number in range(50)))

    guest.run(main)


def test_a_stalled_reader_stalls_only_its_own_stream(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(stalled=True)
        stalled = await agent.exec("c1", cmd("head", "-c", "2000000", "/dev/zero"), io, TIMEOUT)
        status, _ = await command(agent, "head", "-c", "200000", "/dev/zero")
        assert status == 0
        io.flowing.set()
        assert await agent.wait(stalled) == 0
        assert len(io.stdout) == 2_000_000

    guest.run(main)


@pytest.mark.promise("T11")
def test_stopped_readers_cost_no_more_than_their_windows_on_either_side(guest: Guest) -> None:
    async def agent_memory(agent: HyperstartAgent) -> int:
        """Return KiB of the guest agent's resident memory."""
        io = RecordedIO()
        words = cmd("/bin/busybox", "grep", "VmRSS", "/proc/1/status")
        assert await agent.wait(await agent.exec("", words, io, TIMEOUT)) == 0
        return int(bytes(io.stdout).split()[1])

    async def main(agent: HyperstartAgent) -> None:
        before, stalled, count = await agent_memory(agent), [], 20
        tracemalloc.start()
        try:
            for _ in range(count):
                io = RecordedIO(stalled=True)
                process = await agent.exec("c1", cmd("cat", "/dev/zero"), io, TIMEOUT)
                stalled.append((process, io))
            data = os.urandom(1024 * 1024)
            status, io = await command(agent, "cat", stdin=data)
            assert (status, bytes(io.stdout)) == (0, data)
            assert tracemalloc.get_traced_memory()[1] < 2 * count * WINDOW + 8 * len(data)
        finally:
            tracemalloc.stop()
        assert await agent_memory(agent) - before < count * WINDOW // 1024 + 1024
        for process, io in stalled:
            await agent.signal(process, 9, TIMEOUT)
            io.flowing.set()
            assert await agent.wait(process) == 128 + 9

    guest.run(main)


@pytest.mark.promise("T12")
def test_a_thousand_short_commands_end_with_their_own_output_and_exit_code(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        async def some(first: int) -> None:
            for number in range(first, 1000, 4):
                script = f"echo {number}; exit {number % 256}"
                status, io = await command(agent, "sh", "-c", script)
                assert (status, bytes(io.stdout)) == (number % 256, b"%d\n" % number)

        await asyncio.gather(*(some(first) for first in range(4)))

    guest.run(main)


def test_each_direction_of_a_command_ends_by_itself(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(b"in\n")
        process = await agent.exec("c1", cmd("sh", "-c", "cat; echo at the end; exit 3"), io, TIMEOUT)
        assert await agent.wait(process) == 3
        assert io.stdout == b"in\nat the end\n"
        io = RecordedIO(None)
        process = await agent.exec(
            "c1", cmd("sh", "-c", "exec >/dev/null; echo closed >&2; read word; exit $word"), io, TIMEOUT
        )
        await asyncio.wait_for(io.until_error(b"closed\n"), TIMEOUT)
        io.give(b"9\n")
        assert await agent.wait(process) == 9

    guest.run(main)


def test_an_editor_in_a_terminal_sees_single_keys_and_writes_its_file(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        process = await agent.exec("c1", cmd("vi", "/tmp/text"), io, TIMEOUT, terminal=TerminalSize(24, 80))
        await seen(io, b"- /tmp/text")
        # Insert (^V takes ^A as it is), leave with escape, copy the line, change a letter in the copy.
        for keys, answer in (
            (b"i", b"I /tmp/text"),
            (b"control \x16\x01 and text", b" and text"),
            (b"\x1b", b"[Modified]"),
            (b"yyp", b"Put 1 lines"),
            (b"0rK", b"2/2"),
        ):
            io.give(keys)
            await seen(io, answer)
        io.give(b":wq\r")
        assert await agent.wait(process) == 0
        status, saved = await command(agent, "cat", "/tmp/text")
        assert (status, bytes(saved.stdout)) == (0, b"control \x01 and text\nKontrol \x01 and text\n")

    guest.run(main)


def test_the_bounds_of_a_container_hold_and_its_usage_is_returned(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        bounds = Confinement(
            read_only=True, memory=64, pids=50, rlimits=(RLimit("nofile", 99, 99),), capabilities=("CAP_KILL",)
        )
        script = "ulimit -n; cat /proc/self/status; echo x >/new || echo refused; read word"
        container = GuestContainer("b1", "c1/rootfs", cmd("sh", "-c", script), confinement=bounds)
        assert {AgentCapability.LIMITS, AgentCapability.STATS} <= agent.capabilities
        process = await agent.start_container(container, io, TIMEOUT)
        await seen(io, b"refused")
        words = bytes(io.stdout).split()
        assert words[0] == b"99"
        assert words[words.index(b"CapBnd:") + 1] == b"%016x" % (1 << 5)
        assert words[words.index(b"NoNewPrivs:") + 1] == b"1"
        usage = await agent.stats("b1", TIMEOUT)
        assert usage.memory_limit == 64 * 1024 * 1024
        assert usage.memory is not None
        assert usage.cpu_seconds is not None
        assert 0 < usage.memory < usage.memory_limit
        assert usage.pids == 1
        assert usage.cpu_seconds > 0
        io.give(b"\n")
        await agent.wait(process)
        await agent.remove_container("b1", TIMEOUT)

    guest.run(main)


def test_death_by_signal_n_is_128_plus_n(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        for signum in (1, 9, 15):
            process = await agent.exec("c1", cmd("sleep", "1000"), RecordedIO(None), TIMEOUT)
            await agent.signal(process, signum, TIMEOUT)
            assert await agent.wait(process) == 128 + signum

    guest.run(main)


async def seen(io: RecordedIO, text: bytes) -> None:
    """Wait for output; what a terminal echoes of its input counts too."""
    while text not in io.stdout:
        await asyncio.wait_for(io.until(len(io.stdout) + 1), TIMEOUT)


def test_a_terminal_has_the_size_it_was_given_and_its_process_hears_of_a_new_one(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        script = "trap 'stty size' WINCH; stty size; while :; do sleep 1000 & wait; done"
        process = await agent.exec("c1", cmd("sh", "-c", script), io, TIMEOUT, terminal=TerminalSize(24, 80))
        await seen(io, b"24 80\r\n")
        for rows, columns in ((33, 99), (5, 7)):
            await agent.resize(process, rows, columns, TIMEOUT)
            await seen(io, b"%d %d\r\n" % (rows, columns))
        await agent.signal(process, 9, TIMEOUT)
        assert await agent.wait(process) == 128 + 9

    guest.run(main)


def test_control_c_interrupts_the_program_in_the_foreground(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        process = await agent.exec(
            "c1", cmd("sh", "-c", "echo ready; exec sleep 1000"), io, TIMEOUT, terminal=TerminalSize()
        )
        await seen(io, b"ready")
        io.give(b"\x03")
        assert await agent.wait(process) == 128 + 2

    guest.run(main)


def test_a_shell_on_a_terminal_has_job_control(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        process = await agent.exec("c1", cmd("sh", "-i"), io, TIMEOUT, terminal=TerminalSize())
        for line, answer in (
            (b"tty; echo term=$TERM\n", b"/dev/pts/0\r\nterm=xterm\r\n"),
            (b"sh -c 'echo in front; exec sleep 1000'\n", b"\nin front\r\n"),
            (b"\x03", b"^C"),
            (b"echo status=$?\n", b"\nstatus=130\r\n"),
            (b"sh -c 'echo again; exec sleep 1000'\n", b"\nagain\r\n"),
            (b"\x1a", b"Stopped"),
            (b"kill -9 %1; wait; echo jobs=$(jobs | wc -l)\n", b"\njobs=0\r\n"),
        ):
            io.give(line)
            await seen(io, answer)
        io.give(b"exit 7\n")
        assert await agent.wait(process) == 7
        assert b"job control" not in io.stdout

    guest.run(main)


@pytest.mark.parametrize("text", [b"", b"whole line\n", b"half a line", b"line\nhalf"])
def test_the_end_of_input_ends_a_program_that_reads_a_terminal(guest: Guest, text: bytes) -> None:
    async def main(agent: HyperstartAgent) -> None:
        status, io = await command(agent, "sh", "-c", "stty -echo; cat; echo end", stdin=text, terminal=TerminalSize())
        assert status == 0
        assert io.stdout.endswith(text.replace(b"\n", b"\r\n") + b"end\r\n")

    guest.run(main)


def test_all_that_was_written_to_a_terminal_arrives_before_the_exit_code(guest: Guest) -> None:
    async def main(agent: HyperstartAgent) -> None:
        expected = b"".join(b"%d\r\n" % number for number in range(1, 30001))
        for _ in range(3):
            status, io = await command(agent, "seq", "30000", terminal=TerminalSize())
            assert (status, bytes(io.stdout)) == (0, expected)

    guest.run(main)


def test_a_container_can_run_on_a_terminal_which_outlives_its_host(guest: Guest) -> None:
    processes = []

    async def first(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        script = "tty; stty -echo; echo ready; read line; echo got $line; stty size; exit 5"
        container = GuestContainer("t1", "c1/rootfs", cmd("sh", "-c", script), terminal=TerminalSize(21, 65))
        processes.append(await agent.start_container(container, io, TIMEOUT))
        await seen(io, b"/dev/pts/0\r\nready\r\n")

    async def second(agent: HyperstartAgent) -> None:
        io = RecordedIO(b"line\n")
        await agent.adopt(processes[0], io)
        assert await agent.wait(processes[0]) == 5
        assert io.stdout.endswith(b"got line\r\n21 65\r\n")
        await agent.remove_container("t1", TIMEOUT)

    guest.run(first)
    guest.run(second)


def test_a_host_that_died_within_a_frame_leaves_output_input_and_exit_codes_to_the_next(guest: Guest) -> None:
    processes = []

    async def first(agent: HyperstartAgent) -> None:
        io = RecordedIO(None)
        script = "echo started; read word; echo got $word; head -c 200000 /dev/zero; exit 7"
        container = GuestContainer("c2", "c1/rootfs", cmd("sh", "-c", script))
        processes.append(await agent.start_container(container, io, TIMEOUT))
        script = "echo ended >&2; exit 8"
        container = GuestContainer("c3", "c1/rootfs", cmd("sh", "-c", script))
        processes.append(await agent.start_container(container, RecordedIO(stalled=True), TIMEOUT))
        await agent.exec("c2", cmd("sleep", "1000"), RecordedIO(None), TIMEOUT)
        await io.until(8)
        guest.kill_host({"sh.hyper.channel.0": b"\0\0\0\6\0\0\1", "sh.hyper.channel.1": b"\0\0\0\0\0\0"})
        await agent.wait_lost()

    async def second(agent: HyperstartAgent) -> None:
        io, other = RecordedIO(b"word\n"), RecordedIO()
        await agent.adopt(processes[0], io)
        await agent.adopt(processes[1], other)
        assert await agent.wait(processes[0]) == 7
        assert await agent.wait(processes[1]) == 8
        assert other.stderr == b"ended\n"
        # The first line comes again if the first host had no time to acknowledge it.
        output = b"started\ngot word\n" + bytes(200_000)
        assert bytes(io.stdout) in (output, output.removeprefix(b"started\n"))
        for name in ("c2", "c3"):
            await agent.remove_container(name, TIMEOUT)

    guest.run(first)
    guest.run(second)
