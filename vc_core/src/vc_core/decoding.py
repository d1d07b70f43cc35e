"""JSON and plain values as objects of a type, decoded by msgspec in any number of threads.

msgspec prepares a class when it is first decoded: it collects the types of the fields, and stores them in the class
before it has all of them. A thread that decodes the class meanwhile reads a null pointer, and the process ends by
SIGSEGV (msgspec 0.22). Here one thread at a time prepares a type; all modules decode by these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")

_preparing = RLock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode_json(data: bytes | str, wanted: type[_T]) -> _T:
    """Return the object of a type that JSON holds. Drivers call it to read what a guest sent.

    ``wanted``: a type that msgspec decodes, as a Struct or a dataclass.
    Raises msgspec.MsgspecError, UnicodeDecodeError for text that is not UTF-8, RecursionError for text that is too
    deep.
    """
    decoded: _T = _prepared(wanted).decode(data)
    return decoded


def convert(
    value: object, wanted: type[_T], *, strict: bool = True, dec_hook: Callable[[type, Any], Any] | None = None
) -> _T:
    """Return an object of a type, made of values that JSON has. Drivers call it to read what they recorded.

    ``wanted``, ``strict``, ``dec_hook``: as of ``msgspec.convert``. Raises msgspec.ValidationError.
    """
    _prepared(wanted)
    return msgspec.convert(value, wanted, strict=strict, dec_hook=dec_hook)


def _prepared(wanted: Any) -> msgspec.json.Decoder[Any]:
    if (found := _decoders.get(wanted)) is None:
        with _preparing:
            found = _decoders[wanted] = msgspec.json.Decoder(wanted)
    return found
