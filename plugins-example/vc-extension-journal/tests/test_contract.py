"""The contract of extensions, and that of hypervisors for one inside the wrapper."""

from pathlib import Path

import pytest

from vc_core.testing import ExtensionContract, HypervisorContract
from vc_extension_journal.journal import PATH_VARIABLE


class TestExtension(ExtensionContract):
    driver_name = "journal"


class TestMockInside(HypervisorContract):
    driver_name = "mock"

    @pytest.fixture(autouse=True)
    def journal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "journal"))
