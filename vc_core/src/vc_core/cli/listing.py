"""How commands that list something print it: a table, JSON, a format of the caller's, or names only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vc_core.cli import output
from vc_core.frozen import frozen
from vc_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")
_Command = Callable[..., Any]

#: What a format may contain besides characters, as a shell's words cannot.
_ESCAPES = {"\\t": "\t", "\\n": "\n"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def format_option(example: str) -> Callable[[_Command], _Command]:
    """Return the option ``--format``; ``example`` has fields that the objects of the command have."""
    text = f"Print a line of this form for each, with fields of the JSON, such as '{example}'."
    return click.option("--format", "form", metavar="FORMAT", help=text)


@frozen
class Listing:
    """How the caller of a command wants to see what it lists; made by the decorators of this module."""

    as_json: bool = False
    form: str | None = None
    quiet: bool = False

    def show(self, found: Sequence[_T], name: Callable[[_T], str], table: Callable[[Sequence[_T]], None]) -> None:
        """Print what was found: with ``table``, unless JSON, a format or only the ``name`` of each is wanted.

        Raises click.UsageError for a format that does not fit.
        """
        if self.as_json:
            output.print_json(found)
        elif self.form is not None:
            for one in found:
                output.echo(filled(self.form, one))
        elif self.quiet:
            output.echo("".join(f"{printable(name(one))}\n" for one in found), nl=False)
        else:
            table(found)

    def show_one(self, found: _T, page: Callable[[_T], None]) -> None:
        """Print one object: with ``page``, unless JSON or a format is wanted. Raises click.UsageError."""
        if self.as_json:
            output.print_json(found)
        elif self.form is not None:
            output.echo(filled(self.form, found))
        else:
            page(found)

    def show_step(self, found: Sequence[_T], page: Callable[[Sequence[_T]], None], as_line: Any) -> None:
        """Print a step of a stream: as :meth:`show`, but JSON, of ``as_line``, in one line. Raises click.UsageError."""
        if self.as_json:
            output.print_json_line(as_line)
        elif self.form is not None:
            for one in found:
                output.echo(filled(self.form, one))
        else:
            page(found)


def takes(*given: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Add these options of a listing; the command gets ``listing``, the :class:`Listing`."""

    def decorate(function: _Command) -> _Command:
        @functools.wraps(function)
        def build(as_json: bool = False, form: str | None = None, quiet: bool = False, **others: Any) -> Any:
            if as_json + quiet + (form is not None) > 1:
                raise click.UsageError("--json, --format and --quiet exclude each other; give one of them")
            return function(listing=Listing(as_json, form, quiet), **others)

        return output.add_options(build, given)

    return decorate


def lists(names: str, example: str) -> Callable[[_Command], _Command]:
    """Add ``--json``, ``--format`` and ``-q``, which prints the ``names`` only; the command gets ``listing``.

    ``example``: a format.
    """
    quiet = click.option("-q", "--quiet", is_flag=True, help=f"Print {names} only.")
    return takes(json_option, format_option(example), quiet)


def shows(example: str) -> Callable[[_Command], _Command]:
    """Add ``--json`` and ``--format`` to a command that shows one object; the command gets ``listing``.

    ``example``: a format.
    """
    return takes(json_option, format_option(example))


def filled(form: str, value: Any) -> str:
    """Return a format with the fields of an object of the API in the place of ``{field}``.

    A field is one of the JSON, or a part of one: ``{containers[0][state]}``. Nothing but these can be named, no
    attribute of an object among them. Raises click.UsageError for a format that is not valid or that names another
    field.
    """
    import msgspec

    from vc_core.cli.fields import Fields

    fields: Mapping[str, Any] = msgspec.to_builtins(value, enc_hook=str)
    for escape, char in _ESCAPES.items():
        form = form.replace(escape, char)
    try:
        formatter = Fields()
        text = formatter.vformat(form, (), fields)
        if not formatter.named:  # such as docker's forms: --format json, --format '{{.ID}}'
            raise ValueError("it has no field; --json prints JSON")
    except (ValueError, LookupError, TypeError) as error:
        reason = f"there is no field {error}" if isinstance(error, LookupError) else str(error)
        known = ", ".join(fields)
        message = f"--format {form!r} does not fit: {reason}; give it fields in braces, of these: {known}"
        raise click.UsageError(message, click.get_current_context(silent=True)) from error
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
