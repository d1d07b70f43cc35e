"""A pod that a file describes, in a real virtual machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import vc_core as vc

from .conftest import virtc_path

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.hypervisors("qemu")]

POD = """\
containers:
  - id: front
    root_fs: {bundle}
    cmd: [sh, -c, "cat; until wget -q -O - http://127.0.0.1/ 2>/dev/null; do usleep 10000; done; exit 3"]
  - id: back
    root_fs: {bundle}
    cmd: [httpd, -f, -h, /www]
    mounts: [www:/www]
"""


def test_the_first_container_is_in_the_foreground_and_reaches_the_others(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/index.html").write_text("from the other\n", encoding="utf-8")
    file = tmp_path / "pod.yaml"
    file.write_text(POD.format(bundle=bundle), encoding="utf-8")
    words = ["pod", "run", "-i", "--rm", "--quiet", "--file", str(file)]
    done = subprocess.run(
        [virtc_path(), *words], input="from here\n", capture_output=True, encoding="utf-8", timeout=90
    )
    assert (done.stdout, done.returncode) == ("from here\nfrom the other\n", 3), done.stderr
    assert vc.list_pods() == []
