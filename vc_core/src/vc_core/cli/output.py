"""Prints tables, JSON and progress."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any, Self, TextIO

import click

from vc_core.cli import tables
from vc_core.errors import OutputError, VCError
from vc_core.store.roots import fix_roots
from vc_core.text import printable

#: Adds an option or an argument to a command, as what ``click.option`` returns.
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

#: The standard output of virtc, once :func:`_claim_stdout` has taken it from the code of plug-ins.
_stdout: TextIO | None = None


def _claim_stdout() -> bool:
    """Take the standard output from all other code of this process; return whether this process is one of virtc.

    After that only :func:`echo` and the descriptor of :func:`stdout_fd` lead there. What a plug-in prints, and what a
    library writes on descriptor 1, goes to standard error: virtc's output may be JSON, or that of a command. Where
    ``sys.stdout`` is not that of the process, as in tests, nothing is changed.
    """
    global _stdout
    former = sys.__stdout__
    if _stdout is not None or former is None or sys.stdout is not former:
        return _stdout is not None
    fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    _stdout = os.fdopen(fd, "w", encoding=former.encoding, errors=former.errors)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 1)
    sys.stdout = sys.stderr
    return True


def stdout_fd() -> int:
    """Return the descriptor of virtc's standard output."""
    return 1 if _stdout is None else _stdout.fileno()


def discard_output() -> None:
    """Lead what is left of the output to the null device: its reader has gone. Called before virtc ends."""
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), stdout_fd())


def echo(text: str | bytes = "", nl: bool = True, err: bool = False) -> None:
    """Print on virtc's standard output, or with ``err`` on its standard error; ``nl``: end the line.

    Raises BrokenPipeError if the reader has gone, OutputError if the output cannot be written for another reason.
    """
    try:
        click.echo(text, file=None if err else _stdout, nl=nl, err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        if not err:
            discard_output()
        raise OutputError(_not_written(error, err)) from error


def _not_written(error: OSError, err: bool = False) -> str:
    return f"standard {'error' if err else 'output'} cannot be written: {error.strerror}"


def echo_made(text: str, what: str, undo: Callable[[], None]) -> None:
    """Print the name of what a command has made, or ``undo`` that: a caller that does not get it cannot use it.

    ``what`` names it in the error if it cannot be undone. Raises as :func:`echo`.
    """
    try:
        echo(text)
    except (OSError, OutputError) as error:
        try:
            undo()
        except VCError as failure:
            reason = str(error) if isinstance(error, OutputError) else _not_written(error)
            raise OutputError(f"{reason}, and {what} is left: {failure}") from error
        raise


def write(data: bytes, err: bool = False) -> None:
    """Write what a guest chose on virtc's standard output, or with ``err`` on its standard error.

    On a terminal, nothing in it can steer that; elsewhere the bytes are as they are. Raises as :func:`echo`.
    """
    fd = 2 if err else stdout_fd()
    if os.isatty(fd):
        lines = data.decode(errors="surrogateescape").split("\n")
        data = "\n".join("\t".join(map(printable, line.rstrip("\r").split("\t"))) for line in lines).encode()
    echo(data, nl=False, err=err)


def add_options(function: Callable[..., Any], options: Sequence[_Decorator]) -> Callable[..., Any]:
    """Return a command's function with these options, which its help shows in this order."""
    for option in reversed(options):
        function = option(function)
    return function


#: Options from which on the help of a command shows them in groups.
_MANY = 20

_OTHERS = "Options"


class GroupedOption(click.Option):
    """An option with the title of the group in which the help shows it."""

    def __init__(self, *args: Any, group: str = _OTHERS, **more: Any) -> None:
        super().__init__(*args, **more)
        self.group = group


def group_of_options(title: str) -> Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Return what makes options of a group, used as ``click.option``."""
    return partial(click.option, cls=GroupedOption, group=title)


def _show_help(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        echo(ctx.get_help())
        ctx.exit()


class _ShowsHelp(click.Command):
    """A command whose help is printed by :func:`echo`: click's own way does not say what could not be written."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option that prints the help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


#: What other tools call options, and what they are called here; only names that no command here has otherwise.
_OPTION_HABITS = {
    "--name": ("--id",),
    "-m": ("--memory-limit", "--memory"),
    "-v": ("--mount",),
    "--time": ("--timeout",),
}


class Command(_ShowsHelp):
    """A command of virtc: before its function runs, no plug-in is loaded; after that, none can print or move roots."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in groups if they are many."""
        groups: dict[str, list[tuple[str, str]]] = {}
        parameters = self.get_params(ctx)
        for one in parameters:
            # Usage and description name the arguments; click gives these a record since 8.5.1, and none before.
            if not isinstance(one, click.Argument) and (record := one.get_help_record(ctx)) is not None:
                group = one.group if isinstance(one, GroupedOption) and len(parameters) >= _MANY else _OTHERS
                groups.setdefault(group, []).append(record)
        others = groups.pop(_OTHERS, [])
        for title, records in [*groups.items(), (_OTHERS, others)]:
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; for an option that other tools have, name that of the command in the error."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            own = {name for one in self.get_params(ctx) for name in one.opts}
            meant = [name for name in _OPTION_HABITS.get(error.option_name, ()) if name in own]
            if not meant:
                raise
            text = f"No such option {error.option_name!r}. Did you mean {meant[0]!r}?"
            raise click.NoSuchOption(error.option_name, text, ctx=ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if _claim_stdout():
            fix_roots()
        return super().invoke(ctx)


#: What other tools call commands, and what they are called here: in a group, and of virtc itself.
_HABITS = {
    "rm": ("delete", "remove"),
    "del": ("delete", "remove"),
    "ls": ("list",),
    "ps": ("list",),
    "unpause": ("resume",),
}
_HABITS_OF_VIRTC = {
    "create": "pod create",
    "delete": "pod delete",
    "images": "image list",
    "info": "check",
    "inspect": "pod inspect",
    "list": "pod list",
    "ls": "pod list",
    "pause": "pod pause",
    "ps": "pod list",
    "pull": "image pull",
    "resume": "pod resume",
    "rm": "pod delete",
    "rmi": "image remove",
    "run": "pod run",
    "start": "pod start",
    "status": "pod status",
    "stop": "pod stop",
    "top": "stats",
    "unpause": "pod resume",
    "update": "container update",
    "version": "--version",
}


class Group(_ShowsHelp, click.Group):
    """A group of such commands.

    ``elsewhere``: the module of each command that is imported only when it is named, where it has its own name.
    """

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._elsewhere = dict(elsewhere or {})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named; for a name that other tools have, name the one of virtc in the error."""
        names = self.list_commands(ctx)
        if args and args[0] not in names:
            meant = [f"{ctx.command_path} {name}" for name in _HABITS.get(args[0], ()) if name in names]
            if meant := meant or self._of_virtc(args[0], ctx):
                ctx.fail(f"No such command {args[0]!r}. Did you mean '{meant[0]}'?")
        return super().resolve_command(ctx, args)

    @staticmethod
    def _of_virtc(name: str, context: click.Context) -> list[str]:
        """Return what virtc itself calls what was looked for in a group of it: ``exec`` is not one of ``container``."""
        root = context.find_root()
        assert isinstance(root.command, click.Group)
        here = name if name in root.command.list_commands(root) else _HABITS_OF_VIRTC.get(name)
        return [] if here is None else [f"{root.command_path} {here}"]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported if it is not yet; None for a name that no command has.

        All are imported then, because click's error proposes those with a similar name.
        """
        if cmd_name not in self.commands:
            for name in (cmd_name,) if cmd_name in self._elsewhere else self._elsewhere:
                module = import_module(self._elsewhere[name])
                self.add_command(getattr(module, name.replace("-", "_")), name)
        return super().get_command(ctx, cmd_name)


class Invocation:
    """One run of virtc. ``runs_command``: it exits with a guest command's code, so virtc's own failures must differ."""

    debug: bool = False
    runs_command: bool = False


def expect_command() -> None:
    """Note that this invocation runs a command in a guest and exits as it does."""
    click.get_current_context().ensure_object(Invocation).runs_command = True


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Print columns: on a terminal in colours, and cut where they do not fit unless ``whole``; elsewhere all as it is.

    Raises as :func:`echo`.
    """
    fd = stdout_fd()
    width = None if whole else tables.width_of(fd)
    echo("\n".join(tables.table(headers, rows, width, tables.has_colours(fd))))


def print_details(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print those of the rows (of what, which detail, its value) that have a value, after an empty line."""
    shown = [row for row in rows if row[2]]
    if shown:
        echo()
        print_table(("OF", "DETAIL", "VALUE"), shown, whole=True)


def with_time(event: str, moment: float | None) -> str:
    """Return what happened and when, in the local time; "" if nothing did. ``moment``: seconds since the epoch."""
    if not event or moment is None:
        return event
    return f"{event}, at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(moment))}"


def print_json(value: Any) -> None:
    """Print a value of the API as JSON. What is not UTF-8 in a file's name becomes an escape, as in a table.

    Characters that could steer a terminal are written as JSON's escapes, which mean the same to a program.
    """
    import msgspec

    lines = msgspec.json.format(_encoded(value), indent=2).decode().split("\n")
    echo("\n".join(map(_escaped, lines)))


def print_json_line(value: Any) -> None:
    """Print a value of the API as JSON in one line, for a program that reads a stream of such; else as print_json."""
    echo(_escaped(_encoded(value).decode()))


def _encoded(value: Any) -> bytes:
    import msgspec

    try:
        return msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_utf8(value), enc_hook=str)


def _escaped(line: str) -> str:
    """Return a line of JSON with an escape for each character that :func:`printable` replaces."""
    if printable(line) == line:
        return line
    import json

    return "".join(char if printable(char) == char else json.dumps(char)[1:-1] for char in line)


def _as_utf8(value: Any) -> Any:
    """Return a value of the API as JSON-able data, with escapes for the lone surrogates in its strings (PEP 383)."""
    if is_dataclass(value):
        return {one.name: _as_utf8(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {_as_utf8(key): _as_utf8(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_utf8(one) for one in value]
    if isinstance(value, (str, PurePath)):
        return str(value).encode(errors="backslashreplace").decode()
    return value


class ShownProgress:
    """Shows progress, and for how long, on a terminal, as one line that is gone afterwards; elsewhere nothing.

    Called with each step.
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __call__(self, phrase: str, fraction: float | None) -> None:
        """Show a phrase, and how much of it is done (0 to 1) or None."""
        if not sys.stderr.isatty():
            return
        if self._shown is None:
            self._start()
        self._shown.update(
            self._task, description=printable(phrase), completed=fraction or 0, total=None if fraction is None else 1
        )

    def stop(self) -> None:
        """Remove the line. Idempotent."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)  # a phrase may name what others chose
        columns = (SpinnerColumn(), text, BarColumn(), TimeElapsedColumn())
        self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
        self._shown.start()
        self._task = self._shown.add_task("", total=None)
