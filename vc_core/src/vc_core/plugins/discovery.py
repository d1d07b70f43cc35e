"""Finds the installed distribution that supplies a plug-in, and loads the plug-in with stevedore.

Entry points are read from the installed distributions each time a :class:`Catalogue` is made, not from stevedore's
cache in ``~/.cache/python-entrypoints``: that cache compares times in steps of about two minutes, so it can hide a
driver that was installed a moment ago, and listing drivers should not write files. :func:`installed` keeps the last
catalogue in memory.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import NoReturn

from stevedore.driver import DriverManager
from stevedore.extension import Extension

from vc_core.config.values import similar_name
from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverConflictError, DriverLoadError
from vc_core.plugins import versions
from vc_core.plugins.guard import from_signal
from vc_core.plugins.handed import Found
from vc_core.plugins.loaded import NOT_A_CLASS_MESSAGE
from vc_core.plugins.quoting import one_line
from vc_core.plugins.running_call import Call, Executing

#: Distributions whose names and versions are kept, which takes longer to read than all else of them.
_DISTRIBUTIONS_KEPT = 64

_log = logging.getLogger(__name__)

#: The distribution of this project that offers each plug-in, for errors that name what to install. For other names no
#: distribution is guessed: anyone can publish one under a name that a misspelt driver name leads to.
PUBLISHED = {
    (PluginKind.HYPERVISOR, "qemu"): "vc-hypervisor-qemu",
    (PluginKind.HYPERVISOR, "mock"): "vc-hypervisor-mock",
    (PluginKind.HYPERVISOR, "uml"): "vc-hypervisor-uml",
    (PluginKind.HYPERVISOR, "libvirt"): "vc-hypervisor-libvirt",
    (PluginKind.AGENT, "hyperstart"): "vc-agent-hyperstart",
    (PluginKind.AGENT, "sshd"): "vc-agent-sshd",
    (PluginKind.AGENT, "noop"): "vc-agent-noop",
    (PluginKind.SPAWNER, "nsenter"): "vc-spawner-nsenter",
    (PluginKind.GUEST, "debian"): "vc-guest-debian",
    (PluginKind.GUEST, "uml"): "vc-hypervisor-uml",
    (PluginKind.EXTENSION, "journal"): "vc-extension-journal",
    (PluginKind.EXTENSION, "otel"): "vc-extension-otel",
}

#: What an error advises when no driver is installed.
INSTALL_DEFAULTS = "'pip install virtcontainers' installs the default ones"


def advice(name: str, installed: Iterable[str], kind: PluginKind | None = None) -> str:
    """Return the second half of an error about a plug-in that is not installed: what to install, or a similar name.

    ``installed``: the names that are. ``kind``: that of the plug-in, None for any.
    """
    published = {
        published_name: distribution
        for (published_kind, published_name), distribution in PUBLISHED.items()
        if kind in (None, published_kind)
    }
    if name in published:
        return f"'pip install {published[name]}' installs it"
    installed = set(installed)
    meant = similar_name(name, installed | published.keys())
    if not meant:
        return "correct the name, or install the distribution that offers it"
    if meant in installed:
        return f"did you mean {meant!r}?"
    return f"did you mean {meant!r}, which 'pip install {published[meant]}' installs?"


def supplier(entry_point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution that offers an entry point of a :class:`Catalogue`."""
    assert entry_point.dist is not None, "importlib.metadata sets it on every entry point of a distribution"
    return _name_and_version(entry_point.dist)


@lru_cache(_DISTRIBUTIONS_KEPT)
def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    metadata = distribution.metadata  # read once: each access parses it
    if not (metadata["Name"] and metadata["Version"]):
        raise ValueError("it has no name or version")
    return metadata["Name"], metadata["Version"]


def _suppliers(entry_points: Sequence[EntryPoint]) -> str:
    return " and ".join(sorted("{} {}".format(*supplier(entry_point)) for entry_point in entry_points))


def _is_wrong_call(error: BaseException) -> bool:
    """Return whether stevedore's call of an entry point raised ``error``, and no code that the import or call ran."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, TypeError) and frames[-1].f_globals.get("__name__") == Extension.__module__


class _OneDriver(DriverManager[object]):
    """stevedore's manager of one driver, with entry points that are given instead of read from stevedore's cache."""

    def __init__(self, kind: PluginKind, name: str, entry_points: list[EntryPoint]) -> None:
        self._candidates = entry_points

        def clash(_group: str, _name: str, _found: list[Extension[object]]) -> NoReturn:
            """Refuse a name that two distributions offer. Raises DriverConflictError."""
            raise DriverConflictError(
                f"{kind.noun} {name!r} is offered by {_suppliers(entry_points)}; uninstall all but one",
                kind=kind,
                name=name,
            )

        super().__init__(kind.group, name, invoke_on_load=True, conflict_resolver=clash)

    def list_entry_points(self) -> list[EntryPoint]:
        return self._candidates


class Catalogue:
    """The entry points of the distributions that were installed when this object was made; it imports none of them."""

    def __init__(self) -> None:
        found: dict[tuple[str, str, str], EntryPoint] = {}
        for distribution in importlib.metadata.distributions():
            try:
                offered = [entry for entry in distribution.entry_points if entry.group.startswith("vc_core.")]
                if not offered:
                    continue
                name, _ = _name_and_version(distribution)
                for entry in offered:
                    # A distribution that is twice on sys.path counts once: Python imports the first.
                    found.setdefault((entry.group, entry.name, name), entry)
            except Exception as error:  # one distribution's broken metadata must not hide the others
                where = distribution.locate_file("")
                _log.warning("skipped a distribution in %s whose metadata cannot be read: %s", where, one_line(error))
        self._found = found.values()

    def names(self, kind: PluginKind) -> list[str]:
        """Return the names of one kind, sorted; one that two distributions offer appears twice."""
        return [entry.name for entry in self.offers(kind)]

    def offers(self, kind: PluginKind) -> list[EntryPoint]:
        """Return the entry points of one kind, sorted by name; a name that two distributions offer appears twice."""
        return sorted((entry for entry in self._found if entry.group == kind.group), key=lambda entry: entry.name)

    def suppliers(self, kind: PluginKind, name: str) -> str:
        """Return names and versions of the distributions that offer a plug-in, for an error; "" if none does."""
        return _suppliers([entry for entry in self.offers(kind) if entry.name == name])

    def hand_over(self) -> list[Found]:
        """Return all plug-ins for a process that does not search them; none if one of them could not be loaded.

        That process then finds out by itself what is wrong.
        """
        found = {}
        for kind in PluginKind:
            for entry in self.offers(kind):
                if (kind, entry.name) in found or entry.dist is None or versions.core_mismatch(entry.dist):
                    return []
                found[kind, entry.name] = Found(kind, entry.name, f"{entry.module}:{entry.attr}", *supplier(entry))
        return list(found.values())

    def load(self, kind: PluginKind, name: str) -> tuple[object, str, str]:
        """Return the plug-in ``name``, imported and instantiated, and name and version of its distribution.

        ``name`` must be among :meth:`offers`. Raises DriverConflictError when two distributions offer it,
        DriverLoadError when it is for another version of the core, or cannot be read, imported or made.
        """
        try:
            return self._load(kind, name)
        except OSError as error:
            raise DriverLoadError(f"{kind.noun} {name!r} cannot be read: {error}", kind=kind, name=name) from error

    def _load(self, kind: PluginKind, name: str) -> tuple[object, str, str]:
        entry_points = [entry for entry in self.offers(kind) if entry.name == name]
        distribution = entry_points[0].dist
        if distribution and len(entry_points) == 1 and (clause := versions.core_mismatch(distribution)):
            message = f"{kind.noun} {name!r} of {_suppliers(entry_points)} {clause}"
            raise DriverLoadError(message, kind=kind, name=name)
        try:
            with Executing(Call(kind, name, f"{kind.noun} {name!r} of {_suppliers(entry_points)}", "")):
                manager = _OneDriver(kind, name, entry_points)
        except DriverConflictError:
            raise
        except BaseException as error:  # a plug-in's module may raise anything
            if from_signal(error):
                raise
            hint = f"{NOT_A_CLASS_MESSAGE}; " if _is_wrong_call(error) else ""
            raise DriverLoadError(
                f"{kind.noun} {name!r} of {_suppliers(entry_points)} failed to load "
                f"({entry_points[0].value}: {one_line(error)}); {hint}repair or uninstall it",
                kind=kind,
                name=name,
            ) from error
        # Not manager.driver: for an object that is falsy, that is its class.
        return manager.extensions[0].obj, *supplier(entry_points[0])


_latest: tuple[object, Catalogue] | None = None


def installed() -> Catalogue:
    """Return what is installed: the same catalogue as long as no directory of ``sys.path`` has changed since.

    pip changes the directory in which it installs or replaces a distribution, on which importlib.metadata relies, too.
    May be called from several threads.
    """
    global _latest
    directories = []
    for path in sys.path:
        with suppress(OSError):
            status = Path(path).stat()
            directories.append((path, status.st_ino, status.st_mtime_ns))
    latest = _latest
    if latest is not None and latest[0] == directories:
        return latest[1]
    catalogue = Catalogue()
    _latest = directories, catalogue
    return catalogue
