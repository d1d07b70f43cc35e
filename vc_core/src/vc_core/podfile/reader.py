"""Reads pod files."""

from __future__ import annotations

import os
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PodFile:
    """A pod file, and the directory of the relative paths in it."""

    document: Document
    directory: Path

    @classmethod
    def load(cls, path: str | os.PathLike[str], format: str | None = None) -> PodFile:
        """Return the file at a path; its relative paths are as for :func:`load_pod_config`. Raises ConfigError."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(SIZE_MAX + 1)
        except OSError as error:
            raise ConfigError(f"pod file {os.fspath(path)!r} cannot be read: {error.strerror}") from error
        directory = Path(path).absolute().parent if Path(path).is_file() else Path()
        return cls.parse(data, os.fspath(path), directory, format)

    @classmethod
    def parse(cls, data: bytes, name: str, directory: Path, format: str | None = None) -> PodFile:
        """Return the file with the bytes ``data``. ``name``: for errors, and for its suffix. Raises ConfigError."""
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
        return cls(document, directory)

    def config(self) -> PodConfig:
        """Return the configuration that the file describes. Raises ConfigError."""
        with paths_below(self.directory):
            return self.document.build(PodConfig)


def load_pod_config(path: str | os.PathLike[str], *, format: str | None = None) -> PodConfig:
    """Return the configuration that a pod file describes.

    ``format``: "yaml", "json" or "toml"; None for that of the file's suffix, or else of its content. Relative paths in
    the file are those below its directory; of a file that is a pipe, those below the working directory.
    Raises ConfigError, which names the file, the line and the field.
    """
    return PodFile.load(path, format).config()
