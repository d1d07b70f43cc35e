"""Pod files in YAML: one document of plain values, without tags, aliases and merge keys.

Values without quotes are read as YAML 1.2 does: only ``true`` and ``false`` are truth values, ``no`` and ``22:22`` are
text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from vc_core.podfile.formats import Path, SyntaxRefused
from vc_core.text import printable

_TAG = "tag:yaml.org,2002:"

#: The types of values without quotes, how each is written (YAML 1.2, chapter 10.3.2), and how it begins.
_TYPES = (
    ("null", re.compile(r"(|~|null|Null|NULL)"), ["", "~", "n", "N"]),
    ("bool", re.compile(r"(true|True|TRUE|false|False|FALSE)"), list("tTfF")),
    ("int", re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)"), list("-+0123456789")),
    ("float", re.compile(r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)"), list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """Refuses what a pod file cannot have, before anything is made of it."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call] # typeshed has no types for it
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise SyntaxRefused(line, f"has the alias *{event.anchor}; write the value itself")
        if event.tag is not None:
            raise SyntaxRefused(line, f"has the tag {event.tag!r}; leave it out")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes in quotes what this module, or a reader of YAML 1.1, would take for another value than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _TYPES:
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^{_pattern.pattern}$"), _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^{_pattern.pattern}$"), _first)


def read(text: str) -> Any:
    """Return the data of a text. Raises SyntaxRefused."""
    try:
        return _data(_compose(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = " ".join(part for part in (error.context, error.problem) if part)
        raise SyntaxRefused(mark.line + 1 if mark else 1, f"is not YAML: {parts}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SyntaxRefused(line, f"is not YAML: it has the character {chr(error.character)!r}") from error


def find_line(text: str, path: Path) -> int:
    """Return the line of the value that a path leads to, or of the last one on the way that exists."""
    node, line = _compose(text), 1
    for part in path:
        entries: dict[Any, tuple[Any, Any]] = {}
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            entries = {index: (value, value) for index, value in enumerate(node.value)}
        if part not in entries:
            break
        key, node = entries[part]
        line = key.start_mark.line + 1
    return line


def write(data: object) -> str:
    """Return data as YAML; a text that could steer a terminal has all its characters in ASCII."""
    options: dict[str, Any] = {"sort_keys": False, "default_flow_style": False, "width": 120}
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, **options)
    if printable(text.replace("\n", "")) != text.replace("\n", ""):
        text = yaml.dump(data, Dumper=_Dumper, allow_unicode=False, **options)
    return text


def _compose(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _data(node: Any) -> Any:
    if node is None:
        return None
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_data(one) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if key.tag != f"{_TAG}str":
                raise SyntaxRefused(at, "has a key that is not text; put it in quotes")
            if key.value in found:
                raise SyntaxRefused(at, f"has the key {key.value!r} twice in one mapping; leave one out")
            found[key.value] = _data(value)
        return found
    return _scalar(node.tag.removeprefix(_TAG), node.value, line)


def _scalar(kind: str, text: str, line: int) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError as error:  # too many digits
        raise SyntaxRefused(line, f"is not read: {error}") from error
    return float(text) if kind == "float" else text
