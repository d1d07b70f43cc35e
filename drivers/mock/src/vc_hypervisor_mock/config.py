"""Options of the hypervisor ``mock``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """Options of the hypervisor ``mock``: which steps fail; without text a step succeeds."""

    fail_prepare: Annotated[str, "text of the error that preparing a VM raises each time, instead of doing it"] = ""
    fail_start: Annotated[str, "the same for starting it"] = ""
    fail_stop: Annotated[str, "the same for stopping it"] = ""
    fail_pause: Annotated[str, "the same for pausing it"] = ""
    fail_resume: Annotated[str, "the same for resuming it"] = ""
