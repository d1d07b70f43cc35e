"""The contract kit finds hypervisors that break a promise to the guest or the host: each is a real one, sabotaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vm("qemu"),
    pytest.mark.root,
    pytest.mark.needs("/dev/net/tun", "mount namespaces", "nsenter"),
]

#: The test that finds each fault of ``faulty_hypervisors.py``, and the beginning of the sentence with which it fails.
FAULTS = {
    "TestStartsNothing": {
        "test_start_runs_the_guest": "start() ran no guest",
    },
    "TestManyFaults": {
        "test_a_guest_has_the_memory_that_was_asked_for": "Resources.memory is ignored: 320 MiB were asked for",
        "test_a_guest_has_the_cpus_that_were_asked_for": "Resources.vcpus is ignored: 2 were asked for",
        "test_the_kernel_is_given_the_parameters_of_the_boot_in_their_order": "Boot.params is ignored",
        "test_a_disk_is_at_its_location_in_the_guest": "disk_location('writable-disk') leads to another place",
        "test_each_channel_leads_to_the_port_of_its_name": (
            "a channel leads to another one: 'org.contract.1' was opened"
        ),
        "test_a_channel_with_a_host_path_is_a_socket_there": "Channel.host_path is ignored",
        "test_a_guest_reads_a_shared_directory_and_cannot_write_to_it": "a read-only share was written to by the guest",
        "test_a_guest_makes_no_set_user_id_program_or_device_of_the_host": (
            "a set-user-id program was planted through a writable share"
        ),
        "test_a_guest_makes_no_set_user_id_program_or_device_in_a_share_with_owners": (
            "a set-user-id program was planted through a share with owners"
        ),
        "test_a_disk_is_never_interpreted_as_an_image_format": "a disk's format is guessed from its bytes",
        "test_a_read_only_disk_is_read_only_for_the_guest_and_others_are_not": "BlockDevice.read_only is ignored",
        "test_a_paused_guest_does_not_run_until_it_is_resumed": "pause() has no effect",
        "test_a_disk_that_is_attached_is_in_the_guest_and_gone_once_it_is_detached": "detach() has no effect",
        "test_a_guest_in_a_restricted_network_reaches_nothing": "NetworkConfig.restrict is ignored",
        "test_a_forwarded_port_leads_into_the_guest_from_the_loopback_address_only": (
            "a port is forwarded on all addresses of the host"
        ),
        "test_a_guest_has_the_interface_that_was_asked_for": "the MAC address of a network interface is ignored",
        "test_the_death_of_the_process_of_a_vm_is_noticed_at_once": "wait() is late",
        "test_wait_returns_as_soon_as_a_guest_has_powered_off": "wait() is late",
        "test_a_vm_is_in_the_mount_namespace_of_its_pod": "the VM's process is not in the mount namespace",
        "test_the_console_of_one_pod_is_not_in_the_log_of_another": "all pods have one console log",
        "test_hardware_isolation_is_claimed_only_where_the_hardware_isolates": "isolation 'hardware' is claimed, but",
    },
    "TestTapAndStartTime": {
        "test_a_tap_device_gets_the_frames_of_the_guest": "a tap device is ignored",
        "test_a_process_that_has_the_pid_of_a_vm_that_ended_is_left_alone[in another boot]": (
            "a saved pid is trusted alone: another process that had got it in another boot was killed"
        ),
    },
    "TestFurtherInterfaces": {
        "test_a_further_interface_is_on_its_own_tap_device": "a second NetworkInterface is ignored",
    },
    "TestPidAndUuid": {
        "test_a_process_that_has_the_pid_of_a_vm_that_ended_is_left_alone[in this boot]": (
            "a saved pid is trusted alone: another process that had got it in this boot was killed"
        ),
        "test_a_vm_whose_owner_was_killed_before_it_recorded_it_is_found": (
            "a VM is lost when its owner is killed between prepare and the record"
        ),
    },
}

EACH = [(cls, test) for cls, tests in FAULTS.items() for test in tests]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How each of these tests failed, by ``CLASS::TEST``; pytest's whole output under ""."""
    folder = tmp_path_factory.mktemp("faults")
    module = folder / "test_faulty.py"
    shutil.copy(Path(__file__).with_name("faulty_hypervisors.py"), module)
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", folder, *(f"{module}::{cls}::{test}" for cls, test in EACH)],
        env={**os.environ, "COLUMNS": "1000"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=500,
    )
    found = re.findall(r"^(?:FAILED|ERROR) \S+?::(Test\S+::.+?) - (?:Failed: )?(.*)$", done.stdout, re.MULTILINE)
    return {**dict(found), "": done.stdout + done.stderr}


@pytest.mark.parametrize(("cls", "test"), EACH)
def test_the_fault_of_a_hypervisor_is_found_and_named_in_one_sentence(
    sentences: dict[str, str], cls: str, test: str
) -> None:
    name = f"{cls}::{test}"
    assert name in sentences, sentences[""]
    assert sentences[name].startswith(FAULTS[cls][test])
