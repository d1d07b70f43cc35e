"""``virtc check``: what this host offers to pods, and how to mend what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import vc_core
from vc_core.cli import completes, listing, output, tables
from vc_core.cli.listing import Listing
from vc_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vc_core.host_report import HostCheck, HostReport

#: Columns of the text below a check.
_INDENT, _WIDTH = " " * 11, 110


@click.command(cls=output.Command)
@click.option(
    "--hypervisor",
    default="",
    shell_complete=completes.driver("hypervisor"),
    help="Driver of the pods' hypervisor.  [default: that of pods]",
)
@click.option(
    "--agent",
    default="",
    shell_complete=completes.driver("agent"),
    help="Driver of their agent.  [default: that of pods]",
)
@click.option(
    "--guest",
    default="",
    shell_complete=completes.driver("guest"),
    help="Driver that builds their guest.  [default: the hypervisor's]",
)
@click.option("--strict", is_flag=True, help="Exit 1 as well when anything is less than it should be.")
@listing.shows("{outcome} {name}")
def check(hypervisor: str, agent: str, guest: str, strict: bool, listing: Listing) -> int:
    """Check this host: whether pods can run, what confines them, what each line means and how to mend it.

    Parts are tried where that is possible, which takes some seconds. Exits with 1 when no pod can run; with --strict
    also when a pod could run, but with less protection than a host can give.

    Example: virtc check
    """
    report = vc_core.check_host(hypervisor_type=hypervisor, agent_type=agent, guest=guest)
    if listing.as_json:
        output.print_json(report)
    else:
        listing.show(report.checks, lambda one: one.name, lambda _: output.echo("\n".join(_lines(report))))
    return 0 if report.can_run and (report.is_full or not strict) else 1


def _lines(report: HostReport) -> Iterator[str]:
    source = ""
    width = max(len(printable(one.name)) for one in report.checks)
    for one in report.checks:
        if one.source != source:
            source = one.source
            yield printable(source)
        yield f"  {_outcome(one.outcome)}  {printable(one.name):<{width}}  {printable(one.found)}".rstrip()
        yield from _wrapped(one.meaning)
        if one.remedy:
            yield from _wrapped(f"To mend it: {one.remedy}")
    yield ""
    yield _summary(report)


def _outcome(word: str) -> str:
    padded = f"{word:<7}"
    return tables.coloured(padded) if tables.has_colours(output.stdout_fd()) else padded


def _wrapped(text: str) -> Iterable[str]:
    import textwrap  # here, because no other command needs it

    lines = textwrap.wrap(printable(text), _WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False)
    return (f"{_INDENT}{line}" for line in lines)


def _summary(report: HostReport) -> str:
    errors, warnings = (_names(report.checks, outcome) for outcome in ("error", "warning"))
    if not report.can_run:
        return f"No pod can run on this host: {errors}."
    if not report.is_full:
        return f"Pods can run on this host, with less than a host can give: {warnings}."
    return "Pods can run on this host, with all that a host can give."


def _names(checks: Iterable[HostCheck], outcome: str) -> str:
    return ", ".join(printable(one.name) for one in checks if one.outcome == outcome)
