"""The size of a terminal: in a module of its own, because clients use it and nothing else of an agent."""

from __future__ import annotations

from vc_core.frozen import frozen


@frozen
class TerminalSize:
    """The size of a process' terminal in characters; zeros mean that it is not known."""

    rows: int = 0
    columns: int = 0
