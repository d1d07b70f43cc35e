"""Options, arguments and parsing that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vc_core.cli import completes, output
from vc_core.cli.output import Invocation
from vc_core.config.values import check_timeout, parse_mib, quoted
from vc_core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


_T = TypeVar("_T")
_Options = TypeVar("_Options", bound="DataclassInstance")

#: The command of a container whose caller gives none; v0.1.0's default.
DEFAULT_COMMAND = "echo"


class CommandLine(output.Command):
    """A command that takes another command after ``--``, byte for byte, as the parameter ``argv``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside the words after ``--`` before the others are parsed."""
        own, argv = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        try:
            rest = super().parse_args(ctx, own)
        except click.UsageError as error:
            extra = error.message.startswith("Got unexpected extra argument")
            if "--" not in args and (extra or isinstance(error, click.NoSuchOption)):
                text = f"{error.message.rstrip('.')}; put -- before the command that is to run"
                raise click.UsageError(text, ctx) from error
            raise
        ctx.params["argv"] = tuple(argv)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Add the command after ``--`` to the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD ARG...]"]


class ExpectsCode(output.Command):
    """A command that exits as the command in the guest does, so that wrong usage of it must differ as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note before anything is parsed that the exit code is expected to be the command's."""
        ctx.ensure_object(Invocation).runs_command = True
        return super().parse_args(ctx, args)


class EnterLine(ExpectsCode, CommandLine):
    """A command line that takes a command after ``--``, and exits as that does."""


def check_command_timeout(timeout: float | None, in_foreground: bool) -> None:
    """Validate the time that a container has. Raises click.UsageError without a foreground, ConfigError."""
    if timeout is not None and not in_foreground:
        raise click.UsageError("--timeout limits the container in the foreground; give -i as well, or --start-timeout")
    check_timeout(timeout)


def words(text: str | None, argv: tuple[str, ...]) -> list[str]:
    """Return the words given as ``-- CMD ARG...`` (taken as they are) or as one string (split as a shell does).

    Raises click.UsageError.
    """
    if text is not None and argv:
        raise click.UsageError("give the command either after -- or as one string, not both")
    if text is None and not argv:
        raise click.UsageError("no command is given; give it after --, as in '-- ls -l'")
    return nonempty(list(argv) or split("command", text or ""))


def nonempty(args: list[str]) -> list[str]:
    """Return the words of a command. Raises click.UsageError if there is no program among them."""
    if not args or not args[0]:
        raise click.UsageError("the command is empty")
    return args


def split(what: str, text: str) -> list[str]:
    """Return the words of a text as a shell splits it; ``what`` names it in an error. Raises click.UsageError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"the {what} {text!r} cannot be split as a shell does: {error}") from error


def pair(option: str, text: str) -> tuple[str, str]:
    """Return name and value of a ``NAME=VALUE``, of which only the value may be empty. Raises click.UsageError."""
    name, separator, value = text.partition("=")
    if not separator or not all(name.split(".")):
        raise click.UsageError(f"{option} {quoted(text)} is not of the form NAME=VALUE")
    return name, value


def parsed(option: str, parse: Callable[[str], _T], texts: tuple[str, ...], *, several: bool = True) -> list[_T]:
    """Return the parsed values of a repeatable option; one may hold ``several``, separated by blanks, as in v0.1.0."""
    try:
        return [parse(word) for text in texts for word in (text.split() if several else [text])]
    except ConfigError as error:
        raise click.UsageError(f"{option}: {error}") from error


def size(given: str | int) -> int:
    """Return the MiB of an option's text, which may be such as 512m or 2g, or of its default; the type of such options.

    Raises click.BadParameter.
    """
    mib = given if isinstance(given, int) else parse_mib(given)
    if mib is None:
        raise click.BadParameter(f"{quoted(given)} is not a whole number of MiB, or one such as 512m or 2g.")
    return mib


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
image_argument = click.argument("reference", metavar="IMAGE", shell_complete=completes.images)
image_arguments = click.argument("references", nargs=-1, metavar="[IMAGE...]", shell_complete=completes.images)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print ids only, and no notices.")
signal_option = click.option(
    "-s",
    "--signal",
    default="SIGKILL",
    show_default=True,
    shell_complete=completes.signals,
    help="The signal, by name or number.",
)
terminal_option = click.option(
    "-t", "--tty", "on_terminal", is_flag=True, help="Run it on a terminal, which is this one."
)
interactive_option = click.option(
    "-i", "--interactive", is_flag=True, help="Stay in the foreground with the container's input and output."
)
ready_timeout_option = click.option(
    "--start-timeout", type=float, metavar="SECONDS", help="How long the guest may take to get ready.  [default: 60]"
)
command_timeout_option = click.option(
    "--timeout", type=float, metavar="SECONDS", help="Kill the container after this time (with -i)."
)
command_option = click.option(
    "--cmd", help=f"The command as one string, split as a shell does.  [default: {DEFAULT_COMMAND}]"
)
guest_option = output.group_of_options("Guest")(
    "--guest-option",
    "guest_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of the driver that builds the guest, see virtc drivers NAME; repeatable.",
)


def take(wanted: type[_Options], given: dict[str, Any]) -> _Options:
    """Return a dataclass of options, whose fields are taken out of a command's parameters."""
    return wanted(**{one.name: given.pop(one.name) for one in fields(wanted)})
