"""Objects of pods, and what promises ask of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kube_campaign.cluster import IMAGE, Cluster
from kube_campaign.node import TIMEOUT, wait_for

#: The runtime class that is tried.
CLASS = "vc"

#: A kernel's, so a VM's, own identity.
BOOT_ID = "/proc/sys/kernel/random/boot_id"

#: A program that goes on until it is asked to end.
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"


def container(name: str, script: str = FOREVER, **fields: Any) -> dict[str, Any]:
    """Return a container that runs a script of the shell."""
    return {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **fields}


def pod_spec(*containers: Mapping[str, Any], runtime: str = CLASS, **fields: Any) -> dict[str, Any]:
    """Return what a pod consists of. ``runtime``: its runtime class, "" for that of the node."""
    spec = {"containers": containers, "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False}
    return {**spec, **({"runtimeClassName": runtime} if runtime else {}), **fields}


def pod(name: str, *containers: Mapping[str, Any], annotations: Mapping[str, str] | None = None, **fields: Any) -> Any:
    """Return a pod."""
    metadata = {"name": name, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(*containers, **fields)}


def is_ready(found: Mapping[str, Any]) -> bool:
    """Return whether all containers of a pod are ready."""
    conditions = found.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_ready(cluster: Cluster, name: str, timeout: float = TIMEOUT) -> Any:
    """Wait until a pod is ready, and return it. Raises AssertionError with its events."""
    wait_for(lambda: is_ready(cluster.get("pod", name)), lambda: described(cluster, name), timeout)
    return cluster.get("pod", name)


def wait_phase(cluster: Cluster, name: str, phase: str) -> Any:
    """Wait until a pod is in a phase, such as ``Succeeded``, and return it."""
    wait_for(lambda: cluster.get("pod", name)["status"]["phase"] == phase, lambda: described(cluster, name))
    return cluster.get("pod", name)


def described(cluster: Cluster, name: str) -> str:
    """Return state and events of a pod, for a message."""
    state = json.dumps(cluster.get("pod", name)["status"].get("containerStatuses", ""))
    return f"pod {name}: {state} {events(cluster, name)}"


def events(cluster: Cluster, name: str) -> str:
    """Return the messages of a pod's events."""
    found = cluster.get("events", "", "--field-selector", f"involvedObject.name={name}")["items"]
    return "; ".join(f"{one['reason']}: {one.get('message', '')}" for one in found)


def execute(cluster: Cluster, name: str, *command: str, container: str = "", given: str = "") -> str:
    """Return what a command in a container prints, without the end of its last line."""
    options = [*(["--container", container] if container else []), *(["--stdin"] if given else [])]
    return cluster.kubectl("exec", *options, name, "--", *command, given=given).stdout.rstrip("\n")


def delete(cluster: Cluster, *names: str) -> None:
    """Delete pods and wait until they are gone."""
    cluster.kubectl("delete", "pod", "--wait", *names)


def states(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of a pod's containers by their names."""
    return {one["name"]: one for one in found["status"].get("containerStatuses", ())}


def machine(cluster: Cluster, found: Mapping[str, Any]) -> int:
    """Return the pid on the node of a pod's QEMU, the one of the processes of its jail that can be killed alone."""
    sandbox = sandbox_of(cluster, found)
    return max(pid for pid, line in cluster.node.processes().items() if "qemu" in line and f"guest={sandbox}," in line)


def sandbox_of(cluster: Cluster, found: Mapping[str, Any]) -> str:
    """Return the id of a pod's sandbox, which its VM has too."""
    uid = found["metadata"]["uid"]
    lines = cluster.ctr("container", "ls", f'labels."io.kubernetes.pod.uid"=={uid}', "--quiet").split()
    for one in lines:
        labels = json.loads(cluster.ctr("container", "info", one))["Labels"]
        if labels["io.cri-containerd.kind"] == "sandbox" and one in cluster.ctr("task", "ls", "--quiet").split():
            return one
    raise AssertionError(f"pod {found['metadata']['name']} has no sandbox that runs")


def pods_of(cluster: Cluster, selector: str) -> Sequence[Any]:
    """Return the pods that a selector of labels names, without those that are being deleted."""
    found = cluster.get("pods", "", "--selector", selector)["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def same(found: object, expected: object) -> None:
    """Raise AssertionError with both values where they differ."""
    assert found == expected, f"{found!r} instead of {expected!r}"
