"""Which installed distribution supplies a plug-in, and the loading of one: the only module that imports stevedore.

Entry points are read from the installed distributions each time a :class:`Catalogue` is made, not from stevedore's
cache in ``~/.cache/python-entrypoints``: that cache tells times apart in steps of about two minutes, so it can hide a
driver that was installed a moment ago, and looking at what is installed should not write files.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import NoReturn

from stevedore.driver import DriverManager
from stevedore.extension import Extension

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverConflictError, DriverLoadError

#: What authors of plug-ins get wrong first.
NO_CLASS = "an entry point names a class without required arguments"

_log = logging.getLogger(__name__)


#: The distribution of this project that offers each plug-in, for errors that name what to install. No name of a
#: distribution is guessed from that of a driver: anyone can publish one that a misspelled driver name leads to.
_PUBLISHED = {
    (PluginKind.HYPERVISOR, "qemu"): "vc-hypervisor-qemu",
    (PluginKind.HYPERVISOR, "mock"): "vc-hypervisor-mock",
    (PluginKind.HYPERVISOR, "uml"): "vc-hypervisor-uml",
    (PluginKind.AGENT, "hyperstart"): "vc-agent-hyperstart",
    (PluginKind.AGENT, "sshd"): "vc-agent-sshd",
    (PluginKind.AGENT, "noop"): "vc-agent-noop",
    (PluginKind.SPAWNER, "nsenter"): "vc-spawner-nsenter",
    (PluginKind.GUEST, "debian"): "vc-guest-debian",
    (PluginKind.GUEST, "uml"): "vc-hypervisor-uml",
    (PluginKind.EXTENSION, "journal"): "vc-extension-journal",
}

#: What an error advises when no driver is installed.
INSTALL_DEFAULTS = "'pip install virtcontainers' installs the default ones"


def how_to_install(name: str, kind: PluginKind | None = None) -> str:
    """Return the half of a sentence that advises how to get a plug-in, of any kind if ``kind`` is None."""
    for (published_kind, published_name), distribution in _PUBLISHED.items():
        if published_name == name and kind in (None, published_kind):
            return f"'pip install {distribution}' installs it"
    return "correct the name, or install the distribution that offers it"


def supplier(entry_point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution that offers an entry point of a :class:`Catalogue`."""
    distribution = entry_point.dist
    assert distribution is not None, "importlib.metadata sets it on every entry point of a distribution"
    return distribution.name, distribution.version


def _suppliers(entry_points: Sequence[EntryPoint]) -> str:
    return " and ".join(sorted("{} {}".format(*supplier(entry_point)) for entry_point in entry_points))


def in_a_line(error: BaseException) -> str:
    """Return an exception of somebody else's code as part of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


class _OneDriver(DriverManager[object]):
    """stevedore's manager of one driver, given the entry points instead of its cache of them."""

    def __init__(self, kind: PluginKind, name: str, entry_points: list[EntryPoint]) -> None:
        self._candidates = entry_points

        def clash(_group: str, _name: str, _found: list[Extension[object]]) -> NoReturn:
            raise DriverConflictError(
                f"{kind.noun} {name!r} is offered by {_suppliers(entry_points)}; uninstall all but one",
                kind=kind,
                name=name,
            )

        super().__init__(kind.group, name, invoke_on_load=True, conflict_resolver=clash)

    def list_entry_points(self) -> list[EntryPoint]:
        return self._candidates


class Catalogue:
    """What the installed distributions offered when this object was made. Nothing of theirs is imported for it."""

    def __init__(self) -> None:
        found: dict[tuple[str, str, str], EntryPoint] = {}
        for distribution in importlib.metadata.distributions():
            try:
                ours = [entry for entry in distribution.entry_points if entry.group.startswith("vc_core.")]
                if not ours:
                    continue
                metadata = distribution.metadata  # read once, for it is parsed each time
                if not (metadata["Name"] and metadata["Version"]):
                    raise ValueError("it has no name or version")
                for entry in ours:
                    # A distribution that is found twice on sys.path counts once: the first is what gets imported.
                    found.setdefault((entry.group, entry.name, metadata["Name"]), entry)
            except Exception as error:  # one distribution's broken metadata must not hide the others
                where = distribution.locate_file("")
                _log.warning("passed over a distribution in %s that cannot be read: %s", where, in_a_line(error))
        self._found = found.values()

    def offers(self, kind: PluginKind) -> list[EntryPoint]:
        """Return every entry point of one kind, sorted by name; a name that two distributions offer is there twice."""
        return sorted((entry for entry in self._found if entry.group == kind.group), key=lambda entry: entry.name)

    def load(self, kind: PluginKind, name: str) -> tuple[object, EntryPoint]:
        """Import and instantiate the plug-in ``name``, which must be among :meth:`offers`.

        Raises DriverConflictError when two distributions offer it, DriverLoadError when it cannot be imported or made.
        """
        entry_points = [entry for entry in self.offers(kind) if entry.name == name]
        try:
            manager = _OneDriver(kind, name, entry_points)
        except DriverConflictError:
            raise
        except (Exception, SystemExit) as error:  # stevedore lets SystemExit and AssertionError of an import pass
            hint = f"{NO_CLASS}; " if isinstance(error, TypeError) else ""
            raise DriverLoadError(
                f"{kind.noun} {name!r} of {_suppliers(entry_points)} failed to load "
                f"({entry_points[0].value}: {in_a_line(error)}); {hint}repair or uninstall it",
                kind=kind,
                name=name,
            ) from error
        # Not manager.driver: that is the class when the object is falsy.
        return manager.extensions[0].obj, entry_points[0]
