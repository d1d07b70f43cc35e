"""The messages between a client and a supervisor; ``wire`` carries them, with descriptors beside the requests.

Supervisors run as long as their pods do, so a client may be of a newer version than the supervisor that it meets:
fields that have their default are not sent, and one that the receiver has no use for is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, get_args

import msgspec

from vc_core.config.container import Cmd, ContainerConfig
from vc_core.decoding import decode_json
from vc_core.driver.copies import GuestCopy
from vc_core.driver.terminal import TerminalSize
from vc_core.errors import VCError
from vc_core.results import ContainerUsage, PodUsage


class Message(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind", tag=True):
    """Base of all messages; each is a JSON object whose ``kind`` is the name of its class."""


class Streams(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The streams of a process: which of stdin, stdout and stderr come as descriptors beside the request, in order."""

    passed: tuple[bool, bool, bool]
    terminal: TerminalSize | None = None  #: its size, for a process that runs on a terminal


# -- requests, from a client -------------------------------------------------------------------------------------------


class Start(Message):
    """Start the pod. With ``streams`` the request is answered when ``container`` ended.

    ``discard``: after that answer the pod is stopped and deleted, unless another container runs.
    """

    ready_timeout: float | None = None  #: seconds that the guest has to get ready
    strict: bool = False  #: from now on the pod starts only in a full jail
    container: str = ""
    streams: Streams | None = None
    discard: bool = False


class Stop(Message):
    """Stop the pod. ``discard``: it is deleted when its supervisor ends."""

    timeout: float | None = None  #: seconds until the VM is killed
    force: bool = False
    discard: bool = False


class Pause(Message):
    """Pause the pod."""


class Resume(Message):
    """Let the paused pod go on."""


class Exec(Message):
    """Run a command in a container, or in the pod itself for an empty id; answered when it ended.

    ``more``: after the answer the client may send another request on the connection.
    """

    container: str
    cmd: Cmd
    streams: Streams
    more: bool = False


class Attach(Message):
    """Give the main process of a running container input, signals and sizes; answered when it ended.

    Its output is in its log. ``ends_input``: the end of the client's input is that of the process.
    """

    container: str
    streams: Streams
    ends_input: bool = False


class Copy(Message):
    """Copy files into a container or out of it, or for an empty id the pod itself; answered when that has ended."""

    container: str
    copy: GuestCopy
    streams: Streams


class WriteConsole(Message):
    """Write what the first of the streams holds to the guest's console; answered at its end."""

    streams: Streams


class CreateContainer(Message):
    """Add a container to the pod."""

    config: ContainerConfig


class StartContainer(Message):
    """Start a container. With ``streams`` the request is answered when it ended.

    ``sources``: how many descriptors come after those of the streams: mounts without a place, of the container's root
    and of each of its mounts, in order. For 0 the supervisor opens them by their names.
    """

    container: str
    streams: Streams | None = None
    sources: int = 0


class StopContainer(Message):
    """Stop a container."""

    container: str
    timeout: float | None = None  #: seconds until it is killed
    force: bool = False


class KillContainer(Message):
    """Send a signal to a container's main process."""

    container: str
    signal: int


class PauseContainer(Message):
    """Suspend the processes of a container."""

    container: str


class ResumeContainer(Message):
    """Let the processes of a container go on."""

    container: str


class UpdateContainer(Message):
    """Change the limits of a container; None for what stays as it is."""

    container: str
    memory: int | None = None
    pids: int | None = None
    cpus: float | None = None


class DeleteContainer(Message):
    """Delete a container."""

    container: str
    force: bool = False


class StatsContainer(Message):
    """Ask what a container uses."""

    container: str


class StatsPod(Message):
    """Ask what the pod uses."""


class WaitContainer(Message):
    """Ask for a container's exit code; answered when it ended."""

    container: str


Request = (
    Start
    | Stop
    | Pause
    | Resume
    | Exec
    | Attach
    | Copy
    | WriteConsole
    | CreateContainer
    | StartContainer
    | StopContainer
    | KillContainer
    | PauseContainer
    | ResumeContainer
    | UpdateContainer
    | DeleteContainer
    | StatsContainer
    | StatsPod
    | WaitContainer
)


# -- what a client sends while its request is served -------------------------------------------------------------------


class Signal(Message):
    """A signal for the request's process: a number of signal(7), where the real-time ones end at 64."""

    number: Annotated[int, msgspec.Meta(ge=1, le=64)]


class Resize(Message):
    """The new size of the terminal of the request's process."""

    size: TerminalSize


class Detach(Message):
    """The client leaves, and the request's process runs on; answered at once."""


Control = Signal | Resize | Detach


# -- replies, from a supervisor ----------------------------------------------------------------------------------------


class Greeting(Message):
    """The first message: this supervisor, by its process id, serves the client."""

    supervisor: int


class Progress(Message):
    """How far a start is: a phrase, and how much of it is done (0 to 1), or None."""

    phrase: str
    fraction: float | None = None


class Started(Message):
    """The pod, container or command runs. ``acceleration`` is that of the pod's VM, as in its status.

    ``loses_streams`` is the name of the agent if it passes neither input nor output of processes, else empty.
    """

    acceleration: str = ""
    loses_streams: str = ""


class Answer(Message):
    """The last message to a request that succeeded, with what it asked for.

    ``output_failure``: the errno of the write that failed first, of a process whose output the supervisor wrote; or 0.
    ``detached``: the process runs on without the client. ``out_of_memory``: the guest's kernel killed the container.
    """

    exit_code: int | None = None
    out_of_memory: bool = False
    output_failure: int = 0
    detached: bool = False
    usage: ContainerUsage | None = None
    pod_usage: PodUsage | None = None

    @property
    def code(self) -> int:
        """The exit code, for a request whose answer has one."""
        assert self.exit_code is not None
        return self.exit_code


class Failure(Message):
    """The last message to a request that failed: an error as :meth:`VCError.to_wire` describes it."""

    type: str
    message: str
    details: dict[str, Any] = {}

    @classmethod
    def of(cls, error: VCError) -> Failure:
        """Return the message that carries an error."""
        return cls(**error.to_wire())


Event = Progress | Started
Reply = Greeting | Event | Answer | Failure


# -- decoding ----------------------------------------------------------------------------------------------------------


class _Kind(msgspec.Struct):
    """The part of a message that names its class."""

    kind: str = ""


def decoder(union: Any) -> Callable[[bytes], Any]:
    """Return a function that decodes a message of one of these classes; it raises MsgspecError.

    msgspec prepares to decode a class when the first message of it comes. To prepare for all requests takes 3 ms, in
    which a client waits for its supervisor to start.
    """
    classes = {one.__name__: one for one in get_args(union)}

    def decode(data: bytes) -> Any:
        kind = decode_json(data, _Kind).kind
        return decode_json(data, classes.get(kind, union))

    return decode
