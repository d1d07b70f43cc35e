"""Gets Debian packages with the host's own apt: its sources, keys, proxies and verification, but none of its state.

apt checks every package against the signed lists. The host's lists are tried first; a host without them, or with lists
so old that the packages are gone, gets lists of its own in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vc_core.errors import GuestError

from vc_guest_debian.tools import run

UPDATE_DEADLINE = 600.0  #: seconds; some 10 MB
DOWNLOAD_DEADLINE = 3600.0  #: seconds; some 70 MB
_RESOLVE_DEADLINE = 120.0  #: seconds; no network

#: Read after the host's own configuration (``apt-get -c``), so it wins. Hooks of the host's configuration act on the
#: host and must not run; of the indexes only the lists of packages are wanted. An empty status file stands for a
#: system on which nothing is installed: the guest.
_CONFIG = """\
#clear APT::Update;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages::MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
Acquire::IndexTargets::deb::Packages::flatMetaKey "Packages";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
Dir::State::status "{directory}/status";
Dir::State::extended_states "{directory}/extended_states";
Dir::Cache "{directory}/cache";
Debug::NoLocking "true";
"""
_OWN_LISTS = 'Dir::State::lists "{directory}/lists";\n'


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package of a certain version and architecture, as apt names its file: ``name_version_architecture.deb``."""

    file_name: str

    @property
    def name(self) -> str:
        """Return the package's name."""
        return self.file_name.split("_")[0]

    @property
    def version(self) -> str:
        """Return the package's version; apt writes the colon of an epoch as ``%3a``."""
        return unquote(self.file_name.split("_")[1])


class Apt:
    """The host's apt, working in ``directory`` for one Debian architecture."""

    def __init__(self, directory: Path, architecture: str, own_lists: bool) -> None:
        self._directory = directory
        self._architecture = architecture
        self._own_lists = own_lists
        self._config = directory / ("own.conf" if own_lists else "host.conf")

    async def prepare(self) -> None:
        """Write apt's configuration, and fetch the lists unless they are the host's. Raises GuestError."""
        for name in ("cache/archives/partial", "lists/partial"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        text = _CONFIG + (_OWN_LISTS if self._own_lists else "")
        self._config.write_text(text.format(directory=self._directory, architecture=self._architecture))
        if self._own_lists:
            # Error-Mode: by default apt only warns when lists cannot be fetched.
            await self._apt_get(
                "update", "-q", "-o", "APT::Update::Error-Mode=any",
                purpose="fetch Debian's package lists", deadline=UPDATE_DEADLINE,
            )  # fmt: skip

    async def closure(self, names: Sequence[str]) -> list[Package]:
        """Return the named packages and all that they depend on, at their current versions. Raises GuestError."""
        lines = await self._apt_get(
            "install", "--print-uris", "-qq", "--yes", "--no-install-recommends", *names,
            purpose=f"find the package {' '.join(names)}", deadline=_RESOLVE_DEADLINE,
        )  # fmt: skip
        # One line a package: 'URI' FILE SIZE HASH
        return sorted(Package(line.split()[1]) for line in lines.splitlines() if line.startswith("'"))

    async def download(
        self, packages: Sequence[Package], directory: Path, progress: Callable[[float], None] | None = None
    ) -> None:
        """Put the packages' files into ``directory``; those already there and intact are not fetched again.

        ``progress``: called with the share that is done, 0 to 1. Raises GuestError.
        """

        def on_line(line: str) -> None:
            # apt-get(8) Status-Fd: "dlstatus:ITEM:PERCENT:TEXT"
            if progress and line.startswith("dlstatus:"):
                progress(float(line.split(":")[2]) / 100)

        await self._apt_get(
            "download", "-q", "-o", "APT::Status-Fd=1", *(f"{package.name}={package.version}" for package in packages),
            purpose=f"download {packages[0].name}", deadline=DOWNLOAD_DEADLINE, cwd=directory, on_line=on_line,
        )  # fmt: skip
        for package in packages:
            if not (directory / package.file_name).is_file():
                raise GuestError(f"apt-get did not leave {package.file_name} in {directory}: report this as a bug")

    async def _apt_get(
        self,
        *arguments: str,
        purpose: str,
        deadline: float,
        cwd: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        return await run(
            ["apt-get", "-c", str(self._config), *arguments],
            purpose=purpose, deadline=deadline, cwd=cwd or self._directory, on_line=on_line,
        )  # fmt: skip
