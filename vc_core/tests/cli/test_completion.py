"""Shells complete virtc: commands, options, and what there is on this host."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vc_core as vc
from waiting import PATIENCE

#: How each shell is started without the files of its user, and what it runs first.
SHELLS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], 'eval "$(virtc completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(virtc completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "virtc completion fish | source"),
}


class Typist:
    """Somebody at the terminal of a shell."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows a text that it did not show before."""
        start, deadline = len(self.seen), time.monotonic() + PATIENCE
        while text not in self.seen[start:]:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen[start:]!r}"
            self.seen += os.read(self._terminal, 4096).decode(errors="replace")


@contextmanager
def shell(name: str, home: Path) -> Iterator[Typist]:
    words, first = SHELLS[name]
    controller, terminal = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(home), "TERM": "xterm", "PS1": "$ "}
    # setsid makes the terminal that of the shell, which else does not let one type
    with subprocess.Popen(
        ["setsid", "--ctty", *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        typist = Typist(controller)
        try:
            typist.type(f"{first}; echo rea''dy\n")
            typist.wait_for("ready")
            yield typist
        finally:
            process.kill()
            os.close(controller)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in SHELLS])
def test_a_shell_completes_the_id_of_a_pod_and_then_that_of_its_container(
    name: str, tmp_path: Path, mock_config: Callable[..., vc.PodConfig]
) -> None:
    vc.create_pod(mock_config("shop-of-flowers"))
    with shell(name, tmp_path) as typist:
        typist.type("virtc container statu\tshop\t")
        typist.wait_for("shop-of-flowers")
        typist.type("c\t")
        typist.wait_for("c1")


def completed(*words: str) -> list[str]:
    """Return what completes the last word of a command line."""
    return [line.partition(",")[2] for line in answers(*words)]


def answers(*words: str) -> list[str]:
    """Return the lines that bash gets for the last word of a command line: kind and value."""
    environment = {**os.environ, "_VIRTC_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("virtc", *words))}
    virtc = Path(sys.executable).with_name("virtc")
    done = subprocess.run(
        [virtc], env={**environment, "COMP_CWORD": str(len(words))}, capture_output=True, encoding="utf-8"
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("po",), ["pod"]),
        (("pod", "list", "--js"), ["--json"]),
        (("pod", "status", "sh"), ["shop"]),
        (("exec", "shop/"), ["shop/c1", "shop/c2"]),
        (("pod", "run", "--hypervisor", "moc"), ["mock"]),
        (("pod", "run", "--agent", "noo"), ["noop"]),
        (("drivers", "mo"), ["mock"]),
        (("kill", "-s", "HU"), ["HUP"]),
        (("kill", "-s", "sigus"), ["sigusr1", "sigusr2"]),
        (("pod", "run", "--spawner", "ns"), ["nsenter"]),
    ],
    ids=" ".join,
)
def test_words_are_completed_with_what_there_is(
    words: tuple[str, ...], wanted: list[str], mock_config: Callable[..., vc.PodConfig]
) -> None:
    vc.create_pod(mock_config("shop", containers=2))
    assert completed(*words) == wanted


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("pod run --bundle bun", "dir"),
        ("container create p1 --rootfs bun", "dir"),
        ("pod run -f po", "file"),
        ("exec --env-file va", "file"),
        ("pod create --kernel /bo", "file"),
        ("image import ap", "file"),
        ("cp ./in", "file"),
    ],
)
def test_a_shell_is_left_to_complete_what_is_a_path_of_the_host(words: str, kind: str) -> None:
    assert answers(*words.split()) == [f"{kind},{words.split()[-1]}"]


def test_a_copy_is_completed_with_pods_and_where_none_fits_with_files(
    mock_config: Callable[..., vc.PodConfig],
) -> None:
    vc.create_pod(mock_config("shop", containers=1))
    assert answers("cp", "sh") == ["file,sh", "plain,shop:"]
    assert answers("cp", "input", "shop/") == ["file,shop/", "plain,shop/c1:"]


def test_nothing_is_written_to_the_line_of_the_caller_where_pods_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no directory", encoding="utf-8")
    assert completed("pod", "status", "") == []
