"""Resolves what a pod's VM boots: the caller's kernel and image, or the guest that a guest driver builds."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vc_core.config.pod import HypervisorConfig, PodConfig
from vc_core.driver.context import Boot
from vc_core.driver.files import read_regular
from vc_core.driver.guest import GuestBuilder, GuestImage, GuestRequest, Progress
from vc_core.errors import ConfigError
from vc_core.store.roots import guest_cache

if TYPE_CHECKING:
    from vc_core.plugins.registry import Plugins

#: First bytes of what the kernel takes as an initramfs (its lib/decompress.c and init/initramfs.c); all else is a disk.
_INITRAMFS_MAGICS = (
    b"070701",  # cpio, newc
    b"070702",  # cpio, newc with checksum
    b"\x1f\x8b",  # gzip
    b"\xfd7zXZ\x00",
    b"\x02\x21\x4c\x18",  # lz4, legacy
    b"\x28\xb5\x2f\xfd",  # zstd
)


def guest_request(plugins: Plugins, agent_type: str, options: dict[str, object], cache: Path) -> GuestRequest:
    """Return the request that a guest driver builds an agent's guest from. ``options``: those of the agent.

    Raises ConfigError when the agent brings no guest, StorageError for a cache that other users can write, DriverError.
    """
    return request_in(plugins, agent_type, options, guest_cache(cache))


def request_in(plugins: Plugins, agent_type: str, options: dict[str, object], directory: Path) -> GuestRequest:
    """Return the same for a directory of built guests that need not exist. Raises ConfigError, DriverError."""
    agent = plugins.agent(agent_type)
    payload = agent.guest(agent.config(options))
    if payload is None:
        raise ConfigError(f"agent {agent_type!r} brings no guest; give kernel_path and image_path")
    return GuestRequest(agent=agent_type, payload=payload, architecture=platform.machine(), cache_dir=directory)


async def resolve(plugins: Plugins, config: PodConfig, cache: Path, progress: Progress) -> Boot:
    """Return what the pod's VM boots; a guest that is not built yet is built. Called at each start of a pod.

    Raises ConfigError, GuestError, DriverError.
    """
    hypervisor = config.hypervisor_config
    params = tuple(filter(None, map(str, hypervisor.kernel_params)))
    if hypervisor.kernel_path:
        return await asyncio.to_thread(_given, hypervisor, params)  # their file server may be slow
    request = guest_request(plugins, config.agent_type, config.agent_config, cache)
    image = await find_or_build(plugins, guest_driver(plugins, config), request, progress, hypervisor.guest_options)
    return Boot(
        kernel=image.kernel, image=image.initramfs, image_is_initramfs=True, params=(*image.kernel_params, *params)
    )


def guest_driver(plugins: Plugins, config: PodConfig) -> str:
    """Return the name of the guest driver for a pod: the caller's choice, else the hypervisor's.

    Raises DriverError.
    """
    return config.hypervisor_config.guest or plugins.hypervisor(config.hypervisor_type).guest()


async def find_or_build(
    plugins: Plugins,
    guest: str,
    request: GuestRequest,
    progress: Progress,
    options: Mapping[str, object] | None = None,
) -> GuestImage:
    """Return the built guest for a request, building it on first use. Raises ConfigError, GuestError, DriverError."""
    made = builder(plugins, guest, options or {})
    return await made.find(request) or await made.build(request, progress)


def builder(plugins: Plugins, guest: str, options: Mapping[str, object]) -> GuestBuilder:
    """Return the builder of a guest driver. Raises ConfigError for unknown options, DriverError."""
    driver = plugins.guest(guest)
    return driver.create(driver.config(options))


def _given(hypervisor: HypervisorConfig, params: tuple[str, ...]) -> Boot:
    kernel = _regular_file("kernel_path", hypervisor.kernel_path)
    image = _regular_file("image_path", hypervisor.image_path)
    try:
        is_initramfs = read_regular(image, 8, follow=True).startswith(_INITRAMFS_MAGICS)
    except OSError as error:
        raise ConfigError(f"image_path {str(image)!r} cannot be read: {error.strerror}") from error
    return Boot(kernel=kernel, image=image, image_is_initramfs=is_initramfs, params=params)


def _regular_file(what: str, text: str) -> Path:
    path = Path(text)
    try:
        if not path.exists():
            raise ConfigError(f"{what} {text!r} does not exist")
        if not path.is_file():
            raise ConfigError(f"{what} {text!r} is not a regular file")
        read_regular(path, 0, follow=True)
    except OSError as error:
        raise ConfigError(f"{what} {text!r} cannot be read: {error.strerror}") from error
    return path
