"""Reads a trace, and draws it as bars in the terminal."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from vc_core.frozen import frozen

#: Milliseconds. Shorter spans are in the file only.
_SHOWN = 1.0

#: Columns of the texts beside the bars.
_TEXTS = 66


@frozen
class Span:
    """What a process did; times are milliseconds of the host's clock."""

    process: str
    name: str
    begin: float
    length: float


def read(path: Path) -> list[Span]:
    """Return the spans of a trace in their order, without those that a full disk cut off. Raises OSError."""
    events = []
    for line in path.read_bytes().splitlines()[1:]:
        with suppress(ValueError):
            events.append(json.loads(line.removesuffix(b",")))
    processes = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [
        Span(processes.get(event["pid"], "?"), event["name"], event["ts"] / 1000, event["dur"] / 1000)
        for event in events
        if event["ph"] == "X"
    ]
    return sorted(spans, key=lambda span: (span.begin, -span.length))


def drawn(spans: list[Span], columns: int) -> list[str]:
    """Return the lines of a drawing of spans: process, name, begin and length in ms, and a bar."""
    shown = [span for span in spans if span.length >= _SHOWN]
    first = min((span.begin for span in shown), default=0.0)
    whole = max((span.begin + span.length for span in shown), default=0.0) - first
    width = max(10, columns - _TEXTS)
    lines = [f"{'process':<12} {'what':<32} {'from':>8} {'ms':>8}"]
    for span in shown:
        begin, length = (span.begin - first) / whole * width, span.length / whole * width
        bar = " " * int(begin) + "█" * max(1, round(length))
        process = span.process.partition(" ")[0]
        lines.append(f"{process:<12} {span.name[:32]:<32} {span.begin - first:8.1f} {span.length:8.1f}  {bar[:width]}")
    return lines
