"""VmRecord: what ``save`` returns of a VM, with which any process can control it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vc_core.driver import PortForward, ProcessIdentity
from vc_hypervisor_libvirt.domain import Disk


@dataclass(slots=True)
class VmRecord:
    """The JSON-able record of one VM."""

    process: ProcessIdentity
    uri: str  #: of the daemon that made it
    domain: str  #: its UUID
    acceleration: str
    channels: dict[str, str]  #: path of each channel's socket, by the channel's name
    ports: dict[str, int]  #: where the host connects to each GuestPort, by its name
    forwards: list[PortForward]  #: of the pod's network, with the host's ports
    disks: dict[str, Disk]  #: by the id of the BlockDevice
    next_target: int  #: where the search for a free SCSI target begins

    @classmethod
    def from_mapping(cls, saved: Mapping[str, object]) -> VmRecord:
        """Return the record that :meth:`to_mapping` returned. Raises KeyError, TypeError, ValueError when damaged."""
        return cls(
            process=ProcessIdentity.from_mapping(_mapping(saved["process"])),
            uri=str(saved["uri"]),
            domain=str(saved["domain"]),
            acceleration=str(saved["acceleration"]),
            channels={key: str(path) for key, path in _mapping(saved["channels"]).items()},
            ports={key: int(str(port)) for key, port in _mapping(saved["ports"]).items()},
            forwards=[PortForward(**_mapping(one)) for one in _sequence(saved["forwards"])],  # type: ignore[arg-type] # it checks
            disks={key: Disk(**_mapping(one)) for key, one in _mapping(saved["disks"]).items()},  # type: ignore[arg-type]
            next_target=int(str(saved["next_target"])),
        )

    def to_mapping(self) -> dict[str, object]:
        """Return the record as values that JSON has."""
        return asdict(self)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a mapping")
    return value


def _sequence(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is not a list")
    return list(value)
