"""The manifests of runtimes/kubernetes, applied to the cluster as an administrator does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import vc_core
from kube_campaign.cluster import IMAGE, Cluster
from kube_campaign.node import wait_for

ROOT = Path(__file__).parents[2]

#: What is installed on the node, of this repository.
_DISTRIBUTIONS = (
    "vc_core",
    "drivers/qemu",
    "drivers/hyperstart",
    "drivers/guest-debian",
    "virtcontainers",
    "runtimes/oci",
)

#: What the node of the campaign has others of than real ones: its image and its package index are directories, and
#: only the campaign restarts containerd there.
_OVERLAY = """\
bases:
  - {manifests}
images:
  - name: docker.io/library/debian
    newName: localhost/busybox
    newTag: test
patchesStrategicMerge:
  - patch.yaml
"""

_PATCH = """\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: virtcontainers-installer
  namespace: kube-system
spec:
  template:
    spec:
      containers:
        - name: installer
          env:
            - name: PIP_NO_INDEX
              value: "1"
            - name: PIP_FIND_LINKS
              value: {wheels}
            - name: RESTART
              value: touch /run/containerd-must-restart
"""

#: Where the script of the installer says that containerd has to be started again.
_FLAG = "/run/containerd-must-restart"

#: Selects the pods of the installer.
INSTALLER = "app.kubernetes.io/name=virtcontainers-installer"


def build_wheels(cache: Path) -> Path:
    """Build the distributions, fetch what they depend on, and return the directory that has the wheels of both."""
    wheels = cache / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check", "--no-build-isolation"]
    folders = [str(ROOT / name) for name in _DISTRIBUTIONS]
    subprocess.run([*pip, "--wheel-dir", str(wheels), "--find-links", str(wheels), *folders], check=True)
    return wheels


def give_guest(cluster: Cluster) -> None:
    """Build a guest and copy it to the node, which has no network to fetch the kernel's package from."""
    guests = vc_core.build_guest().kernel.parents[3]
    place = cluster.node.top / "plain/var/cache/virtcontainers/guests"
    shutil.copytree(guests, place, symlinks=True, ignore=shutil.ignore_patterns("downloads", "uml"))


def install(cluster: Cluster, wheels: Path) -> None:
    """Apply the manifests, label the node, and wait until the installer is ready there."""
    overlay = cluster.node.top / "plain/overlay"
    overlay.mkdir()
    manifests = shutil.copytree(ROOT / "runtimes/kubernetes", cluster.node.top / "plain/manifests")
    (overlay / "kustomization.yaml").write_text(_OVERLAY.format(manifests=f"../{manifests.name}"), encoding="utf-8")
    (overlay / "patch.yaml").write_text(_PATCH.format(wheels=wheels), encoding="utf-8")
    cluster.kubectl("apply", "--kustomize", str(overlay))
    cluster.kubectl("label", "node", "node", "virtcontainers/runtime=vc")
    restart_containerd(cluster)
    cluster.kubectl(
        "--namespace", "kube-system", "rollout", "status", "daemonset/virtcontainers-installer", timeout=600
    )


def restart_containerd(cluster: Cluster) -> None:
    """Start containerd again when the installer says so."""
    flag = cluster.node.path(_FLAG)
    wait_for(flag.exists, lambda: f"the installer does not end: {logs(cluster)}", 600)
    flag.unlink()
    cluster.node.stop("containerd")
    cluster.start_containerd()


def logs(cluster: Cluster) -> str:
    """Return what the installer prints."""
    line = ("--namespace", "kube-system", "logs", "--selector", INSTALLER, "--tail", "20")
    done = cluster.kubectl(*line, check=False)
    return done.stdout + done.stderr


def remove(cluster: Cluster) -> None:
    """Remove vc-runtime from the node, and the manifests."""
    pod = cluster.get("pods", "", "--namespace", "kube-system", "--selector", INSTALLER)["items"][0]["metadata"]["name"]
    script = "/opt/virtcontainers/installer/install.sh"
    line = ("nsenter", "-t", "1", "-m", "-u", "-i", "--", "sh", script, "remove")
    cluster.kubectl("--namespace", "kube-system", "exec", pod, "--", *line)
    restart_containerd(cluster)
    cluster.kubectl("delete", "--kustomize", str(cluster.node.top / "plain/overlay"))


assert IMAGE == "localhost/busybox:test", "the overlay above names it"
