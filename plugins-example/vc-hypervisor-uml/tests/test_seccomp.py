"""The filter of system calls: what a process under it can do and cannot do."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

#: A filter may be set by root alone, unless the process gives up what programs gain when they start (seccomp(2)).
pytestmark = pytest.mark.root

_PROGRAM = """
import os, sys
from vc_hypervisor_uml import seccomp
os.chdir(sys.argv[1])
os.umask(0)
seccomp.restrict_thread()
exec(sys.argv[2])
"""


def attempt(directory: Path, statement: str) -> str:
    """Run a statement under the filter and return what it complained of."""
    argv = [sys.executable, "-c", _PROGRAM, str(directory), statement]
    return subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=60).stderr


@pytest.mark.parametrize(
    "statement",
    [
        "os.chmod('file', 0o4755)",
        "os.chmod('file', 0o2755)",
        "os.fchmod(os.open('file', os.O_RDWR), 0o6755)",
        "os.close(os.open('new', os.O_RDWR | os.O_CREAT, 0o4755))",
        "os.mknod('new', 0o020600, os.makedev(1, 3))",
        "os.mknod('new', 0o060600, os.makedev(8, 0))",
        "os.mknod('new', 0o104755)",
    ],
)
def test_set_user_id_files_and_devices_cannot_be_made(tmp_path: Path, statement: str) -> None:
    (tmp_path / "file").touch(0o644)
    assert "PermissionError" in attempt(tmp_path, statement)
    assert [(one.name, stat.S_IMODE(one.stat().st_mode)) for one in tmp_path.iterdir()] == [("file", 0o644)]


def test_system_calls_of_the_x32_abi_are_not_permitted(tmp_path: Path) -> None:
    chmod = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.syscall(0x40000000 + 90, b'file', 0o4755)"
    assert "PermissionError" in attempt(tmp_path, f"{chmod}; raise OSError(ctypes.get_errno(), 'x32')")


@pytest.mark.needs("gcc")
def test_system_calls_of_another_architecture_are_not_permitted(tmp_path: Path) -> None:
    source, library = tmp_path / "getpid.c", tmp_path / "getpid.so"
    source.write_text(
        'int getpid_i386(void) { int pid; asm volatile("int $0x80" : "=a"(pid) : "0"(20)); return pid; }',
        encoding="utf-8",
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    call = f"import ctypes; pid = ctypes.CDLL({str(library)!r}).getpid_i386()"
    bare = subprocess.run([sys.executable, "-c", f"import os; {call}; assert pid == os.getpid()"], timeout=60)
    if bare.returncode != 0:
        pytest.skip("this host's kernel runs no i386 system calls (CONFIG_IA32_EMULATION)")
    assert "PermissionError" in attempt(tmp_path, f"{call}; raise OSError(-pid, 'i386')")


@pytest.mark.parametrize(
    "statement",
    [
        "os.chmod('file', 0o1755)",
        "os.close(os.open('new', os.O_RDWR | os.O_CREAT, 0o755))",
        "os.close(os.open('file', os.O_RDONLY, 0o4755))",  # no mode: nothing is made
        "os.mknod('new', 0o010600)",
        "os.symlink('file', 'new')",
        "os.mkdir('new', 0o755)",
    ],
)
def test_other_changes_of_files_are_permitted(tmp_path: Path, statement: str) -> None:
    (tmp_path / "file").touch(0o644)
    assert attempt(tmp_path, statement) == ""
