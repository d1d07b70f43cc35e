"""A plain user of this host, for tests that run as root: without rights, and with a home and an entry in /etc/passwd.

A developer may keep this project and the Python that runs it in a directory that others cannot enter. So each command
of the user runs in a mount namespace of its own, where such a directory holds nothing but what the user needs of it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from vc_core.driver import GuestImage
from vc_core.engine import guest_image
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots
from vc_core.testing.slowness import scaled

#: What the user needs, wherever it is: this project, and the interpreter with its packages.
_NEEDED = tuple(dict.fromkeys((Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix))))

#: Seconds for one command.
_TIMEOUT = 180.0


class PlainUser:
    """A user without subordinate ids, whose home is ``place/home``; other users can enter ``place``.

    ``uid``: one that no distribution gives to a user. Tests that count the user's processes have one of their own.
    """

    name = "plain"

    def __init__(self, place: Path, uid: int = 54321) -> None:
        self.uid = uid
        place.chmod(0o755)
        self.home, self.runtime = place / "home", place / "runtime"
        for directory in (self.home, self.runtime):
            directory.mkdir(mode=0o700)
            os.chown(directory, self.uid, self.uid)
        self._etc, self._kept = place / "etc", place / "kept"
        self._etc.mkdir()
        self._devices: list[Path] = []
        entry = f"{self.name}:x:{self.uid}:{self.uid}::{self.home}:/bin/sh\n"
        (self._etc / "passwd").write_text(Path("/etc/passwd").read_text(encoding="utf-8") + entry, encoding="utf-8")
        self.give_ids("")

    def give_ids(self, ids: str) -> None:
        """Let the user have these subordinate ids from now on: "FIRST:NUMBER" as in subuid(5), or "" for none."""
        for file in ("subuid", "subgid"):
            (self._etc / file).write_text(f"{self.name}:{ids}\n" if ids else "", encoding="ascii")

    def give_device(self, path: Path) -> None:
        """Let the user open a device from now on, as udev does for some that a host without it keeps for root."""
        node = self._etc.with_name(path.name)
        os.mknod(node, 0o20000, path.stat().st_rdev)
        node.chmod(0o666)
        self._devices.append(path)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a login, and the one with which no process is left behind a pod."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        login = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime), "PATH": path, "LANG": "C.UTF-8"}
        return {**login, "VIRTCONTAINERS_TEMPLATES": "off"}

    def take_guest(self) -> None:
        """Have a copy of the guest that pods of root boot: to build one takes long, and needs a package index."""
        built = asyncio.run(_guest_of_root()).kernel.parent
        cache = built.parents[1]
        for part in (cache / "requests", built):
            place = self.home / ".cache/virtcontainers/guests" / cache.name / part.relative_to(cache)
            shutil.copytree(part, place, symlinks=True)
        self.own(self.home)

    def own(self, top: Path) -> None:
        """Own a directory and all that is below it; no other user can enter one of the directories."""
        for path in (top, *top.rglob("*")):
            os.chown(path, self.uid, self.uid, follow_symlinks=False)
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)

    def run(
        self, *command: str | Path, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in the home, with the variables of a login unless others are given."""
        done = subprocess.run(
            self.command(*map(str, command)),
            cwd=self.home,
            env=self.environment if environment is None else environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=scaled(_TIMEOUT),
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a command as the user."""
        ids = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        view = "\n".join(["set -eu", *self._view(), 'exec "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", view, "sh", *ids, *command]

    def processes(self) -> set[int]:
        """Return the processes of the user that have not ended."""
        return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._has(entry)}

    def _has(self, entry: Path) -> bool:
        try:
            lines = (entry / "status").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return False
        fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        return fields["Uid"][0] == str(self.uid) and fields["State"][0] not in "ZX"

    def _view(self) -> Iterator[str]:
        """Yield the lines of a shell script that makes the view, in a mount namespace of its own."""
        for file in sorted(self._etc.iterdir()):
            yield f"mount --bind {shlex.quote(str(file))} /etc/{file.name}"
        for path in self._devices:
            yield f"mount --bind {shlex.quote(str(self._etc.with_name(path.name)))} {shlex.quote(str(path))}"
        hidden = {path: top for path in _NEEDED if (top := _first_closed(path)) is not None}
        kept = {path: shlex.quote(str(self._kept / str(number))) for number, path in enumerate(hidden)}
        for path, place in kept.items():
            yield f"mkdir -p {place}; mount --bind {shlex.quote(str(path))} {place}"
        for top in dict.fromkeys(hidden.values()):
            yield f"mount -t tmpfs -o mode=755 none {shlex.quote(str(top))}"
        for path, place in kept.items():
            yield f"mkdir -p {shlex.quote(str(path))}; mount --move {place} {shlex.quote(str(path))}"


async def _guest_of_root() -> GuestImage:
    plugins = Plugins()
    request = guest_image.guest_request(plugins, "hyperstart", {}, Roots.from_environment().cache)
    return await guest_image.find_or_build(plugins, "debian", request, lambda *_: None)


def _first_closed(path: Path) -> Path | None:
    """Return the outermost directory above a path that not everybody can enter, None if there is none."""
    return next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None)
