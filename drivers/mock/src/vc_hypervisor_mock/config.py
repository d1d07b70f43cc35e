"""Options of the hypervisor ``mock``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vc_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """Options of the hypervisor ``mock``: the text of the error that each step raises; empty lets the step succeed."""

    fail_prepare: str = ""
    fail_start: str = ""
    fail_stop: str = ""
    fail_pause: str = ""
    fail_resume: str = ""

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> MockConfig:
        """Return the configuration that ``HypervisorConfig.options`` describe.

        Raises ConfigError for an unknown option or a value that is not text.
        """
        known = [field.name for field in fields(cls)]
        texts: dict[str, str] = {}
        for name, value in options.items():
            if name not in known:
                raise ConfigError(f"hypervisor mock has no option {name!r}; it has {', '.join(known)}")
            if not isinstance(value, str):
                raise ConfigError(f"option {name} of hypervisor mock is {value!r}; give the text of an error")
            texts[name] = value
        return cls(**texts)
