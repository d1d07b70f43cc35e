"""The errors that this project raises.

::

    VCError
     +-- ConfigError (ValueError)            a value is not valid; raised before anything is done
     +-- StateError                          the state of the pod or container does not allow the operation
     +-- PodNotFoundError (LookupError)
     +-- PodExistsError
     +-- ContainerNotFoundError (LookupError)
     +-- ContainerExistsError
     +-- StorageError                        a file below the state or run root cannot be read or written
     +-- PrivilegeError (PermissionError)    the operation needs rights that this process lacks
     +-- BusyError (TimeoutError)            another operation holds the pod's lock
     +-- NotSupportedError                   the driver does not support the operation
     +-- CommandTimeoutError (TimeoutError)  the command ran longer than its timeout and was killed
     +-- OutputError                         the command ended, but its output could not be written
     +-- SupervisorError                     the pod's supervisor did not start or does not answer
     |    +-- SupervisorLostError            it ended while it performed the operation
     +-- DriverError
     |    +-- DriverNotFoundError (LookupError)
     |    +-- DriverConflictError            two distributions offer the same name
     |    +-- DriverLoadError                the driver cannot be imported
     |    +-- DriverContractError            the driver breaks its hook specification
     +-- HypervisorError
     |    +-- VMStartError
     |    +-- VMTimeoutError (TimeoutError)
     +-- AgentError
     |    +-- AgentConnectError
     |    +-- AgentProtocolError
     |    +-- AgentTimeoutError (TimeoutError)
     |    +-- CommandError                   the guest could not start a command
     +-- GuestError                          a guest kernel and initramfs cannot be built
     +-- TemplateNotFoundError (LookupError)
     +-- ImageError                          an image cannot be fetched, or not be used
     |    +-- ImageNotFoundError (LookupError)

A driver raises only these, always ``from`` the cause. The text of an error is one sentence that names the object, its
value and what to do. What a guest sends may be quoted in it as it is: see :class:`VCError`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vc_core.text import printable

#: Most characters of the text of an error, and of one detail as JSON. Any error fits the packet that carries it.
TEXT_MAX = 4096

#: Characters that are enough for the note how many were left out.
_NOTE_MAX = 60


class VCError(Exception):
    """Base of all errors of this project.

    ``details`` names the class's own typed attributes. The supervisor sends only these and the text to the caller
    (:meth:`to_wire`, :func:`error_from_wire`). The text is safe to print, whatever a guest or a file's name put into it
    (:func:`sentence`): control characters, those that change the direction of text, and bytes that are not UTF-8 are
    replaced by escapes. Of a text of more than ``TEXT_MAX`` characters the first ones are kept, and the number of the
    others.
    """

    details: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(sentence(str(message)))
        for name in self.details:
            setattr(self, name, details.pop(name, None))
        if details:
            raise TypeError(f"{type(self).__name__} has no detail {', '.join(sorted(details))}")

    def to_wire(self) -> dict[str, Any]:
        """Return this error as JSON-able data. Called by the supervisor to send it to the caller."""
        public = next(cls for cls in type(self).__mro__ if issubclass(cls, VCError) and cls.__module__ == __name__)
        return {
            "type": public.__name__,
            "message": sentence(str(self)),
            "details": {name: _detail(getattr(self, name)) for name in public.details},
        }


def sentence(text: str) -> str:
    """Return a text for an error or a reason of a state, shortened and safe to print.

    Idempotent. Called for the text of every error, and for every reason before it is recorded.
    """
    text = printable(text.strip())
    if len(text) <= TEXT_MAX + _NOTE_MAX:  # so one that was shortened stays as it is
        return text
    return f"{text[:TEXT_MAX]}... ({len(text) - TEXT_MAX} characters more)"


def _detail(value: Any) -> Any:
    """Return a detail of an error, None for one that is too long."""
    import json  # here, because most commands send no error

    return value if len(json.dumps(value)) <= TEXT_MAX else None


class ConfigError(VCError, ValueError):
    """A value is not valid; nothing was done. ``field``: of which field of its object, where that is one."""

    details: ClassVar[tuple[str, ...]] = ("field",)
    field: str | None = None


class StateError(VCError):
    """The pod or container is in ``state``; the operation needs it in one of ``wanted``."""

    details: ClassVar[tuple[str, ...]] = ("state", "wanted")
    state: str | None
    wanted: list[str] | None


class PodNotFoundError(VCError, LookupError):
    """No pod has this id."""


class PodExistsError(VCError):
    """A pod with this id exists."""


class ContainerNotFoundError(VCError, LookupError):
    """The pod has no container with this id."""


class ContainerExistsError(VCError):
    """The pod has a container with this id."""


class StorageError(VCError):
    """A file or directory below the state or run root cannot be read or written."""


def refused(error: OSError) -> StorageError:
    """Return the error of an operation for one of the system that its code did not expect.

    Called where an operation ends, so that a caller of the API has to expect errors of this module only.
    """
    return StorageError(f"the system refused an operation: {error}")


class PrivilegeError(VCError, PermissionError):
    """The operation needs rights that this process lacks."""


class BusyError(VCError, TimeoutError):
    """Another operation holds the pod's lock and did not release it within the timeout."""


class NotSupportedError(VCError):
    """The driver does not support the operation."""


class CommandTimeoutError(VCError, TimeoutError):
    """A command ran longer than its timeout and was killed in the guest, or is killed when a guest that hangs goes on.

    ``stdout`` and ``stderr`` hold the output that was captured until then. ``exit_code``: that of a caller in the
    foreground whose signals did not end the command in time, 128 and the signal's number; else None.
    """

    details: ClassVar[tuple[str, ...]] = ("exit_code",)
    exit_code: int | None
    stdout: bytes = b""
    stderr: bytes = b""


class OutputError(VCError):
    """Output could not be written: the disk is full, for example. Of a command that ended with ``exit_code``, if set.

    A reader that has gone is none of these errors: a command whose output has no reader any more ends with 141, as one
    that SIGPIPE ends in a shell.
    """

    details: ClassVar[tuple[str, ...]] = ("exit_code",)
    exit_code: int | None


class SupervisorError(VCError):
    """The pod's supervisor did not start or does not answer."""


class SupervisorLostError(SupervisorError):
    """The pod's supervisor ended while it performed the operation; the pod itself may still run."""


class SupervisorLeavingError(SupervisorLostError):
    """The pod was stopped, and its supervisor ends: it did not begin the operation, which may be tried again."""


class DriverError(VCError):
    """The driver ``name`` of kind ``kind`` cannot be used."""

    details: ClassVar[tuple[str, ...]] = ("kind", "name")
    kind: str | None
    name: str | None


class DriverNotFoundError(DriverError, LookupError):
    """No installed distribution offers this driver."""


class DriverConflictError(DriverError):
    """Two distributions offer a driver of the same kind and name."""


class DriverLoadError(DriverError):
    """The driver cannot be imported or instantiated."""


class DriverContractError(DriverError):
    """The driver breaks its hook specification."""


class HypervisorError(VCError):
    """The hypervisor failed."""


class VMStartError(HypervisorError):
    """The virtual machine did not start; the text quotes the hypervisor's messages."""


class VMTimeoutError(HypervisorError, TimeoutError):
    """The hypervisor did not finish the operation within the timeout."""


class AgentError(VCError):
    """The agent in the guest failed."""


class AgentConnectError(AgentError):
    """The agent in the guest cannot be reached."""


class AgentProtocolError(AgentError):
    """The guest sent a message that its protocol does not allow; the channel was closed."""


class AgentTimeoutError(AgentError, TimeoutError):
    """The agent in the guest did not answer within the timeout."""


class CommandError(AgentError):
    """The guest could not start a command.

    ``exit_code`` is that of a shell: 127 for not found, 126 for not executable, 125 for a failed set-up.
    """

    details: ClassVar[tuple[str, ...]] = ("exit_code",)
    exit_code: int | None


class CopyError(VCError):
    """Files could not be copied into a guest or out of it; what was copied until then stays.

    ``left_out``: where all but some entries was copied, such as links that lead out: these, with the reasons.
    """

    details: ClassVar[tuple[str, ...]] = ("left_out",)
    left_out: list[str] | None


class GuestError(VCError):
    """A guest kernel and initramfs cannot be built."""


class TemplateNotFoundError(VCError, LookupError):
    """There is no template of this kind."""


class ImageError(VCError):
    """An image cannot be fetched, verified or unpacked, or no container can be made of it."""


class ImageNotFoundError(ImageError, LookupError):
    """No image of this name is stored on this host."""


def error_from_wire(wire: dict[str, Any]) -> VCError:
    """Return the error that :meth:`VCError.to_wire` made ``wire`` from. Called by the client, which raises it."""
    cls = globals().get(wire["type"])
    if not (isinstance(cls, type) and issubclass(cls, VCError)):
        cls = VCError
    details = {name: value for name, value in wire["details"].items() if name in cls.details}
    return cls(wire["message"], **details)
