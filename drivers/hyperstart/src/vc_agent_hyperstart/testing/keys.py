"""Validates JSON like a guest: an original refuses unknown keys, ``null``, and most empty lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: For each kind of object its keys: since 2016, since API 4243, since 4244, and only after HELLO.
_KEYS = {
    "pod": (
        "hostname containers shareDir interfaces routes dns portmappingWhiteLists restartPolicy",
        "",
        "dnsSearch dnsOptions",
        "root liveDir writableDir rootsDir",
    ),
    "container": (
        "id image rootfs fstype addr volumes fsmap process restartPolicy initialize ports",
        "",
        "sysctl readOnly",
        "overlay overlaySize memory pids rlimits capabilities noNewPrivs isolate ownPids "
        "maskedPaths readonlyPaths sharedMemory cpus seccomp devices writableRoot",
    ),
    "process": (
        "terminal stdio stderr args envs workdir user group additionalGroups",
        "id",
        "",
        "noInput rows columns exactGroups umask capabilities rlimits noNewPrivs oomScoreAdj",
    ),
    "env": ("env value", "", "", ""),
    "fsmap": ("source path readOnly dockerVolume", "", "", "writable tmpfs size mode noExec noSuid"),
    "volume": ("device addr mount fstype readOnly dockerVolume", "", "", ""),
    "interface": ("device ipAddress netMask ipAddresses newDeviceName", "", "mtu", "mac"),
    "address": ("ipAddress netMask", "", "", ""),
    "route": ("dest gateway device", "", "", ""),
    "node": ("", "", "", "path type major minor mode uid gid"),
    "freeze": ("", "", "", "container frozen"),
    "update": ("", "", "", "container memory pids cpus"),
    "sysctls": ("", "", "", "sysctl"),
    "clock": ("", "", "", "time"),
    "exec": ("container process", "", "", ""),
    "routes": ("routes", "", "", ""),
}

#: Keys whose values are such objects, or lists of them.
_INNER = {
    "containers": "container",
    "interfaces": "interface",
    "ipAddresses": "address",
    "routes": "route",
    "process": "process",
    "envs": "env",
    "fsmap": "fsmap",
    "volumes": "volume",
    "devices": "node",
}

#: Lists that may be empty.
_EMPTY = {"containers", "args"}


def offences(kind: str, value: Any, *, api: int, extended: bool) -> Iterator[str]:
    """Yield what a guest refuses in an object. ``extended``: the guest has answered HELLO."""
    if not isinstance(value, Mapping):
        yield f"{kind} is not an object"
        return
    since_2016, since_4243, since_4244, after_hello = (set(keys.split()) for keys in _KEYS[kind])
    supported = since_2016 | (since_4244 | after_hello if extended else set())
    if not extended:
        supported |= (since_4243 if api >= 4243 else set()) | (since_4244 if api >= 4244 else set())
    for key, inner in value.items():
        if key not in supported:
            yield f"{kind} has the unknown key {key}"
        if inner is None or (inner == [] and not extended and key not in _EMPTY):
            yield f"{kind} has {key} {inner}"
        elif key in _INNER:
            for one in inner if isinstance(inner, list) else [inner]:
                yield from offences(_INNER[key], one, api=api, extended=extended)
