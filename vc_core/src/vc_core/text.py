"""Makes text of any origin safe to print on a terminal and to log."""

from __future__ import annotations

#: Characters that change the order of the text around them (Unicode TR 9), dangerous in names that others choose.
_BIDIRECTIONAL = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def printable(text: str) -> str:
    """Return text in which nothing can steer a terminal: control and direction characters as escapes.

    Called for each text of an error, each reason in a record, each line of a supervisor's log, and what virtc prints.
    Lone surrogates, which stand for bytes that are not UTF-8 (PEP 383), become escapes too. Text that is returned stays
    as it is in another call.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() and char not in _BIDIRECTIONAL else char.encode("unicode_escape").decode()
        for char in text
    )
