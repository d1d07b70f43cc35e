"""The page docs/reference/interoperability.md, from the host's message types and the guest agent's sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vc_agent_hyperstart import requests
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.dialect import OPTIONAL, REQUIRED, Dialect, Support
from vc_agent_hyperstart.requests import Part, Request, fields_with_support

GUEST = Path(__file__).parents[1] / "drivers/hyperstart/guest"

_NOTE = "<!-- Written by ./dev generate from the driver and the guest agent; change those, not this page. -->"

_ABOUT = """\
# Interoperability of the hyperstart driver

Which messages of the hyperstart protocol, and which keys of their JSON, the host driver sends to which guest, and
what this project's guest agent does with them. The columns 4242, 4243 and 4244 are original hyperstarts by API
version; HELLO is the [guest agent of this project](guest-protocol.md) once the host has greeted it. The numbers of
codes and the form of frames are the same in all of them.

* **yes**: the host sends it when an operation needs it.
* **no**: the host never sends it to that guest: either the guest does not understand it, and an operation that needs
  it raises a `NotSupportedError` that names it, or no operation needs it. Other hosts may.

In the last column **yes** means that this project's guest agent implements the message or key, **ignored** that it
accepts it and does nothing, **refused** that it answers ERROR unless the value is empty, **no** that it does not
implement it. Which of them need HELLO or `vc.api` is in [its protocol](guest-protocol.md)."""

#: What the guest sends, and how the host takes it.
_FROM_GUEST = {
    Code.READY: "awaited at the first connection; a second one does no harm",
    Code.ACK: "ends a command",
    Code.ERROR: "ends a command; the reason is shown where there is one (JSON after HELLO, text in late originals)",
    Code.PODFINISHED: "4242: the pod is started again before its next container",
    Code.NEXT: "4242 to 4244: must add up to what was sent; after HELLO it is a protocol error",
    Code.PROCESSASYNCEVENT: "4243, 4244: the exit status of a process",
}

#: Objects of the protocol: what the host sends for them, and the guest agent's name for them.
_OBJECTS: tuple[tuple[str, type[Part], str], ...] = (
    ("pod: STARTPOD", requests.StartPod, "pod"),
    ("container: NEWCONTAINER", requests.NewContainer, "container"),
    ("process", requests.ProcessSpec, "process"),
    ("variable of a process", requests.Env, "variable"),
    ("fsmap of a container", requests.FileMap, "mapping"),
    ("rlimit of a container", requests.RLimitSpec, "limit"),
    ("process capabilities", requests.CapabilitySpec, "sets"),
    ("device of a container", requests.Node, "node"),
    ("interface of a pod", requests.Interface, "interface"),
    ("address of an interface", requests.IPAddress, "address"),
    ("route of a pod", requests.Route, "route"),
    ("EXECCMD", requests.ExecCommand, "exec"),
    ("KILLCONTAINER", requests.KillContainer, "kill"),
    ("SIGNALPROCESS", requests.SignalProcess, "kill"),
    ("SIGNAL", requests.Signal, "signal"),
    ("WINSIZE", requests.WinSize, "size"),
    ("WINSIZE by id", requests.WinSizeById, "size"),
    ("REMOVECONTAINER", requests.RemoveContainer, "name"),
    ("STATS", requests.Stats, "name"),
    ("SYSCTLS", requests.Sysctls, "sysctls"),
    ("CLOCK", requests.Clock, "clock"),
    ("FREEZE", requests.Freeze, "freeze"),
    ("UPDATE", requests.Update, "update"),
    ("HELLO", requests.Hello, "hello"),
    ("WAKE", requests.Wake, "wake"),
)

_DIALECTS = (Dialect(4242), Dialect(4243), Dialect(4244), Dialect(4242, REQUIRED | OPTIONAL))

_KINDS = {"IGNORED": "ignored", "UNSUPPORTED": "refused"}


def guest_commands() -> set[str]:
    """Return the commands in the guest agent's table."""
    source = (GUEST / "commands.c").read_text(encoding="utf-8")
    table = re.search(r"\} commands\[\] = \{(.*?)\n\};", source, re.DOTALL)
    assert table, "commands.c has no table of commands any more"
    return set(re.findall(r"\{([A-Z]+),", table[1]))


def guest_keys() -> dict[str, dict[str, str]]:
    """Return for each object of the guest agent its keys, each with "yes", "ignored" or "refused"."""
    source = (GUEST / "spec.c").read_text(encoding="utf-8")
    tables = re.findall(r"static const struct field (\w+)_fields\[\] = \{(.*?)\};\n", source, re.DOTALL)
    assert tables, "spec.c has no tables of fields any more"
    return {
        name: {key: _KINDS.get(kind, "yes") for key, kind in re.findall(r'"(\w+)",\s*([A-Z]+)', body)}
        for name, body in tables
    }


def page() -> str:
    """Return the page."""
    parts = [_NOTE, _ABOUT, "## Messages from the host", _table(_HEAD_MESSAGES, _messages())]
    parts += ["## Messages from the guest", _table(("code", "message", "host"), _events())]
    parts += ["## Keys", _table(_HEAD_KEYS, _keys())]
    return "\n\n".join(parts) + "\n"


_HEAD_MESSAGES = ("code", "message", "4242", "4243", "4244", "HELLO", "guest agent")
_HEAD_KEYS = ("object", "key", "4242", "4243", "4244", "HELLO", "guest agent")


def _messages() -> Iterator[tuple[str, ...]]:
    commands = guest_commands()
    kinds = [kind for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, Request)]
    for code in Code:
        if code in _FROM_GUEST and code is not Code.READY:
            continue
        ways = [kind.support for kind in kinds if getattr(kind, "code", None) is code]
        yield (str(code.value), code.name, *_columns(ways), "yes" if code.name in commands else "no")


def _events() -> Iterator[tuple[str, ...]]:
    return ((str(code.value), code.name, text) for code, text in _FROM_GUEST.items())


def _keys() -> Iterator[tuple[str, ...]]:
    guest = guest_keys()
    for title, kind, name in _OBJECTS:
        for field, support in fields_with_support(kind):
            yield (
                title,
                f"`{field.encode_name}`",
                *_both(kind.support, support),
                guest.get(name, {}).get(field.encode_name, "no"),
            )


def _both(*supports: Support) -> list[str]:
    return ["yes" if all(dialect.supports(support) for support in supports) else "no" for dialect in _DIALECTS]


def _columns(ways: Iterable[Support]) -> list[str]:
    return ["yes" if any(dialect.supports(support) for support in ways) else "no" for dialect in _DIALECTS]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
