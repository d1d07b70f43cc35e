"""What all tests of this repository share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

import own_groups

# This import also makes vc_core be the real package: pytest names the module of vc_core/tests/test_x.py
# "vc_core.tests.test_x", and would else make a namespace package vc_core of this repository's folder.
from vc_core.plugins.notifications import QUEUE
from vc_core.plugins.registry import DRAIN_TIMEOUT
from vc_core.store.settings import CONFIG_VARIABLE
from vc_core.testing import census

#: From tests/support, which pyproject.toml puts on the path.
pytest_plugins = ("needs", "accepted_skips", "templates", "longest_first")

# A busy host is slow to make and to try an example, which says nothing about the code.
settings.register_profile("busy hosts", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy hosts")


@pytest.fixture(autouse=True, scope="session")
def usual_umask() -> Iterator[None]:
    """Make the modes of new files independent of the user who runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True, scope="session")
def usual_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the defaults of pods independent of the configuration files of the host and of the user."""
    empty = tmp_path_factory.mktemp("settings") / "config.toml"
    empty.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, str(empty))
        yield


@pytest.fixture(autouse=True, scope="session")
def directory_of_nested_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give a pytest that a test starts a top for its directories: two of one top remove each other's old ones."""
    tmp_path_factory.getbasetemp()
    with TemporaryDirectory(prefix="vc-nested-") as top, pytest.MonkeyPatch.context() as patch:
        Path(top).chmod(0o1777)
        patch.setenv("PYTEST_DEBUG_TEMPROOT", top)
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Let programs that tests start react to SIGINT: they ignore it if a shell began this run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def no_templates_behind_tests() -> Iterator[None]:
    """Start no processes behind pods, which would outlive a test; what tests templates makes them, and allows them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTCONTAINERS_TEMPLATES", "off")
        yield


@pytest.fixture(autouse=True, scope="session")
def groups_of_its_own() -> Iterator[bool]:
    """Put this process and all that it starts into control groups of its own; return whether that was possible."""
    with own_groups.entered() as entered:
        yield entered


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory, groups_of_its_own: bool) -> Iterator[None]:
    """Count around every test what exists; what a fixture of wider scope set up was there before."""
    with census.unchanged(tmp_path_factory.getbasetemp(), groups=groups_of_its_own):
        yield
        QUEUE.drain(DRAIN_TIMEOUT)  # extensions are notified on a thread that ends with the last notification
