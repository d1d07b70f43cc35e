"""Downloads Debian packages with the host's apt: its sources, keys, proxies and verification, but none of its state.

apt checks every package against the signed lists. The host's lists are tried first. If the host has none, or they are
so old that their packages have been removed from the archive, lists are fetched into the cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vc_core.errors import GuestError
from vc_guest_debian import integrity
from vc_guest_debian.tools import run

_UPDATE_TIMEOUT = 600.0  #: seconds; some 10 MB
_RESOLVE_TIMEOUT = 120.0  #: seconds; takes one, no network
_DOWNLOAD_TIMEOUT = 3600.0  #: seconds; some 70 MB


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package of a certain version, as apt names its file: ``name_version_architecture.deb``.

    ``sha256``: of that file, in hexadecimal digits, from the lists that apt verified.
    """

    file_name: str
    sha256: str

    @classmethod
    def of(cls, line: str) -> Package:
        """Return the package of a line that ``apt-get --print-uris`` printed: 'URI' FILE SIZE SHA256:HASH.

        Raises GuestError for a package whose hash the lists do not hold.
        """
        _, file_name, _, *hashes = line.split()
        for one in hashes:
            kind, _, value = one.partition(":")
            if kind == "SHA256":
                return cls(file_name, value)
        raise GuestError(f"the lists of packages hold no SHA-256 of {file_name}; run: apt-get update")

    @property
    def name(self) -> str:
        """Return the package's name."""
        return self.file_name.split("_")[0]

    @property
    def version(self) -> str:
        """Return the package's version; in the file's name the colon of an epoch is ``%3a``."""
        return unquote(self.file_name.split("_")[1])


class Apt:
    """The host's apt with a directory of its own, for one Debian architecture; with the host's lists or its own."""

    def __init__(self, directory: Path, architecture: str, *, own_lists: bool) -> None:
        for name in ("cache/archives/partial", "lists/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()
        self._directory = directory
        self._own_lists = own_lists
        # An empty status file stands for a system on which nothing is installed: the guest.
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "Dir::Cache": directory / "cache",
            "Dir::State::status": directory / "status",
            "Dir::State::extended_states": directory / "extended_states",
        }
        if own_lists:
            settings["Dir::State::lists"] = directory / "lists"
        self._command = ["apt-get", "-q", "-c", str(Path(__file__).with_name("apt.conf"))]
        for name, value in settings.items():
            self._command += ["-o", f"{name}={value}"]

    async def update(self) -> None:
        """Fetch the lists, unless they are the host's.

        Raises ToolError when a list cannot be fetched; :meth:`closure` then uses those that could.
        """
        if self._own_lists:
            await run(
                [*self._command, "update"],
                purpose="fetch the lists of packages",
                timeout=_UPDATE_TIMEOUT,
                cwd=self._directory,
            )

    async def closure(self, names: Sequence[str]) -> list[Package]:
        """Return the named packages and all their dependencies, at their current versions. Raises ToolError."""
        output = await run(
            [*self._command, "install", "--print-uris", "-qq", "--yes", "--no-install-recommends", "--", *names],
            purpose=f"find the package {' '.join(names)}",
            timeout=_RESOLVE_TIMEOUT,
            cwd=self._directory,
        )
        return sorted(Package.of(line) for line in output.splitlines() if line.startswith("'"))

    async def download(self, packages: Sequence[Package], directory: Path, progress: Callable[[float], None]) -> None:
        """Download the packages' files into ``directory``, except those that are there with the right content.

        ``progress``: called with the part that is done, 0 to 1. Raises ToolError, GuestError for a file that apt did
        not write, or whose hash is not the one in the lists.
        """

        def on_line(line: str) -> None:
            # apt's README.progress-reporting: "dlstatus:ITEM:PERCENT:TEXT"
            if line.startswith("dlstatus:"):
                progress(float(line.split(":")[2]) / 100)

        present = [package for package in packages if (directory / package.file_name).exists()]
        for package in await asyncio.to_thread(_damaged, present, directory):
            (directory / package.file_name).unlink()  # apt keeps what has the right size
        versions = [f"{package.name}={package.version}" for package in packages]
        await run(
            [*self._command, "-o", "APT::Status-Fd=1", "download", "--", *versions],
            purpose=f"download {', '.join(versions)}",
            timeout=_DOWNLOAD_TIMEOUT,
            cwd=directory,
            on_line=on_line,
        )
        for package in await asyncio.to_thread(_damaged, packages, directory):
            raise GuestError(
                f"the file {package.file_name} that apt-get wrote to {directory} is not the one in its lists"
            )


def _damaged(packages: Sequence[Package], directory: Path) -> list[Package]:
    """Return the packages whose files in a directory do not have the recorded content. Blocks. Raises OSError."""
    found = []
    for package in packages:
        file = directory / package.file_name
        if not file.is_file() or integrity.hash_of(file) != package.sha256:
            found.append(package)
    return found
