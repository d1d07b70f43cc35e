"""The host's requests: one type per control message, with exactly the keys of the protocol.

An original refuses unknown keys and ``null`` lists, so fields at their default are left out; fields without a default
are always sent. Each message and key has a :class:`Support`, and :func:`check` refuses those that the guest lacks.
Numbers of streams are below 2^53, because an original reads some of them as doubles.
"""

# Annotations are evaluated as the classes are made: a start needs them, and strings take six times as long (5 ms).
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import msgspec

from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.dialect import API_2016, API_2018, Dialect, Support, after_hello
from vc_core.errors import NotSupportedError

#: Stream numbers are below this (hyperstart reads WINSIZE's ``seq`` as a double).
STREAM_LIMIT = 2**53

EVERY_GUEST = Support()
_LATE = Support(4243, ours=False)
_ORIGINALS = Support(ours=False)


def _key(support: Support) -> msgspec.Meta:
    return msgspec.Meta(extra={"support": support})


#: Keys that came with API 4244 or shortly before, when 4243 was already out.
_SINCE_2018 = _key(Support(API_2018))
_CONFINEMENT = _key(after_hello("confinement"))
_PROCESS_LIMITS = _key(after_hello("process-limits"))
_MOUNT_OPTIONS = _key(after_hello("mount-options"))
_WRITABLE_ROOTS = _key(after_hello("writable-roots"))
_MOUNTS = _key(after_hello("mounts"))
_ARCHIVE = _key(after_hello("archive"))
_TERMINAL_SIZE = _key(after_hello("terminal-size"))


class Part(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A JSON object in a request; ``support``: which guests support it."""

    support: ClassVar[Support] = EVERY_GUEST


class Request(Part, frozen=True):
    """A request to the guest, with its control frame code."""

    code: ClassVar[Code]

    def encode(self) -> bytes:
        """Return the payload of its frame."""
        return msgspec.json.encode(self)


class BareRequest(Request, frozen=True):
    """A request without a payload."""

    def encode(self) -> bytes:
        """Return an empty payload."""
        return b""


# Parts.


class Env(Part, frozen=True):
    """One environment variable."""

    env: str
    value: str


class RLimitSpec(Part, frozen=True):
    """A resource limit; None for no limit."""

    support = after_hello("confinement")
    name: str
    soft: int | None = None
    hard: int | None = None


class CapabilitySpec(Part, frozen=True):
    """The five sets of capabilities of a process."""

    bounding: Sequence[str]
    effective: Sequence[str]
    permitted: Sequence[str]
    inheritable: Sequence[str]
    ambient: Sequence[str]


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
    exact_groups: Annotated[bool, _PROCESS_LIMITS] = False
    umask: Annotated[int | None, _PROCESS_LIMITS] = None
    capabilities: Annotated[CapabilitySpec | None, _PROCESS_LIMITS] = None
    rlimits: Annotated[Sequence[RLimitSpec] | None, _PROCESS_LIMITS] = None
    no_new_privs: Annotated[bool | None, _PROCESS_LIMITS] = None
    oom_score_adj: Annotated[int | None, _PROCESS_LIMITS] = None
    rows: Annotated[int, _TERMINAL_SIZE] = 0
    columns: Annotated[int, _TERMINAL_SIZE] = 0
    archive: Annotated[str, _ARCHIVE] = ""


class FileMap(Part, frozen=True):
    """A mount: ``source`` below the shared directory, or below the writable one; or a tmpfs of ``size`` MiB."""

    source: str
    path: str
    read_only: bool
    writable: Annotated[bool, _MOUNTS] = False
    tmpfs: Annotated[bool, _MOUNT_OPTIONS] = False
    size: Annotated[int, _MOUNT_OPTIONS] = 0
    mode: Annotated[int, _MOUNT_OPTIONS] = 0
    no_exec: Annotated[bool, _MOUNT_OPTIONS] = False
    no_suid: Annotated[bool, _MOUNT_OPTIONS] = False


class Node(Part, frozen=True):
    """A device in a container's /dev."""

    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


class IPAddress(Part, frozen=True):
    """An address of an interface; ``net_mask`` is a prefix length."""

    ip_address: str
    net_mask: str


class Interface(Part, frozen=True):
    """A network interface to set up. One address is sent as ``ip_address``, which the oldest guests support too."""

    device: str
    ip_address: str = ""
    net_mask: str = ""
    ip_addresses: Sequence[IPAddress] = ()
    mtu: Annotated[int, _SINCE_2018] = 0
    mac: Annotated[str, _key(after_hello("wake"))] = ""


class Route(Part, frozen=True):
    """A route; ``dest`` is "default" or a network with prefix length."""

    dest: str
    gateway: str = ""
    device: str = ""


# The guest as a whole.


class GetVersion(BareRequest, frozen=True):
    """Request the API version: four bytes in the reply."""

    code = Code.GETVERSION


class Hello(Request, frozen=True):
    """Request this project's extensions; ``token`` is 32 hexadecimal digits. The reply is a HelloReply."""

    code = Code.HELLO
    version: int
    token: str


class Wake(Request, frozen=True):
    """Set the clock of a clone, and reseed its random number generator, before HELLO.

    ``time``: nanoseconds since the epoch. ``entropy``: 128 hexadecimal digits that no other clone gets.
    """

    code = Code.WAKE
    support = after_hello("wake")
    time: int
    entropy: str


class Ping(BareRequest, frozen=True):
    """Wait until an original has read all input that was sent before."""

    code = Code.PING
    support = _ORIGINALS


# Pods.


class StartPod(Request, frozen=True):
    """Start the pod. Without ``hostname`` an original never answers; an empty ``containers`` must be sent.

    ``root_fs`` is the pod's own root file system below the shared directory; ``live_dir`` and ``writable_dir`` are the
    tags of the directories that mounts come from, ``roots_dir`` that of the roots that containers write to.
    """

    code = Code.STARTPOD
    hostname: str
    containers: Sequence["NewContainer"]
    share_dir: str
    interfaces: Sequence[Interface] = ()
    routes: Sequence[Route] = ()
    dns: Sequence[str] = ()
    root_fs: Annotated[str, _key(after_hello("pod-root"))] = msgspec.field(name="root", default="")
    live_dir: Annotated[str, _MOUNTS] = ""
    writable_dir: Annotated[str, _MOUNTS] = ""
    roots_dir: Annotated[str, _WRITABLE_ROOTS] = ""


class DestroyPod(BareRequest, frozen=True):
    """End everything and power off."""

    code = Code.DESTROYPOD


class Sysctls(Request, frozen=True):
    """Set parameters of the guest's kernel, by their names in sysctl(8)."""

    code = Code.SYSCTLS
    support = after_hello("sysctls")
    sysctl: Mapping[str, str]


class Clock(Request, frozen=True):
    """Set the clock of a VM that stood still, to nanoseconds since the epoch."""

    code = Code.CLOCK
    support = after_hello("clock")
    time: int


# Containers.


class NewContainer(Request, frozen=True):
    """Start a container: ``image`` below the shared directory and ``rootfs`` below that, or a disk with ``fstype``.

    A disk is named by ``image``, below /dev, or by ``addr``, its SCSI target and unit. ``writable_root``: ``image`` is
    below the directory of roots that containers write to.
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
    read_only: Annotated[bool, _key(Support(API_2018, feature="confinement"))] = False
    overlay: Annotated[bool, _key(after_hello("overlay"))] = False
    overlay_size: Annotated[int, _key(after_hello("overlay"))] = 0
    writable_root: Annotated[bool, _WRITABLE_ROOTS] = False
    memory: Annotated[int, _CONFINEMENT] = 0
    pids: Annotated[int, _CONFINEMENT] = 0
    cpus: Annotated[int, _key(after_hello("update"))] = 0
    rlimits: Annotated[Sequence[RLimitSpec], _CONFINEMENT] = ()
    capabilities: Annotated[Sequence[str] | None, _CONFINEMENT] = None
    no_new_privs: Annotated[bool, _CONFINEMENT] = False
    isolate: Annotated[bool, _key(after_hello("isolation"))] = False
    seccomp: Annotated[str, _key(after_hello("seccomp"))] = ""
    devices: Annotated[Sequence[Node], _key(after_hello("devices"))] = ()
    masked_paths: Annotated[Sequence[str], _MOUNT_OPTIONS] = ()
    readonly_paths: Annotated[Sequence[str], _MOUNT_OPTIONS] = ()
    shared_memory: Annotated[int, _MOUNT_OPTIONS] = 0
    own_pids: Annotated[bool, _key(after_hello("own-pids"))] = False


class KillContainer(Request, frozen=True):
    """Send a signal to a container's first process. An original reads a signal that is a string as 0."""

    code = Code.KILLCONTAINER
    container: str
    signal: int


class RemoveContainer(Request, frozen=True):
    """Remove a container that has ended."""

    code = Code.REMOVECONTAINER
    container: str


class Stats(Request, frozen=True):
    """Request a container's use of resources. The reply is a StatsReply."""

    code = Code.STATS
    support = after_hello("stats")
    container: str


class Freeze(Request, frozen=True):
    """Suspend all processes of a container, or let them go on."""

    code = Code.FREEZE
    support = after_hello("freeze")
    container: str
    frozen: bool


class Update(Request, frozen=True):
    """Change the limits of a container: MiB, processes, thousandths of a processor. None: as it is; 0: no limit."""

    code = Code.UPDATE
    support = after_hello("update")
    container: str
    memory: int | None = None
    pids: int | None = None
    cpus: int | None = None


class Times(Request, frozen=True):
    """Request what the guest did since the last such request, and when. The reply is a TimesReply."""

    code = Code.TIMES
    support = after_hello("times")


# Processes.


class ExecCommand(Request, frozen=True):
    """Start a further process in a container."""

    code = Code.EXECCMD
    container: str
    process: ProcessSpec


class WinSize(Request, frozen=True):
    """Set a terminal's size: API 4242 and guests of this project."""

    code = Code.WINSIZE
    support = Support(API_2016, API_2016)
    seq: int
    row: int
    column: int


class WinSizeById(Request, frozen=True):
    """Set a terminal's size: later originals."""

    code = Code.WINSIZE
    support = _LATE
    container: str
    process: str
    row: int
    column: int


class Signal(Request, frozen=True):
    """Send a signal to the process with this ``stdio``."""

    code = Code.SIGNAL
    support = after_hello("signal")
    stdio: int
    signal: int


class SignalProcess(Request, frozen=True):
    """Send a signal to a process: later originals."""

    code = Code.SIGNALPROCESS
    support = _LATE
    container: str
    process: str
    signal: int


def check(request: Part, dialect: Dialect, what: str) -> None:
    """Check that the guest supports a request. Raises NotSupportedError, which names the field.

    ``what`` is what the request is for, such as "container 'c1'".
    """
    if isinstance(request, Request) and not dialect.supports(request.support):
        raise _not_supported(f"{request.code.name} for {what}", request.support, dialect)
    for field, support, supported in _to_check(type(request), dialect):
        value = getattr(request, field.name)
        if not field.required and value == field.default:
            continue
        if not supported:
            raise _not_supported(f"{field.name} of {what}", support, dialect)
        for part in value if isinstance(value, Sequence) else (value,):
            if isinstance(part, Part):
                check(part, dialect, what)


def _not_supported(what: str, support: Support, dialect: Dialect) -> NotSupportedError:
    ours = "a guest agent of this project that lacks it"
    guest = ours if dialect.ours else f"an original hyperstart of API {dialect.api}"
    return NotSupportedError(f"{what} needs {support.needs}, and the guest is {guest}")


@cache
def _to_check(kind: type[Part], dialect: Dialect) -> Sequence[tuple[msgspec.structs.FieldInfo, Support, bool]]:
    """Return the fields that a guest of a dialect does not support, and those that hold parts, which may be such."""
    fields = [(field, support, dialect.supports(support)) for field, support in fields_with_support(kind)]
    return [one for one in fields if not one[2] or _holds_parts(one[0].type)]


def _holds_parts(hint: Any) -> bool:
    return (isinstance(hint, type) and issubclass(hint, Part)) or any(map(_holds_parts, get_args(hint)))


@cache
def fields_with_support(kind: type[Part]) -> list[tuple[msgspec.structs.FieldInfo, Support]]:
    """Return the fields of a request with their support. The page on interoperability is generated from it."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field, _support_of(hints[field.name])) for field in msgspec.structs.fields(kind)]


def _support_of(hint: object) -> Support:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra:
            support: Support = meta.extra["support"]
            return support
    return EVERY_GUEST
