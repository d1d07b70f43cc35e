"""What the agent's tests share: a real OpenSSH daemon on 127.0.0.1, a root file system, and agents."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from needs import require
from vc_agent_sshd.agent import SshdAgent
from vc_agent_sshd.config import SshdConfig
from vc_agent_sshd.testing.openssh import Server, make_keys, serve
from vc_core.driver import HypervisorConfig, PodContext, Resources, Spawner, read_options

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share is no package of its own


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running OpenSSH server."""
    require("sshd")
    directory = tmp_path_factory.mktemp("sshd")
    make_keys(directory)
    with serve(directory) as one:
        yield one


@pytest.fixture(scope="session")
def root_fs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system of busybox, with a user bob."""
    top = tmp_path_factory.mktemp("rootfs")
    (top / "bin").mkdir()
    require("busybox")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, top / "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, encoding="utf-8", check=True).stdout.split():
        if applet != "busybox":
            (top / "bin" / applet).symlink_to("busybox")
    (top / "etc").mkdir()
    (top / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n", encoding="utf-8")
    (top / "etc/group").write_text("root:x:0:\nbob:x:1001:\naudio:x:29:bob,eve\nvideo:x:44:\n", encoding="utf-8")
    (top / "etc/plain").write_text("no program\n", encoding="utf-8")
    top.chmod(0o755)
    return top


@pytest.fixture
def pod(tmp_path: Path, request: pytest.FixtureRequest) -> PodContext:
    """Return a pod that has no VM, with an id of its own."""
    return PodContext(
        id=f"test-{os.getpid()}-{zlib.crc32(request.node.nodeid.encode())}",
        uuid="00000000-0000-0000-0000-000000000000",
        run_dir=tmp_path / "run",
        share_dir=tmp_path / "share",
        resources=Resources(),
        hypervisor_config=HypervisorConfig(),
    )


@pytest.fixture
def make_agent(server: Server, pod: PodContext) -> Callable[..., SshdAgent]:
    """Return a function that makes an agent for the server."""

    def make(spawner: Spawner | None = None, saved: dict[str, object] | None = None, **options: object) -> SshdAgent:
        return SshdAgent(pod, read_options(SshdConfig, server.options(**options), "agent sshd"), spawner, saved)

    return make
