"""Distributions that a test makes up, good and broken: plug-ins as strangers supply them, without running pip."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

#: Version of every distribution that is written here.
VERSION = "7.8"


#: What it requires unless a test gives other requirements.
REQUIRES = ("vc-core>=0.1,<0.2",)


def install(
    site: Path, name: str, group: str, entry_point: str, source: str, requires: Sequence[str] = REQUIRES
) -> None:
    """Write an installed distribution ``stranger-NAME`` into a directory for ``sys.path`` or ``PYTHONPATH``.

    Its one module holds ``source``, whose class ``Plugin`` it offers as ``entry_point`` in the group ``vc_core.GROUP``.
    What is written is what pip leaves, as far as importlib.metadata reads it (packaging.python.org, "Recording
    installed projects").
    """
    module = f"stranger_{name.replace('-', '_')}"
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    info = site / f"{module}-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: stranger-{name}\nVersion: {VERSION}\n"
        + "".join(f"Requires-Dist: {requirement}\n" for requirement in requires),
        encoding="utf-8",
    )
    (info / "entry_points.txt").write_text(f"[vc_core.{group}]\n{entry_point} = {module}:Plugin\n", encoding="utf-8")
