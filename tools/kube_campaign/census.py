"""What is on the node of pods: when they are deleted, nothing of them may be left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kube_campaign.cluster import Cluster

#: Directories of which each entry is a pod, a container, or something of one.
_RECORDS = (
    "/run/vc-runtime",
    "/run/containerd/runc/k8s.io",
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/netns",
    "/run/virtcontainers/pods",
    "/var/lib/virtcontainers/pods",
    "/var/lib/kubelet/pods",
    "/var/log/pods",
    "/run/cni-ipam/pods",
)

#: Programs that run for pods, by their command lines.
_PROGRAMS = re.compile(r"qemu|vc_core|vc_runtime|vc-shim|containerd-shim|sleep \d+$")


def census(cluster: Cluster) -> list[str]:
    """Return a line for each process, mount, control group, interface, container and record of pods."""
    return sorted(set(_found(cluster)))


def _found(cluster: Cluster) -> Iterator[str]:
    node = cluster.node
    for line in node.processes().values():
        if _PROGRAMS.search(line):
            yield f"process {line}"
    for point in node.mounts():
        if re.search(r"/pods/|/k8s\.io/|/netns/|virtcontainers/.", point):
            yield f"mount {point}"
    for group in node.groups():
        yield f"control group {group}"
    for line in node.run("ip", "-brief", "link").stdout.splitlines():
        if line.startswith("veth"):
            yield f"interface {line.split()[0]}"
    for kind in ("container", "task"):
        for name in cluster.ctr(kind, "ls", "--quiet").split():
            yield f"{kind} {name}"
    for folder in _RECORDS:
        path = node.path(folder)
        if path.is_dir():
            yield from (f"record {folder}/{one.name}" for one in path.iterdir() if _is_of_a_pod(one))


def _is_of_a_pod(path: Path) -> bool:
    """Return whether an entry is of a pod, and not of all: a lock, or the compiled seccomp profiles."""
    return not path.name.startswith((".", "last_reserved", "lock", ":seccomp"))
