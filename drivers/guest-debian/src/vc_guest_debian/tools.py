"""Finds the Debian tools that do the work, and runs them with a timeout, after which all their processes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vc_core.errors import GuestError

#: The Debian package of each tool.
PACKAGES = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "modprobe": "kmod",
    "flock": "util-linux",
    "setpriv": "util-linux",
    "zstd": "zstd",
    "lz4": "lz4",
}

#: Tools without which no guest can be built; only some kernels need the others.
NEEDED = ("apt-get", "dpkg-deb", "depmod", "modprobe", "flock", "setpriv")

#: Directories that tools are looked up in after PATH, because that of a plain user lacks some of them.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class ToolError(GuestError):
    """A tool failed; ``stderr`` is its error output."""

    stderr = ""


def find_tool(name: str) -> str | None:
    """Return the path of a tool, or None if it is not installed."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SYSTEM_PATH)))


def _missing(name: str) -> str:
    return f"{name} is not installed: install the Debian package {PACKAGES[name]}"


def require_tool(name: str) -> str:
    """Return the path of a tool. Raises GuestError with the package to install."""
    path = find_tool(name)
    if path is None:
        raise GuestError(_missing(name))
    return path


def missing_tools() -> list[str]:
    """Return one sentence for each needed tool that is not installed."""
    return [_missing(name) for name in NEEDED if find_tool(name) is None]


async def run(
    argv: Sequence[str],
    *,
    purpose: str,
    timeout: float,
    cwd: Path,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a tool and return its output.

    ``argv[0]`` is looked up as a tool. ``purpose`` completes "cannot ..." in the error. ``timeout``: seconds.
    ``cwd``: the tool's working directory, and that of its temporary files. ``on_line``: called with each line as it is
    printed. ``pass_fds``: descriptors that it gets under the same numbers.
    Raises ToolError with the tool's own message when it fails, GuestError when it is missing or takes too long. If this
    function raises or is cancelled before the tool has ended, the tool and all processes of its session are killed.
    """
    with tempfile.TemporaryFile(dir=cwd) as errors:
        process = await asyncio.create_subprocess_exec(
            # If this process is killed, so is the tool.
            *(require_tool("setpriv"), "--pdeathsig", "KILL", "--"),
            require_tool(argv[0]),
            *argv[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "TMPDIR": str(cwd)},
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert process.stdout is not None
        lines = []
        try:
            async with asyncio.timeout(timeout):
                async for line in process.stdout:
                    lines.append(line.decode(errors="replace"))
                    if on_line:
                        on_line(lines[-1])
                code = await process.wait()
        except TimeoutError:
            raise GuestError(f"cannot {purpose}: {argv[0]} took more than {timeout:g} seconds") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code != 0:
            errors.seek(0)
            stderr = errors.read().decode(errors="replace")
            error = ToolError(f"cannot {purpose}: {_complaint(stderr) or f'{argv[0]} ended with exit code {code}'}")
            error.stderr = stderr
            raise error
        return "".join(lines)


def _complaint(stderr: str) -> str:
    """Return the first error of a tool's error output; those after it are mostly its consequences."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # apt marks lines with "E: " and "W: ", kmod with "ERROR: " and "WARNING: "; others do not mark them.
    errors = [line for line in lines if line.startswith("E: ")] or [
        line for line in lines if not line.startswith("W: ") and "WARNING: " not in line
    ]
    return errors[0].removeprefix("E: ") if errors else ""
