"""containerd with directories and a network namespace of its own, and a client of its CRI."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine_host import TIMEOUT, Host, daemon, host, make_archive, make_image, make_rootfs

#: The image that tests run, also as the sandbox of a pod: busybox.
IMAGE = "localhost/busybox:test"

_CONFIG = """\
version = 2
root = "{top}/root"
state = "{top}/state"
[grpc]
  address = "{top}/grpc.sock"
[ttrpc]
  address = "{top}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "{image}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{top}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "vc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vc]
    runtime_type = "io.containerd.runc.v2"
    pod_annotations = ["io.virtcontainers.*"]
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vc.options]
      BinaryName = "{runtime}"
      Root = "{top}/records"
"""


class Containerd:
    """One containerd, whose images are in the namespace of the CRI."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.address = host.top / "grpc.sock"

    def run(self, *arguments: str | Path, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ctr and return what it wrote. Fails the test where ctr fails, unless ``check`` is false."""
        command = ("ctr", "--address", self.address, "--namespace", "k8s.io", *arguments)
        return self.host.run(*command, given=given, check=check)

    def ctr(self, *arguments: str | Path, given: str = "") -> str:
        """Return the standard output of ctr, without the end of its last line."""
        return self.run(*arguments, given=given).stdout.rstrip("\n")


@contextmanager
def containerd(top: Path) -> Iterator[Containerd]:
    """Run containerd for the block, with an image that is made here."""
    with host(top) as place:
        made = Containerd(place)
        make_rootfs(top / "rootfs")
        make_archive(top / "rootfs", top / "layer.tar")
        make_image(top / "layer.tar", top / "image.tar", IMAGE, {"Cmd": ["sleep", "100000"], "Env": ["PATH=/bin"]})
        (top / "config.toml").write_text(_CONFIG.format(top=top, image=IMAGE, runtime=place.runtime), encoding="utf-8")
        _write_network(top)

        def ready() -> bool:
            return made.run("version", check=False).returncode == 0

        with daemon(place.command("containerd", "--config", top / "config.toml"), top / "log", ready):
            made.ctr("image", "import", top / "image.tar")
            try:
                yield made
            finally:
                for task in made.run("task", "ls", "--quiet", check=False).stdout.split():
                    made.run("task", "delete", "--force", task, check=False)


def _write_network(top: Path) -> None:
    """Configure a bridge to which CNI connects each pod."""
    ipam = {"type": "host-local", "dataDir": f"{top}/ipam", "subnet": "10.88.77.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "vc-tests", "isGateway": True, "ipam": ipam}
    (top / "cni").mkdir()
    network = {"cniVersion": "0.4.0", "name": "tests", "plugins": [bridge]}
    (top / "cni/tests.conflist").write_text(json.dumps(network), encoding="utf-8")


class Cri:
    """A client of the calls in cri.proto, by their names: ``cri("StopContainer", container_id=..., timeout=3)``."""

    def __init__(self, address: Path) -> None:
        grpc: Any = importlib.import_module("grpc")  # which has no types
        self.error: type[Exception] = grpc.RpcError
        messages, services = grpc.protos_and_services("cri.proto")
        self._messages = messages
        self._channel = grpc.insecure_channel(f"unix:{address}")
        self._service = services.RuntimeServiceStub(self._channel)
        self._requests = {
            method.name: method.input_type.name
            for method in messages.DESCRIPTOR.services_by_name["RuntimeService"].methods
        }

    def __call__(self, name: str, **fields: Any) -> Any:
        """Perform a call and return its response. Raises ``error``."""
        request = getattr(self._messages, self._requests[name])(**fields)
        return getattr(self._service, name)(request, timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
