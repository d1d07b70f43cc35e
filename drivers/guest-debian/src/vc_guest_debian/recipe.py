"""Recipe: the inputs of a build, and the keys that are computed from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vc_core.driver import GuestRequest, frozen, initramfs
from vc_core.errors import GuestError
from vc_guest_debian.architectures import architecture
from vc_guest_debian.config import LOAD_LIST, PACKAGE_NAME, DebianConfig

#: To be raised when the same recipe makes a different guest.
_FORMAT = 4

#: Modules of every guest: the bus of all the VM's devices, and its source of entropy.
_BASE_MODULES = ("virtio_pci", "virtio_rng")

#: Kernel parameters for Debian's kernel; the hypervisor adds those for its machine. Without the self-tests of its
#: ciphers it boots 0.3 s faster under emulation.
_KERNEL_PARAMS = ("cryptomgr.notests",)

#: kernel_lockdown(7): the guest's root can neither read nor change the running kernel, nor trace it, and can load only
#: modules that Debian signed. Because the kernel prepares no tracing, it boots 0.1 s faster.
_LOCKDOWN = ("lockdown=confidentiality",)


@frozen
class Recipe:
    """All inputs of a build except the versions of the packages. Contains the payload's files."""

    agent: str
    architecture: str
    kernel_package: str
    files: dict[str, initramfs.Entry]
    modules: tuple[str, ...]
    later: dict[str, tuple[str, ...]]
    packages: tuple[str, ...]
    kernel_params: tuple[str, ...]

    @classmethod
    def of(cls, request: GuestRequest, config: DebianConfig) -> Recipe:
        """Read the payload's files and return the recipe. Raises GuestError for a payload that cannot be used."""
        machine = architecture(request.architecture)
        payload = request.payload
        if "/init" not in payload.files:
            raise GuestError(f"the payload of the agent {request.agent!r} has no /init, which the kernel starts")
        for name in payload.packages:
            if not PACKAGE_NAME.fullmatch(name):
                raise GuestError(f"{name!r} is not the name of a Debian package")
        return cls(
            agent=request.agent,
            architecture=machine.debian,
            kernel_package=config.kernel_package or machine.kernel_package,
            files={path: _read(path, host_path) for path, host_path in payload.files.items()},
            modules=tuple(dict.fromkeys((*_BASE_MODULES, *payload.modules))),
            later={name: tuple(modules) for name, modules in payload.later.items()},
            packages=tuple(payload.packages),
            kernel_params=(*_KERNEL_PARAMS, *(_LOCKDOWN if config.lockdown else ()), *payload.kernel_params),
        )

    def inputs(self) -> dict[str, object]:
        """Return the recipe as JSON-able data, with hashes in place of contents."""
        return {
            "format": _FORMAT,
            "agent": self.agent,
            "architecture": self.architecture,
            "kernel_package": self.kernel_package,
            "files": {
                path: {"mode": f"{entry.mode:o}", "sha256": hashlib.sha256(entry.data).hexdigest()}
                for path, entry in sorted(self.files.items())
            },
            "modules": self.modules,
            "later": self.later,
            "packages": self.packages,
            "kernel_params": self.kernel_params,
        }

    def request_key(self) -> str:
        """Return the key by which a guest is found; the versions of the packages are not part of it."""
        return _key(self.inputs())

    def content_key(self, package_files: Sequence[str]) -> str:
        """Return the key of the guest that is made from exactly these package files."""
        return _key({**self.inputs(), "package_files": sorted(package_files)})


def _key(inputs: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: str, host_path: str) -> initramfs.Entry:
    root, *parts = path.split("/")
    if root or not parts or not {"", ".", ".."}.isdisjoint(parts) or path.partition(".")[0] == LOAD_LIST:
        raise GuestError(f"the payload has a file for {path!r}, which is not possible; give another absolute path")
    try:
        source = Path(host_path)
        return initramfs.file_entry(source.read_bytes(), executable=bool(source.stat().st_mode & 0o111))
    except OSError as error:
        raise GuestError(f"the guest's file {path} cannot be read: {error}") from error
