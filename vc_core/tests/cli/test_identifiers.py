"""How commands take pods and containers: POD, POD/CTR, two arguments, options, and the beginnings of ids."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest import mock

import pytest
from commands import virtc

import vc_core as vc

UUID = "3f2a0000-0000-4000-8000-000000000001"


@pytest.fixture
def pod(mock_config: Callable[..., vc.PodConfig]) -> vc.Pod:
    return vc.create_pod(mock_config(UUID, containers=2))


@pytest.mark.parametrize(
    "words", [f"{UUID}/c2", "3f2/c2", "3f2 c2", "--pod-id 3f2 --id c2", "3f2 --id c2", "3f2/c2 --pod-id 3f2/c2"]
)
def test_a_container_is_named_in_any_of_these_ways(pod: vc.Pod, words: str) -> None:
    done = virtc("container", "status", *words.split())
    assert (done.stdout.splitlines()[1].split(), done.stderr) == (["c2", "ready"], "")


def test_a_pod_with_one_container_names_it(mock_config: Callable[..., vc.PodConfig]) -> None:
    vc.create_pod(mock_config("single"))
    assert virtc("container", "status", "single").stdout.splitlines()[1].split() == ["c1", "ready"]


@pytest.mark.parametrize("words", [("start",), ("status",), ("inspect",), ("stop",), ("delete", "--force")])
def test_pods_are_named_by_the_beginning_of_their_ids(pod: vc.Pod, words: tuple[str, ...]) -> None:
    if words[0] == "stop":
        pod.start()
    done = virtc("pod", *words, "3f")
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("3f2", 1, f"pod '{UUID}' has the containers 'c1', 'c2'; name one, as {UUID}/c1"),
        ("3f2/c1/c2", 2, "'3f2/c1/c2' names more than one container"),
        ("3f2/c1 c2", 2, "names more than one container"),
        ("3f2 c1 --id c2", 2, "the container is given twice: 'c1' and --id 'c2'"),
        ("3f2/", 1, "has no container ''"),
        ("/c1", 1, "pod id '' is not valid"),
        ("--id c1", 2, "no pod is given"),
    ],
)
def test_a_container_that_is_not_named_is_one_sentence(pod: vc.Pod, words: str, code: int, sentence: str) -> None:
    done = virtc("container", "status", *words.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr


def test_a_shell_completes_pods_and_their_containers(pod: vc.Pod) -> None:
    for words, number, found in (
        ("virtc pod stop 3", 3, UUID),
        (f"virtc container stop {UUID}/c", 3, f"{UUID}/c1 plain,{UUID}/c2"),
        ("virtc container stop 3f2 c", 4, "c1 plain,c2"),
    ):
        variables = {"_VIRTC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        with mock.patch.dict(os.environ, variables):
            completed = virtc()
        assert completed.stdout.strip() == f"plain,{found}".replace(" ", "\n")


def test_a_command_that_does_not_exist_is_a_sentence() -> None:
    done = virtc("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: No such command 'frobnicate'.\n")
