"""``virtc check``: its exit codes, its text and its JSON."""

from __future__ import annotations

import asyncio
import json

import pytest
from commands import MOCK, virtc

import vc_core as vc
from vc_core import aio
from vc_core.host_report import CheckOutcome, HostCheck, HostReport


def report(*outcomes: CheckOutcome) -> HostReport:
    return HostReport.of(
        HostCheck(
            name=f"part {outcome}",
            outcome=outcome,
            found="something \x1b[31m",
            meaning="It means much.",
            remedy="" if outcome is CheckOutcome.OK else "do better",
            source="host",
        )
        for outcome in outcomes
    )


OK, WARNING, ERROR = CheckOutcome.OK, CheckOutcome.WARNING, CheckOutcome.ERROR


@pytest.mark.parametrize(
    ("outcomes", "usual", "strict", "summary"),
    [
        ([OK], 0, 0, "Pods can run on this host, with all that a host can give."),
        ([OK, WARNING], 0, 1, "Pods can run on this host, with less than a host can give: part warning."),
        ([OK, WARNING, ERROR], 1, 1, "No pod can run on this host: part error."),
    ],
)
def test_it_fails_when_no_pod_can_run_and_strictly_when_anything_is_less_than_it_should_be(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[CheckOutcome], usual: int, strict: int, summary: str
) -> None:
    monkeypatch.setattr(vc, "check_host", lambda **chosen: report(*outcomes))
    for arguments, code in (((), usual), (("--strict",), strict)):
        done = virtc("check", *arguments)
        assert (done.returncode, done.stderr) == (code, "")
        assert done.stdout.splitlines()[-1] == summary
        assert virtc("check", "--json", *arguments).returncode == code


def test_each_line_has_its_meaning_and_its_remedy_and_nothing_that_steers_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vc, "check_host", lambda **chosen: report(OK, WARNING))
    assert virtc("check").stdout.splitlines()[:6] == [
        "host",
        "  ok       part ok       something \\x1b[31m",
        "           It means much.",
        "  warning  part warning  something \\x1b[31m",
        "           It means much.",
        "           To mend it: do better",
    ]


@pytest.mark.slow
def test_both_apis_and_the_command_give_the_same_report() -> None:
    chosen = {"hypervisor_type": "mock", "agent_type": "noop"}
    blocking = vc.check_host(**chosen)
    assert asyncio.run(aio.check_host(**chosen)) == blocking
    printed = json.loads(virtc("check", "--json", *MOCK).stdout)
    assert [HostCheck(**{**one, "outcome": CheckOutcome(one["outcome"])}) for one in printed["checks"]] == list(
        blocking.checks
    )
    assert (printed["can_run"], printed["is_full"]) == (blocking.can_run, blocking.is_full)
    assert {one.source for one in blocking.checks} == {"host", "hypervisor mock", "agent noop", "guest driver debian"}


def test_a_format_is_filled_for_each_check() -> None:
    lines = virtc("check", "--format", "{outcome} {source} {name}", *MOCK).stdout.splitlines()
    assert len(lines) > 5
    assert any(line.startswith("ok ") for line in lines)
