"""The commands of the contract of agents, as programs of :mod:`vc_agent_hyperstart.testing.fake_guest`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress

from vc_agent_hyperstart.testing.programs import PROGRAMS, FakeProcess, Program
from vc_core.testing.contract.agent import Commands

#: The contract's commands in a fake guest.
COMMANDS = Commands(
    exit=("exit",),
    run_on=("sleep",),
    heed=("heed",),
    copy=("copy",),
    count=("count",),
    numbers=("numbers",),
    insist=("insist",),
    both=("both",),
    words=("words",),
    variable=("variable",),
    directory=("directory",),
    identity=("identity",),
    hostname=("hostname",),
    terminal_size=("terminal-size",),
    terminal_sizes=("terminal-sizes",),
    show=("show",),
    store=("store",),
    limits=("limits",),
    process_limits=("process-limits",),
    own_number=("own-number", "100000"),
    work=("work",),
)


async def _heed(process: FakeProcess) -> int:
    process.handled = {signal.SIGTERM: 15, signal.SIGUSR1: 10}
    await process.write(b"ready\n")
    await asyncio.Event().wait()
    raise AssertionError("an event without a setter was set")


async def _copy(process: FakeProcess) -> int:
    while data := await process.read():
        await process.write(data)
    return int(process.args[1])


async def _numbers(process: FakeProcess) -> int:
    await process.write(b"".join(b"%d\n" % number for number in range(1, int(process.args[1]) + 1)))
    return 0


async def _insist(process: FakeProcess) -> int:
    with suppress(BrokenPipeError):
        while True:
            await process.write(b"line\n")
            await asyncio.sleep(0)
    return 9


async def _both(process: FakeProcess) -> int:
    await process.write(b"output\n")
    await process.write_error(b"error\n")
    return 0


async def _words(process: FakeProcess) -> int:
    await process.write(b"".join(word.encode() + b"\0" for word in process.args[1:]))
    return 0


async def _variable(process: FakeProcess) -> int:
    if (value := process.env.get(process.args[1])) is None:
        return 1
    await process.write(value.encode() + b"\n")
    return 0


async def _directory(process: FakeProcess) -> int:
    await process.write(process.directory.encode() + b"\n")
    return 0


async def _identity(process: FakeProcess) -> int:
    one = process.identity
    await process.write(f"{one.user}\n{one.group}\n{' '.join(map(str, one.groups))}\n".encode())
    return 0


async def _hostname(process: FakeProcess) -> int:
    await process.write(process.hostname.encode() + b"\n")
    return 0


async def _terminal_size(process: FakeProcess) -> int:
    if process.size is None or not process.terminal:
        await process.write_error(b"not a terminal\n")
        return 1
    await process.write(b"%d %d\r\n" % process.size)
    return 0


async def _terminal_sizes(process: FakeProcess) -> int:
    while await _terminal_size(process) == 0:
        process.resized.clear()
        await process.resized.wait()
    return 1


async def _show(process: FakeProcess) -> int:
    if (content := process.inside.read(process.args[1])) is None:
        return 1
    await process.write(content)
    return 0


async def _store(process: FakeProcess) -> int:
    return 0 if process.inside.write(process.args[1], b"stored\n") else 1


async def _limits(process: FakeProcess) -> int:
    inside = process.inside
    text = f"{inside.open_files}\n{inside.bounding:016x}\n{int(inside.no_new_privs)}\n"
    await process.write(text.encode())
    return 0


async def _process_limits(process: FakeProcess) -> int:
    await process.write("\n".join(process.limits).encode())
    return 0


async def _own_number(process: FakeProcess) -> int:
    await process.write(b"%d\n" % (1 if process.init and process.inside.own_pids else process.stdio))
    if process.args[1] != "0":
        await asyncio.Event().wait()  # until killed
    return 0


async def _work(process: FakeProcess) -> int:
    process.inside.worked += 1_000_000
    return 0


PROBES: Mapping[str, Program] = {
    **PROGRAMS,
    "heed": _heed,
    "copy": _copy,
    "numbers": _numbers,
    "insist": _insist,
    "both": _both,
    "words": _words,
    "variable": _variable,
    "directory": _directory,
    "identity": _identity,
    "hostname": _hostname,
    "terminal-size": _terminal_size,
    "terminal-sizes": _terminal_sizes,
    "show": _show,
    "store": _store,
    "limits": _limits,
    "process-limits": _process_limits,
    "own-number": _own_number,
    "work": _work,
}
