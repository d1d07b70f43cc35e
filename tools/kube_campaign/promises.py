"""What pods of the class do. Each promise is a function that makes its pods, and deletes them."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from kube_campaign import installation
from kube_campaign.cluster import NAME, Cluster
from kube_campaign.node import wait_for
from kube_campaign.pods import (
    BOOT_ID,
    FOREVER,
    container,
    delete,
    described,
    events,
    execute,
    is_ready,
    machine,
    pod,
    pod_spec,
    pods_of,
    same,
    sandbox_of,
    states,
    wait_phase,
    wait_ready,
)

#: A promise, which raises AssertionError where it is not held.
Promise = Callable[[Cluster], None]

#: All promises by their sentences, in the order in which they begin.
PROMISES: dict[str, Promise] = {}

#: Of these, what disturbs others, and so is tried afterwards and alone.
ALONE: list[str] = []

#: A web server that answers from the beginning.
_WEB = "mkdir /www; echo hello >/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"

_MIB = 2**20


def promise(sentence: str, *, alone: bool = False) -> Callable[[Promise], Promise]:
    """Return the decorator that adds a function to the promises."""

    def add(function: Promise) -> Promise:
        PROMISES[sentence] = function
        if alone:
            ALONE.append(sentence)
        return function

    return add


@promise("a pod has a kernel of its own, and the overhead and the nodes of its class")
def own_kernel(cluster: Cluster) -> None:
    cluster.apply(pod("kernel", container("one")))
    spec = wait_ready(cluster, "kernel")["spec"]
    release = execute(cluster, "kernel", "uname", "-r")
    assert release != cluster.node.run("uname", "-r").stdout.strip(), release
    given = cluster.get("runtimeclass", "vc")
    assert spec["overhead"] == given["overhead"]["podFixed"], spec
    assert spec["nodeSelector"] == given["scheduling"]["nodeSelector"], spec
    delete(cluster, "kernel")


@promise("init containers run one after the other, before the others, in the same VM")
def init_containers(cluster: Cluster) -> None:
    data: Any = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    first = container("first", f"sleep 1; cat {BOOT_ID} >/data/boot; echo first >/data/order", **data)
    second = container("second", "echo second >>/data/order", **data)
    script = f"cat /data/order; cmp {BOOT_ID} /data/boot && echo same"
    volumes = [{"name": "data", "emptyDir": {}}]
    one = pod("init", container("one", script, **data), initContainers=[first, second], volumes=volumes)
    one["spec"]["restartPolicy"] = "Never"
    cluster.apply(one)
    wait_phase(cluster, "init", "Succeeded")
    same(cluster.kubectl("logs", "init").stdout.split(), ["first", "second", "same"])
    delete(cluster, "init")


@promise("the containers of a pod share a VM, its network, host name and volumes, and nothing else")
def two_containers(cluster: Cluster) -> None:
    data: Any = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    cluster.apply(
        pod(
            "two",
            container("web", _WEB, **data),
            container("other", **data),
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    found = wait_ready(cluster, "two")
    boots = {execute(cluster, "two", "cat", BOOT_ID, container=name) for name in ("web", "other")}
    assert len(boots) == 1, boots
    same(execute(cluster, "two", "wget", "-qO-", "http://127.0.0.1:8080", container="other"), "hello")
    same(execute(cluster, "two", "hostname", container="other"), "two")
    execute(cluster, "two", "sh", "-c", "echo shared >/data/file; echo mine >/file", container="web")
    same(execute(cluster, "two", "cat", "/data/file", container="other"), "shared")
    same(execute(cluster, "two", "ls", "/", container="other").split().count("file"), 0)
    assert "httpd" not in execute(cluster, "two", "ps", container="other")
    # From the node, as another pod does.
    address = found["status"]["podIP"]
    same(cluster.node.run("busybox", "wget", "-qO-", f"http://{address}:8080").stdout, "hello\n")
    delete(cluster, "two")


@promise(
    "volumes: emptyDir on disk and in memory, configMap, secret, downwardAPI, hostPath, subPath; their modes and owners"
)
def volumes(cluster: Cluster) -> None:
    folder = cluster.node.path("/srv/host-files")
    folder.mkdir()
    (folder / "file").write_text("of the host\n", encoding="utf-8")
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "blue"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"password": "sesame"}},
        _with_volumes(),
    )
    wait_ready(cluster, "volumes")

    def run(script: str) -> str:
        return execute(cluster, "volumes", "sh", "-c", script)

    same(
        run("cat /settings/colour; echo; cat /one-file; echo; cat /hidden/password; echo; cat /about/name"),
        "blue\nblue\nsesame\nvolumes",
    )
    same(run("stat -Lc %a /hidden/password; echo x 2>/dev/null >/settings/colour || echo refused"), "440\nrefused")
    same(run("echo $COLOUR $PASSWORD"), "blue sesame")
    same(run("cat /host/file; echo of the guest >/host/answer; cat /part/inner"), "of the host\ninner")
    same((folder / "answer").read_text(encoding="utf-8"), "of the guest\n")
    same(
        run("echo x >/disk/file; stat -c %u:%g /disk/file; cat /memory/kept 2>/dev/null; echo x >/memory/kept"),
        "0:2000",
    )
    assert run("stat -c %g /disk") == "2000", "fsGroup has no effect"
    # The container starts again: what it wrote to volumes is there, what it wrote to its root is not.
    run("echo x >/lost")
    cluster.kubectl("exec", "volumes", "--", "kill", "1", check=False)  # which may end with the container
    wait_for(lambda: states(cluster.get("pod", "volumes"))["one"]["restartCount"] == 1, "it does not start again")
    wait_ready(cluster, "volumes")
    same(run("cat /disk/file /memory/kept; test -e /lost || echo gone"), "x\nx\ngone")
    cluster.kubectl("delete", "configmap/settings", "secret/hidden", "pod/volumes")


def _with_volumes() -> Any:
    key = {"name": "settings", "key": "colour"}
    mounts: Any = {
        "/settings": {"name": "settings", "readOnly": True},
        "/one-file": {"name": "settings", "subPath": "colour", "readOnly": True},
        "/hidden": {"name": "hidden", "readOnly": True},
        "/about": {"name": "about"},
        "/host": {"name": "host"},
        "/disk": {"name": "disk"},
        "/part": {"name": "disk", "subPath": "part"},
        "/memory": {"name": "memory"},
    }
    made = container(
        "one",
        volumeMounts=[{"mountPath": path, **mount} for path, mount in mounts.items()],
        env=[
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": key}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
        ],
    )
    before = container(
        "before", "echo inner >/part/inner", volumeMounts=[{"mountPath": "/part", "name": "disk", "subPath": "part"}]
    )
    name = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    return pod(
        "volumes",
        made,
        initContainers=[before],
        securityContext={"fsGroup": 2000},
        volumes=[
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
            {"name": "about", "downwardAPI": {"items": [name]}},
            {"name": "host", "hostPath": {"path": "/srv/host-files", "type": "Directory"}},
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    )


@promise("a change of a configMap arrives in a container that runs")
def changed_config_map(cluster: Cluster) -> None:
    def settings(colour: str) -> Any:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "changing"}, "data": {"colour": colour}}

    mount: Any = {"volumeMounts": [{"name": "settings", "mountPath": "/settings"}]}
    cluster.apply(
        settings("blue"),
        pod("changed", container("one", **mount), volumes=[{"name": "settings", "configMap": {"name": "changing"}}]),
    )
    wait_ready(cluster, "changed")
    same(execute(cluster, "changed", "cat", "/settings/colour"), "blue")
    cluster.apply(settings("green"))
    wait_for(lambda: execute(cluster, "changed", "cat", "/settings/colour") == "green", "it does not arrive")
    cluster.kubectl("delete", "configmap/changing", "pod/changed")


@promise("users, groups, capabilities, a read-only root, and sysctls of a pod are those of its VM")
def security(cluster: Cluster) -> None:
    context = {
        "runAsUser": 1000,
        "runAsGroup": 3000,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    of_pod = {"supplementalGroups": [4000], "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "2000 3000"}]}
    cluster.apply(pod("security", container("one", securityContext=context), securityContext=of_pod))
    wait_ready(cluster, "security")
    script = (
        "id -u; id -g; id -G; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; touch /x 2>/dev/null || echo read-only"
    )
    lines = execute(cluster, "security", "sh", "-c", script).splitlines()
    assert lines[:3] == ["1000", "3000", "3000 4000"], lines
    assert [line.split()[1] for line in lines[3:5]] == ["0000000000000000", "1"], lines
    assert lines[5:] == ["read-only"], lines
    same(execute(cluster, "security", "cat", "/proc/sys/net/ipv4/ip_local_port_range").split(), ["2000", "3000"])
    delete(cluster, "security")


@promise("probes: a pod is ready when exec, http and tcp say so, and a container that fails its liveness starts again")
def probes(cluster: Cluster) -> None:
    often = {"periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 10}
    http = {"httpGet": {"path": "/index.html", "port": 8080}, **often}
    web = container("web", "until test -e /go; do sleep 1; done; " + _WEB, readinessProbe=http)
    tcp = container("tcp", "nc -ll -p 9090 -e true & " + FOREVER, readinessProbe={"tcpSocket": {"port": 9090}, **often})
    alive = {"exec": {"command": ["test", "-e", "/alive"]}, **often}
    starts = {"exec": {"command": ["test", "-e", "/started"]}, **often, "failureThreshold": 60}
    script = "touch /alive; sleep 1; touch /started; " + FOREVER
    living = container("living", script, livenessProbe=alive, startupProbe=starts)
    cluster.apply(pod("probes", web, tcp, living))

    def state(name: str) -> Any:
        return states(cluster.get("pod", "probes")).get(name, {})

    wait_for(lambda: bool(state("tcp").get("ready")), lambda: described(cluster, "probes"))
    wait_for(lambda: bool(state("living").get("ready")), lambda: described(cluster, "probes"))
    assert not state("web")["ready"]
    execute(cluster, "probes", "touch", "/go", container="web")
    wait_ready(cluster, "probes")
    boot = execute(cluster, "probes", "cat", BOOT_ID, container="web")
    execute(cluster, "probes", "rm", "/alive", container="living")
    wait_for(lambda: state("living")["restartCount"] == 1, lambda: described(cluster, "probes"))
    wait_ready(cluster, "probes")
    assert execute(cluster, "probes", "cat", BOOT_ID, container="living") == boot, "the VM has changed"
    same(state("web")["restartCount"], 0)
    delete(cluster, "probes")


@promise("limits: a container that exceeds its memory ends alone as OOMKilled, and processor time is limited in the VM")
def limits(cluster: Cluster) -> None:
    eater = "until test -e /go; do sleep 1; done; exec tail /dev/zero"
    limited: Any = {"resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}
    one = pod("limits", container("eater", eater, **limited), container("other", **limited), restartPolicy="Never")
    cluster.apply(one)
    found = wait_ready(cluster, "limits")
    same(found["status"]["qosClass"], "Guaranteed")
    count = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    shown = execute(cluster, "limits", "sh", "-c", f"time -p sh -c '{count}' 2>&1", container="other").split()
    real, user, system = (float(word) for word in shown[1::2])
    assert user + system < 0.7 * real, f"{user + system} s of a processor in {real} s"
    execute(cluster, "limits", "touch", "/go", container="eater")
    wait_for(lambda: "terminated" in states(cluster.get("pod", "limits"))["eater"]["state"], "the eater goes on")
    ended = states(cluster.get("pod", "limits"))
    of_eater = ended["eater"]["state"]["terminated"]
    assert (of_eater["exitCode"], of_eater["reason"]) == (137, "OOMKilled"), ended
    assert "running" in ended["other"]["state"], ended
    same(execute(cluster, "limits", "echo", "on", container="other"), "on")
    delete(cluster, "limits")


@promise("the node accounts for a VM as its class says: what it uses beside its containers is less than the overhead")
def overhead(cluster: Cluster) -> None:
    # kubelet before 1.23 announces no sizes, so the pod says what a newer one does.
    size: Any = {"io.virtcontainers.memory": str(256 + 128), "io.virtcontainers.vcpus": "1"}
    eater = "head -c 200m /dev/zero | tail -c 200m >/dev/null; touch /eaten; " + FOREVER
    limited: Any = {"resources": {"limits": {"memory": "256Mi", "cpu": "1"}}}
    cluster.apply(pod("overhead", container("one", eater, **limited), annotations=size))
    found = wait_ready(cluster, "overhead")
    wait_for(lambda: execute(cluster, "overhead", "sh", "-c", "ls /").split().count("eaten") == 1, "it does not eat")
    group = _group(found)
    allowed = _memory(group, "memory.limit_in_bytes") or _memory(group, "memory.max")
    used = _unreclaimable(group)
    print(f"      {used // _MIB} of {allowed // _MIB} MiB, for 256 MiB of the container", flush=True)
    same(allowed, (256 + _mib(cluster.get("runtimeclass", "vc")["overhead"]["podFixed"]["memory"])) * _MIB)
    assert 200 * _MIB < used < allowed, f"{used} of {allowed} bytes"
    same(states(cluster.get("pod", "overhead"))["one"]["restartCount"], 0)
    delete(cluster, "overhead")


def _group(found: Any) -> Path:
    """Return the control group that kubelet has made for a pod, where memory is accounted for."""
    (group,) = (
        one
        for top in ("/sys/fs/cgroup/memory/vc-kubernetes", "/sys/fs/cgroup/vc-kubernetes")
        for one in Path(top).glob(f"**/pod{found['metadata']['uid']}")
    )
    return group


def _memory(group: Path, name: str) -> int:
    with suppress(FileNotFoundError):
        return int((group / name).read_text(encoding="ascii"))
    return 0


def _unreclaimable(group: Path) -> int:
    """Return the bytes of a group without cached files, which the kernel drops when it needs memory."""
    usage = _memory(group, "memory.usage_in_bytes") or _memory(group, "memory.current")
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    counts = {name: int(count) for name, count in map(str.split, lines)}
    version_1 = "total_inactive_file" in counts
    return usage - sum(counts[("total_" if version_1 else "") + name] for name in ("inactive_file", "active_file"))


def _mib(quantity: str) -> int:
    assert quantity.endswith("Mi"), quantity
    return int(quantity.removesuffix("Mi"))


@promise("logs: of a container, of the one before it, and followed; kubelet reads the last words of one that ended")
def logs(cluster: Cluster) -> None:
    words = "echo out $HOSTNAME; echo wrong >&2; echo farewell >/dev/termination-log"
    script = f"{words}; until test -e /data/go; do sleep 1; done; exit 3"
    data: Any = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    cluster.apply(pod("logs", container("one", script, **data), volumes=[{"name": "data", "emptyDir": {}}]))
    wait_ready(cluster, "logs")
    wait_for(lambda: sorted(cluster.kubectl("logs", "logs").stdout.splitlines()) == ["out logs", "wrong"], "no logs")
    execute(cluster, "logs", "touch", "/data/go")
    wait_for(lambda: states(cluster.get("pod", "logs"))["one"]["restartCount"] >= 1, "it does not start again")
    last = states(cluster.get("pod", "logs"))["one"]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error"), last
    assert last.get("message", "").strip() == "farewell", last
    assert "out logs" in cluster.kubectl("logs", "--previous", "logs").stdout
    delete(cluster, "logs")
    cluster.apply(pod("follow", container("one", "for i in 1 2 3; do echo $i; sleep 1; done"), restartPolicy="Never"))
    wait_for(lambda: cluster.get("pod", "follow")["status"]["phase"] in ("Running", "Succeeded"), "it does not start")
    same(cluster.kubectl("logs", "--follow", "follow").stdout.split(), ["1", "2", "3"])
    delete(cluster, "follow")


@promise("exec: streams, exit codes, a terminal and its size; attach and cp")
def commands(cluster: Cluster) -> None:
    cluster.apply(pod("exec", container("one", "while read line; do echo got $line; done; " + FOREVER, stdin=True)))
    wait_ready(cluster, "exec")
    same(execute(cluster, "exec", "sh", "-c", "read x; echo out $x", given="in\n"), "out in")
    done = cluster.kubectl("exec", "exec", "--", "sh", "-c", "echo wrong >&2; exit 9", check=False)
    assert (done.returncode, done.stdout) == (9, ""), done
    assert done.stderr.startswith("wrong\n"), done.stderr
    done = cluster.kubectl("exec", "exec", "--", "no-such-program", check=False)
    assert done.returncode != 0, done
    assert "no-such-program" in done.stderr, done.stderr
    kubectl = cluster.command("exec", "--stdin", "--tty", "exec", "--", "sh", "-c", "tty; sleep 1; stty size")
    script = f"stty rows 33 cols 77; {shlex.join(kubectl)}"
    shown = cluster.node.run("script", "--quiet", "--return", "--command", script, "/dev/null").stdout
    # Somewhere in it, the terminal shows the end of script's own input.
    same(shown.replace("^@", "").split()[-3:], ["/dev/pts/0", "33", "77"])
    cluster.kubectl("attach", "--stdin", "exec", given="typed\n")
    wait_for(lambda: "got typed" in cluster.kubectl("logs", "exec").stdout, "attach passes no input on")
    file = cluster.node.top / "plain/to-copy"
    file.write_text("copied\n", encoding="utf-8")
    cluster.kubectl("cp", str(file), "exec:/tmp/copy")
    cluster.kubectl("cp", "exec:/tmp/copy", f"{file}-back")
    same(Path(f"{file}-back").read_text(encoding="utf-8"), "copied\n")
    delete(cluster, "exec")


@promise("port-forward reaches what listens for the pod itself")
def port_forward(cluster: Cluster) -> None:
    cluster.apply(pod("forward", container("web", _WEB.replace("-p 8080", "-p 127.0.0.1:8080"))))
    wait_ready(cluster, "forward")
    wait_for(lambda: "8080" in execute(cluster, "forward", "netstat", "-ltn"), "it does not listen")
    line = cluster.node.command(*cluster.command("port-forward", "forward", ":8080"))
    with subprocess.Popen(line, stdout=subprocess.PIPE, encoding="utf-8") as forwarding:
        try:
            assert forwarding.stdout is not None
            words = forwarding.stdout.readline().split()  # Forwarding from 127.0.0.1:NUMBER -> 8080
            same(cluster.node.run("busybox", "wget", "-qO-", f"http://{words[2]}").stdout, "hello\n")
        finally:
            for pid, shown in cluster.node.processes().items():
                if "port-forward" in shown:  # a child of the process that entered the node
                    cluster.node.kill(pid, SIGTERM)
    delete(cluster, "forward")


@promise("a container gets its hooks and SIGTERM, and SIGKILL when its time is over")
def graceful_end(cluster: Cluster) -> None:
    folder = cluster.node.path("/srv/ends")
    folder.mkdir()
    host: Any = {"volumeMounts": [{"name": "host", "mountPath": "/host"}]}
    hooks: Any = {
        "lifecycle": {
            "postStart": {"exec": {"command": ["touch", "/host/post-start"]}},
            "preStop": {"exec": {"command": ["touch", "/host/pre-stop"]}},
        }
    }
    polite = container(
        "polite", "trap 'touch /host/term; exit 0' TERM; while :; do sleep 1 & wait $!; done", **host, **hooks
    )
    deaf = container("deaf", "trap '' TERM; while :; do sleep 1; done")
    one = pod("ends", polite, deaf, volumes=[{"name": "host", "hostPath": {"path": "/srv/ends"}}])
    cluster.apply(one)
    wait_ready(cluster, "ends")
    assert (folder / "post-start").exists()
    assert not (folder / "term").exists()
    began = time.monotonic()
    delete(cluster, "ends")
    same({one.name for one in folder.iterdir()}, {"post-start", "pre-stop", "term"})
    assert time.monotonic() - began > 4, "the deaf container was not given its time"


@promise("a Deployment starts, scales, replaces its pods without a gap, and goes; each pod has an own VM")
def deployment(cluster: Cluster) -> None:
    def wanted(replicas: int, version: str) -> Any:
        probe: Any = {
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10}
        }
        one = container("web", _WEB, env=[{"name": "VERSION", "value": version}], **probe)
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": pod_spec(one)}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}

    def running(count: int, version: str) -> None:
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout", "300s", timeout=310)
        names = [one["metadata"]["name"] for one in pods_of(cluster, "app=web")]
        assert len(names) == count, names
        same(len({execute(cluster, name, "cat", BOOT_ID) for name in names}), count)
        same({execute(cluster, name, "sh", "-c", "echo $VERSION") for name in names}, {version})

    cluster.apply(wanted(1, "1"))
    running(1, "1")
    cluster.apply(wanted(2, "1"))
    running(2, "1")
    cluster.apply(wanted(2, "2"))
    running(2, "2")
    cluster.kubectl("delete", "deployment", "web", "--cascade=foreground")
    wait_for(lambda: not cluster.get("pods", "", "--selector", "app=web")["items"], "its pods stay")


@promise("a Job ends with its exit code, and is tried again")
def job(cluster: Cluster) -> None:
    script = "test -e /host/once && exit 0; touch /host/once; exit 5"
    one = container("one", script, volumeMounts=[{"name": "host", "mountPath": "/host"}])
    volume = {"name": "host", "hostPath": {"path": "/srv/job", "type": "DirectoryOrCreate"}}
    template = {"spec": pod_spec(one, volumes=[volume], restartPolicy="Never")}
    spec = {"template": template, "backoffLimit": 3}
    cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec})
    cluster.kubectl("wait", "--for=condition=complete", "job/job", "--timeout=300s", timeout=310)
    same(cluster.get("job", "job")["status"]["failed"], 1)
    cluster.kubectl("delete", "job", "job")


@promise("the death of a VM: all containers of the pod start again, in another VM, with their volumes")
def death_of_vm(cluster: Cluster) -> None:
    data: Any = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    cluster.apply(pod("death", container("one", **data), container("two"), volumes=[{"name": "data", "emptyDir": {}}]))
    found = wait_ready(cluster, "death")
    boot = execute(cluster, "death", "cat", BOOT_ID, container="one")
    lost = sandbox_of(cluster, found)
    execute(cluster, "death", "sh", "-c", "echo kept >/data/file; sync", container="one")
    cluster.node.kill(machine(cluster, found), SIGKILL)

    # On a busy node, kubelet sees the end of the sandbox last, and tries to start containers in it until then.
    codes: dict[str, set[int]] = {"one": set(), "two": set()}

    def again() -> bool:
        now = cluster.get("pod", "death")
        for name, one in states(now).items():
            ends = [one[key]["terminated"] for key in ("state", "lastState") if "terminated" in one[key]]
            codes[name] |= {end["exitCode"] for end in ends}
        return is_ready(now) and all(one["restartCount"] >= 1 for one in states(now).values())

    wait_for(again, lambda: described(cluster, "death"))
    assert all(255 in found for found in codes.values()), codes
    assert execute(cluster, "death", "cat", BOOT_ID, container="two") != boot
    same(execute(cluster, "death", "cat", "/data/file", container="one"), "kept")
    wait_for(lambda: not any(f"guest={lost}," in line for line in cluster.node.processes().values()), "the VM stays")
    delete(cluster, "death")


@promise("containers go on while their supervisor is killed, and kubelet and containerd are started again", alone=True)
def restarts(cluster: Cluster) -> None:
    cluster.apply(pod("stays", container("one", "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 1; done")))
    found = wait_ready(cluster, "stays")
    boot = execute(cluster, "stays", "cat", BOOT_ID)
    sandbox = sandbox_of(cluster, found)
    lines = cluster.node.processes().items()
    supervisors = [pid for pid, line in lines if "vc_core.supervisor" in line and sandbox in line]
    assert supervisors, "the pod has no supervisor"
    for pid in supervisors:
        cluster.node.kill(pid)
    same(execute(cluster, "stays", "cat", BOOT_ID), boot)
    cluster.node.stop("kubelet")
    cluster.node.stop("containerd")
    cluster.start_containerd()
    cluster.start_kubelet()
    # The commands of the pod go through both.
    wait_for(lambda: cluster.kubectl("exec", "stays", "--", "true", check=False).returncode == 0, "no command runs")
    same(execute(cluster, "stays", "cat", BOOT_ID), boot)
    count = int(execute(cluster, "stays", "cat", "/count"))
    wait_for(lambda: int(execute(cluster, "stays", "cat", "/count") or 0) > count, "it does not go on")
    same(states(wait_ready(cluster, "stays"))["one"]["restartCount"], 0)
    delete(cluster, "stays")


@promise("what no VM can do is refused, with the reason in the events of the pod")
def refusals(cluster: Cluster) -> None:
    for name, field in (("host-network", "hostNetwork"), ("host-processes", "hostPID"), ("host-ipc", "hostIPC")):
        fields: Any = {field: True}
        cluster.apply(pod(name, container("one"), **fields))
        wait_for(
            lambda name=name: "virtual machine" in events(cluster, name),  # type: ignore[misc]
            lambda name=name: described(cluster, name),  # type: ignore[misc]
        )
        cluster.kubectl("delete", "pod", name, "--grace-period=0", "--force")


@promise("statistics: the memory of a pod is that of its VM")
def statistics(cluster: Cluster) -> None:
    cluster.apply(pod("measured", container("one")))
    wait_ready(cluster, "measured")

    def memory() -> int:
        summary = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NAME}/proxy/stats/summary").stdout)
        pods = [one for one in summary["pods"] if one["podRef"]["name"] == "measured"]
        return max((int(one.get("memory", {}).get("workingSetBytes", 0)) for one in pods), default=0)

    wait_for(lambda: memory() > 64 * _MIB, lambda: f"kubelet sees {memory()} bytes")
    delete(cluster, "measured")


def removed(cluster: Cluster) -> None:
    """Hold the last promise: the class and the programs are removed from the node, and the runtimes of others stay."""
    installation.remove(cluster)
    assert not cluster.node.path("/opt/virtcontainers/venv").exists()
    assert "virtcontainers" not in cluster.node.path("/etc/containerd/config.toml").read_text(encoding="utf-8")
    cluster.apply(pod("ordinary", container("one"), runtime=""))
    wait_ready(cluster, "ordinary")
    delete(cluster, "ordinary")
