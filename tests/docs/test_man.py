"""The manual pages hold what the help of each command says, in valid roff."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vc_core.cli.manual import pages, write_pages


def test_there_is_a_page_for_every_command_and_group() -> None:
    names = {name for name, _ in pages()}
    assert {"virtc", "virtc-pod", "virtc-pod-run", "virtc-exec", "virtc-config-show"} <= names


@pytest.mark.needs("groff")
def test_groff_sets_all_pages_without_a_warning(tmp_path: Path) -> None:
    write_pages(tmp_path)
    files = sorted((tmp_path / "man1").iterdir())
    command = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", *map(str, files)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.stderr == ""
    text = " ".join(done.stdout.split())
    for wanted in (
        "virtc-pod-run - Create a pod with one container",
        "EXAMPLE virtc pod run -i --rm --bundle /srv/busybox -- uname -a",
        "--publish [HOST:]GUEST[/udp]",
        "NETWORK",
    ):
        assert wanted in text.replace("‐", "-").replace("−", "-"), wanted
