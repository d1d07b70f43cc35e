"""What a guest is made from, and the keys that follow from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vc_core.driver import GuestRequest, initramfs
from vc_core.errors import GuestError
from vc_guest_debian.architectures import architecture
from vc_guest_debian.config import PACKAGE_NAME, DebianConfig
from vc_guest_debian.contents import LOAD_LIST

#: Raise it whenever the same recipe makes another guest.
_FORMAT = 3

#: Modules of every guest, whatever its agent: the bus that all devices of the VM sit on, and its source of entropy.
_BASE_MODULES = ("virtio_pci", "virtio_rng")

#: Kernel parameters that follow from what Debian's kernel is; those that follow from the machine are the hypervisor's.
#: Without the self-tests of its ciphers it boots 0.3 s faster under emulation.
_KERNEL_PARAMS = ("cryptomgr.notests",)

#: kernel_lockdown(7): the guest's root can neither read nor change its running kernel, and loads only Debian's own
#: modules. It can also not trace its kernel, and because the kernel then prepares no tracing, boots 0.1 s faster.
_LOCKDOWN = ("lockdown=confidentiality",)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides how a guest turns out, but for the versions of the packages. Holds the payload's files."""

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
        """Return the key under which a guest is found without knowing the packages' versions."""
        return _key(self.inputs())

    def content_key(self, package_files: Sequence[str]) -> str:
        """Return the key of the guest that is made from exactly these package files."""
        return _key({**self.inputs(), "package_files": sorted(package_files)})


def _key(inputs: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: str, host_path: str) -> initramfs.Entry:
    root, *parts = path.split("/")
    if root or not parts or not {"", ".", ".."}.isdisjoint(parts) or path.partition(".")[0] == LOAD_LIST:
        raise GuestError(f"the payload has a file for {path!r}, which is no place for one: give a plain absolute path")
    try:
        source = Path(host_path)
        return initramfs.file_entry(source.read_bytes(), executable=bool(source.stat().st_mode & 0o111))
    except OSError as error:
        raise GuestError(f"the guest's file {path} cannot be read: {error}") from error
