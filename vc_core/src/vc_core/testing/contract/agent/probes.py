"""The commands by which the contract observes what an agent does, and the comparison of what they print."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

#: Bytes: more than the buffers between a process and the agent hold.
MUCH = 300_000

#: As many bytes without any repetition, so that a piece that is lost, doubled or out of place is seen.
DATA = random.Random(MUCH).randbytes(MUCH)

#: As many numbers as have more than :data:`MUCH` bytes, one a line, and that output.
NUMBERS = 60_000
NUMBERS_OUTPUT = b"".join(b"%d\n" % number for number in range(1, NUMBERS + 1))

#: Arguments with everything that a shell, a protocol of texts, or a parser of options would change.
WORDS = (
    *("", " ", "two  words", "tab\tand\nnewline", "'", '"', "\\", "\\n", "$HOME", "$(id)", "`id`", "*", "~", ";", "&"),
    *("-n", "--", "-", "%s", "a=b", "{}", "null", "7", "\x01\x7f", "ünï-漢-\U0001f600", ""),
)


def _sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script, "sh")


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands for the guest: by default those of a container with a shell and the usual tools.

    A fake guest gives names of programs of its own that do the same. Where a comment names an argument, the contract
    adds it.
    """

    exit: tuple[str, ...] = _sh('exit "$1"')  #: exits with CODE
    run_on: tuple[str, ...] = ("sleep", "100000")  #: runs until it is killed
    heed: tuple[str, ...] = _sh(  #: prints "ready", then exits with 15 on SIGTERM and with 10 on SIGUSR1
        'trap "kill \\$!; exit 15" TERM; trap "kill \\$!; exit 10" USR1; sleep 100000 & echo ready; wait'
    )
    copy: tuple[str, ...] = _sh('cat; exit "$1"')  #: copies input to output until its end, then exits with CODE
    count: tuple[str, ...] = ("wc", "-c")  #: prints the number of bytes of input
    numbers: tuple[str, ...] = ("seq",)  #: prints the numbers from 1 to LAST, one a line
    insist: tuple[str, ...] = _sh(  #: ignores SIGPIPE, prints lines until that fails, exits with 9
        'trap "" PIPE; while echo line; do :; done 2>/dev/null; exit 9'
    )
    both: tuple[str, ...] = _sh("echo output; echo error >&2")  #: one word on each output
    words: tuple[str, ...] = _sh("for word; do printf '%s\\0' \"$word\"; done")  #: prints WORDS..., NUL after each
    variable: tuple[str, ...] = _sh(  #: prints the variable NAME; fails if there is none
        'eval "[ \\"\\${$1+set}\\" ] && printf \'%s\\n\' \\"\\$$1\\""'
    )
    directory: tuple[str, ...] = ("pwd",)  #: prints its working directory
    identity: tuple[str, ...] = _sh("id -u; id -g; id -G")  #: prints user, group, and all groups, as numbers
    hostname: tuple[str, ...] = ("cat", "/proc/sys/kernel/hostname")  #: prints the host name
    terminal_size: tuple[str, ...] = ("stty", "size")  #: prints rows and columns; fails without a terminal
    terminal_sizes: tuple[str, ...] = _sh(  #: the same, then again whenever the size changes
        "trap 'stty size' WINCH; stty size; while :; do sleep 1000 & wait; done"
    )
    show: tuple[str, ...] = ("cat",)  #: prints the file PATH; fails if there is none
    store: tuple[str, ...] = _sh('echo stored >"$1"')  #: writes "stored" to the file PATH; fails if it cannot
    limits: tuple[str, ...] = _sh(  #: prints its limit of open files, its bounding set in hexadecimal, and NoNewPrivs
        "ulimit -n; while read -r name value; do case $name in CapBnd: | NoNewPrivs:) echo $value ;; esac; done "
        "</proc/self/status"
    )
    process_limits: tuple[str, ...] = _sh(  #: prints umask, oom_score_adj, limit of open files; 6 lines of its status
        "umask; cat /proc/self/oom_score_adj; ulimit -n; while read -r name value; do case $name in "
        "Cap???: | NoNewPrivs:) echo $value ;; esac; done </proc/self/status"
    )
    own_number: tuple[str, ...] = (  #: prints its process number, then runs for SECONDS, the last argument
        *_sh('echo $$; sleep "$1"'),
        "100000",
    )
    work: tuple[str, ...] = _sh('i=0; while [ "$i" -lt 30000 ]; do i=$((i + 1)); done')  #: uses processor time


def same(what: str, found: bytes, wanted: bytes) -> None:
    """Fail with one sentence unless the bytes are those that were wanted; ``what`` begins it."""
    if found == wanted:
        return
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    if len(found) < len(wanted):
        fault = f"{len(wanted) - len(found)} of {len(wanted)} bytes are lost, from byte {at} on"
    elif len(found) > len(wanted):
        fault = f"{len(found) - len(wanted)} bytes more than the {len(wanted)} that are right, from byte {at} on"
    else:
        fault = f"{len(wanted)} bytes as many as are right, but they differ from byte {at} on"
    seen, right = found[at : at + 40], wanted[at : at + 40]
    pytest.fail(f"{what}: {fault}: {seen!r} instead of {right!r}", pytrace=False)
