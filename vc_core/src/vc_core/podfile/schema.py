"""The JSON Schema of pod files, made of the types and comments of the configuration's classes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from vc_core.config.fields import field_types, short_form
from vc_core.config.pod import PodConfig
from vc_core.podfile.reader import SCHEMA_KEY

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pod_schema() -> dict[str, Any]:
    """Return the JSON Schema of pod files, as data; the same for YAML, JSON and TOML.

    Called by ``virtc pod schema`` and by the generator of the documentation.
    """
    _, found = msgspec.json.schema_components([PodConfig], ref_template="#/$defs/{name}")
    for cls in dict.fromkeys(_classes(PodConfig)):
        own = found[cls.__name__]
        own["description"] = plain_text(inspect.getdoc(cls) or "")
        if is_dataclass(cls):
            own["additionalProperties"] = False
            comments = field_comments(cls)
            for name, one in own["properties"].items():
                one["description"] = plain_text(comments[name])
            found[cls.__name__] = _with_other_forms(cls, own)
    top = found.pop(PodConfig.__name__)
    top["properties"][SCHEMA_KEY] = {"type": "string", "description": "address of this schema, for editors"}
    return {"$schema": _DIALECT, **top, "title": "Pod file of virtcontainers", "$defs": found}


def field_comments(cls: type[DataclassInstance]) -> dict[str, str]:
    """Return the description of each field of a class: the comment ``#:`` on its line in the source."""
    return dict(re.findall(r"^    (\w+): .*#: (.*)$", inspect.getsource(cls), flags=re.MULTILINE))


def plain_text(docstring: str) -> str:
    """Return a docstring for readers of a file: with Markdown's marks for code, and null for Python's None."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", docstring)
    return re.sub(r"\bNone\b", "null", text.replace("``", "`"))


def _classes(cls: Any) -> Iterator[type]:
    """Yield a class of the configuration and all classes of its fields: dataclasses and enumerations."""
    yield cls
    if is_dataclass(cls) and isinstance(cls, type):
        for wanted in field_types(cls).values():
            for inner in (wanted, *get_args(wanted)):
                if isinstance(inner, type) and (is_dataclass(inner) or issubclass(inner, Enum)):
                    yield from _classes(inner)


def _with_other_forms(cls: type[DataclassInstance], own: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a class together with its short forms: a text that it parses, or a command's arguments."""
    forms: list[dict[str, Any]] = []
    short = short_form(cls)
    if short == "text":
        parse = inspect.getdoc(cls.parse)  # type: ignore[attr-defined] # that is what it means
        text = re.search(r"given as (.*?)\.(?:\s|$)", plain_text(parse or ""), flags=re.DOTALL)
        forms = [{"type": "string", "description": f"in short: {text[1]}" if text else ""}]
    if short == "list":
        forms = [{"type": "array", "items": {"type": "string"}, "description": "in short: program and arguments"}]
    return {"anyOf": [*forms, own]} if forms else own
