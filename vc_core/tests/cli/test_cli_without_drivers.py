"""The command virtc where drivers are not installed: it names the distribution to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_core.cli.entry import main


@pytest.fixture(autouse=True)
def no_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No distribution is installed, as far as plug-ins are looked for in this process."""
    monkeypatch.setattr("importlib.metadata.distributions", list)
    monkeypatch.setattr("vc_core.plugins.discovery._latest", None)


def virtc_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run virtc in this process and return its exit code."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a command's handlers would stay in the tests' process
    monkeypatch.setattr("sys.argv", ["virtc", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_drivers_without_any_installed_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert virtc_here(monkeypatch, "drivers") == 0
    shown = capsys.readouterr()
    assert shown.err == "virtc: no driver is installed; 'pip install virtcontainers' installs the default ones\n"
    assert len(shown.out.splitlines()) == 1


def test_a_pod_without_any_driver_installed_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rootfs").mkdir()
    assert virtc_here(monkeypatch, "pod", "run", "--bundle", str(tmp_path), "--", "true") == 1
    assert capsys.readouterr().err == (
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
def test_drivers_with_a_name_that_is_not_installed_names_what_to_install(
    name: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert virtc_here(monkeypatch, "drivers", name) == 1
    assert capsys.readouterr().err == f"virtc: no driver {name!r} is installed; {advice}\n"
