"""Reads pod files."""

from __future__ import annotations

import os
from pathlib import Path

from vc_core.config.pod import PodConfig
from vc_core.config.values import paths_below
from vc_core.errors import ConfigError
from vc_core.podfile.document import Document
from vc_core.podfile.formats import format_named, format_of

#: Bytes of a file at most; one with a hundred containers has some ten thousand. YAML of this size is read in 3 s.
SIZE_MAX = 256 * 1024

#: The key by which editors find the schema of a file.
SCHEMA_KEY = "$schema"


def load_pod_config(path: str | os.PathLike[str], *, format: str | None = None) -> PodConfig:
    """Return the configuration that a pod file describes.

    ``format``: "yaml", "json" or "toml"; None for that of the file's suffix, or else of its content. Relative paths in
    the file are those below its directory; of a file that is a pipe, those below the working directory.
    Raises ConfigError, which names the file, the line and the field.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"pod file {os.fspath(path)!r} cannot be read: {error.strerror}") from error
    directory = Path(path).absolute().parent if Path(path).is_file() else Path.cwd()
    return read_pod_config(data, os.fspath(path), directory, format)


def read_pod_config(data: bytes, name: str, directory: Path, format: str | None = None) -> PodConfig:
    """Return the configuration in the bytes of a pod file; ``name`` is that of the file, for errors and its suffix.

    ``directory``: of relative paths. Raises ConfigError.
    """
    chosen = None if format is None else format_named(format)
    if len(data) > SIZE_MAX:
        raise ConfigError(f"{name}: the file has more than {SIZE_MAX} bytes; a pod file is smaller")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: the file is not UTF-8; save it as UTF-8") from error
    document = Document.parse(name, text, chosen or format_of(name, text))
    document.values.pop(SCHEMA_KEY, None)
    with paths_below(directory):
        return document.build(PodConfig)
