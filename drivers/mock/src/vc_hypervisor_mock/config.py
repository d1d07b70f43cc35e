"""Options of the hypervisor ``mock``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vc_core.driver import read_options


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """Options of the hypervisor ``mock``: the text of the error that each step raises; with "" the step succeeds."""

    fail_prepare: str = ""
    fail_start: str = ""
    fail_stop: str = ""
    fail_pause: str = ""
    fail_resume: str = ""

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> MockConfig:
        """Return the configuration that ``options`` describe.

        Raises ConfigError for an unknown option or a bad value, naming both.
        """
        return read_options(cls, options, "hypervisor mock")
