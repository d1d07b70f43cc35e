"""The guest agent on another machine than the one it was written on."""

from collections.abc import Callable

import pytest
from guest_vm import VM, RawHost

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm


def test_the_agent_works_on_aarch64(aarch64: VM, new_host: Callable[[VM], RawHost]) -> None:
    host = new_host(aarch64)
    host.hello()
    host.ok(Code.STARTPOD, {"hostname": "arm", "shareDir": "share", "containers": []})
    assert host.run("", "sh", "-c", "uname -mn; exit 3") == (3, b"arm aarch64\n", b"")
    assert host.run("", "sh", "-c", "tty; id -u", terminal=True, user="65534")[:2] == (0, b"/dev/pts/0\r\n65534\r\n")
    process = {"stdio": 5, "stderr": 6, "args": ["nosuch"]}
    assert host.refused(Code.EXECCMD, {"container": "", "process": process})["exit_code"] == 127
    assert host.run("", "ls", "/run/vc/share/base/rootfs/etc")[1] == b"group\npasswd\n"
