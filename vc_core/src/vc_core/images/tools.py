"""Runs skopeo and umoci, which fetch and unpack images, and ends them when they would fill the disk."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vc_core.errors import ImageError

#: The Debian package of each program.
_PACKAGES = {"skopeo": "skopeo", "umoci": "umoci", "setpriv": "util-linux"}

#: Directories in which programs are looked up after PATH, because that of a service may lack them.
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

#: Bytes that stay free on the file system of the images, so that what else is stored there can go on.
ROOM_LEFT = 256 * 1024 * 1024

#: Seconds between two looks at the disk.
_LOOK = 0.2

#: How skopeo and umoci end when they fail: of skopeo's lines those with level=fatal, of umoci's those that begin so.
_FATAL = (re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"'), re.compile(r"^\s*⨯\s*(.*)$", flags=re.MULTILINE))

#: What skopeo puts before a reason, and repeats the image's name with. It does so also when it has parsed that name.
_PREAMBLE = re.compile(r'^(?:Error parsing image name|initializing source|Error initializing source) "?[^"\s]*"?: ')

#: What to do about a reason of skopeo's that fits.
_REMEDIES = (
    (
        r"server gave HTTP response|x509:|tls: ",
        "--tls-verify=false, in Python tls_verify=False, accepts such a registry",
    ),
    (r"unauthorized|authentication required|denied", "correct the name, or log in: skopeo login REGISTRY"),
    (r"manifest unknown|name unknown|repository name not known", "the registry has no such image; correct the name"),
    (r"toomanyrequests", "log in, skopeo login REGISTRY, or pull it later"),
    (r"no such host|connection refused|i/o timeout|network is unreachable", "correct the registry, or try again"),
)


def find(name: str) -> str:
    """Return the path of a program. Raises ImageError with what to install."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SYSTEM_PATH)))
    if path is None:
        raise ImageError(
            f"{name} is not installed, and images need it; run: apt install --no-install-recommends {_PACKAGES[name]}"
        )
    return path


def require_room(directory: Path, wanted: int, what: str) -> None:
    """Refuse to write ``wanted`` bytes where there is no room for them. Raises ImageError."""
    free = shutil.disk_usage(directory).free
    if free - wanted < ROOM_LEFT:
        raise ImageError(
            f"{what}: {f'it takes {_mib(wanted)} MiB at least, and ' if wanted else ''}the disk of "
            f"{str(directory.parent)!r} has {_mib(free)} MiB left, of which {_mib(ROOM_LEFT)} stay free; make room, or "
            "remove images"
        )


async def run(
    what: str, directory: Path, environment: Mapping[str, str], *argv: str, look: Callable[[], None] = lambda: None
) -> bytes:
    """Run a program and return its output.

    ``what`` begins its errors ("image 'x' cannot be pulled"). ``directory`` is where it writes; it is ended when that
    file system is nearly full. ``look`` is called now and then while it runs; it is ended when that raises, when this
    is cancelled, and with this process. Raises ImageError.
    """
    with tempfile.TemporaryFile(dir=directory) as output, tempfile.TemporaryFile(dir=directory) as errors:
        process = await asyncio.create_subprocess_exec(
            *(find("setpriv"), "--pdeathsig", "KILL", "--", find(argv[0]), *argv[1:]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=directory,
            env={**environment, "LC_ALL": "C", "TMPDIR": str(directory)},
            start_new_session=True,
            umask=0o022,
        )
        ended = asyncio.ensure_future(process.wait())
        try:
            while not (await asyncio.wait({ended}, timeout=_LOOK))[0]:
                require_room(directory, 0, what)
                look()
        finally:
            if not ended.done():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await ended
        for file in (output, errors):
            file.seek(0)
        if process.returncode:
            raise ImageError(f"{what}: {_complaint(argv[0], errors.read().decode(errors='replace'))}")
        return output.read()


def _complaint(name: str, text: str) -> str:
    """Return the reason that a program gave on its standard error, and what to do about it if that is clear."""
    for pattern in _FATAL:
        if found := pattern.findall(text):
            reason = str(found[-1]).replace('\\"', '"').replace("\\\\", "\\").replace("\\n", " ")
            reason = _PREAMBLE.sub("", reason)
            remedy = next((remedy for cause, remedy in _REMEDIES if re.search(cause, reason)), "")
            return "; ".join(filter(None, (reason, remedy)))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"{name} failed and gave no reason"


def _mib(size: int) -> int:
    return size // 2**20
