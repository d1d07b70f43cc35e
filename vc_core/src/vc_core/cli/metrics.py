"""``virtc metrics``: all pods as metrics for Prometheus."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click

import vc_core
from vc_core.cli import completes, output
from vc_core.errors import OutputError


@click.command(cls=output.Command)
@click.option(
    "--textfile",
    type=Path,
    metavar="PATH",
    shell_complete=completes.files,
    help="Replace a file, which node_exporter reads, and print nothing.",
)
def metrics(textfile: Path | None) -> None:
    """Print what pods are and use in the text format of Prometheus.

    Example: virtc metrics --textfile /var/lib/prometheus/node-exporter/virtcontainers.prom
    """
    text = vc_core.metrics()
    if textfile is None:
        output.echo(text, nl=False)
    else:
        _replace(textfile, text.encode())


def _replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole, readable for all: node_exporter has a user of its own. Raises OutputError."""
    if path.suffix != ".prom":
        raise click.UsageError(f"--textfile {str(path)!r} does not end in .prom; node_exporter would not read it")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o644)
                file.write(data)
            temporary.rename(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be written: {error.strerror}") from error
