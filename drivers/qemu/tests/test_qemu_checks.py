"""The checks of QEMU for ``virtc check``: parts that work are tried, and parts that do not work are named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from needs import require
from vc_core.driver import CheckOutcome, HostCheck, HostContext
from vc_core.errors import HypervisorError
from vc_hypervisor_qemu import checks, host
from vc_hypervisor_qemu.acceleration import Host
from vc_hypervisor_qemu.holes import HOLES, LIBSLIRP, is_open, version_of
from vc_hypervisor_qemu.jail import cgroups, ids, trial
from vc_hypervisor_qemu.jail.launcher import Level

OK, WARNING, ERROR = CheckOutcome.OK, CheckOutcome.WARNING, CheckOutcome.ERROR


@pytest.fixture
def context(tmp_path: Path) -> HostContext:
    require("qemu")
    work_dir = tmp_path / "work"
    work_dir.mkdir(mode=0o700)
    state, run, cache = (tmp_path / name for name in ("state", "run", "cache"))
    return HostContext(state_dir=state, run_dir=run, cache_dir=cache, work_dir=work_dir, uuid=str(uuid4()), timeout=10)


def by_name(found: list[HostCheck]) -> dict[str, HostCheck]:
    for one in found:
        assert one.name
        assert one.found
        assert one.meaning.endswith((".", ")"))
        assert bool(one.remedy) is (one.outcome is not OK)
    return {one.name: one for one in found}


def left_by(context: HostContext) -> list[str]:
    """Return the processes that a check has left: each has its UUID as an argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if context.uuid.encode() in path.read_bytes().split(b"\0"):
                found.append(str(path))
    return found


# -- holes of versions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", (7, 2, 22)),
        ("QEMU emulator version 10.0.50 (v10.0.0-1)", (10, 0, 50)),
        ("4.9.2", (4, 9, 2)),
        ("nothing", ()),
        ("", ()),
    ],
)
def test_a_version_is_read_from_what_a_program_prints(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_a_hole_is_open_below_the_version_that_fixes_it_and_where_the_version_is_not_recognized() -> None:
    [slirp] = [hole for hole in HOLES if hole.name == "CVE-2026-9539"]
    for version, is_there in (((4, 7, 0), True), ((4, 9, 1), True), ((4, 9, 2), False), ((4, 10), False), ((), True)):
        assert is_open(slirp, version) is is_there


def test_a_hole_without_a_version_that_fixes_it_is_open_in_every_version() -> None:
    [share] = [hole for hole in HOLES if hole.name == "CVE-2026-93834"]
    assert share.fixed is None
    assert is_open(share, (99, 0, 0))


def test_each_hole_has_a_record_and_a_remedy() -> None:
    assert all(hole.source.startswith("https://") and hole.remedy for hole in HOLES)


def test_the_line_of_a_hole_names_its_record(context: HostContext, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = host.find_binary("")
    [open_] = [hole for hole in HOLES if hole.program == LIBSLIRP]
    for version, outcome in (((4, 9, 1), WARNING), ((4, 9, 2), OK), ((), WARNING)):
        monkeypatch.setattr(checks, "libslirp_version", lambda version=version: version)
        found = by_name(list(checks._versions(binary)))
        assert found[open_.name].outcome is outcome
        assert outcome is OK or open_.source in found[open_.name].meaning


# -- acceleration ------------------------------------------------------------------------------------------------------


def of_acceleration(context: HostContext, binary: Path, monkeypatch: pytest.MonkeyPatch) -> HostCheck:
    """Check a host whose CPU and devices allow KVM."""
    monkeypatch.setattr(Host, "obstacle", lambda self: "")
    return by_name([checks._acceleration(context, binary)])["acceleration"]


@pytest.mark.parametrize(
    ("does", "outcome", "said"),
    [
        ("echo 'Run /init as init process'", OK, "kvm; a kernel was booted with it"),
        ("echo 'assertion failed' >&2; exit 1", WARNING, "tcg (emulation); QEMU gave up: assertion failed"),
    ],
)
def test_kvm_counts_only_when_a_kernel_boots(
    context: HostContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    outcome: CheckOutcome,
    said: str,
) -> None:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    binary.chmod(0o755)
    found = of_acceleration(with_kernel(context, binary), binary, monkeypatch)
    assert (found.outcome, found.found) == (outcome, said)


def with_kernel(context: HostContext, kernel: Path) -> HostContext:
    return replace(context, kernel=kernel)


def test_without_a_guest_kvm_is_not_said_to_work(context: HostContext, monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_acceleration(context, Path("/nonexistent"), monkeypatch)
    assert (found.outcome, "virtc guest build" in found.remedy) == (WARNING, True)


def test_why_kvm_cannot_work_is_shown(context: HostContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "obstacle", lambda self: "the CPU is a loaf of bread")
    found = checks._acceleration(context, Path("/nonexistent"))
    assert (found.outcome, found.found) == (WARNING, "tcg (emulation); the CPU is a loaf of bread")


# -- the jail ----------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_as_root_each_part_of_the_jail_is_tried_and_nothing_is_left(context: HostContext) -> None:
    found = by_name(checks.check(context))
    parts = ("jail", "system calls", "shared directories", "Landlock", "user ids", "idmapped mounts")
    assert {name: found[name].outcome for name in parts} == dict.fromkeys(parts, OK)
    assert found["jail"].found == "full"
    assert found["system calls"].found == "2 filters"
    assert found["shared directories"].found.startswith("9p")
    assert found["version"].found[0].isdigit()
    assert left_by(context) == []


@pytest.mark.root
def test_a_file_system_that_cannot_translate_owners_is_named(context: HostContext) -> None:
    good, bad = context.work_dir, Path("/proc/self/fdinfo")
    with Path(os.devnull).open("wb") as null:
        place = trial.Workplace(context.work_dir, context.uuid, null.fileno())
        found = asyncio.run(trial.untranslatable(host.find_binary(""), [good, bad], place))
    assert list(found) == [bad]
    assert "cannot translate owners" in found[bad]


def test_one_directory_stands_for_each_file_system_and_a_parent_for_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    missing = [tmp_path / "there/not/yet", tmp_path / "nor this"]
    assert trial.filesystems([*missing, Path("/proc")]) == [tmp_path / "there", Path("/proc")]


@pytest.mark.root
def test_without_a_range_of_user_ids_the_jail_is_less_and_says_why(
    context: HostContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locks").mkdir()
    hold = ids.hold
    monkeypatch.setattr(ids, "hold", lambda: hold(tmp_path / "locks"))
    found = by_name(checks.check(context))
    assert (found["jail"].outcome, found["jail"].found) == (WARNING, "landlock")
    for name in ("jail", "user ids"):
        assert "cannot be opened: Is a directory" in found[name].meaning + found[name].remedy


@pytest.mark.root
def test_without_the_rights_for_namespaces_the_parts_that_lack_are_named(context: HostContext, tmp_path: Path) -> None:
    """By a process that cannot have CAP_SYS_ADMIN, so that none of the namespaces can be made."""
    code = (
        "import sys, json, dataclasses\nfrom pathlib import Path\nfrom vc_core.driver import HostContext\n"
        "from vc_hypervisor_qemu.checks import check\n"
        "work, uuid, *roots = sys.argv[1:]\n"
        "names = ('state_dir', 'run_dir', 'cache_dir')\n"
        "host = HostContext(**dict(zip(names, map(Path, roots))), work_dir=Path(work), uuid=uuid, timeout=10)\n"
        "print(json.dumps([dataclasses.asdict(one) for one in check(host)]))\n"
    )
    roots = (context.state_dir, context.run_dir, context.cache_dir)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", code, context.work_dir, context.uuid, *roots],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert (found["jail"]["outcome"], found["jail"]["found"]) == ("warning", "landlock")
    assert "Operation not permitted" in found["jail"]["meaning"]
    assert found["idmapped mounts"]["outcome"] == "warning"
    assert found["system calls"]["found"] == "2 filters"


def test_without_landlock_its_line_says_how_to_switch_it_on(
    context: HostContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "landlock_version", lambda: 0)
    found = checks._landlock()
    assert (found.outcome, "lsm=" in found.remedy) == (WARNING, True)


def test_without_control_groups_nothing_is_said_to_be_limited(
    context: HostContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "nowhere")
    found = checks._control_group(context)
    assert (found.outcome, found.found) == (WARNING, "limits nothing")


def test_a_qemu_that_does_not_start_is_an_error_with_what_it_says(
    context: HostContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text("#!/bin/sh\necho 'qemu: -sandbox support is not enabled' >&2\nexit 1\n", encoding="utf-8")
    binary.chmod(0o755)
    monkeypatch.setattr(host, "find_binary", lambda given: binary)
    found = by_name(checks.check(context))
    assert found["start"].outcome is ERROR
    assert "-sandbox support is not enabled" in found["start"].meaning
    assert left_by(context) == []


# -- what is said of a QEMU that was started ---------------------------------------------------------------------------


def started(**changes: object) -> checks._Started:
    whole = checks._Started(Level.FULL, (), 2, frozenset({"virtio-9p-pci"}))
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [Level.NAMESPACES, Level.LANDLOCK, Level.NONE])
def test_less_than_a_full_jail_is_a_warning_with_what_is_missing(level: Level) -> None:
    found = checks._jail(started(level=level, missing=("a pid namespace: refused",)))
    assert (found.outcome, found.found) == (WARNING, level)
    assert found.meaning.endswith("a pid namespace: refused.")


def test_a_full_jail_with_both_filters_and_9p_is_all_right() -> None:
    assert [line(started()).outcome for line in (checks._jail, checks._filters, checks._shares)] == [OK, OK, OK]


def test_a_filter_that_is_not_seen_is_a_warning() -> None:
    found = checks._filters(started(filters=1))
    assert (found.outcome, found.found) == (WARNING, "1 filters of 2 are seen")


def test_a_qemu_without_9p_runs_no_pod() -> None:
    found = checks._shares(started(shares=frozenset()))
    assert (found.outcome, found.found) == (CheckOutcome.ERROR, "none")


@pytest.mark.parametrize(("version", "outcome", "covered"), [(0, WARNING, ""), (1, OK, "files that"), (7, OK, "TCP")])
def test_what_landlock_covers_depends_on_its_version(
    monkeypatch: pytest.MonkeyPatch, version: int, outcome: CheckOutcome, covered: str
) -> None:
    monkeypatch.setattr(trial, "landlock_version", lambda: version)
    found = checks._landlock()
    assert found.outcome is outcome
    assert covered in found.meaning


def test_without_a_range_of_user_ids_there_is_a_warning_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> tuple[int, int]:
        raise HypervisorError("all ranges are in use")

    monkeypatch.setattr(ids, "hold", none_left)
    found = checks._user_ids()
    assert (found.outcome, found.remedy) == (WARNING, "all ranges are in use")
