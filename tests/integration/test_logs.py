"""The log of a container has every byte once, whatever happens to the supervisor meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import container, pod_config, supervisors

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu", "uml")]

_LINES = 1_000_000


def test_no_byte_is_lost_or_repeated_when_supervisors_die(bundle: Path) -> None:
    with vc.run_pod(pod_config(id="logged", containers=[container(bundle, "seq", str(_LINES))])) as pod:
        log = Path(pod.status().containers[0].log_path)
        for part in (1, 6, 12, 18):
            end = time.monotonic() + 60
            while log.stat().st_size < part * 150_000 and time.monotonic() < end:
                os.sched_yield()
            for pid in supervisors("logged"):
                os.kill(pid, signal.SIGKILL)
            pod.enter(vc.Cmd(args=["true"]))
        assert pod.container("c1").wait() == 0
        lines = log.read_text(encoding="utf-8").splitlines()
    assert lines == [str(number) for number in range(1, _LINES + 1)]
