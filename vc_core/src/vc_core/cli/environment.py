"""The variables of a command: options and files, as docker reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import vc_core
from vc_core.cli import completes, output
from vc_core.config.container import COMMAND_BYTES_MAX, EnvVar
from vc_core.errors import ConfigError


def variables(files: Sequence[str], options: Sequence[str]) -> list[EnvVar]:
    """Return the variables of ``--env-file`` and ``--env``; the last one of a name counts. Raises ConfigError."""
    found = [one for file in files for one in _read(file)]
    found += [one for text in options if (one := _variable(text)) is not None]
    return list({one.var: one for one in found}.values())


def _variable(text: str) -> EnvVar | None:
    """Return the variable ``NAME=VALUE``, or of a ``NAME`` that of the caller; None where the caller has none."""
    if "=" in text or not text:
        return vc_core.EnvVar.parse(text)
    value = os.environ.get(text)
    return None if value is None else vc_core.EnvVar(text, value)


def _read(name: str) -> Iterator[EnvVar]:
    """Yield the variables of a file: a line each, without quotes; lines that are empty or begin with # do not count."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(COMMAND_BYTES_MAX + 1)
        if len(data) > COMMAND_BYTES_MAX:
            raise ConfigError(f"--env-file {name!r} is too long: {COMMAND_BYTES_MAX} bytes at most")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"--env-file {name!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--env-file {name!r} is not UTF-8 at byte {error.start}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.removesuffix("\r").lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            if any(char.isspace() for char in stripped.partition("=")[0]):
                raise ConfigError(f"the name of the variable {stripped.partition('=')[0]!r} has blanks")
            one = _variable(stripped)
        except ConfigError as error:
            raise ConfigError(f"--env-file {name}:{number}: {error}") from error
        if one is not None:
            yield one


_container = output.group_of_options("Container")

env_option = _container(
    "-e", "--env", "envs", multiple=True, metavar="NAME[=VALUE]", help="Set a variable, or pass yours; repeatable."
)
env_file_option = _container(
    "--env-file",
    "env_files",
    multiple=True,
    metavar="FILE",
    shell_complete=completes.files,
    help="Set the variables of a file's lines; repeatable.",
)
