"""Every configuration is read again from the file that is written of it, and that file is valid by the schema."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vc_core as vc
from vc_core.config.limits import CAPABILITIES, RLIMITS
from vc_core.errors import ConfigError
from vc_core.podfile import json_format, toml_format, yaml_format
from vc_core.podfile.reader import PodFile
from vc_core.podfile.schema import pod_schema
from vc_core.text import printable

#: Any text that a configuration can hold; more often what a format could take for something else.
texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.sampled_from(
        ["no", "true", "null", "~", "1", "0x1", "1e3", "22:22", "a: b", "# a", "- a", "'", '"', "\n", " a "]
    ),
    st.sampled_from(
        ["\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\U000e0001", "\ufeff", "=", "<<", "*a", "&a", "!a"]
    ),
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,9}", fullmatch=True)
paths = texts.map(lambda text: f"/{text}").filter(lambda path: str(Path(path).absolute()) == path)
targets = paths.filter(lambda path: ".." not in path.split("/") and bool(path.strip("/")))
counts = st.integers(0, 2**31 - 1)
limits = st.integers(0, 2**63 - 1)
#: Options as every format holds them.
options = st.dictionaries(
    texts, st.recursive(st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63 - 1)), st.lists), max_size=3
)


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, max_size=3)


mounts = st.builds(vc.Mount, paths, targets, st.booleans()) | st.builds(
    vc.Mount, paths, targets, st.just(False), st.integers(1, 9)
)
mounts |= st.builds(
    vc.Mount,
    target=targets,
    size=counts,
    type=st.just("tmpfs"),
    mode=st.integers(0, 0o7777),
    options=st.lists(st.sampled_from(["noexec", "nosuid", "nodev"]), max_size=2),
)
rlimits = st.builds(vc.RLimit, st.sampled_from(sorted(RLIMITS)), st.just(7) | limits.map(lambda n: n // 2), st.none())
commands = st.builds(
    vc.Cmd,
    args=some(texts),
    envs=some(st.builds(vc.EnvVar, texts.filter(lambda text: text and "=" not in text), texts)),
    work_dir=texts,
    user=texts,
    group=texts,
    additional_groups=some(texts),
    exact_groups=st.booleans(),
    umask=st.none() | st.integers(0, 0o777),
    capabilities=st.none() | st.just(vc.CapabilitySets(bounding=["ALL"], permitted=["KILL"], effective=["KILL"])),
    rlimits=st.none() | some(rlimits),
    no_new_privs=st.none() | st.booleans(),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
)
containers = st.builds(
    vc.ContainerConfig,
    id=names,
    root_fs=paths,
    cmd=commands | some(texts),
    interactive=st.just(True),
    console=paths,
    mounts=some(mounts),
    read_only=st.booleans(),
    overlay_size=counts,
    memory=counts,
    cpus=st.sampled_from([0.0, 0.5, 2.0]),
    pids=counts,
    rlimits=some(rlimits),
    capabilities=st.lists(st.sampled_from(CAPABILITIES), max_size=3),
    no_new_privs=st.booleans(),
    isolate=st.booleans(),
    seccomp=st.just(b"") | st.binary(min_size=8, max_size=8),
    devices=some(
        st.builds(vc.DeviceNode, path=names.map("/dev/{}".format), type=st.sampled_from("cbp"), major=st.just(9))
    ),
    masked_paths=some(targets),
    read_only_paths=some(targets),
    pid_namespace=st.sampled_from(["pod", "own"]),
)
networks = st.one_of(
    st.builds(vc.NetworkConfig),
    st.builds(
        vc.NetworkConfig,
        mode=st.just("user"),
        forwards=some(
            st.builds(vc.PortForward, st.integers(1, 65535), st.integers(0, 65535), st.sampled_from(["tcp", "udp"]))
        ),
        restrict=st.booleans(),
        addresses=some(st.sampled_from(["10.0.0.2/24", "fd00::2/64"])),
        gateway=st.sampled_from(["", "10.0.0.1"]),
        routes=some(st.sampled_from([vc.Route("10.1.0.0/16", "10.0.0.9"), vc.Route("fd01::/64")])),
        dns=some(st.sampled_from(["10.0.0.3", "fd00::3"])),
        mac=st.sampled_from(["", "52:54:00:12:34:56"]),
        mtu=st.sampled_from([0, 1400]),
    ),
    st.builds(vc.NetworkConfig, mode=st.just("tap"), device=names),
)
params = some(st.builds(vc.Param, texts, texts))
hypervisors = st.builds(
    vc.HypervisorConfig,
    kernel_path=paths,
    image_path=paths,
    hypervisor_path=paths | names,
    kernel_params=params,
    hypervisor_params=params,
    guest=texts,
    guest_options=options,
    options=options,
    template=st.booleans(),
)
pods = st.builds(
    vc.PodConfig,
    id=names,
    vm_config=st.builds(vc.Resources, vcpus=counts, memory=counts),
    hypervisor_type=texts,
    hypervisor_config=hypervisors | st.just(vc.HypervisorConfig()),
    agent_type=texts,
    agent_config=options,
    root_fs=paths,
    volumes=st.lists(
        st.builds(vc.Volume, names, paths, st.booleans()), max_size=3, unique_by=lambda one: one.mount_tag
    ),
    sockets=some(st.builds(vc.Socket, names, names, paths, texts.filter(bool))),
    containers=st.lists(containers, max_size=3, unique_by=lambda one: one.id),
    network=networks,
    writable_mounts=st.booleans(),
    writable_roots=st.booleans(),
    shm_size=counts,
    hostname=st.sampled_from(["", "web.example"]),
    sysctls=st.dictionaries(st.sampled_from(["net.ipv4.ip_forward", "kernel.shmmax"]), texts),
    strict=st.none() | st.booleans(),
)


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(pod_schema())


#: What reads a text in each format, independently of this project.
READERS: dict[str, Callable[[str], Any]] = {"yaml": yaml_format.read, "json": json.loads, "toml": tomllib.loads}


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
@given(config=pods)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_a_written_file_is_valid_and_makes_the_same_pod_again(form: str, config: vc.PodConfig) -> None:
    text = vc.dump_pod_config(config, format=form)
    assert PodFile.parse(text.encode(), "pod", Path("/elsewhere"), form).config() == config
    validator().validate(READERS[form](text))
    assert printable(text.replace("\n", "")) == text.replace("\n", ""), "a terminal would obey it"


#: A pod in which no field has its default value.
FULL = vc.PodConfig(
    id="full",
    vm_config=vc.Resources(vcpus=2, memory=512),
    hypervisor_type="uml",
    hypervisor_config=vc.HypervisorConfig(
        kernel_path="/k",
        image_path="/i",
        hypervisor_path="qemu",
        kernel_params=[vc.Param("quiet"), vc.Param("a", "b"), vc.Param("", "bare")],
        hypervisor_params=[vc.Param("c", "d")],
        guest="debian",
        guest_options={"lockdown": False},
        options={"list": [1, "2"], "mapping": {"a.b": 1.5}},
        template=False,
    ),
    agent_type="sshd",
    agent_config={"port": 22},
    root_fs="/root",
    volumes=[vc.Volume("tag", "/v", read_only=False)],
    sockets=[vc.Socket("d", "i", "/s", "n")],
    containers=[
        vc.ContainerConfig(
            id="c",
            root_fs="/r",
            cmd=vc.Cmd(
                ["a"],
                envs=[vc.EnvVar("E", "=")],
                work_dir="/w",
                user="u",
                group="g",
                additional_groups=["x"],
                exact_groups=True,
                umask=0o27,
                capabilities=vc.CapabilitySets(bounding=["KILL"]),
                rlimits=[],
                no_new_privs=False,
                oom_score_adj=-5,
            ),
            stop_signal="INT",
            interactive=True,
            console="/dev/pts/1",
            mounts=[vc.Mount("/a", "/b", read_only=False, size=3)],
            writable_root_fs=True,
            overlay_size=4,
            memory=5,
            cpus=0.5,
            pids=6,
            rlimits=[vc.RLimit("nofile", 1, None)],
            capabilities=[],
            no_new_privs=False,
            isolate=True,
            seccomp=b"\x06\0\0\0\0\0\xff\x7f",
            devices=[vc.DeviceNode(path="/dev/fuse", major=10, minor=229)],
            masked_paths=["/a"],
            read_only_paths=["/b"],
            pid_namespace="own",
        ),
        vc.ContainerConfig(id="d", image="app", entrypoint=[], read_only=True),
    ],
    network=vc.NetworkConfig(
        mode="user",
        forwards=[vc.PortForward(53, 5353, "udp")],
        restrict=False,
        addresses=["10.0.0.2/24"],
        gateway="10.0.0.1",
        routes=[vc.Route("10.1.0.0/16", "10.0.0.9")],
        dns=["10.0.0.3"],
        mac="52:54:00:12:34:56",
        mtu=1400,
        interfaces=[
            vc.TapInterface("tap1", ["10.2.0.2/24"], [vc.Route("10.3.0.0/16", "10.2.0.1")], "52:54:00:12:34:57", 1300)
        ],
    ),
    writable_mounts=True,
    writable_roots=True,
    shm_size=8,
    hostname="web",
    sysctls={"net.ipv4.ip_forward": "1"},
    labels={"team": "shop"},
    strict=True,
)


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
def test_every_field_is_written_and_read_again(form: str) -> None:
    text = vc.dump_pod_config(FULL, format=form)
    assert PodFile.parse(text.encode(), "pod", Path("/elsewhere"), form).config() == FULL


def test_the_pod_of_that_test_sets_every_field() -> None:
    excluded = {"read_only", "device", "image", "entrypoint"}  # by writable_root_fs, mode user and root_fs
    for one in (FULL, FULL.hypervisor_config, FULL.vm_config, FULL.containers[0], FULL.containers[0].cmd, FULL.network):
        for field in fields(one):
            usual = field.default if field.default_factory is MISSING else field.default_factory()
            if field.name not in excluded:
                assert getattr(one, field.name) != usual, field.name


def test_a_default_is_left_out_and_short_forms_are_used() -> None:
    config = vc.PodConfig(
        containers=[vc.ContainerConfig(id="a", cmd=["x"], mounts=[vc.Mount("/a", "/b", False), vc.Mount("/a:b", "/b")])]
    )
    assert vc.dump_pod_config(config) == (
        "containers:\n- id: a\n  cmd:\n  - x\n  mounts:\n  - /a:/b:rw\n  - source: /a:b\n    target: /b\n"
    )


def test_a_null_in_an_option_is_refused_in_toml_only() -> None:
    config = vc.PodConfig(agent_config={"a": None})
    assert "null" in vc.dump_pod_config(config)
    with pytest.raises(ConfigError, match="choose yaml or json"):
        vc.dump_pod_config(config, format="toml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"netwrk": {}},
        {"containers": [{"id": "a", "cmd": "ls"}]},
        {"containers": [{"cmd": ["ls"]}]},
        {"vm_config": {"memory": -1}},
        {"network": {"mode": "users"}},
        {"agent_config": []},
    ],
)
def test_the_schema_refuses_what_is_refused_of_a_file(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PodFile.parse(json.dumps(wrong).encode(), "pod.json", Path("/")).config()
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(wrong)


def test_the_schema_is_one_of_its_dialect_and_describes_each_field() -> None:
    schema = pod_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    objects = [schema, *(part for one in schema["$defs"].values() for part in (one, *one.get("anyOf", [])))]
    described = [name for one in objects for name, field in one.get("properties", {}).items() if field["description"]]
    assert len(described) > 60


@pytest.mark.parametrize(
    ("form", "text", "path", "line"),
    [
        (yaml_format, "a:\n  - b\n  - c: 1\n    d: 2\n", ("a", 1, "d"), 4),
        (json_format, '\n{"a": ["b",\n {"c": 1,\n  "d": 2}]}', ("a", 1, "d"), 4),
        (toml_format, 'a = [\n  "b",\n  {c = 1, d = 2},\n]\n', ("a", 1, "d"), 3),
        (toml_format, "[a]\nb = 1\n[a.c]\nd = 2\n", ("a", "c", "d"), 4),
        (toml_format, "a = '''\nx\n'''\n\n[b]\nc = 1\n", ("b", "c"), 6),
        (yaml_format, "a:\n  b: 1\n", ("a", "z"), 1),
        (json_format, '{\n"a": {\n"b": 1}}', ("a", "z"), 2),
        (toml_format, "x = 1\n[a]\nb = 1\n", ("a", "z"), 2),
    ],
)
def test_the_line_of_a_value_is_found(form: Any, text: str, path: tuple[str | int, ...], line: int) -> None:
    assert form.find_line(text, path) == line
