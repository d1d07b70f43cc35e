"""The host's side of a VM's network: opens tap devices for QEMU to inherit, checks and connects to its ports."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vc_core.driver import PortForward
from vc_core.errors import HypervisorError, VMStartError
from vc_hypervisor_qemu.network import LOOPBACK

#: The device file of tap devices (Linux' Documentation/networking/tuntap.rst).
_TUN = Path("/dev/net/tun")

#: The ioctl that attaches a descriptor to a device, its flags (linux/if_tun.h), and struct ifreq (linux/if.h).
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")

#: Of unshare(2) (linux/sched.h).
_CLONE_NEWNET = 0x40000000

#: Seconds for a connection to QEMU on this host, which accepts it before it connects to the guest.
_CONNECTED = 5.0


def open_tap(name: str) -> int:
    """Return a descriptor of the tap device ``name``, for frames with the header that virtio puts before them.

    Called when a VM is prepared. Raises VMStartError if there is no such device, or if it is in use.
    """
    try:
        # Not by /sys, which has the devices of the network namespace in which it was mounted.
        socket.if_nametoindex(name)
    except OSError:  # the ioctl would make it, connected to nothing
        raise VMStartError(
            f"network device {name!r} does not exist; make it: ip tuntap add dev {name} mode tap"
        ) from None
    try:
        return _attach(name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise VMStartError(
                f"network device {name!r} is not a tap device with a single queue; make one for the pod"
            ) from error
        why = "another process uses it" if error.errno == errno.EBUSY else _reason(error)
        raise VMStartError(f"network device {name!r} cannot be opened: {why}") from error


def open_detached_tap() -> int:
    """Return a descriptor of a new tap device that is connected to nothing, as :func:`open_tap` does.

    Called when a VM is prepared that becomes a template. The device is in a network namespace of its own, which ends
    with the descriptor, so that no program of the host sees it. Raises VMStartError.
    """
    with ThreadPoolExecutor(1) as threads:  # a namespace is that of a thread, which ends here
        return threads.submit(_make_tap).result()


def _make_tap() -> int:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise VMStartError(f"a network namespace for the VM of a template cannot be made: {why}")
    try:
        return _attach("template")
    except OSError as error:
        raise VMStartError(f"a tap device for the VM of a template cannot be made: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """Return why a device could not be attached to, with the file that could not be opened."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _attach(name: str) -> int:
    """Return a descriptor of a tap device, which is made if there is none. Raises OSError."""
    tap = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except BaseException:
        os.close(tap)
        raise
    return tap


def check_free(forwards: Iterable[PortForward]) -> None:
    """Refuse ports of the host that are in use. Called just before QEMU starts. Raises VMStartError.

    QEMU itself would share a UDP port with another QEMU without an error.
    """
    for one in forwards:
        with socket.socket(type=socket.SOCK_DGRAM if one.protocol == "udp" else socket.SOCK_STREAM) as probe:
            if one.protocol == "tcp":  # connections in TIME_WAIT do not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, one.host_port))
            except OSError as error:
                raise VMStartError(
                    f"{one.protocol} port {one.host_port} of {LOOPBACK} cannot lead into the guest: {error.strerror}; "
                    "choose another host port, or 0 for any"
                ) from error


async def connect(port: int) -> socket.socket:
    """Return a non-blocking connection to a port of this host where QEMU listens. Raises HypervisorError."""
    client = socket.socket()
    try:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(_CONNECTED):
            await asyncio.get_running_loop().sock_connect(client, (LOOPBACK, port))
    except BaseException as error:
        client.close()
        if not isinstance(error, OSError):
            raise
        why = error.strerror or f"no answer within {_CONNECTED:g} s"
        raise HypervisorError(
            f"port {port} of {LOOPBACK}, which leads into the guest, does not connect: {why}"
        ) from error
    return client
