"""Build hook: writes the pages of the manual of ``virtc``, which a wheel installs in ``share/man``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualHook(BuildHookInterface[BuilderConfig]):
    """Adds the pages to the wheel. They are made of the command's own help, so that needs what it depends on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages before hatchling collects files; ``version`` is "standard" or "editable"."""
        root = Path(self.root)
        sys.path.insert(0, str(root / "src"))
        try:
            from vc_core.cli.manual import write_pages
        finally:
            sys.path.pop(0)
        write_pages(root / "man")
        build_data["shared_data"]["man"] = "share/man"
