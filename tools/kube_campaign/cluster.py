"""A cluster of one node: etcd, the control plane, containerd and kubelet, all on one node of the campaign."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine_host import make_archive, make_image, make_rootfs

from kube_campaign import certificates
from kube_campaign.node import ADDRESS, GROUP, PODS, Node, wait_for

#: The image of all containers, also of the one that stands for a sandbox: busybox.
IMAGE = "localhost/busybox:test"

#: Addresses of services, of which nothing is used but the first; there is no kube-proxy.
_SERVICES, _SERVER = "10.96.0.0/16", "10.96.0.1"

#: The name of the node.
NAME = "node"

#: What an administrator has configured before vc-runtime is installed. The settings before ``sandbox_image`` are for
#: hosts that are containers or virtual machines of a small kernel themselves.
_CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  sandbox_image = "{IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""

_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": f"/{GROUP}",
    "cgroupsPerQOS": True,
    "enforceNodeAllocatable": ["pods"],
    "clusterDNS": ["10.96.0.10"],  # no server has this address
    "clusterDomain": "cluster.local",
    "failSwapOn": False,
    "makeIPTablesUtilChains": False,
    # Sooner than a cluster of many nodes does, so that the campaign takes less time.
    "syncFrequency": "2s",
    "nodeStatusUpdateFrequency": "2s",
    "volumeStatsAggPeriod": "10s",
    "imageGCHighThresholdPercent": 100,
    "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
}

#: Kernel settings that kubelet changes for the whole host; it finds them changed instead.
_SYSCTLS = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1}

_HIDING = """\
mount --make-rprivate /proc
for one in "$1"/*; do mount --bind "$one" "/proc/sys/$(basename "$one" | tr . /)"; done
shift
exec "$@"
"""


class Cluster:
    """The cluster, and the client of its API."""

    def __init__(self, node: Node, programs: Path) -> None:
        self.node = node
        self._programs = programs
        self._pki = node.top / "plain/pki"

    def kubectl(
        self, *arguments: str, given: str = "", check: bool = True, timeout: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl on the node. Raises AssertionError where it fails, unless ``check`` is false."""
        return self.node.run(*self.command(*arguments), given=given, check=check, timeout=timeout)

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of kubectl, which is run on the node."""
        return [str(self._programs / "kubectl"), "--kubeconfig", str(self._pki / "kubeconfig"), *arguments]

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Make or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--filename", "-", given=json.dumps(listed))

    def get(self, kind: str, name: str = "", *options: str) -> Any:
        """Return an object, or a list of all of a kind."""
        return json.loads(self.kubectl("get", kind, *([name] if name else []), *options, "--output", "json").stdout)

    def ctr(self, *arguments: str | Path, check: bool = True) -> str:
        """Run containerd's client on the node, and return what it prints."""
        return self.node.run("ctr", "--namespace", "k8s.io", *arguments, check=check).stdout

    def start_etcd(self) -> None:
        """Start the store of the API."""
        data = self.node.top / "plain/etcd"
        self.node.start("etcd", "etcd", "--data-dir", data, ready=self._answers("http://127.0.0.1:2379/health"))

    def start_control_plane(self) -> None:
        """Start the API server, the controllers and the scheduler."""
        pki, programs = self._pki, self._programs
        self.node.start(
            "apiserver",
            programs / "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={ADDRESS}",
            f"--service-cluster-ip-range={_SERVICES}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/server.crt",
            f"--tls-private-key-file={pki}/server.key",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki}/accounts.key",
            f"--service-account-key-file={pki}/accounts.key",
            ready=lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0,
        )
        self.node.start(
            "controllers",
            programs / "kube-controller-manager",
            f"--kubeconfig={pki}/kubeconfig",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/accounts.key",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            ready=self._answers("http://127.0.0.1:10252/healthz"),
        )
        self.node.start(
            "scheduler",
            programs / "kube-scheduler",
            f"--kubeconfig={pki}/kubeconfig",
            "--leader-elect=false",
            ready=self._answers("http://127.0.0.1:10251/healthz"),
        )

    def start_containerd(self) -> None:
        """Start containerd."""
        self.node.start(
            "containerd",
            "containerd",
            ready=lambda: self.node.run("ctr", "version", check=False).returncode == 0,
        )

    def start_kubelet(self) -> None:
        """Start kubelet, and wait until the node is ready."""
        top = self.node.top / "plain"
        hiding = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-euc", _HIDING, "sh", top / "sysctls")
        self.node.start(
            "kubelet",
            *hiding,
            self._programs / "kubelet",
            f"--kubeconfig={self._pki}/kubeconfig",
            f"--config={top}/kubelet.json",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            "--container-runtime=remote",
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            ready=self._answers("http://127.0.0.1:10248/healthz"),
        )

    def prepare(self) -> None:
        """Write what the programs read, before any is started."""
        top = self.node.top / "plain"
        names = [f"IP:{one}" for one in ("127.0.0.1", ADDRESS, _SERVER)] + ["DNS:kubernetes.default.svc"]
        certificates.make(self._pki, names, f"https://{ADDRESS}:6443")
        entry = {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{self._pki}/ca.crt"}}
        (top / "kubelet.json").write_text(json.dumps({**_KUBELET, "authentication": entry}), encoding="utf-8")
        (top / "sysctls").mkdir()
        for name, value in _SYSCTLS.items():
            (top / "sysctls" / name.replace("/", ".")).write_text(f"{value}\n", encoding="ascii")
        self.node.path("/etc/containerd").mkdir(exist_ok=True)
        self.node.path("/etc/containerd/config.toml").write_text(_CONTAINERD, encoding="utf-8")
        ipam = {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-ipam"}
        bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipam": ipam}
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
        self.node.path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)
        self.node.path("/etc/cni/net.d/00-pods.conflist").write_text(json.dumps(network), encoding="utf-8")
        make_rootfs(top / "rootfs")
        make_archive(top / "rootfs", top / "layer.tar")
        make_image(top / "layer.tar", top / "image.tar", IMAGE, {"Cmd": ["sleep", "1000000"], "Env": ["PATH=/bin"]})

    def _answers(self, url: str) -> Callable[[], bool]:
        """Return a function that returns whether a web server on the node answers that all is well."""
        line = ("busybox", "wget", "-q", "-O", "/dev/null", url)
        return lambda: self.node.run(*line, check=False).returncode == 0


@contextmanager
def cluster(node: Node, programs: Path) -> Iterator[Cluster]:
    """Start a cluster for the block, with an image and a node that is ready."""
    made = Cluster(node, programs)
    made.prepare()
    made.start_etcd()
    made.start_control_plane()
    made.start_containerd()
    made.ctr("image", "import", node.top / "plain/image.tar")
    made.start_kubelet()

    def ready() -> bool:
        found = made.kubectl("get", "node", NAME, "--output", "json", check=False)
        conditions = json.loads(found.stdout)["status"]["conditions"] if found.returncode == 0 else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_for(ready, "the node is not ready; see logs/kubelet")
    yield made
