"""Builds what User Mode Linux boots: an initramfs of the agent's files, kernel modules and the host's own packages.

The kernel itself is not copied: it is a program of the host. In the cache a guest is ``uml/KEY/initramfs``, with
``manifest.json`` beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vc_core.driver import BuiltGuest, GuestBuilder, GuestImage, GuestRequest, Progress, initramfs, read_regular
from vc_core.errors import ConfigError, GuestError
from vc_hypervisor_uml import package

#: To be raised when the same request makes a different guest.
_FORMAT = 1

_INITRAMFS, _MANIFEST = "initramfs", "manifest.json"

#: Most bytes of a manifest that are read.
_MANIFEST_MAX = 1024 * 1024

#: Where the initramfs lists its modules in load order; see vc_core.driver.GuestPayload.
_LOAD_LIST = "/lib/modules/load"

#: Without the self-tests of its ciphers the kernel boots 0.2 s faster.
_KERNEL_PARAMS = ("cryptomgr.notests",)

#: Files of packages that are left out: documentation and translations.
_TEXTS = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/lintian/", "/usr/share/locale/")

#: Seconds for one call of a program.
_TIMEOUT = 30.0


class UmlBuilder(GuestBuilder):
    """Builds guests for the kernel of the package user-mode-linux."""

    async def find(self, request: GuestRequest) -> GuestImage | None:
        """Return the guest that was built for this request and this kernel, or None. Raises GuestError."""
        kernel, directory = _place(request)
        return _image(request, kernel, directory) if (directory / _INITRAMFS).exists() else None

    async def build(self, request: GuestRequest, progress: Progress) -> GuestImage:
        """Build the guest from what is installed on this host; nothing is downloaded. Raises GuestError."""
        kernel, directory = _place(request)
        progress("assembling the initramfs", None)
        manifest, files = await asyncio.to_thread(_contents, request, kernel)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _write(directory / _MANIFEST, [json.dumps(manifest).encode()])
            _write(directory / _INITRAMFS, initramfs.pack(files))
        except OSError as error:
            raise GuestError(f"a guest cannot be written to {str(directory)!r}: {error}") from error
        return _image(request, kernel, directory)

    def list(self, cache_dir: Path) -> list[BuiltGuest]:
        """Return every guest in the cache. Raises GuestError for a damaged one."""
        return [_described(one.parent) for one in (cache_dir / "uml").glob(f"*/{_INITRAMFS}")]

    def remove(self, cache_dir: Path, key: str) -> None:
        """Remove a guest; VMs that booted it have read it already. Raises GuestError if there is no such guest."""
        directory = _directory(cache_dir, key)
        if key not in [one.key for one in self.list(cache_dir)]:
            raise GuestError(f"there is no guest {key!r}; see virtc guest list --guest uml")
        for name in (_INITRAMFS, _MANIFEST):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


def _place(request: GuestRequest) -> tuple[Path, Path]:
    """Return the installed kernel, and the directory of the guest for it. Raises GuestError."""
    try:
        kernel = package.find_kernel()
    except ConfigError as error:
        raise GuestError(str(error)) from error
    return kernel, _directory(request.cache_dir, _key(request, kernel))


def _image(request: GuestRequest, kernel: Path, directory: Path) -> GuestImage:
    return GuestImage(kernel, directory / _INITRAMFS, (*_KERNEL_PARAMS, *request.payload.kernel_params))


def _contents(request: GuestRequest, kernel: Path) -> tuple[dict[str, object], dict[str, initramfs.Entry]]:
    """Return a guest's manifest and files. Writes nothing; blocks. Raises GuestError."""
    payload, version = request.payload, _run(str(kernel), "--version").strip()
    try:
        files = {
            **_package_files(payload.packages),
            **_modules(package.MODULES / version, payload.modules, payload.later),
            **{path: _read(Path(source).resolve()) for path, source in payload.files.items()},
        }
    except OSError as error:
        raise GuestError(f"a file for the guest cannot be read: {error}") from error
    return {"agent": request.agent, "made_from": [f"{kernel.name} {version}", *payload.packages]}, files


def _key(request: GuestRequest, kernel: Path) -> str:
    """Return the key of the guest for a request and a kernel, another one for a replaced kernel. Raises GuestError."""
    payload = request.payload
    try:
        binary = kernel.stat()
        files = {
            path: [Path(source).stat().st_mode, hashlib.sha256(Path(source).read_bytes()).hexdigest()]
            for path, source in sorted(payload.files.items())
        }
    except OSError as error:
        raise GuestError(f"a file for the guest cannot be read: {error}") from error
    modules = [list(payload.modules), {name: list(names) for name, names in sorted(payload.later.items())}]
    inputs = [_FORMAT, request.agent, files, modules, list(payload.packages), binary.st_size, binary.st_mtime_ns]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def _directory(cache_dir: Path, key: str) -> Path:
    return cache_dir / "uml" / key


def _described(directory: Path) -> BuiltGuest:
    try:
        manifest = json.loads(read_regular(directory / _MANIFEST, _MANIFEST_MAX))
        size = (directory / _INITRAMFS).stat().st_size
        return BuiltGuest(directory.name, manifest["agent"], tuple(manifest["made_from"]), directory, size)
    except (OSError, ValueError, KeyError) as error:
        raise GuestError(f"the guest {directory.name!r} is damaged ({error}); remove {str(directory)!r}") from error


def _modules(root: Path, names: Sequence[str], later: Mapping[str, Sequence[str]]) -> dict[str, initramfs.Entry]:
    """Return the named modules and those that they depend on, with the load lists.

    Modules that this kernel does not have are left out: they are for hardware that it does not have either, and its own
    devices are built in.
    """
    needs = _dependencies(root)
    files: dict[str, initramfs.Entry] = {}
    for path, wanted in [(_LOAD_LIST, names), *((f"{_LOAD_LIST}.{name}", names) for name, names in later.items())]:
        lines = []
        for source in dict.fromkeys(file for name in wanted for file in needs.get(name.replace("-", "_"), ())):
            target = f"/lib/modules/{Path(source).name}"
            files[target] = _read(root / source)
            lines.append(f"{target}\n")
        files[path] = initramfs.file_entry(os.fsencode("".join(lines)))
    return files


def _dependencies(root: Path) -> dict[str, list[str]]:
    """Return, for each module by its name, the files to load for it, in order (modules.dep(5))."""
    needs = {}
    for line in os.fsdecode((root / "modules.dep").read_bytes()).splitlines():
        file, _, others = line.partition(":")
        needs[Path(file).name.partition(".")[0].replace("-", "_")] = [*reversed(others.split()), file]
    return needs


def _package_files(names: Iterable[str]) -> dict[str, initramfs.Entry]:
    """Return the files of packages that are installed on this host, without their dependencies. Raises GuestError."""
    files = {}
    for name in names:
        for line in _run("dpkg-query", "--listfiles", name).splitlines():
            path = Path(line)
            if path.is_file() and not line.startswith(_TEXTS):
                files[line] = _read(path)
    return files


def _read(path: Path) -> initramfs.Entry:
    if path.is_symlink():
        return initramfs.Entry(stat.S_IFLNK | 0o777, os.fsencode(path.readlink()))
    return initramfs.file_entry(path.read_bytes(), executable=bool(path.stat().st_mode & 0o111))


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file completely or not at all. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            file.writelines(pieces)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _run(*argv: str) -> str:
    """Run a program and return its output. Raises GuestError with the program's own message when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuestError(f"{argv[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise GuestError(f"{' '.join(argv)} failed: {done.stderr.decode(errors='replace').strip()}; is it installed?")
    return os.fsdecode(done.stdout)
