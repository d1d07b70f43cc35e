"""The source of a distribution with a new plug-in, for its author to fill in.

What an object must do is taken from its abstract base class as it is installed, so a skeleton is never out of date.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vc_core import __version__, driver
from vc_core.driver.agent import Agent
from vc_core.driver.guest import GuestBuilder
from vc_core.driver.hooks import AgentSpec, GuestSpec, HypervisorSpec, SpawnerSpec
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.kinds import PluginKind
from vc_core.driver.spawner import Spawner
from vc_core.errors import ConfigError

#: Longest line that is written.
_WIDTH = 120

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

#: What a driver of each kind makes, and the specification of its hooks.
_INTERFACES: dict[PluginKind, tuple[type, type]] = {
    PluginKind.HYPERVISOR: (Hypervisor, HypervisorSpec),
    PluginKind.AGENT: (Agent, AgentSpec),
    PluginKind.SPAWNER: (Spawner, SpawnerSpec),
    PluginKind.GUEST: (GuestBuilder, GuestSpec),
}

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27,<2"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.1.0"
description = "The {kind} {name} for virtcontainers"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["vc-core>={minor},<{next_minor}"]

[project.optional-dependencies]
test = [{test}]

[project.entry-points."{group}"]
{name} = "{package}.plugin:{title}Plugin"

[tool.hatch.build.targets.wheel]
packages = ["src/{package}"]
"""

_README = """\
# {distribution}

The {kind} `{name}` for virtcontainers.

    pip install -e '.[test]'
    pytest                        # says what is still to be written
    virtc drivers --check {name}
"""

_PACKAGE = '''\
"""The {kind} ``{name}``."""

from {package}.plugin import {title}Plugin

__all__ = ["{title}Plugin"]
'''

_CONFIG = '''\
"""Options of the driver ``{name}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vc_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class {title}Config:
    """What users can choose: nothing yet. Each option is a field with a default."""

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> {title}Config:
        """Return the configuration that options ask for.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigError(f"{kind} {name} has no option {{name!r}}; it has {{', '.join(known) or 'none'}}")
        return cls()  # pass the options on, each with its value checked
'''

_PLUGIN = '''\
"""The plug-in class that the entry point names."""

from __future__ import annotations

{imports}


class {title}Plugin:
    """Implements the hooks of the {kind} driver; state lives in what ``vc_{kind}_create`` returns."""

    @hookimpl
    def vc_{kind}_config(self, options: Mapping[str, object]) -> {title}Config:
        """Turn options into the driver's own configuration."""
        return {title}Config.from_mapping(options)

    @hookimpl
{create}
        """Make the object that does the work. Does no I/O."""
        return {made}({passed})
'''

_EXTENSION = '''\
"""The plug-in class that the entry point names."""

from __future__ import annotations

import logging

from vc_core.driver import hookimpl

_log = logging.getLogger(__name__)


class {title}Plugin:
    """Told of what becomes of pods and containers; drop what you do not need."""

    @hookimpl
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Learn that a pod changed its state."""
        _log.info("pod %s: %s -> %s", pod_id, old, new)

    @hookimpl
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Learn that a container changed its state."""
        _log.info("container %s of pod %s: %s -> %s", container_id, pod_id, old, new)
'''

_TESTS = '''\
"""The contract that every {kind} keeps; it says what is still to be written."""

from vc_core.testing import {contract}


class TestContract({contract}):
    driver_name = "{name}"
'''


def files(kind: PluginKind, name: str) -> dict[str, str]:
    """Return the files of a new distribution by their paths in it. Called by ``virtc new-driver``.

    ``name``: what users will call the plug-in, such as "uml". Raises ConfigError for a name that cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"driver name {name!r} is not valid; use lower-case letters, digits and single hyphens")
    major, minor = __version__.split(".")[:2]
    title = "".join(word.capitalize() for word in name.split("-"))
    facts = {
        "kind": str(kind),
        "name": name,
        "title": title,
        "distribution": f"vc-{kind}-{name}",
        "package": f"vc_{kind}_{name.replace('-', '_')}",
        "group": kind.group,
        "contract": f"{str(kind).capitalize()}Contract",
        "minor": f"{major}.{minor}",
        "next_minor": f"{major}.{int(minor) + 1}",
    }
    needed = ["vc-core[testing]", *(["vc-agent-noop"] if kind is PluginKind.HYPERVISOR else [])]
    facts["test"] = ", ".join('"{}>={minor},<{next_minor}"'.format(one, **facts) for one in needed)
    source = f"src/{facts['package']}"
    made = {
        "pyproject.toml": _PYPROJECT.format_map(facts),
        "README.md": _README.format_map(facts),
        f"{source}/__init__.py": _PACKAGE.format_map(facts),
        f"{source}/py.typed": "",
        "tests/test_contract.py": _TESTS.format_map(facts),
    }
    if kind is PluginKind.EXTENSION:
        return {**made, f"{source}/plugin.py": _EXTENSION.format_map(facts)}
    base, spec = _INTERFACES[kind]
    create = vars(spec)[f"vc_{kind}_create"]
    arguments = [name for name in inspect.signature(create).parameters if name != "self"]
    config = f"{title}Config"
    facts["made"] = made_class = f"{title}{base.__name__}"
    facts["passed"] = ", ".join(arguments)
    facts["create"] = _definition(create, made_class, config=config)
    facts["imports"] = _imports(
        [create],
        ("collections.abc", "Mapping"),
        ("vc_core.driver", "hookimpl"),
        (f"{facts['package']}.config", config),
        (f"{facts['package']}.{kind}", made_class),
        without=base.__name__,
    )
    return {
        **made,
        f"{source}/config.py": _CONFIG.format_map(facts),
        f"{source}/plugin.py": _PLUGIN.format_map(facts),
        f"{source}/{kind}.py": _object(base, create, config, facts),
    }


def _object(base: type, create: Any, config: str, facts: Mapping[str, str]) -> str:
    """Return the module of the object: its class with each abstract method of the base class."""
    members = {name: value for name, value in vars(base).items() if name in getattr(base, "__abstractmethods__", ())}
    functions = [getattr(member, "fget", member) for member in members.values()]
    imports = _imports([*functions, create], (base.__module__, base.__name__), (f"{facts['package']}.config", config))
    fields = [name for name in inspect.signature(create).parameters if name != "self"]
    lines = [
        f'"""The {facts["kind"]} ``{facts["name"]}``: what its plug-in\'s create hook makes."""',
        "",
        "from __future__ import annotations",
        "",
        imports,
        "",
        "",
        f"class {facts['made']}({base.__name__}):",
        *textwrap.indent(_class_text(base, members), "    ").splitlines(),
        "",
        _definition(create, "None", name="__init__", config=config),
        *(f"        self._{name} = {name}" for name in fields),
    ]
    for name, member in members.items():
        lines += ["", *_method(name, member)]
    return "\n".join(lines) + "\n"


def _class_text(base: type, members: Mapping[str, object]) -> str:
    """Return the docstring of the object's class, which names the methods that it may have besides."""
    text = (inspect.getdoc(base) or "").splitlines()[0]
    more = [name for name, value in vars(base).items() if inspect.isfunction(value) and name not in members]
    if not more:
        return f'"""{text}"""'
    named = textwrap.fill(f"It may have more methods of {base.__name__}: {', '.join(more)}.", 112)
    return f'"""{text}\n\n{named}\n"""'


def _method(name: str, member: Any) -> Iterator[str]:
    """Yield the lines of a method that says what is to be written; capabilities begin with none."""
    function = getattr(member, "fget", member)
    purpose = (inspect.getdoc(function) or name).splitlines()[0]
    if isinstance(member, property):
        yield "    @property"
    yield _definition(function, str(inspect.signature(function).return_annotation))
    short = purpose.partition(". ")[0].rstrip(".")
    line = f'        """{purpose}"""'
    yield line if len(line) <= _WIDTH else f'        """{short}."""'
    if name == "capabilities":
        yield "        return frozenset()  # name each that you have written; its tests then run"
        return
    text = f"{name}: {short}"
    line = f"        raise NotImplementedError({json.dumps(text)})"
    if len(line) > _WIDTH:
        parts = textwrap.wrap(text, _WIDTH - 15)
        strings = [json.dumps(f"{part} ") for part in parts[:-1]] + [json.dumps(parts[-1])]
        line = "\n            ".join(["        raise NotImplementedError(", *strings]) + "\n        )"
    yield line


def _definition(function: Any, returns: str, name: str = "", config: str = "") -> str:
    """Return the head of a method like a function of ours, on one line or three; ``config``: the driver's own type."""
    arguments = ["self"]
    for one in list(inspect.signature(function).parameters.values())[1:]:
        default = "" if one.default is one.empty else f" = {one.default!r}"
        arguments.append(f"{one.name}: {config if config and one.name == 'config' else one.annotation}{default}")
    begin = f"    {'async ' * inspect.iscoroutinefunction(function)}def {name or function.__name__}("
    line = f"{begin}{', '.join(arguments)}) -> {returns}:"
    return line if len(line) <= _WIDTH else f"{begin}\n        {', '.join(arguments)}\n    ) -> {returns}:"


def _imports(functions: Iterable[Any], *more: tuple[str, str], without: str = "") -> str:
    """Return import statements for the types in the signatures of functions, and for more names of modules."""
    found: dict[str, set[str]] = {}
    for function in functions:
        signature = inspect.signature(function)
        shown = [str(one.annotation) for one in signature.parameters.values()] + [str(signature.return_annotation)]
        for name in set(re.findall(r"\w+", " ".join(shown))) & set(function.__globals__) - {without}:
            found.setdefault(_home(name, function), set()).add(name)
    for module, name in more:
        found.setdefault(module, set()).add(name)
    # The standard library, the core, the plug-in's own package.
    groups: list[list[str]] = [[], [], []]
    for module, names in sorted(found.items()):
        listed = ", ".join(sorted(names, key=str.lower))
        group = 1 if module.startswith("vc_core.") else 2 if module.startswith("vc_") else 0
        line = f"from {module} import {listed}" if module != listed else f"import {module}"
        groups[group].append(line if len(line) <= _WIDTH else f"from {module} import (\n    {listed},\n)")
    return "\n\n".join("\n".join(group) for group in groups if group)


def _home(name: str, function: Any) -> str:
    """Return the module from which to import a name that a function's module knows."""
    value = function.__globals__[name]
    if inspect.ismodule(value):
        return name
    return driver.__name__ if name in driver.__all__ else str(value.__module__)
