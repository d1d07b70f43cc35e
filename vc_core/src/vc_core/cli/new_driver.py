"""``virtc new-driver``: writes the source of a new plug-in, for its author to complete."""

from __future__ import annotations

from pathlib import Path

import click

from vc_core.cli import output
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError, StorageError


@click.command("new-driver", cls=output.Command)
@click.argument("kind", type=click.Choice([str(kind) for kind in PluginKind]))
@click.argument("name")
@click.option(
    "--directory", metavar="DIR", type=click.Path(path_type=Path), help="Where to write.  [default: vc-KIND-NAME]"
)
def new_driver(kind: str, name: str, directory: Path | None) -> None:
    """Write the source of a new driver, whose tests name what is still to be written.

    Example: virtc new-driver hypervisor uml
    """
    from vc_core.cli import scaffold

    files = scaffold.files(PluginKind(kind), name)
    directory = directory or Path(f"vc-{kind}-{name}")
    if directory.exists():
        raise ConfigError(f"{str(directory)!r} exists; give a --directory that does not")
    try:
        for path, text in files.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{str(error.filename)!r} cannot be written: {error.strerror}") from error
    output.echo(f"{directory}: install it with pip install -e '{directory}[test]', then run pytest in it")
