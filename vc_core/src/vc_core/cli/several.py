"""Commands on several pods: each is tried, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import click

import vc_core
from vc_core.cli.output import Invocation
from vc_core.errors import VCError
from vc_core.states import State

_T = TypeVar("_T")


def chosen(pod_ids: tuple[str, ...] | None, states: frozenset[State]) -> list[str]:
    """Return the pods that a command is about: those that were named, or for None all that are in one of the states."""
    if pod_ids is not None:
        return list(pod_ids)
    return [one.id for one in vc_core.list_pods() if one.state in states]


def each(things: Iterable[_T], work: Callable[[_T], object]) -> int:
    """Do ``work`` on each; return 1 if one failed, else 0. A single failure is raised, others are printed.

    With ``--debug`` the first failure is raised.
    """
    listed, failed = list(things), 0
    for one in listed:
        try:
            work(one)
        except VCError as error:
            if len(listed) == 1 or click.get_current_context().ensure_object(Invocation).debug:
                raise
            with suppress(OSError):  # the other things are tried also if this cannot be written
                click.echo(f"virtc: {error}", err=True)
            failed = 1
    return failed
