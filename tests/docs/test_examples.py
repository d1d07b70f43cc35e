"""The examples of the documentation do what the documentation says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(sh|python)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (virtc .*)$", flags=re.MULTILINE)

pytestmark = [pytest.mark.vm, pytest.mark.root]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = {**os.environ, "PATH": path, "VIRTCONTAINERS_ROOT": str(tmp_path / "root")}
    yield made
    for pod in run("sh", "virtc pod list", tmp_path, made).splitlines()[1:]:
        run("sh", f"virtc pod delete --force {pod.split()[0]}", tmp_path, made)


def run(language: str, text: str, where: Path, environment: dict[str, str]) -> str:
    command = ["sh", "-eu", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=where, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_tutorial_works_from_its_first_line_to_its_last(tmp_path: Path, environment: dict[str, str]):
    page = (ROOT / "docs/tutorial/first-pod.md").read_text()
    blocks = FENCED.findall(page)
    assert len(blocks) >= 6
    said = [run(language, text, tmp_path, environment) for language, text in blocks]
    together = "".join(said)
    for expected in (
        "GNU/Linux",
        "first   running  qemu",
        "sleep 1000",
        "hello",
        "HELLO",
        "it exited with 7",
        "did not end in 1 s",
    ):
        assert expected in together, together
    assert run("sh", "virtc pod list", tmp_path, environment).count("\n") == 1


def test_the_examples_of_the_readme_work(tmp_path: Path, environment: dict[str, str]):
    tutorial = (ROOT / "docs/tutorial/first-pod.md").read_text()
    bundle = next(text for language, text in FENCED.findall(tutorial) if "busybox --install" in text)
    run("sh", bundle, tmp_path, environment)
    page = (ROOT / "README.md").read_text().replace("/srv/busybox", str(tmp_path / "bundle"))
    examples = [("sh", text) for text in INDENTED.findall(page)] + FENCED.findall(page)
    assert {language for language, _ in examples} == {"sh", "python"}
    for language, text in examples:
        assert "Linux" in run(language, text, tmp_path, environment)
    assert run("sh", "virtc pod list", tmp_path, environment).count("\n") == 1


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
)
def test_every_link_leads_somewhere(page: str):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} links to {target}"
