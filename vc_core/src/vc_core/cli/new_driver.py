"""``virtc new-driver``: the beginning of somebody's own plug-in."""

from __future__ import annotations

from pathlib import Path

import click

#: The kinds of plug-in (``vc_core.driver.PluginKind``, which costs too much to import for every command).
KINDS = ("hypervisor", "agent", "spawner", "guest", "extension")


@click.command("new-driver")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--directory", metavar="DIR", type=click.Path(path_type=Path), help="Where to write.  [default: vc-KIND-NAME]"
)
def new_driver(kind: str, name: str, directory: Path | None) -> None:
    """Write the source of a new driver, whose tests say what is still to be written.

    Example: virtc new-driver hypervisor uml
    """
    from vc_core.cli import scaffold
    from vc_core.driver.kinds import PluginKind
    from vc_core.errors import ConfigError, StorageError

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
    click.echo(f"{directory}: install it with pip install -e '{directory}[test]', then run pytest in it")
