"""A limit of time counts what a block takes, and not what other processes of a busy host take of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from vc_core.testing import slowness
from vc_core.testing.slowness import within

Pass = Callable[..., None]


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pass:
    """Let seconds pass on the clock of the limits, in some of which processes wait."""
    now, waited = 1000.0, {"cpu": 0.0, "io": 0.0, "steal": 0.0}

    def let_pass(all_of_them: float, **waits: float) -> None:
        nonlocal now
        now += all_of_them
        for resource, more in waits.items():
            waited[resource] += more
            ticks = int(waited["steal"] * os.sysconf("SC_CLK_TCK"))
            processors = {"cpu": 2 * ticks, "cpu0": ticks, "cpu1": ticks}
            lines = [f"{name} 9 9 9 9 9 9 9 {stolen} 0 0\n" for name, stolen in processors.items()]
            (tmp_path / "stat").write_text("".join(lines) + "intr 9\n", encoding="ascii")
            total = f"total={waited[resource] * 1e6:.0f}"
            text = f"some avg10=9.00 avg60=0.10 avg300=0.00 {total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
            (tmp_path / resource).write_text(text, encoding="ascii")

    monkeypatch.setattr(slowness, "_PRESSURE", tmp_path)
    monkeypatch.setattr(slowness, "_STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(slowness, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.delenv(slowness.VARIABLE, raising=False)
    return let_pass


def test_a_block_that_takes_longer_than_its_limit_fails(seconds: Pass) -> None:
    with within(2):
        seconds(1.9)
    with pytest.raises(pytest.fail.Exception, match=r"took 2\.10 s, in 0\.00 s of which .*; 2 s at most"), within(2):
        seconds(2.1)


@pytest.mark.parametrize("resource", ["cpu", "io", "steal"])
def test_seconds_in_which_processes_or_the_host_waited_do_not_count(seconds: Pass, resource: str) -> None:
    seconds(0, **{resource: 5})  # before
    with within(2):
        seconds(6, **{resource: 4.1})
    with pytest.raises(pytest.fail.Exception, match=r"took 6\.00 s, in 3\.90 s of which "), within(2):
        seconds(6, **{resource: 3.9})


def test_a_second_in_which_processes_waited_for_both_is_one(seconds: Pass) -> None:
    with pytest.raises(pytest.fail.Exception), within(2):
        seconds(6, cpu=2.5, io=2.5, steal=2.5)


def test_what_hangs_on_a_busy_host_fails_all_the_same(seconds: Pass) -> None:
    with pytest.raises(pytest.fail.Exception), within(1):
        seconds(9, cpu=9)


def test_the_factor_of_a_slow_host_multiplies_the_limit(seconds: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slowness.VARIABLE, "3")
    with within(2):
        seconds(5.9)


def test_this_kernel_shows_how_long_processes_waited() -> None:
    try:
        Path("/proc/pressure/cpu").read_bytes()
    except OSError:
        pytest.skip("this kernel does not show pressure (CONFIG_PSI)")
    before = slowness._stalled()
    assert before[0] > 0  # some process has waited since the boot
    assert all(later >= sooner for sooner, later in zip(before, slowness._stalled(), strict=True))
