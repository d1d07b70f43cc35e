"""Runs a session with a pod on a terminal, and draws what the terminal then shows as docs/session.svg.

Called as ``./dev record``, after the commands print something else than before. A test runs the session, too, and
compares what it shows with the drawing.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pyte
from pyte.screens import Char

DRAWING = Path(__file__).parents[1] / "docs/session.svg"

COLUMNS = 88
#: More than the session prints.
LINES = 100

#: What the reader is not shown: a bundle and a program.
_PREPARATION = """\
mkdir -p bundle/rootfs/bin
cp "$(command -v busybox)" bundle/rootfs/bin/
(cd bundle/rootfs/bin && busybox --list | grep -vx busybox | xargs -n 1 ln -s busybox)
cat >sum.py <<'END'
import vc_core as vc

result = vc.enter_container("web", "1", vc.Cmd(args=["sha1sum"]), stdin=b"some bytes")
print(result.exit_code, result.stdout.decode())
END
"""

SESSION = (
    "virtc pod run --id web --bundle bundle -- sleep 1000",
    "virtc pod list",
    "virtc container enter web 1 -- uname -sr",
    "virtc container enter web 1 -- ps",
    "echo hello | virtc container enter -i web 1 -- tr a-z A-Z",
    "cat sum.py",
    "python sum.py",
    "virtc pod delete --force web",
)

_BACKGROUND = "#1b1f27"
_DEFAULT = "#d7dbe0"
#: Readable on that background; by the names of pyte.
_COLOURS = {"green": "#7ec699", "cyan": "#6cc7d9", "red": "#f08d8d", "brown": "#e0c285", "blue": "#8ab4f8"}

_FONT_SIZE = 14
#: Of a monospaced font: how wide a character is, for its size.
_ASPECT = 0.602
_LINE_HEIGHT = 19
_MARGIN = 16


def run(commands: Sequence[str] = SESSION) -> list[list[Char]]:
    """Run commands in a shell on a terminal, in a directory and with a state of their own; return the lines shown.

    Raises RuntimeError if one of them fails, with what the terminal shows then.
    """
    shown = "".join(
        f"printf '\\033[32m$\\033[0m \\033[1m%s\\033[0m\\n' {shlex.quote(one)}\n{one}\n" for one in commands
    )
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory(prefix="session-") as directory:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "VIRTCONTAINERS_ROOT": f"{directory}/root",
            "VIRTCONTAINERS_TEMPLATES": "off",  # made in the background, they could outlive the session
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
        }
        subprocess.run(["sh", "-euc", _PREPARATION], cwd=directory, check=True)
        try:
            code = _execute(["sh", "-euc", shown], directory, environment, stream.feed)
        finally:
            leave_none = ["virtc", "pod", "delete", "--force", "web"]
            subprocess.run(leave_none, env=environment, capture_output=True, check=False)
    lines = [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(screen.cursor.y)]
    if code or len(lines) >= LINES - 1:
        raise RuntimeError("\n".join([*text(lines), f"exit code {code}; the terminal has {LINES} lines"]))
    return lines


def text(lines: Sequence[Sequence[Char]]) -> list[str]:
    """Return lines of a terminal without their colours and the blanks at their ends."""
    return ["".join(char.data for char in line).rstrip() for line in lines]


def svg(lines: Sequence[Sequence[Char]]) -> str:
    """Return a drawing of a terminal that shows lines. It needs neither a font nor a script of its own."""
    width = round(COLUMNS * _FONT_SIZE * _ASPECT) + 2 * _MARGIN
    height = len(lines) * _LINE_HEIGHT + 2 * _MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" viewBox="0 0 {width} {height}">',
        "<title>A terminal session: a pod is run, entered from a shell and from Python, and deleted</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}" stroke="#8b949e" stroke-opacity="0.4"/>',
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, &quot;DejaVu Sans Mono&quot;, monospace" '
        f'font-size="{_FONT_SIZE}" fill="{_DEFAULT}">',
    ]
    for number, line in enumerate(lines, start=1):
        if spans := "".join(_spans(line)):
            drawn.append(
                f'<text xml:space="preserve" x="{_MARGIN}" y="{_MARGIN + number * _LINE_HEIGHT - 5}">{spans}</text>'
            )
    return "\n".join([*drawn, "</g>", "</svg>", ""])


def _spans(line: Sequence[Char]) -> Iterator[str]:
    """Yield the parts of a line that have one style each."""
    used = len(text([line])[0])
    for (colour, bold), chars in groupby(line[:used], key=lambda char: (char.fg, char.bold)):
        content = escape("".join(char.data for char in chars))
        style = f' fill="{_COLOURS[colour]}"' if colour in _COLOURS else ""
        style += ' font-weight="bold"' if bold else ""
        yield f"<tspan{style}>{content}</tspan>" if style else content


def _execute(
    command: Sequence[str], directory: str, environment: Mapping[str, str], show: Callable[[bytes], None]
) -> int:
    """Run a command on a terminal, pass on all that it prints, and return its exit code."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (LINES, COLUMNS))
    process = subprocess.Popen(command, cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    with contextlib.suppress(OSError):  # EIO: no process has the terminal any more
        while data := os.read(ours, 65536):
            show(data)
    os.close(ours)
    return process.wait()


if __name__ == "__main__":
    DRAWING.write_text(svg(run()), encoding="utf-8")
    print(f"wrote {DRAWING}")
