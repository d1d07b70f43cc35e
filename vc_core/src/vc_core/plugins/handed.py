"""Plug-ins that another process has found: a supervisor need not search the installed distributions once more.

Its starter has found them, and has checked that each is for this version of the core. To search again, the supervisor
would load importlib.metadata and stevedore, which takes a fifth of the time until it can start a VM.
"""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name

import msgspec

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverLoadError
from vc_core.plugins.running_call import Call, Executing


class Found(msgspec.Struct, frozen=True):
    """One entry point: ``value`` is ``module:class``, ``distribution`` and ``version`` are those that offer it."""

    kind: PluginKind
    name: str
    value: str
    distribution: str
    version: str

    @property
    def supplier(self) -> str:
        """Name and version of the distribution, for an error."""
        return f"{self.distribution} {self.version}"


class Handed:
    """What was found, in the place of a catalogue of what is installed. No two have one name."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._found = {(one.kind, one.name): one for one in found}

    def names(self, kind: PluginKind) -> list[str]:
        """Return the names of one kind."""
        return [name for found_kind, name in self._found if found_kind is kind]

    def suppliers(self, kind: PluginKind, name: str) -> str:
        """Return name and version of the distribution that offers a plug-in."""
        return self._found[kind, name].supplier

    def load(self, kind: PluginKind, name: str) -> tuple[object, str, str]:
        """Return the plug-in ``name``, imported and instantiated, and name and version of its distribution.

        Raises DriverLoadError when that does not work. The caller then searches what is installed, for the reason.
        """
        one = self._found[kind, name]
        try:
            with Executing(Call(kind, name, f"{kind.noun} {name!r} of {one.supplier}", "")):
                return resolve_name(one.value)(), one.distribution, one.version
        except BaseException as error:  # a plug-in's module may raise anything; called on a thread of its own
            raise DriverLoadError(f"{kind.noun} {name!r} failed to load", kind=kind, name=name) from error
