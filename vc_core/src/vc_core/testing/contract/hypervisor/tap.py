"""A tap device of the host, for the contract's test of them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_TUN = "/dev/net/tun"

# From linux/if_tun.h, linux/sockios.h, linux/if.h and linux/if_ether.h.
_TUNSETIFF, _TUNSETPERSIST, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x400454CB, 0x2, 0x1000
_SIOCSIFFLAGS, _IFF_UP, _ETH_P_ALL = 0x8914, 0x1, 0x3
_IFREQ = struct.Struct("16sH22x")


@contextmanager
def tap_device(suffix: str = "") -> Iterator[tuple[str, socket.socket]]:
    """Make a tap device, up and without an address; yield its name and a socket that gets all its frames.

    Removes it at the end. ``suffix``: another one for each of several devices at a time. Skips the test where no tap
    device can be made.
    """
    name = f"vckit{os.getpid() % 10**8}{suffix}"
    try:
        _persist(name, True)
    except OSError as error:
        pytest.skip(f"no tap device can be made: {error.strerror}; run as root, with the module tun loaded")
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as frames:
            fcntl.ioctl(frames, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), _IFF_UP))
            frames.bind((name, _ETH_P_ALL))
            frames.setblocking(False)
            yield name, frames
    finally:
        _persist(name, False)


def _persist(name: str, wanted: bool) -> None:
    """Make a tap device that stays without a user, or remove it. Raises OSError."""
    tun = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tun, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI))
        fcntl.ioctl(tun, _TUNSETPERSIST, int(wanted))
    finally:
        os.close(tun)
