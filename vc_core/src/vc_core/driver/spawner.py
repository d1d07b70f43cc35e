"""Spawner: wraps commands for one container of a guest. A driver's ``vc_spawner_create`` returns one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from vc_core.frozen import frozen


@frozen
class SpawnTarget:
    """The container whose namespaces a command should enter: its id and the pid, in the guest, of its first process."""

    container_id: str
    pid: int


class Spawner(ABC):
    """Wraps a command so that it runs inside one container's namespaces in the guest. Pure: no I/O."""

    @abstractmethod
    def wrap(self, argv: Sequence[str], target: SpawnTarget) -> list[str]:
        """Return the argument vector that runs ``argv`` inside ``target``, byte for byte. Called for each exec.

        Raises ConfigError for a target with a pid of 1 or less, which is not a container's.
        """
