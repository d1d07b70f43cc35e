"""Containers in a guest that the caller names: a real OpenSSH daemon on 127.0.0.1."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
from given_server import (
    PATH,
    TIMEOUT,
    MakeAgent,
    container,
    namespace,
    outcome,
    play,
    sh,
    spawner,
    started,
)

from vc_core.driver import (
    Cmd,
    Confinement,
    EnvVar,
    GuestMount,
    RLimit,
    TerminalSize,
)
from vc_core.errors import AgentError, CommandError, NotSupportedError
from vc_core.testing.process_io import RecordedIO

pytestmark = pytest.mark.root


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
            entered = RecordedIO()
            inside = await agent.exec("c1", sh("echo inside; exec sleep 1000"), entered, TIMEOUT)
            await entered.until(7)
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


def test_without_a_spawner_entering_a_container_is_refused(make_agent: MakeAgent, root_fs: Path) -> None:
    async def work() -> None:
        async with started(make_agent()) as agent:
            await agent.start_container(container(root_fs, sh("sleep 1000")), RecordedIO(), TIMEOUT)
            with pytest.raises(NotSupportedError, match="container 'c1' without a spawner; install vc-spawner-nsenter"):
                await agent.exec("c1", sh("exit"), RecordedIO(), TIMEOUT)

    play(work)
