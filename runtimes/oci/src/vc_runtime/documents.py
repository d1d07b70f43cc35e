"""The documents that ``spec`` and ``features`` print."""

from __future__ import annotations

from typing import Any

from vc_runtime import spec

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

#: A bundle's config.json to begin with.
SPEC: dict[str, Any] = {
    "ociVersion": spec.VERSION,
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "vc-runtime",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    ],
    "linux": {"namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")]},
}

#: What of the specification has an effect (its features.md).
FEATURES: dict[str, Any] = {
    "ociVersionMin": "1.0.0",
    "ociVersionMax": "1.2.0",
    "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
    "mountOptions": ["bind", "rbind", "ro", "rw"],
    "linux": {
        "namespaces": ["ipc", "mount", "network", "pid", "uts"],
        "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
        "seccomp": {"enabled": True},
        "apparmor": {"enabled": False},
        "selinux": {"enabled": False},
    },
    "annotations": {"io.virtcontainers.vcpus": "processors of the VM", "io.virtcontainers.memory": "MiB of the VM"},
}
