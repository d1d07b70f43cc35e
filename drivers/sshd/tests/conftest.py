"""What the agent's tests share: a real OpenSSH daemon on 127.0.0.1, a root file system, and agents."""

from __future__ import annotations

import os
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
from vc_core.testing.rootfs import make_root_fs

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
    make_root_fs(top)
    (top / "etc/plain").write_text("no program\n", encoding="utf-8")
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
