"""A strict pod runs in a full jail or not at all, at its first start, at later ones and when it is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from commands import MOCK, virtc

import vc_core as vc
from vc_core.errors import ConfigError, VMStartError
from vc_core.store.roots import Roots
from vc_core.store.settings import CONFIG_VARIABLE
from vc_hypervisor_mock.hypervisor import MockHypervisor

Config = Callable[..., vc.PodConfig]

#: What keeps a jail from being full, in the test double of a hypervisor.
MISSING = "the kernel has no user namespaces"


@pytest.fixture
def jail(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that lets the VMs of mock, which has no process to confine, have a jail of a level."""

    def of(level: str) -> None:
        monkeypatch.setattr(MockHypervisor, "jail", property(lambda hypervisor: level))
        missing = () if level == "full" else (MISSING,)
        monkeypatch.setattr(MockHypervisor, "jail_missing", property(lambda hypervisor: missing))

    return of


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that writes the configuration file."""
    file = tmp_path / "settings.toml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))

    def write(text: str) -> None:
        file.write_text(text, encoding="utf-8")

    write("")
    return write


def strict(config: vc.PodConfig, value: bool | None = True) -> vc.PodConfig:
    return replace(config, strict=value)


def test_with_less_than_a_full_jail_it_does_not_run_and_leaves_nothing(
    mock_config: Config, jail: Callable[[str], None], roots: Roots
) -> None:
    jail("landlock")
    with pytest.raises(VMStartError) as caught:
        vc.run_pod(strict(mock_config()))
    assert str(caught.value) == (
        f"pod 'p1' is strict, but the jail of its VM is 'landlock' and not 'full': {MISSING}; "
        "virtc check shows how to mend that"
    )
    assert vc.list_pods() == []
    assert [*roots.state.glob("*/*"), *roots.run.glob("*/*")] == []


def test_no_guest_code_runs_before_it_is_refused(
    mock_config: Config, jail: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(hypervisor: MockHypervisor, timeout: float) -> None:
        raise AssertionError("the VM was started")

    jail("none")
    monkeypatch.setattr(MockHypervisor, "start", start)
    with pytest.raises(VMStartError, match="is strict"):
        vc.run_pod(strict(mock_config()))


def test_in_a_full_jail_it_runs_and_its_status_shows_that_it_is_strict(
    mock_config: Config, jail: Callable[[str], None]
) -> None:
    jail("full")
    pod = vc.run_pod(strict(mock_config()))
    assert (pod.status().state, pod.status().strict) == ("running", True)
    assert "strict" in virtc("pod", "status", "p1").stdout
    pod.delete(force=True)


def test_every_later_start_is_refused_too(mock_config: Config, jail: Callable[[str], None]) -> None:
    jail("full")
    pod = vc.run_pod(strict(mock_config()))
    pod.stop()
    jail("landlock")
    for _ in range(2):
        with pytest.raises(VMStartError, match=MISSING):
            pod.start()
        assert (pod.status().state, pod.status().strict) == ("stopped", True)
    pod.delete()


def test_a_take_over_is_refused_too(mock_config: Config, jail: Callable[[str], None]) -> None:
    jail("full")
    pod = vc.run_pod(strict(mock_config()))
    jail("none")
    with pytest.raises(vc.StateError):
        pod.enter_container("c1", vc.Cmd(args=["true"]))
    status = pod.status()
    assert status.state == "failed"
    assert status.reason.startswith("it is not taken over: pod 'p1' is strict, but the jail of its VM is 'none'")
    pod.delete(force=True)


def test_a_start_can_make_a_pod_strict_and_if_it_fails_the_pod_is_what_it_was(
    mock_config: Config, jail: Callable[[str], None]
) -> None:
    jail("landlock")
    pod = vc.create_pod(mock_config())
    with pytest.raises(VMStartError, match=MISSING):
        pod.start(strict=True)
    assert (pod.status().state, pod.status().strict) == ("ready", False)
    pod.start()
    pod.stop()
    jail("full")
    pod.start(strict=True)
    pod.stop()
    jail("landlock")
    with pytest.raises(VMStartError, match=MISSING):
        pod.start()
    pod.delete()


def test_the_configuration_file_makes_pods_strict_whose_callers_do_not_choose(
    mock_config: Config, jail: Callable[[str], None], defaults: Callable[[str], None]
) -> None:
    jail("none")
    before = vc.create_pod(mock_config("before"))
    defaults("[pod]\nstrict = true\n")
    for start in (before.start, lambda: vc.run_pod(mock_config("after"))):
        with pytest.raises(VMStartError, match="is strict"):
            start()
    chosen = vc.run_pod(strict(mock_config("chosen"), False))
    assert not chosen.status().strict
    for pod in (before, chosen):
        pod.delete(force=True)


def test_a_configuration_file_that_is_not_valid_keeps_pods_from_being_made_and_started(
    mock_config: Config, jail: Callable[[str], None], defaults: Callable[[str], None]
) -> None:
    pod = vc.create_pod(mock_config("before"))
    defaults("[pod]\nstrikt = true\n")
    for work in (pod.start, lambda: vc.create_pod(mock_config("after"))):
        with pytest.raises(ConfigError, match=r"there is no field 'strikt'"):
            work()
    assert [(one.id, one.state) for one in vc.list_pods()] == [("before", "ready")]
    pod.delete()


def test_the_command_has_options_for_it(jail: Callable[[str], None], defaults: Callable[[str], None]) -> None:
    jail("none")
    refused = virtc("pod", "run", "--id", "p1", "--strict", *MOCK)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("virtc: pod 'p1' is strict, but ")
    assert virtc("pod", "create", "--id", "p1", *MOCK).returncode == 0
    assert virtc("pod", "start", "--strict", "p1").returncode == 1
    assert virtc("pod", "start", "p1").returncode == 0
    defaults("[pod]\nstrict = true\n")
    assert virtc("pod", "run", "--id", "p2", *MOCK).returncode == 1
    assert virtc("pod", "run", "--id", "p2", "--no-strict", *MOCK).returncode == 0
    for pod in ("p1", "p2"):
        vc.delete_pod(pod, force=True)


def test_strict_is_true_false_or_not_chosen(mock_config: Config) -> None:
    with pytest.raises(ConfigError, match="strict is 'yes'; give true or false, or None"):
        strict(mock_config(), "yes")  # type: ignore[arg-type] # that is what is tested
