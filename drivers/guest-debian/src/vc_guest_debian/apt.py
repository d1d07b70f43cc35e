"""Downloads Debian packages with the host's apt: its sources, keys, proxies and verification, but none of its state.

apt checks every package against the signed lists. The host's lists are tried first. If the host has none, or they are
so old that their packages have been removed from the archive, lists are fetched into the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vc_core.errors import GuestError
from vc_guest_debian.tools import run

_UPDATE_TIMEOUT = 600.0  #: seconds; some 10 MB
_RESOLVE_TIMEOUT = 120.0  #: seconds; takes one, no network
_DOWNLOAD_TIMEOUT = 3600.0  #: seconds; some 70 MB


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package of a certain version, as apt names its file: ``name_version_architecture.deb``."""

    file_name: str

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
        # A line for each package: 'URI' FILE SIZE HASH
        return sorted(Package(line.split()[1]) for line in output.splitlines() if line.startswith("'"))

    async def download(self, packages: Sequence[Package], directory: Path, progress: Callable[[float], None]) -> None:
        """Download the packages' files into ``directory``, except those that are there with the right size.

        ``progress``: called with the part that is done, 0 to 1. Raises ToolError, GuestError when a file is missing.
        """

        def on_line(line: str) -> None:
            # apt's README.progress-reporting: "dlstatus:ITEM:PERCENT:TEXT"
            if line.startswith("dlstatus:"):
                progress(float(line.split(":")[2]) / 100)

        versions = [f"{package.name}={package.version}" for package in packages]
        await run(
            [*self._command, "-o", "APT::Status-Fd=1", "download", "--", *versions],
            purpose=f"download {', '.join(versions)}",
            timeout=_DOWNLOAD_TIMEOUT,
            cwd=directory,
            on_line=on_line,
        )
        for package in packages:
            if not (directory / package.file_name).is_file():
                raise GuestError(f"apt-get did not write the file {package.file_name} to {directory}")
