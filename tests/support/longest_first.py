"""The order in which workers get the files of tests: those that take longest first; a pytest plugin of this repository.

A file that begins last and takes long lets the other workers wait for it. Workers of ``--dist loadfile`` get whole
files, so that what the tests of a file share, such as a VM, is made once; where they share nothing, each goes alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

#: The files that take longest, as ``pytest --durations=0`` shows, longest first. All others follow, by their numbers of
#: tests.
LONGEST = (
    "tests/docs/test_examples.py",
    "tests/integration/test_ssh_pods.py",
    "tests/integration/test_recovery.py",
    "tests/integration/test_pod_life.py",
    "tests/packaging/test_strangers.py",
    "tests/integration/test_templates.py",
    "vc_core/tests/plugins/test_broken_drivers.py",
    "vc_core/tests/plugins/test_hanging_drivers.py",
    "tests/contract/test_hypervisor_faults.py",
    "tests/contract/test_kit_agents.py",
    "tests/fuzz/test_fuzzers.py",
    "runtimes/oci/tests/test_podman.py",
    "drivers/hyperstart/tests/guest/test_guest_disks.py",
    "drivers/sshd/tests/test_contract.py",
    "plugins-example/vc-hypervisor-libvirt/tests/test_contract.py",
    "drivers/qemu/tests/test_contract.py",
    "tests/reliability/test_system_calls.py",
    "tests/reliability/test_failpoints_of_supervisors.py",
    "tests/docs/test_benchmarks.py",
    "tests/integration/test_plain_user.py",
    "tests/integration/test_exec.py",
    "tests/integration/test_bad_input.py",
    "drivers/hyperstart/tests/test_host_real_guest.py",
    "tests/integration/test_mounts.py",
    "vc_core/tests/podfile/test_write_pod_file.py",
    "vc_core/tests/client/test_pool.py",
    "tests/security/test_names.py",
)

#: Those whose tests share nothing: each test goes to any worker.
APART = frozenset({"tests/docs/test_examples.py"})


def file_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition("::")[0]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a worker, as all workers do alike: their order is that in which files are given away."""
    if hasattr(config, "workerinput"):
        numbers = Counter(file_of(item.nodeid) for item in items)
        ranks = {file: rank for rank, file in enumerate(LONGEST)}
        items.sort(key=lambda item: (ranks.get(file := file_of(item.nodeid), len(ranks)), -numbers[file], file))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Return what gives away whole files in that order, and the tests of :data:`APART` one by one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return nodeid if scope in APART else scope

    config.option.loadscopereorder = False  # which would order them by their numbers of tests
    return Scheduling(config, log)
