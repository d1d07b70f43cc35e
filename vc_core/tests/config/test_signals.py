"""Names and numbers of signals."""

from __future__ import annotations

import pytest

from vc_core.config import signals
from vc_core.errors import ConfigError


@pytest.mark.parametrize("given", [15, "15", "TERM", "SIGTERM", "term", "sigterm"])
def test_a_signal_has_a_name_and_a_number(given: int | str) -> None:
    assert signals.number(given) == 15


def test_every_number_of_linux_is_taken() -> None:
    assert [signals.number(n) for n in range(1, 65)] == list(range(1, 65))


@pytest.mark.parametrize("given", [0, -9, 65, "", "SIG", "FLY", "9 9", "٩", True])
def test_there_is_no_other(given: int | str) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        signals.number(given)
