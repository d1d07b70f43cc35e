"""Streams on the host."""

from __future__ import annotations

from pathlib import Path

from vc_core.streams import ContainerLog


def test_a_container_log_is_capped(tmp_path: Path):
    log = ContainerLog(tmp_path / "c/output.log", cap=10_000)
    for number in range(1000):
        log.write(b"%08d\n" % number * 10)
    log.close()
    files = sorted((tmp_path / "c").iterdir())
    assert sum(path.stat().st_size for path in files) <= 10_000
    assert files[0].read_bytes().endswith(b"00000999\n")
