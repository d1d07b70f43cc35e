"""What of a bundle the configuration for vc_core says, what is left out, and what is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vc_core import CapabilitySets, DeviceNode, EnvVar, Mount, Resources, RLimit
from vc_runtime import spec, translate
from vc_runtime.faults import Refused, RuntimeFault

Make = Callable[..., Path]

#: Namespaces that a container has as a rule.
_OWN = [{"type": "network"}, {"type": "uts"}]


def translated(folder: Path) -> translate.Translated:
    config = spec.read(folder / "config.json", spec.Spec)
    translate.check(config, "c1", translate.sandbox(config, "c1"))
    return translate.translate(config, "c1", folder)


def test_the_process_becomes_the_containers_command(bundle: Make) -> None:
    process = {
        "args": ["sh", "-c", "true"],
        "env": ["A=1", "B=x=y", "broken"],
        "cwd": "/tmp",
        "user": {"uid": 7, "gid": 8, "additionalGids": [9, 8, 9]},
        "noNewPrivileges": False,
    }
    container = translated(bundle(process=process)).container
    assert list(container.cmd.args) == ["sh", "-c", "true"]
    assert list(container.cmd.envs) == [EnvVar("A", "1"), EnvVar("B", "x=y")]
    assert (container.cmd.work_dir, container.cmd.user, container.cmd.group) == ("/tmp", "7", "8")
    assert list(container.cmd.additional_groups) == ["9"]
    assert not container.no_new_privs


def test_a_command_of_a_build_is_refused_because_its_writes_would_be_lost(bundle: Make) -> None:
    config = spec.read(bundle() / "config.json", spec.Spec)
    with pytest.raises(Refused, match="would lose what it writes"):
        translate.check(config, "buildah-buildah1286831500", why_lost="it is on an overlay")
    translate.check(config, "buildah-buildah1286831500")


def test_control_groups_of_the_host_are_left_out_where_an_engine_binds_them_for_systemd(bundle: Make) -> None:
    path = "/sys/fs/cgroup/systemd"
    made = translated(
        bundle(mounts=[{"destination": path, "type": "bind", "source": path, "options": ["rbind", "rw"]}])
    )
    assert (made.container.mounts, len(made.notes)) == ((), 1)
    assert "control groups of its own" in made.notes[0]


def test_a_relative_root_is_that_of_the_bundle(bundle: Make) -> None:
    folder = bundle()
    assert translated(folder).container.root_fs == str(folder / "rootfs")


def test_limits_are_rounded_up_to_what_the_core_counts_in(bundle: Make) -> None:
    linux = {"resources": {"memory": {"limit": 10_000_000}, "pids": {"limit": 33}}}
    container = translated(bundle(linux=linux)).container
    assert (container.memory, container.pids) == (10, 33)


def test_a_limit_of_minus_one_is_none(bundle: Make) -> None:
    linux = {"resources": {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1, "period": 100000}}}
    made = translated(bundle(linux=linux))
    assert (made.container.memory, made.container.pids, made.pod.vm_config) == (0, 0, Resources())


def test_resource_limits_without_an_end_stay_so(bundle: Make) -> None:
    rlimits = [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    container = translated(bundle(process={"rlimits": rlimits})).container
    assert list(container.rlimits) == [RLimit("nofile", 10, 20), RLimit("core", None, None)]


@pytest.mark.parametrize(
    ("annotations", "resources", "size"),
    [
        ({}, {}, Resources()),
        ({translate.VCPUS: "3", translate.MEMORY: "777"}, {"memory": {"limit": 2**30}}, Resources(vcpus=3, memory=777)),
        ({}, {"memory": {"limit": 2**30}}, Resources(memory=1024 + translate.OVERHEAD)),
        ({}, {"memory": {"limit": 2**20}}, Resources(memory=256)),
        ({}, {"cpu": {"quota": 150_000, "period": 100_000}}, Resources(vcpus=2)),
        (
            {
                "io.kubernetes.cri.sandbox-memory": str(2**31),
                "io.kubernetes.cri.sandbox-cpu-quota": "400000",
                "io.kubernetes.cri.sandbox-cpu-period": "100000",
            },
            {"memory": {"limit": 2**20}},
            Resources(vcpus=4, memory=2048 + translate.OVERHEAD),
        ),
    ],
)
def test_the_size_of_the_vm_follows_from_annotations_then_limits(
    bundle: Make, annotations: dict[str, str], resources: dict[str, Any], size: Resources
) -> None:
    assert translated(bundle(annotations=annotations, linux={"resources": resources})).pod.vm_config == size


def test_the_groups_of_a_process_are_exactly_those_that_it_names(bundle: Make) -> None:
    process = {"user": {"uid": 7, "gid": 8, "additionalGids": [9, 8, 9], "umask": 0o77}, "oomScoreAdj": 5}
    cmd = translated(bundle(process=process)).container.cmd
    assert (list(cmd.additional_groups), cmd.exact_groups, cmd.umask, cmd.oom_score_adj) == (["9"], True, 0o77, 5)


def test_capabilities_that_the_kernel_would_refuse_are_left_out_of_their_sets(bundle: Make) -> None:
    sets = {
        "bounding": ["CAP_KILL", "CAP_CHOWN"],
        "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_SETUID"],
        "ambient": ["CAP_KILL"],
    }
    container = translated(bundle(process={"capabilities": sets})).container
    wanted = CapabilitySets(bounding=["KILL", "CHOWN"], permitted=["KILL"], effective=["KILL"])
    assert container.cmd.capabilities == wanted
    assert list(container.capabilities) == ["CAP_CHOWN", "CAP_KILL"]


def test_a_process_that_names_no_capabilities_has_those_of_its_container() -> None:
    assert translate.command(spec.Process(args=["x"])).capabilities is None


def test_a_container_has_pids_of_its_own_unless_it_joins_those_of_another(bundle: Make) -> None:
    assert translated(bundle()).container.pid_namespace == "own"
    joined = [{"type": name} for name in ("network", "uts")]
    joined += [{"type": name, "path": f"/proc/9/ns/{name}"} for name in ("pid", "ipc")]
    annotations = {"io.kubernetes.cri.sandbox-id": "s1"}
    made = translated(bundle(linux={"namespaces": joined}, annotations=annotations))
    assert made.container.pid_namespace == "pod"


def test_what_concerns_a_whole_vm_is_of_the_pod(bundle: Make) -> None:
    shm = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "size=32768k"]}
    pod = translated(bundle(hostname="h", linux={"sysctl": {"kernel.shmmax": "9"}}, mounts=[shm])).pod
    assert (pod.hostname, pod.sysctls, pod.shm_size, pod.writable_mounts) == ("h", {"kernel.shmmax": "9"}, 32, True)


def test_a_host_name_that_is_none_is_left_out_with_a_note(bundle: Make) -> None:
    made = translated(bundle(hostname="-x_"))
    assert made.pod.hostname == ""
    assert made.notes == ("host name '-x_' is left out, because it is none",)


def test_masked_and_read_only_paths_are_those_of_the_container(bundle: Make) -> None:
    linux = {"maskedPaths": ["/proc/kcore", "/"], "readonlyPaths": ["/proc/asound"]}
    container = translated(bundle(linux=linux)).container
    assert (list(container.masked_paths), list(container.read_only_paths)) == (["/proc/kcore"], ["/proc/asound"])


@pytest.mark.parametrize(
    ("options", "size", "mode"), [([], 0, 0o1777), (["size=3m", "mode=700"], 3, 0o700), (["size=50%"], 0, 0o1777)]
)
def test_a_tmpfs_is_one_of_the_vm_s_memory(bundle: Make, options: list[str], size: int, mode: int) -> None:
    mounts = [{"destination": "/scratch/", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", *options]}]
    (mount,) = translated(bundle(mounts=mounts)).container.mounts
    assert mount == Mount(target="/scratch", type="tmpfs", size=size, mode=mode, options=["noexec"])


def test_devices_of_which_the_guest_has_the_driver_are_in_the_container(bundle: Make) -> None:
    devices = [{"path": "/dev/fuse", "type": "c", "fileMode": 0o600, "uid": 3}, {"path": "/dev/null", "type": "c"}]
    container = translated(bundle(linux={"devices": devices})).container
    assert list(container.devices) == [DeviceNode(path="/dev/fuse", major=10, minor=229, mode=0o600, uid=3)]


@pytest.mark.parametrize(
    "rule", [{"allow": True, "access": "rwm"}, {"allow": True, "type": "a", "major": -1, "minor": -1, "access": "rwm"}]
)
def test_a_privileged_container_has_no_device_of_the_host_although_engines_list_all(bundle: Make, rule: Any) -> None:
    devices = [{"path": "/dev/sda", "type": "b", "major": 8}, {"path": "/dev/fuse", "type": "c"}]
    made = translated(bundle(linux={"devices": devices, "resources": {"devices": [rule]}}))
    assert [one.path for one in made.container.devices] == ["/dev/fuse"]
    assert any("devices of the host are left out" in note for note in made.notes)


def test_a_container_that_asks_for_a_device_of_the_host_is_refused(bundle: Make) -> None:
    one = {"path": "/dev/sda", "type": "b", "major": 8}
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 8, "access": "rwm"}]
    with pytest.raises(Refused, match="device /dev/sda of the host"):
        translated(bundle(linux={"devices": [one], "resources": {"devices": rules}}))


def test_a_quota_of_processor_time_is_a_number_of_processors(bundle: Make) -> None:
    made = translated(bundle(linux={"resources": {"cpu": {"quota": 150_000, "period": 100_000}}}))
    assert (made.container.cpus, made.pod.vm_config.vcpus) == (1.5, 2)


def test_limits_that_are_not_given_stay_in_an_update() -> None:
    assert translate.limits(spec.Resources()) == (None, None, None)
    given = spec.Resources(memory=spec.Memory(limit=2**20), cpu=spec.Cpu(quota=-1), pids=spec.Pids(limit=-1))
    assert translate.limits(given) == (1, 0, 0.0)


def test_an_annotation_that_is_no_number_is_refused_by_name(bundle: Make) -> None:
    with pytest.raises(RuntimeFault, match=r"annotation io\.virtcontainers\.vcpus is 'many'; give a whole number"):
        translated(bundle(annotations={translate.VCPUS: "many"}))


def test_binds_become_mounts_and_files_of_the_engine_are_read_only(bundle: Make, tmp_path: Path) -> None:
    for name in ("data", "resolv"):
        (tmp_path / name).mkdir()
    mounts = [
        {"destination": "/data", "type": "bind", "source": str(tmp_path / "data"), "options": ["rbind", "rw"]},
        {"destination": "/ro", "type": "bind", "source": str(tmp_path / "data"), "options": ["bind", "ro"]},
        {"destination": "/etc/resolv.conf", "source": str(tmp_path / "resolv"), "options": ["bind"]},
    ]
    made = translated(bundle(mounts=mounts))
    data = str(tmp_path / "data")
    assert list(made.container.mounts) == [
        Mount(data, "/data", False),
        Mount(data, "/ro", True),
        Mount(str(tmp_path / "resolv"), "/etc/resolv.conf", True),
    ]
    assert "mount /etc/resolv.conf is read-only, because it is a file of the engine" in made.notes


def test_a_socket_of_the_host_is_left_out_with_a_note(bundle: Make, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        mounts = [{"destination": "/s", "type": "bind", "source": str(tmp_path / "s")}]
        made = translated(bundle(mounts=mounts))
    assert not made.container.mounts
    assert f"mount /s is left out, because {tmp_path / 's'} is a socket of the host" in made.notes


def test_a_mount_whose_source_is_missing_is_refused_in_the_words_that_engines_expect(bundle: Make) -> None:
    with pytest.raises(RuntimeFault, match=r"mount source /no/where: no such file or directory"):
        translated(bundle(mounts=[{"destination": "/x", "type": "bind", "source": "/no/where"}]))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}]}}, "cannot have the host's network"),
        ({"linux": {"namespaces": [{"type": "network"}, {"type": "ipc"}]}}, "cannot see the host's processes"),
        ({"linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]}}, "cannot have the host's IPC"),
        (
            {"linux": {"namespaces": [*_OWN, {"type": "ipc"}, {"type": "pid", "path": "/proc/7/ns/pid"}]}},
            "the processes of another container are in another virtual machine",
        ),
        (
            {"linux": {"namespaces": [*_OWN, {"type": "pid"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}]}},
            "the IPC of another container is in another virtual machine",
        ),
        ({"linux": {"devices": [{"path": "/dev/sda", "type": "b"}]}}, "device /dev/sda of the host"),
        (
            {
                "linux": {
                    "namespaces": [{"type": name} for name in ("network", "pid", "ipc", "user")],
                    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                }
            },
            "user ids of its own",
        ),
    ],
)
def test_what_no_vm_can_do_is_refused_in_one_sentence(bundle: Make, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        translated(bundle(**fields))


@pytest.mark.parametrize("name", ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"])
def test_a_member_of_a_sandbox_names_the_container_whose_vm_it_shares(bundle: Make, name: str) -> None:
    config = spec.read(bundle(annotations={name: "box"}) / "config.json", spec.Spec)
    assert translate.sandbox(config, "c1") == "box"
    assert translate.sandbox(config, "box") == ""


def test_a_text_with_a_nul_character_is_refused_wherever_it_is() -> None:
    text = rb'{"process": {"args": ["x"]}, "mounts": [{"destination": "/a", "type": "bind", "source": "/x\u0000y"}]}'
    with pytest.raises(RuntimeFault, match=r"it is not valid: '/x\\x00y' holds a NUL character"):
        spec.parse(text, spec.Spec, "it")


def test_null_counts_as_a_field_that_is_not_there(bundle: Make) -> None:
    assert spec.parse(b'{"process": {"args": ["x"], "env": null}, "mounts": null}', spec.Spec, "it").mounts == []


def test_a_document_of_another_shape_is_refused_with_the_place(bundle: Make) -> None:
    with pytest.raises(RuntimeFault, match=r"it is not valid: Expected `array`.*process\.args"):
        spec.parse(b'{"process": {"args": "x"}}', spec.Spec, "it")


def test_a_container_with_the_hosts_names_has_the_hosts_name(bundle: Make) -> None:
    namespaces = [{"type": one} for one in ("network", "pid", "ipc")]
    assert translated(bundle(hostname="", linux={"namespaces": namespaces})).pod.hostname == os.uname().nodename
