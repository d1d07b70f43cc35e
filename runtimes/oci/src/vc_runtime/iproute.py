"""Reads and changes the interfaces of this process' network namespace, by the commands of iproute2.

These load much faster than a library of the same messages (rtnetlink(7)), which would take longer than the rest of a
start: what is read is JSON, and many changes are one process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from vc_runtime.faults import RuntimeFault

_T = TypeVar("_T")

#: Where distributions have the commands; the environment of an engine may lack it.
_DIRECTORIES = "/usr/sbin:/usr/bin:/sbin:/bin"

#: How iproute2 ends the message about a line of a batch, before that line's number.
_FAILED = "Command failed -:"


class Address(msgspec.Struct, frozen=True):
    """An address of an interface, as ``ip -json address`` shows it."""

    local: str
    prefixlen: int
    scope: str


class Link(msgspec.Struct, frozen=True):
    """An interface, as ``ip -json address`` shows it. ``address``: its MAC address; ``mtu`` is in bytes."""

    ifname: str
    link_type: str
    mtu: int
    address: str = ""
    addr_info: tuple[Address, ...] = ()


class RouteEntry(msgspec.Struct, frozen=True):
    """A route, as ``ip -json route`` shows it. ``dev``: "" for a route of several interfaces, or of none."""

    dst: str
    dev: str = ""
    gateway: str = ""
    protocol: str = ""
    table: str = "main"


def links() -> list[Link]:
    """Return all interfaces with their addresses. Raises RuntimeFault."""
    return _show(["address", "show"], list[Link])


def routes() -> list[RouteEntry]:
    """Return the routes of all tables, of IPv4 and IPv6. Raises RuntimeFault."""
    return _show(["route", "show", "table", "all"], list[RouteEntry])


def change(program: str, lines: Sequence[str]) -> None:
    """Perform commands of ``ip`` or ``tc``, one after the other, up to the first that fails; it raises RuntimeFault."""
    done = _run([program, "-batch", "-"], "".join(f"{line}\n" for line in lines))
    if done.returncode:
        reason, _, number = done.stderr.partition(_FAILED)
        line = lines[int(number) - 1] if number.strip().isdecimal() else "-batch"
        raise RuntimeFault(f"the network cannot be connected to the VM: {program} {line}: {' '.join(reason.split())}")


def attempt(program: str, line: str) -> None:
    """Perform a command of ``ip`` or ``tc`` that may fail, as one that removes what may not be there."""
    _run([program, *line.split()])


def _show(words: Sequence[str], kind: type[_T]) -> _T:
    done = _run(["ip", "-json", *words])
    try:
        return msgspec.json.decode(done.stdout or "[]", type=kind)
    except msgspec.MsgspecError as error:
        raise RuntimeFault(f"ip -json {' '.join(words)} has an answer that is not expected: {error}") from error


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_DIRECTORIES}", "LC_ALL": "C"}
    try:
        return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", env=environment, check=False)
    except OSError as error:
        raise RuntimeFault(f"{command[0]} cannot be executed: {error.strerror}; install iproute2") from error
