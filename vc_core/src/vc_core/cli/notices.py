"""Notices of a start: what a caller should be aware of although everything succeeded, in sentences on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vc_core.supervisor.messages import Started

_EMULATED = "the VM runs under emulation (tcg), because KVM does not work here: it is slow, and isolates nothing"


def of_pod(event: Started) -> None:
    """Print the notice of a pod that started, if there is one."""
    if event.acceleration == "tcg":
        _print(_EMULATED)


def of_foreground(event: Started) -> None:
    """Print the notice of a command or container that started in the foreground, if there is one.

    Standard error is the command's: there the agent that loses what the command reads and writes is named, because
    nothing else comes from it.
    """
    if event.loses_streams:
        _print(f"the agent {event.loses_streams} passes neither input nor output of commands")


def of_pod_in_foreground(event: Started) -> None:
    """Print both notices. That of the pod goes only to a terminal: a program reads the container's output there."""
    of_foreground(event)
    if sys.stderr.isatty():
        of_pod(event)


def of_left_pod(pod_id: str) -> None:
    """Print on a terminal which pod is left, because its container has ended and its VM has not."""
    if sys.stderr.isatty():
        _print(f"pod {pod_id} runs on; 'virtc pod delete --force {pod_id}' deletes it")


def of_detached() -> None:
    """Print that the caller has left what it ran, which is to be seen on the terminal that was its."""
    _write("\r\nvirtc: detached; what ran goes on")


def _print(sentence: str) -> None:
    _write(f"virtc: notice: {sentence}")


def _write(text: str) -> None:
    with suppress(OSError):  # a start goes on if its notice cannot be written
        # Not with err=True, which writes to the terminal past the progress that may be shown there.
        click.echo(text, file=sys.stderr)
