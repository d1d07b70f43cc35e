"""The contract that every driver of its kind keeps, on this host and in a guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from vc_core.testing import SpawnerContract
from vc_core.testing.enterable import Enterable, guest_containers


class TestContract(SpawnerContract):
    driver_name = "nsenter"


@pytest.fixture(scope="module")
def in_a_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Enterable]]:
    """Two containers of a pod: one boot for all tests."""
    directory = tmp_path_factory.mktemp("guest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTCONTAINERS_ROOT", str(directory / "state"))
        with guest_containers(directory) as made:
            yield made


@pytest.mark.vm
@pytest.mark.root
class TestInAGuest(SpawnerContract):
    driver_name = "nsenter"

    @pytest.fixture
    def containers(self, in_a_guest: Sequence[Enterable]) -> Sequence[Enterable]:
        return in_a_guest
