"""What a container writes to its root is seen by docker, where its storage driver makes that a plain directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import IMAGE, Docker, made_docker
from engine_host import MARKS

pytestmark = [pytest.mark.engine, pytest.mark.needs("dockerd"), *MARKS]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with made_docker(tmp_path_factory.mktemp("docker"), "vfs") as made:
        yield made


def test_docker_copies_compares_and_commits_what_a_container_writes_and_starts_it_again_with_it(
    docker: Docker, tmp_path: Path
) -> None:
    name = docker("run", "--detach", IMAGE, "sh", "-c", "[ -e /new ] || echo new >/new; chown 5:6 /new; sleep 1000")
    (tmp_path / "given").write_text("given\n", encoding="utf-8")
    docker("cp", tmp_path / "given", f"{name}:/given")
    assert docker("exec", name, "sh", "-c", "cat /given; echo more >>/new") == "given"
    docker("cp", f"{name}:/new", tmp_path)
    assert (tmp_path / "new").read_text(encoding="utf-8") == "new\nmore\n"
    assert {"A /new", "A /given"} <= set(docker("diff", name).splitlines())
    docker("stop", "--time", "1", name)
    docker("start", name)
    assert docker("exec", name, "stat", "-c", "%u:%g %n", "/new", "/given").splitlines()[0] == "5:6 /new"
    docker("commit", name, "committed:1")
    assert docker("run", "--rm", "committed:1", "cat", "/new").splitlines() == ["new", "more"]
    docker("rm", "--force", name)


def test_what_a_build_runs_is_in_the_image(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo built >/built\n", encoding="utf-8")
    docker("build", "--quiet", "--tag", "built:1", tmp_path)
    assert docker("run", "--rm", "built:1", "cat", "/built") == "built"
