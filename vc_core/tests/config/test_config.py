"""Which configurations are valid, and the errors of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_core.config.container import COMMAND_BYTES_MAX, Cmd, ContainerConfig, DeviceNode, EnvVar, Mount
from vc_core.config.ids import ID_PATTERN, check_id
from vc_core.config.pod import HypervisorConfig, PodConfig, Resources, Socket, Volume
from vc_core.errors import ConfigError
from vc_core.store.roots import Roots


@pytest.mark.parametrize("pod_id", ["a", "A.b-c_d", "0", "x" * 64, "306ecdcf-0a6f-4a06-a03e-86a7b868ffc8"])
def test_an_id_of_the_rule_is_accepted(pod_id: str) -> None:
    assert PodConfig(id=pod_id).id == pod_id


@pytest.mark.promise("T16")
@pytest.mark.parametrize("pod_id", [".", "..", "-x", "_x", "a/b", "a b", "x" * 65, "ä", "a\n", "a\0", ".hidden"])
def test_an_id_outside_the_rule_is_refused_with_the_rule(pod_id: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        check_id("pod", pod_id)


@pytest.mark.promise("T16")
@given(st.text(max_size=80))
def test_every_accepted_id_stays_below_the_roots(text: str) -> None:
    roots = Roots(Path("/state"), Path("/run"), Path("/cache"))
    if ID_PATTERN.fullmatch(text):
        assert roots.pod_state_dir(text).parent == Path("/state/pods")
        assert ".." not in roots.pod_state_dir(text).parts
    else:
        with pytest.raises(ConfigError):
            check_id("pod", text)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Cmd(args="ls -l"), "ls -l"),
        (lambda: Cmd(args=["a\0b"]), "NUL"),
        (lambda: Cmd(args=["\udcff"]), "UTF-8"),
        (lambda: Cmd(args=["x" * (COMMAND_BYTES_MAX + 1)]), str(COMMAND_BYTES_MAX)),
        (lambda: Cmd(umask=0o1000), "umask is 512"),
        (lambda: Cmd(oom_score_adj=1001), "oom_score_adj is 1001"),
        (lambda: Cmd(rlimits="x"), "rlimits is 'x'"),  # type: ignore[arg-type] # on purpose
        (lambda: DeviceNode(path="/etc/x"), "'/etc/x' is not below /dev"),
        (lambda: DeviceNode(path="/dev/x", type="z"), "c, b or p"),  # type: ignore[arg-type] # on purpose
        (lambda: ContainerConfig(id="c", seccomp=b"1234567"), "seccomp of container 'c' has 7 bytes"),
        (lambda: EnvVar("A=B", "c"), "A=B"),
        (lambda: EnvVar("", "c"), "empty"),
        (lambda: Volume("", "/x"), "mount tag"),
        (lambda: Mount("/x", "/y", False, size=-1), "size is -1"),
        (lambda: Mount("/x", "/y", False, size=True), "size is True"),
        (lambda: Mount("/x", "/y", size=1), "read-only"),
        (lambda: Mount("/x", "/y", type="tmpfs"), "source '/x'; choose one"),
        (lambda: Mount("", "/y"), "no source"),
        (lambda: Mount("", "/proc", type="tmpfs"), "'/proc' is in /proc"),
        (lambda: Mount("/x", "/./proc//1/"), "is in /proc"),
        (lambda: Mount("/x", "/y", options=["exec"]), "options"),  # type: ignore[list-item] # on purpose
        (lambda: Mount.parse(":/y:mode=9"), "mode '9'; give an octal"),
        (lambda: Mount.parse("/x:/y:size=k"), "size 'k'; give a whole number of MiB"),
        (lambda: ContainerConfig(id="c", masked_paths=["etc"]), "masked_paths of container 'c' has 'etc'"),
        (lambda: Volume("t" * 32, "/x"), "31"),
        (lambda: Socket("a", "b", "", "c"), "host_path"),
        (lambda: Resources(memory=-1), "memory"),
        (lambda: Resources(vcpus=True), "vcpus"),
        (lambda: Resources(vcpus=cast(int, 1.5)), "1.5"),
        (lambda: HypervisorConfig(kernel_path="/k"), "image_path"),
        (lambda: PodConfig(hostname="a b"), "host name 'a b'"),
        (lambda: PodConfig(hostname="x" * 65), "64 letters"),
        (lambda: PodConfig(sysctls={"kernel/../x": "1"}), "kernel/../x"),
        (lambda: PodConfig(sysctls={"kernel.shmmax": "1\0"}), "kernel.shmmax"),
        (lambda: PodConfig(sysctls={"kernel.shmmax": True}), "kernel.shmmax"),  # type: ignore[dict-item] # on purpose
        (lambda: ContainerConfig(id="c", pid_namespace="host"), "pod or own"),  # type: ignore[arg-type] # on purpose
        (lambda: HypervisorConfig(image_path="/i"), "kernel_path"),
        (lambda: PodConfig(containers=[ContainerConfig(id="a"), ContainerConfig(id="a")]), "'a' is used twice"),
        (lambda: PodConfig(volumes=[Volume("t", "/a"), Volume("t", "/b")]), "'t' is used twice"),
        (lambda: PodConfig(agent_config=3), "agent_config"),
    ],
)
def test_a_bad_value_is_refused_by_name(make: Callable[[], object], names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert names in str(caught.value)


@pytest.mark.parametrize("text", ["/x:/y", "/x:/y:rw", "/x:/y:rw:size=20", "/size=1:/size=2"])
def test_a_mount_is_parsed_from_the_text_that_it_becomes(text: str) -> None:
    mount = Mount.parse(text)
    assert str(mount) == text
    assert mount.size == (20 if "20" in text else 0)


def test_sequences_are_kept_as_tuples() -> None:
    assert Cmd(args=["a"], envs=[EnvVar("A", "b")]).args == ("a",)


def test_relative_paths_are_those_of_the_callers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ContainerConfig(id="c", root_fs="bundle").root_fs == str(tmp_path / "bundle")
    assert Volume("t", "v").host_path == str(tmp_path / "v")
    assert HypervisorConfig(hypervisor_path="qemu-system-x86_64").hypervisor_path == "qemu-system-x86_64"
    assert HypervisorConfig(hypervisor_path="./qemu").hypervisor_path == str(tmp_path / "qemu")


def test_a_parameter_of_the_kernel_can_be_given_as_a_number() -> None:
    assert PodConfig(sysctls={"net.ipv4.ip_forward": 1}).sysctls == {  # type: ignore[dict-item] # as a file has it
        "net.ipv4.ip_forward": "1"
    }


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/x:/y:noexec:nosuid", Mount("/x", "/y", options=["noexec", "nosuid"])),
        ("/x:/y:rw:size=5:noexec", Mount("/x", "/y", False, 5, options=["noexec"])),
        (":/y", Mount(target="/y", type="tmpfs")),
        (":/sys", Mount(target="/sys", type="tmpfs")),
        ("/x:/proc/meminfo", Mount("/x", "/proc/meminfo")),
        (":/y:size=5:mode=700", Mount(target="/y", type="tmpfs", size=5, mode=0o700)),
    ],
)
def test_a_mount_is_read_from_its_text_and_written_as_it(text: str, mount: Mount) -> None:
    assert Mount.parse(text) == mount
    assert str(mount) == text


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a b:/c d", Mount("/a b", "/c d")),
        ("/x:/y:rw:size=1g", Mount("/x", "/y", False, 1024)),
        ("type=bind,source=/x,target=/y,rw,size=2048K", Mount("/x", "/y", False, 2)),
        (":/y:size=64m", Mount(target="/y", type="tmpfs", size=64)),
        ("type=bind,source=/a:b,target=/c", Mount("/a:b", "/c")),
        ("src=/a,dst=/c,rw,size=5", Mount("/a", "/c", read_only=False, size=5)),
        ("source=/a,destination=/c,readonly=false", Mount("/a", "/c", read_only=False)),
        ("source=/a,target=/c,readonly", Mount("/a", "/c")),
        ('type=bind,"source=/a,b",target=/c', Mount("/a,b", "/c")),
    ],
)
def test_a_mount_is_read_in_its_short_and_in_its_long_form(text: str, mount: Mount) -> None:
    assert Mount.parse(text) == mount


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=volume,source=/a,target=/c", "the only one is bind"),
        ("source=/a,target=/c,color=red", "'color', which is none of type"),
        ("source=/a,target=/c,target=/d", "its target twice"),
        ("source=/a,target=/c,ro,rw", "readonly or rw"),
        ("source=/a,target=/c,readonly=maybe", "true or false"),
        ("source=/a,target=/c,rw,size=big", "the size 'big'"),
        ("source=/a\nb,target=/c", r"'source=/a\\nb,target=/c' cannot be split into its parts; quote"),
        ('"source=/a,target=/c', "cannot be split into its parts"),
        ("target=/c", "has no source"),
        ("source=/a,target=c", "not an absolute path"),
    ],
)
def test_a_mount_in_a_long_form_that_is_wrong_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Mount.parse(text)


def test_a_relative_path_in_a_directory_that_was_removed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="'bundle' is relative, and the working directory was removed"):
        ContainerConfig(id="c", root_fs="bundle")


def test_a_volume_by_docker_s_habit_is_refused_with_a_hint_at_mounts() -> None:
    with pytest.raises(ConfigError, match=r"'/srv/data' is a path; .*--mount SOURCE:TARGET"):
        Volume.parse("/srv/data:/data")
