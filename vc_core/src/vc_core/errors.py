"""Every error that this project raises.

::

    VCError
     +-- ConfigError (ValueError)            a value that cannot be accepted, before anything was done
     +-- StateError                          the pod or container is not in a state that allows this
     +-- PodNotFoundError (LookupError)
     +-- PodExistsError
     +-- ContainerNotFoundError (LookupError)
     +-- ContainerExistsError
     +-- StorageError                        a record or directory of ours cannot be read or written
     +-- PrivilegeError (PermissionError)    the operation needs rights that this process lacks
     +-- BusyError (TimeoutError)            another operation holds the pod
     +-- NotSupportedError                   the driver says that it cannot do this
     +-- CommandTimeoutError (TimeoutError)  the command ran longer than the caller allowed; it was killed
     +-- SupervisorError                     the pod's supervisor did not start or does not answer
     |    +-- SupervisorLostError            it went away while it worked for us
     +-- DriverError
     |    +-- DriverNotFoundError (LookupError)
     |    +-- DriverConflictError            two distributions offer the same name
     |    +-- DriverLoadError                the driver cannot be imported
     |    +-- DriverContractError            the driver does not keep its hook specification
     +-- HypervisorError
     |    +-- VMStartError
     |    +-- VMTimeoutError (TimeoutError)
     +-- AgentError
     |    +-- AgentConnectError
     |    +-- AgentProtocolError
     |    +-- AgentTimeoutError (TimeoutError)
     |    +-- CommandError                   the guest could not start a command
     +-- GuestError                          a guest kernel and initramfs cannot be built

A driver raises only these, always ``from`` the cause. The text of an error is one sentence that names the thing, the
value and what to do.
"""

from __future__ import annotations

from typing import Any, ClassVar


class VCError(Exception):
    """Base of all errors of this project.

    ``details`` are the class's own typed attributes; they and the text are all that crosses from the supervisor to
    the caller (:meth:`to_wire`, :func:`error_from_wire`). The text can be sent, stored and printed as UTF-8: bytes of a
    file's name that are not, which Python holds as lone surrogates (PEP 383), become escapes.
    """

    details: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(str(message).encode(errors="backslashreplace").decode())
        for name in self.details:
            setattr(self, name, details.pop(name, None))
        if details:
            raise TypeError(f"{type(self).__name__} has no detail {', '.join(sorted(details))}")

    def to_wire(self) -> dict[str, Any]:
        """Return this error as JSON-able data, for the supervisor to send."""
        known = next(cls for cls in type(self).__mro__ if issubclass(cls, VCError) and cls.__module__ == __name__)
        return {
            "type": known.__name__,
            "message": str(self),
            "details": {name: getattr(self, name) for name in known.details},
        }


class ConfigError(VCError, ValueError):
    """A value that cannot be accepted; nothing was done."""


class StateError(VCError):
    """The pod or container is in ``state``; the operation wants one of ``wanted``."""

    details = ("state", "wanted")
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
    """A record or directory of ours cannot be read or written."""


class PrivilegeError(VCError, PermissionError):
    """The operation needs rights that this process lacks."""


class BusyError(VCError, TimeoutError):
    """Another operation holds the pod, and did not let go within the timeout."""


class NotSupportedError(VCError):
    """The driver says that it cannot do this."""


class CommandTimeoutError(VCError, TimeoutError):
    """A command ran longer than the caller allowed; it was killed in the guest.

    ``stdout`` and ``stderr`` hold what was captured until then.
    """

    stdout: bytes = b""
    stderr: bytes = b""


class SupervisorError(VCError):
    """The pod's supervisor did not start or does not answer."""


class SupervisorLostError(SupervisorError):
    """The pod's supervisor went away while it worked for this caller; the pod itself may run on."""


class DriverError(VCError):
    """Something is wrong with a driver; ``kind`` and ``name`` say which."""

    details = ("kind", "name")
    kind: str | None
    name: str | None


class DriverNotFoundError(DriverError, LookupError):
    """No installed distribution offers this driver."""


class DriverConflictError(DriverError):
    """Two distributions offer a driver of the same kind and name."""


class DriverLoadError(DriverError):
    """The driver cannot be imported or instantiated."""


class DriverContractError(DriverError):
    """The driver does not keep its hook specification."""


class HypervisorError(VCError):
    """The hypervisor failed."""


class VMStartError(HypervisorError):
    """The virtual machine did not start; the text carries the hypervisor's own words."""


class VMTimeoutError(HypervisorError, TimeoutError):
    """The hypervisor did not do its work within the timeout."""


class AgentError(VCError):
    """The agent in the guest failed."""


class AgentConnectError(AgentError):
    """The agent in the guest cannot be reached."""


class AgentProtocolError(AgentError):
    """The guest sent something that its protocol does not allow; the channel is dead."""


class AgentTimeoutError(AgentError, TimeoutError):
    """The agent in the guest did not answer within the timeout."""


class CommandError(AgentError):
    """The guest could not start a command.

    ``exit_code`` is what a shell would report: 127 not found, 126 not executable, 125 set-up failure.
    """

    details = ("exit_code",)
    exit_code: int | None


class GuestError(VCError):
    """A guest kernel and initramfs cannot be built."""


def error_from_wire(wire: dict[str, Any]) -> VCError:
    """Return the error that :meth:`VCError.to_wire` described, for the caller's side to raise."""
    cls = globals().get(wire["type"])
    if not (isinstance(cls, type) and issubclass(cls, VCError)):
        cls = VCError
    details = {name: value for name, value in wire["details"].items() if name in cls.details}
    return cls(wire["message"], **details)
