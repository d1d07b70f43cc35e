"""The contract that every guest driver keeps, with a repository whose kernel is made up."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from made_up_debian import Maker, Repository

from vc_core.driver import GuestRequest
from vc_core.testing import GuestContract


class TestContract(GuestContract):
    driver_name = "debian"

    @pytest.fixture
    def wanted(self, tmp_path: Path, repository: Repository, maker: Maker) -> GuestRequest:
        return GuestRequest("contract", maker.payload, platform.machine(), tmp_path / "cache")
