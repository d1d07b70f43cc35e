"""What drivers find on a host: a driver that breaks while it checks is one line of the report, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import distributions
from vc_core.engine.driver_checks import check_drivers
from vc_core.host_report import CheckOutcome, HostCheck
from vc_core.plugins.isolation import run_isolated
from vc_core.store.roots import Roots
from vc_core.testing.slowness import within

pytestmark = pytest.mark.slow

#: Seconds that a driver that hangs may take here; Python has started long before, also on a busy host.
HANG = 6.0

#: Seconds for those that do not hang, also on a busy host.
LONG = 60.0

#: A hypervisor as mock is one, which finds something and then does what the test wants.
CHECKER = """
    import os, subprocess, threading, time
    from vc_core.driver import CheckOutcome, HostCheck, hookimpl
    from vc_hypervisor_mock import MockPlugin

    class Plugin(MockPlugin):
        @hookimpl
        def vc_driver_check(self, host):
            how = os.environ.get("VC_CHECKER", "")
            good = HostCheck(name="belts", outcome=CheckOutcome.OK, found=str(host.timeout > 0), meaning="They hold.")
            if how == "fails":
                raise RuntimeError("bad day")
            if how == "exits":
                raise SystemExit(3)
            if how == "crashes":
                os._exit(3)
            if how == "hangs":
                command = ["tail", "-f", "/dev/null", host.uuid]
                process = subprocess.Popen(command, cwd=host.work_dir, start_new_session=True)
                with open(os.environ["VC_CHECKER_NOTE"], "w") as note:
                    note.write(f"{process.pid} {host.work_dir}")
                while True:
                    time.sleep(1000)
            if how == "is nonsense":
                return ["fine"]
            if how == "mends nothing":
                return [HostCheck(name="belts", outcome=CheckOutcome.WARNING, found="none", meaning="They hold.")]
            print("chatter")
            return [good]
"""

Check = Callable[..., list[HostCheck]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roots: Roots) -> Check:
    """Return a function that checks the host with the driver above; its argument selects what that does."""
    distributions.install(tmp_path / "site", "checker", "hypervisors", "checker", CHECKER)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("VC_CHECKER_NOTE", str(tmp_path / "note"))

    def run(how: str = "") -> list[HostCheck]:
        monkeypatch.setenv("VC_CHECKER", how)
        return check_drivers("checker", "noop", "", Roots.from_environment(), HANG if how == "hangs" else LONG)

    return run


def of_checker(checks: list[HostCheck]) -> dict[str, HostCheck]:
    return {one.name: one for one in checks if one.source == "hypervisor checker"}


def test_what_each_driver_finds_has_the_drivers_name(check: Check) -> None:
    found = check()
    assert [one.source for one in found if one.name == "driver"] == [
        "hypervisor checker",
        "agent noop",
        "guest driver debian",
    ]
    assert of_checker(found)["belts"] == HostCheck(
        name="belts", outcome=CheckOutcome.OK, found="True", meaning="They hold.", source="hypervisor checker"
    )
    assert {one.outcome for one in found if one.source != "guest driver debian"} == {CheckOutcome.OK}


@pytest.mark.parametrize(
    ("how", "meaning"),
    [
        ("fails", "raised RuntimeError: bad day from vc_driver_check"),
        ("exits", "raised SystemExit: 3 from vc_driver_check"),
        ("is nonsense", "returned ['fine'] from vc_driver_check, which must return a list of vc_core.driver.HostCheck"),
        ("mends nothing", "which must return checks with a name, what was found, what it means and how to mend it"),
        ("crashes", "It ends the process in this step: vc_driver_check."),
    ],
)
def test_a_driver_that_breaks_is_a_line_and_the_others_are_checked(check: Check, how: str, meaning: str) -> None:
    found = check(how)
    broken = [one for one in found if one.source == "hypervisor checker" and one.outcome is CheckOutcome.ERROR]
    assert len(broken) == 1
    assert meaning in broken[0].meaning
    assert broken[0].remedy
    assert [one.source for one in found if one.source != "hypervisor checker"][:1] == ["agent noop"]
    before = [one.found for one in found if one.source == "hypervisor checker" and one.outcome is CheckOutcome.OK]
    assert any(text.endswith("is installed") for text in before), "what it found before is lost"


def test_one_that_hangs_is_given_up_and_what_it_started_is_killed(check: Check, tmp_path: Path) -> None:
    with within(5 * HANG):
        found = check("hangs")
    [broken] = [one for one in found if one.outcome is CheckOutcome.ERROR]
    assert (broken.source, broken.found) == ("hypervisor checker", f"hangs ({HANG:g} s)")
    pid, directory = (tmp_path / "note").read_text(encoding="utf-8").split()
    assert not Path("/proc", pid, "cwd").exists()
    assert not Path(directory).exists()


def test_a_name_that_no_driver_has_is_a_line(roots: Roots) -> None:
    found = check_drivers("nope", "noop", "", roots, LONG)
    [broken] = [one for one in found if one.outcome is CheckOutcome.ERROR]
    assert "there is no hypervisor driver 'nope'" in broken.meaning
    assert "agent noop" in {one.source for one in found}


def test_a_hypervisor_that_checks_nothing_is_not_taken_for_one_that_confines(roots: Roots) -> None:
    [jail] = [one for one in check_drivers("mock", "noop", "", roots, LONG) if one.name == "jail"]
    assert jail.outcome is CheckOutcome.WARNING


def test_an_interpreter_that_cannot_be_started_is_an_error_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(Exception, match="'/nonexistent/python', which runs this, cannot be started again: No such"):
        run_isolated("vc_core", [], 1, 0)
