"""A page whose commands need a Debian package names it, so that a reader is not left with "command not found"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/tutorial/first-pod.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]

#: The Debian package of each command that not every Debian has.
PACKAGES = {
    "busybox": "busybox-static",
    "cpio": "cpio",
    "docker-registry": "docker-registry",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "mkfs.erofs": "erofs-utils",
    "mkfs.xfs": "xfsprogs",
    "mksquashfs": "squashfs-tools",
    "qemu-img": "qemu-utils",
    "script": "bsdutils",
    "skopeo": "skopeo",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "tc": "iproute2",
    "umoci": "umoci",
}

#: What every Debian has, what this project brings, and a function of the pages.
PRESENT = {
    *(
        "awk",
        "mktemp",
        "vm-podman",
        "uname",
        "wc",
        "cat",
        "cd",
        "chmod",
        "chroot",
        "cp",
        "cut",
        "echo",
        "exec",
        "find",
        "grep",
        "head",
        "id",
        "kill",
        "ln",
        "ls",
        "mkdir",
        "mktemp",
        "printf",
        "read",
        "rm",
        "sed",
        "sleep",
        "stat",
        "test",
        "xargs",
    ),
    *("tail", "tar", "tee", "touch", "true", "truncate", "uname", "wait", "wc"),
    *("virtc", "vc-runtime", "vm-podman", "pip", "pytest", "python3", "try"),
}

BLOCK = re.compile(r"^```sh\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'?(\w+)'?(.*\n)(?:.*\n)*?\1$", flags=re.MULTILINE)
#: After these words comes a command, as it does after an operator.
BEFORE_COMMAND = {"do", "then", "else", "until", "while", "if", "!", "{", "try", "command", "-v"}


def commands(script: str) -> Iterator[str]:
    """Yield the names of the programs that a script runs on the host; quoted scripts run in containers."""
    words = shlex.shlex(HEREDOC.sub(r"\2", script).replace("\\\n", " "), posix=True, punctuation_chars="|&;()<>\n")
    words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
    first = True
    for word in words:
        if set(word) <= set("<>&") and word.strip("&"):
            next(words)  # the file of a redirection
        elif word and set(word) <= set("|&;()\n"):
            first = True
        elif first and word not in BEFORE_COMMAND | {"}", "done"}:
            if word == "for":
                first = False
            elif not re.match(r"\w+=", word):
                first = False
                if not word.startswith("$"):
                    yield word.rpartition("/")[2]
        elif word in BEFORE_COMMAND:
            first = True
        if "$(" in word:
            yield from commands(word.partition("$(")[2].rpartition(")")[0])


def test_programs_are_found_where_a_shell_looks_for_them() -> None:
    script = """\
        a=$(ls 'x; y' | sed -n "s/b/c/") && /sbin/mke2fs -q "$PWD/z"
        until busybox nc </dev/null 2>&1 | grep q; do sleep 1; done
        (cd d && find . | cpio) >image; cp "$(command -v true)" d/
        for name in host; do ssh-keygen "$name"; done
        try() { "$@" || echo failed; }
        try virtc enter -- sh -c 'ip route' \\
            --more &
        cat >file <<'END'
        xz file
        END
        """.replace("        ", "")
    assert set(commands(script)) - PRESENT == {"mke2fs", "busybox", "cpio", "ssh-keygen"}
    assert {"ls", "sed", "grep", "find", "true", "cp", "echo", "virtc"} <= set(commands(script))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_debian_packages_of_its_commands(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for command in {name for block in BLOCK.findall(text) for name in commands(block)} - PRESENT:
        assert command in PACKAGES, f"add {command!r} to the table of packages"
        package = PACKAGES[command]
        assert re.search(rf"(?<![\w-]){package}(?![\w-])", prose), f"{page.name} runs {command}, of {package}"
