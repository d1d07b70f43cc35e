"""Fills a caller's format with the fields of JSON."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

#: What a format of a field must not have: a width that fills the memory.
_TOO_WIDE = re.compile("[0-9]{5}")


class Fields(string.Formatter):
    """``str.format`` that reads the members of mappings and lists, and never an attribute of an object.

    ``named``: how many fields were filled.
    """

    named = 0

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        """Return what a name in braces stands for. Raises ValueError, LookupError."""
        if "." in field_name:
            raise ValueError(f"{field_name!r} has a dot; write a part of a field as {{containers[0][state]}}")
        if not field_name or field_name.partition("[")[0].isdecimal():
            raise ValueError("the braces must hold the name of a field")
        try:
            found, used = super().get_field(field_name, args, kwargs)
        except IndexError:
            raise ValueError(f"there is no part {field_name!r}") from None
        self.named += 1
        return found, str(used)

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a field as text: nothing for null, JSON for what has parts. Raises ValueError."""
        if value is None:
            value = ""
        elif isinstance(value, dict | list | tuple | bool):
            value = json.dumps(value, ensure_ascii=False)
        if _TOO_WIDE.search(format_spec):
            raise ValueError(f"{format_spec!r} is wider than 9999 characters")
        formatted: str = super().format_field(value, format_spec)
        return formatted
