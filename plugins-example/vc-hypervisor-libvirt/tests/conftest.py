"""Fixtures: a daemon of the tests' own, and a guest that boots."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vc_core.driver import Boot
from vc_core.testing import built_guest
from vc_hypervisor_libvirt import daemon
from vc_hypervisor_libvirt.config import URI_VARIABLE


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks of these tests for a run of them alone, outside of the repository that acts on them."""
    for mark in ("vm(hypervisor): boots a kernel", "root: needs root", "slow: takes more than about a second"):
        config.addinivalue_line("markers", mark)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory for a daemon, whose path is short enough for its socket."""
    made = Path(tempfile.mkdtemp(prefix="vc-libvirtd-"))
    yield made
    daemon.stop(made)
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def libvirt() -> Iterator[None]:
    """Start a daemon for all tests, unless the repository has done that; never use that of the host."""
    if daemon.PRIVATE in os.environ.get(URI_VARIABLE, ""):
        yield
        return
    if problems := daemon.problems():
        pytest.skip("; ".join(problems))
    made = Path(tempfile.mkdtemp(prefix="vc-libvirtd-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, daemon.uri(made))
        daemon.start(made)
        yield
        daemon.stop(made)
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def built() -> Boot:
    """Return the guest of the agent ``hyperstart``."""
    guest = built_guest("hyperstart")
    return Boot(guest.kernel, guest.initramfs, True, guest.kernel_params)
