"""How an operation of the API reaches a pod: its supervisor, or an engine in this process.

The modules with the operations are loaded on first use, as attributes of this package: so looking at pods stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vc_core.client import (
        attaching,
        console,
        containers,
        copying,
        deletion,
        detach,
        events,
        foreground,
        guests,
        hosts,
        images,
        lifecycle,
        logs,
        metrics,
        opening,
        pods,
        preparation,
        processes,
        queries,
        removing,
        repair,
        stats,
        templates,
    )

__all__ = [
    "attaching",
    "console",
    "containers",
    "copying",
    "deletion",
    "detach",
    "events",
    "foreground",
    "guests",
    "hosts",
    "images",
    "lifecycle",
    "logs",
    "metrics",
    "opening",
    "pods",
    "preparation",
    "processes",
    "queries",
    "removing",
    "repair",
    "stats",
    "templates",
]


if not TYPE_CHECKING:  # a type checker would take every name for one that this finds

    def __getattr__(name: str) -> object:
        if name in __all__:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
