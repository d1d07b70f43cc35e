"""What the host asks of a guest: one type per control message, with exactly the keys of the protocol.

An original guest refuses unknown keys and ``null`` lists, so what is at its default is left out; fields without a
default are always sent. Which guests know a message or a key stands beside it (:class:`Known`), and :func:`check`
keeps it from those that do not. Numbers that name streams stay below 2^53: an original reads some of them as doubles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec

from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.dialect import API_2016, API_2018, Dialect, Known, after_hello
from vc_core.errors import NotSupportedError

#: Stream numbers are below this (hyperstart reads WINSIZE's ``seq`` as a double).
STREAM_LIMIT = 2**53

EVERYBODY = Known()
_LATE = Known(4243, ours=False)
_ORIGINALS = Known(ours=False)


def _key(known: Known) -> msgspec.Meta:
    return msgspec.Meta(extra={"known": known})


#: Keys that came with API 4244 or shortly before, when 4243 was already out.
_SINCE_2018 = _key(Known(API_2018))
_CONFINEMENT = _key(after_hello("confinement"))
_MOUNTS = _key(after_hello("mounts"))
_TERMINAL_SIZE = _key(after_hello("terminal-size"))


class Part(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A JSON object in a request; ``known`` says who understands it."""

    known: ClassVar[Known] = EVERYBODY


class Request(Part, frozen=True):
    """A request to the guest; ``code`` says which."""

    code: ClassVar[Code]

    def encode(self) -> bytes:
        """Return the payload of its frame."""
        return msgspec.json.encode(self)


class BareRequest(Request, frozen=True):
    """A request without a payload."""

    def encode(self) -> bytes:
        """Return nothing."""
        return b""


# Parts.


class Env(Part, frozen=True):
    """One environment variable."""

    env: str
    value: str


class ProcessSpec(Part, frozen=True):
    """A process to start. Without a terminal ``stderr`` must not be 0."""

    terminal: bool
    stdio: int
    stderr: int
    args: Sequence[str]
    workdir: str
    envs: Sequence[Env] = ()
    user: str = ""
    group: str = ""
    additional_groups: Sequence[str] = ()
    id: Annotated[str, _key(_LATE)] = ""
    no_input: Annotated[bool, _key(after_hello("no-input"))] = False
    rows: Annotated[int, _TERMINAL_SIZE] = 0
    columns: Annotated[int, _TERMINAL_SIZE] = 0


class FileMap(Part, frozen=True):
    """A mount: ``source`` below the shared directory, or below the writable one."""

    source: str
    path: str
    read_only: bool
    writable: Annotated[bool, _MOUNTS] = False


class RLimitSpec(Part, frozen=True):
    """A resource limit; None for no limit."""

    known = after_hello("confinement")
    name: str
    soft: int | None = None
    hard: int | None = None


class IPAddress(Part, frozen=True):
    """An address of an interface; ``net_mask`` as prefix length."""

    ip_address: str
    net_mask: str


class Interface(Part, frozen=True):
    """A network interface to set up. One address goes into ``ip_address``, which the oldest guests know too."""

    device: str
    ip_address: str = ""
    net_mask: str = ""
    ip_addresses: Sequence[IPAddress] = ()
    mtu: Annotated[int, _SINCE_2018] = 0


class Route(Part, frozen=True):
    """A route; ``dest`` is "default" or a network with prefix length."""

    dest: str
    gateway: str = ""
    device: str = ""


# The guest as a whole.


class GetVersion(BareRequest, frozen=True):
    """Ask for the API version: the reply's payload, four bytes."""

    code = Code.GETVERSION


class Hello(Request, frozen=True):
    """Greet a guest of this project; ``token`` is 32 hexadecimal digits. The reply is a HelloReply."""

    code = Code.HELLO
    version: int
    token: str


class Ping(BareRequest, frozen=True):
    """Wait until an original has read all input that was sent before."""

    code = Code.PING
    known = _ORIGINALS


# Pods.


class StartPod(Request, frozen=True):
    """Start the pod. Without ``hostname`` an original never answers; an empty ``containers`` must be there.

    ``root_fs`` is the pod's own root file system below the shared directory; ``live_dir`` and ``writable_dir`` are the
    tags of two more directories, from which mounts are taken.
    """

    code = Code.STARTPOD
    hostname: str
    containers: Sequence[NewContainer]
    share_dir: str
    interfaces: Sequence[Interface] = ()
    routes: Sequence[Route] = ()
    dns: Sequence[str] = ()
    root_fs: Annotated[str, _key(after_hello("pod-root"))] = msgspec.field(name="root", default="")
    live_dir: Annotated[str, _MOUNTS] = ""
    writable_dir: Annotated[str, _MOUNTS] = ""


class DestroyPod(BareRequest, frozen=True):
    """End everything and power off."""

    code = Code.DESTROYPOD


# Containers.


class NewContainer(Request, frozen=True):
    """Start a container: ``image`` below the shared directory and ``rootfs`` below that, or a disk with ``fstype``.

    A disk is named by ``image``, below /dev, or by ``addr``, its SCSI target and unit.
    """

    code = Code.NEWCONTAINER
    id: str
    image: str
    rootfs: str
    process: ProcessSpec
    initialize: bool
    fstype: str = ""
    addr: str = ""
    fsmap: Sequence[FileMap] = ()
    read_only: Annotated[bool, _key(Known(API_2018, feature="confinement"))] = False
    overlay: Annotated[bool, _key(after_hello("overlay"))] = False
    overlay_size: Annotated[int, _key(after_hello("overlay"))] = 0
    memory: Annotated[int, _CONFINEMENT] = 0
    pids: Annotated[int, _CONFINEMENT] = 0
    rlimits: Annotated[Sequence[RLimitSpec], _CONFINEMENT] = ()
    capabilities: Annotated[Sequence[str] | None, _CONFINEMENT] = None
    no_new_privs: Annotated[bool, _CONFINEMENT] = False


class KillContainer(Request, frozen=True):
    """Send a signal to a container's first process. An original reads a signal that is a string as 0."""

    code = Code.KILLCONTAINER
    container: str
    signal: int


class RemoveContainer(Request, frozen=True):
    """Forget a container that ended."""

    code = Code.REMOVECONTAINER
    container: str


class Stats(Request, frozen=True):
    """Ask what a container uses. The reply is a StatsReply."""

    code = Code.STATS
    known = after_hello("stats")
    container: str


# Processes.


class ExecCommand(Request, frozen=True):
    """Start a further process in a container."""

    code = Code.EXECCMD
    container: str
    process: ProcessSpec


class WinSize(Request, frozen=True):
    """Tell a terminal its size, in API 4242 and ours."""

    code = Code.WINSIZE
    known = Known(API_2016, API_2016)
    seq: int
    row: int
    column: int


class WinSizeById(Request, frozen=True):
    """Tell a terminal its size, in later originals."""

    code = Code.WINSIZE
    known = _LATE
    container: str
    process: str
    row: int
    column: int


class Signal(Request, frozen=True):
    """Send a signal to the process that has this stream."""

    code = Code.SIGNAL
    known = after_hello("signal")
    stdio: int
    signal: int


class SignalProcess(Request, frozen=True):
    """Send a signal to a process, in later originals."""

    code = Code.SIGNALPROCESS
    known = _LATE
    container: str
    process: str
    signal: int


def check(request: Part, dialect: Dialect, what: str) -> None:
    """Keep a request from a guest that would not understand it. Raises NotSupportedError, which names the field.

    ``what`` is what it is for, such as "container 'c1'".
    """
    if isinstance(request, Request) and not dialect.knows(request.known):
        raise _not_supported(f"{request.code.name} for {what}", request.known, dialect)
    for name, known, value in _given(request):
        if not dialect.knows(known):
            raise _not_supported(f"{name} of {what}", known, dialect)
        for part in value if isinstance(value, Sequence) else (value,):
            if isinstance(part, Part):
                check(part, dialect, what)


def _not_supported(what: str, known: Known, dialect: Dialect) -> NotSupportedError:
    ours = "a guest agent of this project that lacks it"
    guest = ours if dialect.ours else f"an original hyperstart of API {dialect.api}"
    return NotSupportedError(f"{what} needs {known.needs}, and the guest is {guest}")


def _given(part: Part) -> Iterator[tuple[str, Known, Any]]:
    """Return the fields that are sent."""
    for field, known in known_fields(type(part)):
        value = getattr(part, field.name)
        if field.required or value != field.default:
            yield field.name, known, value


@cache
def known_fields(kind: type[Part]) -> list[tuple[msgspec.structs.FieldInfo, Known]]:
    """Return the fields of a request, each with who knows it. The interoperability statement is made from this."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field, _known(hints[field.name])) for field in msgspec.structs.fields(kind)]


def _known(hint: object) -> Known:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra:
            known: Known = meta.extra["known"]
            return known
    return EVERYBODY
