"""The source of a distribution with a new plug-in, for its author to complete: ``templates`` with its names filled in.

Each template is a file below ``templates/GROUP``; what lies in its directory ``package`` becomes the Python package.
"""

from __future__ import annotations

import re
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from string import Template

from vc_core import __version__
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_SUFFIX = ".tmpl"


def files(kind: PluginKind, name: str) -> dict[str, str]:
    """Return the files of a new distribution by their paths in it. Called by ``virtc new-driver``.

    ``name``: what users will call the plug-in, such as "uml". Raises ConfigError for a name that is not valid.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"driver name {name!r} is not valid; use lower-case letters, digits and single hyphens")
    names = _names(kind, name)
    groups = ("common", *(() if kind is PluginKind.EXTENSION else ("driver",)), str(kind))
    return {
        path.replace("package/", f"src/{names['package']}/"): Template(text).substitute(names)
        for group in groups
        for path, text in _templates(resources(__package__).joinpath("templates", group)).items()
    }


def _names(kind: PluginKind, name: str) -> dict[str, str]:
    """Return the values of the templates' placeholders."""
    major, minor = __version__.split(".")[:2]
    versions = f">={major}.{minor},<{major}.{int(minor) + 1}"
    needed_by_tests = ["vc-core[testing]", *(["vc-agent-noop"] if kind is PluginKind.HYPERVISOR else [])]
    return {
        "kind": str(kind),
        "name": name,
        "title": "".join(word.capitalize() for word in name.split("-")),
        "distribution": f"vc-{kind}-{name}",
        "package": f"vc_{kind}_{name.replace('-', '_')}",
        "group": kind.group,
        "contract": f"{str(kind).capitalize()}Contract",
        "versions": versions,
        "test": ", ".join(f'"{one}{versions}"' for one in needed_by_tests),
    }


def _templates(directory: Traversable) -> dict[str, str]:
    """Return the text of each template below a directory, by the path of the file that is made of it."""
    found: dict[str, str] = {}
    for entry in directory.iterdir():
        if entry.is_dir():
            found |= {f"{entry.name}/{path}": text for path, text in _templates(entry).items()}
        elif entry.name.endswith(_SUFFIX):
            found[entry.name.removesuffix(_SUFFIX)] = entry.read_text(encoding="utf-8")
    return found
