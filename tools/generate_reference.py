"""Makes the pages of docs/reference that follow from the code; ``tools/generate.py`` writes them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import interoperability

import vc_core as vc
from vc_core import config, errors, host_report, results, sync
from vc_core.cli.main import OWN_FAILURE, virtc
from vc_core.client import stdio
from vc_core.config import container, limits, network, pod
from vc_core.driver import guest
from vc_core.podfile.schema import field_comments, pod_schema
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE, TEMPLATES_VARIABLE
from vc_core.store.settings import CONFIG_VARIABLE

REFERENCE = Path(__file__).parents[1] / "docs/reference"

_NOTE = "<!-- Written by ./dev generate from the code; change docstrings and help texts, not this page. -->"

#: Columns of a signature in one line.
_WIDTH = 100

_API = """\
# The API

`import vc_core as vc` gives all names of this page. These functions are blocking.

`vc_core.aio` has the same functions and the same classes, with the same arguments, results and errors, as coroutine
functions: `pod = await aio.run_pod(config)`, `async with pod: await pod.enter(cmd)`. A
cancelled operation cleans up after itself as one does that fails. See [how to use it](../how-to/async.md).

The whole state of a pod is on disk. So a caller keeps nothing between two calls, and a pod that one process started
can be entered, stopped and deleted by any other process of the same user."""

_COMMAND = """\
# The command virtc

What `virtc` does with the [API](api.md). Every command has `-h`, `--help`. `-- CMD ARG...` is a command to run in the
guest, taken as it is. `virtc completion` makes a shell complete commands, options and ids."""

#: What ``vc_core.cli.main`` makes of each end; docs/how-to/errors-and-exit-codes.md shows and tests it.
_EXIT_CODES = (
    ("0", "it worked"),
    ("1", "it failed; one line on the standard error gives the reason"),
    ("2", "its arguments are invalid: an unknown option, a missing argument, a wrong value (`exec`, `enter`: 125)"),
    ("130, 143", "it received SIGINT or SIGTERM before anything ran in the guest"),
)

#: The same for the commands that run one in the guest.
_COMMAND_EXIT_CODES = (
    ("the command's own", "it ran and ended"),
    ("128 + n", "signal n ended it"),
    ("141", "it ended, or SIGPIPE ended it, and its output has no reader any more"),
    ("127, 126", "it was not found, could not be executed"),
    (
        str(OWN_FAILURE),
        "`virtc` itself failed: there is no such pod, it does not run, its output cannot be written ...",
    ),
)

_VARIABLES = (
    (
        f"`{ROOT_VARIABLE}`",
        "a directory whose `state` and `run` take the place of `/var/lib/virtcontainers` and `/run/virtcontainers` "
        "(of root; others have XDG directories)",
    ),
    (f"`{CACHE_VARIABLE}`", "a directory for built guests and templates, in the place of `/var/cache/virtcontainers`"),
    (
        f"`{TEMPLATES_VARIABLE}`",
        "`off`: no pod starts from a template; `existing`: no template is made behind a pod, those that exist are used",
    ),
    (
        f"`{CONFIG_VARIABLE}`",
        "a configuration file, in the place of `/etc/virtcontainers/config.toml` and, for other users than root, "
        "`virtcontainers/config.toml` in `$XDG_CONFIG_HOME`; [its keys](../how-to/defaults.md)",
    ),
)


def api() -> str:
    """Return the page of everything that ``vc_core`` exports."""
    functions = [value for name, value in vars(sync).items() if inspect.isfunction(value) and name in vc.__all__]
    about_containers = [function for function in functions if "container" in function.__name__]
    about_guests = [function for function in functions if "guest" in function.__name__]
    about_hosts = [function for function in functions if "host" in function.__name__]
    about_templates = [function for function in functions if "template" in function.__name__]
    about_processes = [function for function in functions if "process" in function.__name__]
    others = [*about_containers, *about_processes, *about_guests, *about_hosts, *about_templates]
    about_pods = [one for one in functions if one not in others]
    asked = [
        cls for module in (pod, container, limits, network) for cls in _defined_in(module) if cls.__name__ in vc.__all__
    ]
    parts = [
        _NOTE,
        _API,
        "## Pods",
        *map(_function, about_pods),
        _object(sync.Pod),
        _object(sync.PodPool),
        _object(sync.PodPreparation),
        "## Containers",
        *map(_function, about_containers),
        _object(sync.Container),
        "## Processes",
        "[How to run a command in a container](../how-to/commands.md) shows them.",
        *map(_function, about_processes),
        *map(_object, (sync.Process, sync.ProcessReader, sync.ProcessWriter)),
        "## Guests",
        "What a pod boots is built at its first start, unless its configuration names a kernel and an image.",
        *map(_function, about_guests),
        "## The host",
        "[How to check a host](../how-to/check-a-host.md) shows a report, and what to do about it.",
        *map(_function, about_hosts),
        "## Templates",
        "A pod starts as a clone of a template of its kind, where there is one; else one is made behind it.",
        *map(_function, about_templates),
        "## Types of arguments",
        _table(("name", "is", "meaning"), [_alias(stdio, "Stdin"), _alias(stdio, "Output"), _alias(guest, "Progress")]),
        "## Configuration",
        _text(config.__doc__),
        *map(_dataclass, asked),
        _values(vc.NetworkMode),
        "## Pod files",
        "[How to describe pods in files](../how-to/pod-files.md) shows them; [their JSON Schema](pod.schema.json) has "
        "every field.",
        _function(vc.load_pod_config),
        _function(vc.dump_pod_config),
        "## Results",
        *map(_dataclass, [*_defined_in(results), *_defined_in(host_report), vc.GuestImage, vc.BuiltGuest]),
        _values(vc.CheckOutcome),
        _values(vc.EventKind),
        "## States",
        _values(vc.State),
        "## Errors",
        "`vc_core` exports those that callers handle most, `vc_core.errors` all of them.",
        _table(("error", "subclass of", "meaning"), _error_rows(errors.VCError)),
    ]
    page = "\n\n".join(parts) + "\n"
    shown = re.findall(r"^### (\w+)", page, flags=re.MULTILINE) + re.findall(
        r'^\| <a id="\w+"></a>`(\w+)`', page, flags=re.MULTILINE
    )
    if missing := sorted(set(vc.__all__) - set(shown)):
        raise SystemExit(f"no part of the page shows {', '.join(missing)}")
    return page


def command() -> str:
    """Return the page of everything that ``virtc`` takes."""
    context = click.Context(virtc, info_name="virtc")
    parts = [
        _NOTE,
        _COMMAND,
        *_commands(context),
        "## Exit codes",
        _table(("code", "meaning"), _EXIT_CODES),
        "A command that runs one in the guest, which `pod enter` and `container enter` always do, and `pod run` and "
        "`container start` with `-i` or `-t`, exits as that does:",
        _table(("code", "meaning"), _COMMAND_EXIT_CODES),
        "## Environment variables",
        _table(("variable", "meaning"), _VARIABLES),
    ]
    return "\n\n".join(parts) + "\n"


def schema() -> str:
    """Return the JSON Schema of pod files."""
    return json.dumps(pod_schema(), indent=2) + "\n"


def _function(function: Callable[..., Any]) -> str:
    return f"### {function.__name__}\n\n{_described(function)}"


def _described(function: Callable[..., Any]) -> str:
    """Return a function's signature and docstring."""
    return f"```python\n{_signature(function)}\n```\n\n{_text(function.__doc__)}"


def _object(cls: type) -> str:
    return f"### {cls.__name__}\n\n{_text(cls.__doc__)}\n\n{_methods(cls)}"


def _dataclass(cls: type) -> str:
    comments = field_comments(cls)
    rows = [
        (f"`{one.name}`", _type(_given(str(one.type))), _default(one), _text(comments.get(one.name, "")))
        for one in fields(cls)
    ]
    used = 4 if any(row[3] for row in rows) else 3
    table = _table(("field", "type", "default", "meaning")[:used], [row[:used] for row in rows])
    return "\n\n".join(filter(None, [f"### {cls.__name__}", _text(cls.__doc__), table, _methods(cls)]))


def _type(annotation: str) -> str:
    """Return an annotation as Markdown, with a link to the first class in it that the page shows."""
    shown = [name for name in re.findall(r"\w+", annotation) if name in vc.__all__]
    return f"[`{annotation}`](#{shown[0].lower()})" if shown else f"`{annotation}`"


def _given(annotation: str) -> str:
    """Return what a caller gives for a field, for an annotation that also says how it is validated and kept."""
    annotation = re.sub(r"^Accepts\[\w+, (.*)\]$", r"\1", annotation)
    annotation = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", annotation)
    names = {"HostPath": "str", "HostProgram": "str", "Count": "int", "_Limit": "int", "_Options": "Any"}
    return re.sub(r"\w+", lambda name: names.get(name[0], name[0]), annotation)


def _default(one: Field[Any]) -> str:
    if one.default is not MISSING:
        return f"`{one.default!r}`"
    if one.default_factory is MISSING:
        return "required"
    made = one.default_factory()
    return f"`{type(made).__name__}()`" if is_dataclass(made) else f"`{made!r}`"


def _values(enum: type[StrEnum]) -> str:
    meanings = re.findall(r"^    (\w+) = .*#: (.*)$", inspect.getsource(enum), flags=re.MULTILINE)
    rows = [(f"`{enum.__name__}.{name}`", f"`{enum[name].value!r}`", meaning) for name, meaning in meanings]
    return f"### {enum.__name__}\n\n{_text(enum.__doc__)}\n\n{_table(('member', 'equals', 'meaning'), rows)}"


def _error_rows(cls: type[errors.VCError]) -> Iterator[tuple[str, str, str]]:
    """Yield the row of an error, and those of its subclasses."""
    bases = [_linked(base.__name__) for base in cls.__bases__]
    anchor = f'<a id="{cls.__name__.lower()}"></a>'
    yield f"{anchor}`{cls.__name__}`", ", ".join(bases), _text(cls.__doc__).replace("\n\n", " ").replace("\n", " ")
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _error_rows(child)


def _alias(module: Any, name: str) -> tuple[str, str, str]:
    """Return a row for a type that has a name: the ``#:`` comment above it, or above the one right above it."""
    found = re.search(rf"^#: (.*)\n(?:\w+ = .*\n)*?{name} = (.*)$", inspect.getsource(module), flags=re.MULTILINE)
    assert found is not None, name
    return f"`{name}`", f"`{found[2]}`", _text(found[1])


def _defined_in(module: Any) -> list[type]:
    """Return the dataclasses of a module, in their order."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and is_dataclass(value)]
    return [cls for cls in dict.fromkeys(classes) if cls.__module__ == module.__name__]


def _methods(cls: type) -> str:
    """Return a section for each public method of a class."""
    names = [name for name, value in vars(cls).items() if inspect.isroutine(value) and not name.startswith("_")]
    return "\n\n".join(f"#### {cls.__name__}.{name}\n\n{_described(getattr(cls, name))}" for name in names)


def _signature(function: Callable[..., Any]) -> str:
    """Return ``name(arguments) -> result``, one argument a line where it would be wider than a page is."""
    signature = inspect.signature(function)
    arguments = [one for name, one in signature.parameters.items() if name != "self"]
    line = function.__name__ + str(signature.replace(parameters=arguments)).replace("'", "")
    if len(line) <= _WIDTH:
        return line
    broken = [str(one).replace("'", "") for one in arguments]
    first_keyword = next(place for place, one in enumerate(arguments) if one.kind is one.KEYWORD_ONLY)
    broken.insert(first_keyword, "*")
    inside = "".join(f"    {one},\n" for one in broken)
    return f"{function.__name__}(\n{inside}) -> {signature.return_annotation}"


def _text(docstring: str | None) -> str:
    """Return a docstring's text as Markdown: names in single back quotes, and links to what this page shows."""
    assert docstring is not None
    text = inspect.cleandoc(docstring).replace("``", "`")
    return re.sub(r":\w+:`(\w+)`|(?<![\w`])(\w+Error)(?![\w`])", lambda found: _linked(found[1] or found[2]), text)


def _linked(name: str) -> str:
    """Return a name as code, with a link where the page of the API shows it."""
    shown = name in vc.__all__ or (name.endswith("Error") and hasattr(errors, name))
    return f"[`{name}`](#{name.lower()})" if shown else f"`{name}`"


def _commands(context: click.Context) -> Iterator[str]:
    """Yield a section for a command, and for all below it."""
    made = context.command
    yield f"## {context.command_path}"
    about, _, example = inspect.cleandoc(made.help or "").partition("Example: ")
    usage = " ".join([context.command_path, *made.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    yield _with_options(about.strip())
    records = [option.get_help_record(context) for option in made.params if isinstance(option, click.Option)]
    rows = [(f"`{names}`", _with_options(re.sub(r"  +", " ", text))) for names, text in filter(None, records)]
    if rows:
        yield _table(("option", "meaning"), rows)
    if example:
        yield f"For example:\n\n```sh\n{example.strip()}\n```"
    if isinstance(made, click.Group):
        for name in made.list_commands(context):
            child = made.get_command(context, name)
            assert child is not None
            yield from _commands(click.Context(child, info_name=name, parent=context))


def _with_options(text: str) -> str:
    """Return a help text in which options are code, so that no browser breaks a line within one."""
    return re.sub(r"(?<![\w-])--?[a-z][a-z-]*", r"`\g<0>`", text)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


#: The function that makes each page.
PAGES = {
    REFERENCE / "api.md": api,
    REFERENCE / "command.md": command,
    REFERENCE / "pod.schema.json": schema,
    REFERENCE / "interoperability.md": interoperability.page,
}
