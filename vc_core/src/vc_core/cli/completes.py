"""What shells complete the values of options and arguments with; click calls these functions upon Tab."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete a file of this host. An option of click's type Path would also refuse some of them."""
    return [_of_host(begun, "file")]


def directories(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Let the shell complete a directory of this host."""
    return [_of_host(begun, "dir")]


def _of_host(begun: str, kind: str) -> CompletionItem:
    from click.shell_completion import CompletionItem

    return CompletionItem(begun, type=kind)


def signals(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the name of a signal, with SIG or without it, in the case in which it was begun."""
    import signal

    names = [name for full in signal.Signals.__members__ for name in (full.removeprefix("SIG"), full)]
    cased = [name.lower() if begun.islower() else name for name in names]
    return [name for name in cased if name.startswith(begun) and (begun or name.startswith("SIG"))]


def images(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the name of an image on this host."""
    from vc_core.store.images import Images
    from vc_core.store.roots import Roots

    return [name for one in Images(Roots.from_environment()).all() for name in one.references if begun in name]


def driver(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes the names of the installed drivers of a kind: of all kinds for ""."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from vc_core.driver.kinds import PluginKind
        from vc_core.plugins.registry import Plugins

        plugins = Plugins()
        return [
            name for one in PluginKind if kind in ("", one) for name in plugins.names(one) if name.startswith(begun)
        ]

    return complete
