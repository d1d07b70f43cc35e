"""``virtc config``: the values that pods of this user have by default, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import click

from vc_core.cli import listing, output
from vc_core.cli.listing import Listing
from vc_core.store.roots import CACHE_VARIABLE, ROOT_VARIABLE, TEMPLATES_VARIABLE, Roots

if TYPE_CHECKING:
    from vc_core.store.settings import SettingsFiles

_BUILT_IN = "built-in"


class _Value(NamedTuple):
    """A value and where it comes from: "built-in", "environment VARIABLE" or "FILE:LINE"."""

    name: str
    value: object
    origin: str


@click.group(cls=output.Group)
def config() -> None:
    """Show what pods have by default."""


@config.command()
@listing.lists("names", "{name}={value}")
def show(listing: Listing) -> None:
    """Show each default value, and whether it is built in or comes from a file or from the environment.

    Example: virtc config show
    """
    from vc_core.store.settings import SettingsFiles

    roots = Roots.from_environment()
    values = [*_of_files(SettingsFiles.read(roots.environment)), *_of_environment(roots)]
    listing.show([one._asdict() for one in values], lambda one: str(one["name"]), _print)


def _print(values: Sequence[Mapping[str, object]]) -> None:
    shown = [(str(one["name"]), _text(one["value"]), str(one["origin"])) for one in values]
    output.print_table(("NAME", "VALUE", "FROM"), shown)


def _of_files(found: SettingsFiles) -> Iterator[_Value]:
    for table in fields(found.settings):
        values = getattr(found.settings, table.name)
        for key in fields(values):
            origin = found.origin(table.name, key.name)
            yield _Value(f"{table.name}.{key.name}", getattr(values, key.name), origin or _BUILT_IN)


def _of_environment(roots: Roots) -> Iterator[_Value]:
    environment = roots.environment
    yield _Value("directory.state", str(roots.state), _variable(environment, ROOT_VARIABLE))
    yield _Value("directory.run", str(roots.run), _variable(environment, ROOT_VARIABLE))
    yield _Value("directory.cache", str(roots.cache), _variable(environment, CACHE_VARIABLE))
    templates = "on" if roots.make_templates else "existing" if roots.use_templates else "off"
    yield _Value("templates", templates, _variable(environment, TEMPLATES_VARIABLE))


def _variable(environment: Mapping[str, str], name: str) -> str:
    return f"environment {name}" if environment.get(name) else _BUILT_IN


def _text(value: object) -> str:
    """Return a value as the file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
