"""A profile becomes a program that the kernel takes, and that does to a process what the profile says."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from vc_runtime import seccomp, spec
from vc_runtime.faults import Refused, RuntimeFault

pytestmark = pytest.mark.needs("libseccomp")

#: prctl(2), linux/seccomp.h.
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2

#: personality(2): asks for the persona, and changes nothing.
_ASK = 0xFFFFFFFF


def program(**fields: Any) -> bytes:
    text = msgspec.json.encode({"defaultAction": "SCMP_ACT_ALLOW", **fields})
    return seccomp.program(spec.parse(text, spec.Seccomp, "profile"), [])


def filtered(code: bytes, call: Callable[[ctypes.CDLL], int]) -> int:
    """Return the error number, 0 for none, of a call by a process that has the filter."""
    pid = os.fork()
    if not pid:
        libc = ctypes.CDLL(None, use_errno=True)
        text = ctypes.create_string_buffer(code, len(code))
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        filter_ = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(text))
        if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, filter_):
            os._exit(255)
        os._exit(ctypes.get_errno() if call(libc) < 0 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def personality(persona: int) -> Callable[[ctypes.CDLL], int]:
    return lambda libc: int(libc.personality(ctypes.c_ulong(persona)))


def rule(*arguments: Any, names: tuple[str, ...] = ("personality",), **fields: Any) -> list[dict[str, Any]]:
    return [{"names": names, "action": "SCMP_ACT_ERRNO", "args": arguments, **fields}]


def equal(value: int) -> dict[str, Any]:
    return {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}


def test_an_error_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="default action SCMP_ACT_ERRNO with the error 4096 is not valid"):
        program(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=4096)
    with pytest.raises(RuntimeFault, match="the seccomp rule for personality is not valid"):
        program(syscalls=rule(errnoRet=-1))


def test_a_call_gets_the_error_of_its_rule_and_others_go_on() -> None:
    code = program(syscalls=rule(names=("no_such_call", "mkdir", "mkdirat"), errnoRet=errno.ENOTTY))
    assert filtered(code, lambda libc: int(libc.mkdir(b"/nowhere/at/all", 0o700))) == errno.ENOTTY
    assert filtered(code, lambda libc: int(libc.rmdir(b"/nowhere/at/all"))) == errno.ENOENT


@pytest.mark.parametrize(("persona", "wanted"), [(_ASK, errno.EPERM), (0, 0)])
def test_a_rule_holds_where_its_arguments_are_equal(persona: int, wanted: int) -> None:
    assert filtered(program(syscalls=rule(equal(_ASK))), personality(persona)) == wanted


@pytest.mark.parametrize(("persona", "wanted"), [(_ASK, errno.EPERM), (0, errno.EPERM), (8, 0)])
def test_of_several_comparisons_of_one_argument_each_is_a_rule(persona: int, wanted: int) -> None:
    assert filtered(program(syscalls=rule(equal(_ASK), equal(0))), personality(persona)) == wanted


def test_a_bits_comparison_and_the_default_of_a_profile_count() -> None:
    masked = {"index": 0, "value": 0x4000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    allowed = {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [masked]}
    kept = {"names": ["prctl", "exit_group"], "action": "SCMP_ACT_ALLOW"}
    fields = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EXDEV}
    code = program(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], syscalls=[allowed, kept], **fields)
    assert filtered(code, personality(8)) == 0
    assert filtered(code, personality(0x4008)) == errno.EXDEV


def test_without_a_profile_there_is_no_program() -> None:
    assert seccomp.program(None, []) == b""


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"syscalls": [*rule(), {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}, Refused, "cannot notify"),
        ({"defaultAction": "SCMP_ACT_ASK"}, RuntimeFault, "the action 'SCMP_ACT_ASK' of the seccomp profile"),
        ({"syscalls": rule({**equal(1), "op": "SCMP_CMP_IN"})}, RuntimeFault, "the comparison 'SCMP_CMP_IN'"),
        ({"syscalls": rule({**equal(1), "index": 9})}, RuntimeFault, "the seccomp rule for personality is not valid"),
    ],
)
def test_a_profile_that_cannot_be_applied_is_refused(fields: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        program(**fields)
