"""Makes the page of all drivers' options, and the table of them in each driver's README, from what drivers declare."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from vc_core.cli.driver_options import FLAGS
from vc_core.driver.kinds import PluginKind
from vc_core.driver.options import Option, list_options
from vc_core.plugins.discovery import PUBLISHED
from vc_core.plugins.registry import Plugins

ROOT = Path(__file__).parents[1]

#: What encloses the table in a README; text outside of it is kept.
BEGIN = "<!-- Written by ./dev generate from the code. -->"
END = "<!-- End of what ./dev generate writes. -->"

_HEAD = """\
<!-- Written by ./dev generate from the code; change the drivers' configuration classes, not this page. -->

# Options of drivers

The options that the drivers of this repository declare. `virtc drivers NAME` lists those of any installed driver, and
`virtc drivers --json NAME` as JSON.

In Python they are mappings: `HypervisorConfig.options`, `PodConfig.agent_config`, `HypervisorConfig.guest_options`, and
`spawner_options` in the options of an agent that uses a spawner. `agent_config` may also be an object of the driver's
own class, such as `vc_agent_sshd.SshdConfig`. On the command line each is `NAME=VALUE` after a flag that can be
repeated:

| type | on the command line | in Python |
|---|---|---|
| text, a path, one of some words | `machine=pc` | `{"machine": "pc"}` |
| true or false | `lockdown=false` | `{"lockdown": False}` |
| a number | `port=2222` | `{"port": 2222}` |
| a list | `words=a` and `words=b`, or `words=["a", "b"]` | `{"words": ["a", "b"]}` |
| a mapping | `limits.memory=64`, or `limits={"memory": 64}` | `{"limits": {"memory": 64}}` |
| a list of mappings | `shares={"tag": "a"}` and `shares={"tag": "b"}` | `{"shares": [{"tag": "a"}, {"tag": "b"}]}` |

What begins with `[` for a list, or with `{` for a mapping, is JSON. A value in a mapping whose type the driver does not
declare stays text until another driver reads it: so the spawner `nsenter` takes `spawner_options.user=1000` as a
number. An option that is not a list can be given only once.

When the pod is created, an option that does not exist, and a value of another type, is an error that names the option,
the value and what to give."""


def page() -> str:
    """Return the page of the options of all drivers of this repository."""
    parts = [_HEAD]
    for kind, name in sorted(PUBLISHED, key=lambda one: (list(PluginKind).index(one[0]), one[1])):
        if kind in FLAGS:
            parts.append(f"## {kind.noun.capitalize()} {name}\n\n{_section(kind, name)}")
    return "\n\n".join(parts) + "\n"


def readme(path: Path, kind: PluginKind, name: str) -> str:
    """Return a README with the table of a driver's options in the place of the one that it has."""
    text = path.read_text(encoding="utf-8")
    table = f"{BEGIN}\n\n{_section(kind, name)}\n\n{END}"
    text, replaced = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)
    if not replaced:
        raise SystemExit(f"{path} has no place for the options; put {BEGIN!r} and {END!r} there")
    return text


def _section(kind: PluginKind, name: str) -> str:
    options = list_options(Plugins().driver(kind, name).options_class())
    return f"With `{FLAGS[kind]}`.\n\n{_table(options)}" if options else "It has no options."


def _table(options: Iterable[Option]) -> str:
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for one in options:
        default = one.default_text if one.default_text in ("none", "required") else f"`{one.default_text}`"
        cells = (f"`{one.name}`", one.type, default, one.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _readmes() -> dict[Path, Callable[[], str]]:
    """Return the function that makes the README of each distribution below ``drivers``; each offers one driver."""
    kinds = {kind.group: kind for kind in PluginKind}
    found: dict[Path, Callable[[], str]] = {}
    for file in sorted(ROOT.glob("drivers/*/pyproject.toml")):
        ((group, entries),) = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["entry-points"].items()
        (name,) = entries
        path = file.with_name("README.md")
        found[path] = partial(readme, path, kinds[group], name)
    return found


#: The function that makes each file.
PAGES: dict[Path, Callable[[], str]] = {ROOT / "docs/reference/options.md": page, **_readmes()}
