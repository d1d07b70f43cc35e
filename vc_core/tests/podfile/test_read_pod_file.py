"""What a pod file may hold, and the errors about it, which name the file, the line and the field."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import vc_core as vc
from vc_core.podfile.reader import SIZE_MAX
from waiting import PATIENCE

YAML = """\
# A service and its database.
id: shop
vm_config: {memory: 512, vcpus: 2}
hypervisor_config:
  options: {machine: pc}
  kernel_params: [quiet, {key: a, value: b}]
network:
  mode: user
  forwards: ["8080:80", 22:22]
volumes: [data:./shared:rw]
containers:
  - id: web
    root_fs: images/web
    cmd: [httpd, -f]
    mounts:
      - www:/www
      - {source: /srv, target: /srv, read_only: false}
    rlimits: [nofile=1024:4096]
  - id: db
    cmd:
      args: [postgres]
      envs: [A=b]
      user: no
"""

JSON = """\
{
\t"$schema": "https://example.org/pod.schema.json",
\t"id": "shop",
\t"containers": [
\t\t{"id": "web", "cmd": ["httpd", "-f"], "mounts": ["www:/www"]}
\t]
}
"""

TOML = """\
id = "shop"

[[containers]]
id = "web"
cmd = ["httpd", "-f"]
mounts = [
    "www:/www",
]
"""


def load(directory: Path, name: str, text: str) -> vc.PodConfig:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return vc.load_pod_config(path)


def test_a_file_describes_a_whole_pod(tmp_path: Path) -> None:
    assert load(tmp_path, "pod.yaml", YAML) == vc.PodConfig(
        id="shop",
        vm_config=vc.Resources(memory=512, vcpus=2),
        hypervisor_config=vc.HypervisorConfig(
            options={"machine": "pc"}, kernel_params=[vc.Param("quiet"), vc.Param("a", "b")]
        ),
        network=vc.NetworkConfig(mode="user", forwards=[vc.PortForward(80, 8080), vc.PortForward(22, 22)]),
        volumes=[vc.Volume("data", f"{tmp_path}/shared", read_only=False)],
        containers=[
            vc.ContainerConfig(
                id="web",
                root_fs=f"{tmp_path}/images/web",
                cmd=["httpd", "-f"],
                mounts=[vc.Mount(f"{tmp_path}/www", "/www"), vc.Mount("/srv", "/srv", read_only=False)],
                rlimits=[vc.RLimit("nofile", 1024, 4096)],
            ),
            vc.ContainerConfig(id="db", cmd=vc.Cmd(["postgres"], envs=[vc.EnvVar("A", "b")], user="no")),
        ],
    )


@pytest.mark.parametrize(("text", "suffix"), [(JSON, "json"), (TOML, "toml")])
@pytest.mark.parametrize("named", [True, False])
def test_the_format_is_that_of_the_suffix_or_of_the_content(
    tmp_path: Path, text: str, suffix: str, named: bool
) -> None:
    container = vc.ContainerConfig(id="web", cmd=["httpd", "-f"], mounts=[vc.Mount(f"{tmp_path}/www", "/www")])
    wanted = vc.PodConfig(id="shop", containers=[container])
    assert load(tmp_path, f"pod.{suffix}" if named else "pod", text) == wanted


def test_a_given_format_wins(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(TOML, encoding="utf-8")
    assert vc.load_pod_config(tmp_path / "pod.yaml", format="toml").id == "shop"
    with pytest.raises(vc.ConfigError, match="format is 'ini'; give yaml, json, toml"):
        vc.load_pod_config(tmp_path / "pod.yaml", format="ini")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "id: p\nnetwrk: {}\n", "2: netwrk: there is no field 'netwrk'; did you mean 'network'?"),
        ("b.yaml", "id: p\nzzz: 1\n", "2: zzz: there is no field 'zzz'; it can be id, vm_config,"),
        (
            "c.yaml",
            "containers:\n  - id: a\n  - id: b\n    comand: [x]\n",
            "4: containers[1].comand: there is no field 'comand'; did you mean 'cmd'?",
        ),
        ("d.yaml", "vm_config:\n  memory: lots\n", "2: vm_config.memory: memory is 'lots'; give a whole number from 0"),
        (
            "e.yaml",
            "containers:\n  - id: a\n    mounts:\n      - /a:/b\n      - /a:b\n",
            "5: containers[0].mounts[1].target: mount target 'b' is not an absolute path",
        ),
        (
            "f.yaml",
            "containers:\n  - id: a\n    rlimits: [5]\n",
            "3: containers[0].rlimits[0]: it is 5; give text or a",
        ),
        (
            "g.yaml",
            "containers:\n  - id: a\n    cmd: ls -l\n",
            "3: containers[0].cmd: it is 'ls -l'; give a list of",
        ),
        ("h.yaml", "containers:\n  - id: a\n  - id: a\n", "3: containers[1]: container id 'a' is used twice"),
        ("i.yaml", "containers:\n  - cmd: [a]\n", "2: containers[0]: field 'id' is missing; give text"),
        ("j.yaml", "containers: {}\n", "1: containers: it is {}; give a list of mappings with id,"),
        (
            "k.yaml",
            "containers:\n- id: a\n  read_only: no\n",
            "3: containers[0].read_only: read_only is 'no'; give true or",
        ),
        ("l.json", '{\n "id": "p",\n "strict": 1\n}', "3: strict: strict is 1; give true or false, or None"),
        (
            "m.json",
            '{"containers": [\n {"id": "a",\n  "cmd": ["a",\n   7]}]}',
            "4: containers[0].cmd[1]: args[1] is 7; give text",
        ),
        (
            "n.toml",
            '[network]\nmode = "user"\nforwards = [\n  "80",\n  "0",\n]\n',
            "5: network.forwards[1].guest_port: ",
        ),
        ("o.toml", '[[containers]]\nid = "a"\n[[containers]]\nid = "b"\nmemry = 1\n', "5: containers[1].memry: "),
        ("p.toml", '[[containers]]\nid = "a"\n[[containers]]\n[network]\n', "3: containers[1]: field 'id' is missing"),
        ("q.toml", 'root_fs = """\na\n"""\nstrict = 3\n', "4: strict: strict is 3"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_field(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(vc.ConfigError) as caught:
        load(tmp_path, name, text)
    assert str(caught.value).startswith(f"{tmp_path / name}:{message}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [1\n", "2: the file is not YAML: "),
        ("b.yaml", "id: \x01\n", "1: the file is not YAML: it has the character '\\x01'"),
        ("c.yaml", "a: &x [1]\nb: *x\n", "2: the file has the alias *x; write the value itself"),
        ("d.yaml", "a: !!python/object/apply:os.system [x]\n", "1: the file has the tag "),
        ("e.yaml", "id: a\nid: b\n", "2: the file has the key 'id' twice in one mapping"),
        ("f.yaml", "5: b\n", "1: the file has a key that is not text; put it in quotes"),
        ("g.yaml", "id: a\n---\nid: b\n", "2: the file is not YAML: expected a single document"),
        ("h.yaml", "- a\n", "1: the file is ['a']; give a mapping"),
        ("i.yaml", "", "1: the file is empty; give a mapping"),
        ("j.yaml", f"a: {'[' * 5000}", " the file has too many lists or mappings in each other"),
        ("k.json", '{"id":\n}', "2: the file is not JSON: "),
        ("l.json", '{"id": "a",\n "id": "b"}', "2: the file has the key 'id' twice in one object"),
        ("m.json", '{"id": NaN}', "1: the file is not read: NaN is not a number of JSON"),
        ("n.json", "[" * 100_000, " the file has too many lists or mappings in each other"),
        ("o.toml", "a = 1\nb = \n", "2: the file is not TOML: "),
        ("p.toml", "a = [\n", "2: the file is not TOML: "),
        ("q.json", f'{{"id": {"9" * 5000}}}', "1: the file "),
        ("r.yaml", f"id: {'9' * 5000}", "1: the file is not read: "),
    ],
)
def test_a_text_that_is_not_of_its_format_is_refused_with_the_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(vc.ConfigError) as caught:
        load(tmp_path, name, text)
    assert str(caught.value).startswith(f"{tmp_path / name}:{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vc.ConfigError, match=f"the file has more than {SIZE_MAX} bytes"):
        load(tmp_path, "pod.yaml", "#" * (SIZE_MAX + 1))


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_bytes(b"id: a\n# \xff\n")
    with pytest.raises(vc.ConfigError, match=r"pod\.yaml:2: the file is not UTF-8"):
        vc.load_pod_config(tmp_path / "pod.yaml")


def test_a_file_that_does_not_exist_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(vc.ConfigError, match=r"'/nowhere/pod\.yaml' cannot be read: No such file"):
        vc.load_pod_config("/nowhere/pod.yaml")


def test_a_pipe_is_read_and_its_relative_paths_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    writer = threading.Thread(target=lambda: pipe.write_text("root_fs: top\n", encoding="utf-8"))
    writer.start()
    assert vc.load_pod_config(pipe).root_fs == f"{tmp_path}/here/top"
    writer.join(PATIENCE)
