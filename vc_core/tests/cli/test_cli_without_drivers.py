"""The command virtc where drivers are not installed: it names the distribution to install."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import virtc


@pytest.fixture(autouse=True)
def no_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No distribution is installed, as far as plug-ins are looked for in this process."""
    monkeypatch.setattr("importlib.metadata.distributions", list)
    monkeypatch.setattr("vc_core.plugins.discovery._latest", None)


def test_drivers_without_any_installed_names_what_to_install() -> None:
    done = virtc("drivers")
    assert done.returncode == 0
    assert done.stderr == "virtc: no driver is installed; 'pip install virtcontainers' installs the default ones\n"
    assert len(done.stdout.splitlines()) == 1


def test_a_pod_without_any_driver_installed_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    done = virtc("pod", "run", "--bundle", str(tmp_path), "--", "true")
    assert done.returncode == 1
    assert done.stderr == (
        "virtc: there is no hypervisor driver 'qemu', nor any other driver; "
        "'pip install virtcontainers' installs the default ones\n"
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("sshd", "'pip install vc-agent-sshd' installs it"),
        ("xen", "correct the name, or install the distribution that offers it"),
    ],
)
def test_drivers_with_a_name_that_is_not_installed_names_what_to_install(name: str, advice: str) -> None:
    done = virtc("drivers", name)
    assert done.returncode == 1
    assert done.stderr == f"virtc: no driver {name!r} is installed; {advice}\n"
