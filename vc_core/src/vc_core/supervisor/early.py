"""What a supervisor that is started before its pod is stored gets at once, to load what it is likely to need."""

from __future__ import annotations

import msgspec

from vc_core.config.pod import PodConfig
from vc_core.plugins.handed import Found


class Early(msgspec.Struct, frozen=True):
    """The pod that is likely to be started. ``found``: the plug-ins that its starter has found; none if it hands none.

    One line of JSON on the supervisor's standard input, before the word to serve.
    """

    config: PodConfig
    found: list[Found]
