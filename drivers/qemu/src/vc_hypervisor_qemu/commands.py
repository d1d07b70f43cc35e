"""The commands that this driver sends to QEMU's monitor, and the error of one that QEMU refuses.

They are apart from ``monitor``, which loads the library that sends them: a start loads that while QEMU starts.
"""

from __future__ import annotations

from typing import Literal

from vc_core.errors import HypervisorError

#: The commands that this driver sends. Others can do anything on the host with QEMU's rights.
Command = Literal[
    "add-fd",
    "blockdev-add",
    "blockdev-del",
    "cont",
    "device_add",
    "device_del",
    "getfd",
    "human-monitor-command",
    "migrate",
    "migrate-incoming",
    "migrate-set-capabilities",
    "qom-list-types",
    "query-fdsets",
    "query-status",
    "quit",
    "remove-fd",
    "stop",
]

#: Arguments that limit the commands which can do more than this driver needs. The monitor for humans returns which
#: ports are forwarded; QMP has no command for that.
REQUIRED = {
    "blockdev-add": {"driver": "raw"},
    "device_add": {"driver": "scsi-hd"},
    "human-monitor-command": {"command-line": "info usernet"},
}

#: Commands with which QEMU can read or write files, or execute programs; only ``Monitor.migrate`` sends them.
MIGRATION = ("getfd", "migrate", "migrate-incoming", "migrate-set-capabilities")


class RefusedError(HypervisorError):
    """QEMU answered a command with an error."""
