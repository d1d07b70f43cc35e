"""What ``virtc check`` says of the guest that pods boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_debian import Maker

from vc_core.driver import CheckOutcome, GuestPayload, GuestRequest, HostCheck, HostContext
from vc_guest_debian.plugin import DebianPlugin


def line_of(directory: Path, guest: GuestRequest) -> HostCheck:
    [line] = DebianPlugin().vc_driver_check(host_of(directory, guest))
    return line


def host_of(directory: Path, guest: GuestRequest | None) -> HostContext:
    state, run, cache, work = (directory / name for name in ("state", "run", "cache", "work"))
    return HostContext(state_dir=state, run_dir=run, cache_dir=cache, work_dir=work, uuid="", timeout=1, guest=guest)


def a_request(cache: Path) -> GuestRequest:
    return GuestRequest("tester", GuestPayload(files={"/init": __file__}), "x86_64", cache)


def test_a_guest_that_is_not_built_is_named_with_the_command_that_builds_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = line_of(tmp_path, a_request(cache))
    assert (found.outcome, found.remedy) == (CheckOutcome.WARNING, "run: virtc guest build --agent tester")
    assert not cache.exists()


def test_a_cache_that_others_can_write_to_is_an_error_that_names_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "debian").mkdir(mode=0o700, parents=True)
    (cache / "debian").chmod(0o777)
    found = line_of(tmp_path, a_request(cache))
    assert found.outcome is CheckOutcome.ERROR
    assert str(cache) in found.remedy


@pytest.mark.slow
@pytest.mark.usefixtures("repository")
def test_a_guest_that_is_built_is_named_by_its_kernel_and_its_key(maker: Maker, tmp_path: Path) -> None:
    image = maker.build()
    found = line_of(tmp_path, maker.request())
    assert (found.outcome, found.remedy) == (CheckOutcome.OK, "")
    assert found.found.startswith("linux-image-")
    assert found.found.endswith(image.kernel.parent.name)


def test_a_check_says_nothing_of_a_guest_for_an_agent_that_brings_none(tmp_path: Path) -> None:
    assert DebianPlugin().vc_driver_check(host_of(tmp_path, None)) == []
