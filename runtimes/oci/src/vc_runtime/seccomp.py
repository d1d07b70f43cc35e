"""Compiles the seccomp profile of a bundle to the program (BPF) that a container of vc_core takes, by libseccomp.

As runc does it: system calls that libseccomp does not know are left out, and so are rules that do what is the default.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from functools import cache

from vc_runtime import spec
from vc_runtime.faults import Refused, RuntimeFault

#: The library of all processes that filter system calls (Debian package libseccomp2), and what is used of it: the type
#: of each function's result, and those of its arguments (seccomp.h).
_LIBRARY = "libseccomp.so.2"
_FUNCTIONS: dict[str, tuple[type, ...]] = {
    "seccomp_version": (ctypes.POINTER(ctypes.c_uint * 3),),
    "seccomp_init": (ctypes.c_void_p, ctypes.c_uint32),
    "seccomp_release": (ctypes.c_int, ctypes.c_void_p),
    "seccomp_arch_resolve_name": (ctypes.c_uint32, ctypes.c_char_p),
    "seccomp_arch_add": (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32),
    "seccomp_syscall_resolve_name": (ctypes.c_int, ctypes.c_char_p),
    "seccomp_rule_add_array": (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_void_p),
    ),
    "seccomp_export_bpf": (ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
}

#: __NR_SCMP_ERROR: there is no system call of that name.
_UNKNOWN = -1

#: Actions by their names in the specification (linux/seccomp.h), and those that hold an error number, EPERM by default.
_ACTIONS = {
    "SCMP_ACT_KILL": 0x0,
    "SCMP_ACT_KILL_THREAD": 0x0,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x3_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
_ERRNO_ACTIONS = {"SCMP_ACT_ERRNO": 0x5_0000, "SCMP_ACT_TRACE": 0x7FF0_0000}
_EPERM = 1

#: Comparisons of arguments, by their names (enum scmp_compare).
_COMPARISONS = {
    name: number
    for number, name in enumerate(
        (
            *("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT"),
            "SCMP_CMP_MASKED_EQ",
        ),
        start=1,
    )
}


class _Argument(ctypes.Structure):
    """Struct scmp_arg_cmp."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("comparison", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


def program(profile: spec.Seccomp | None, notes: list[str]) -> bytes:
    """Return the program of a profile, b"" for none. Raises RuntimeFault, Refused for what only a host can do."""
    if profile is None:
        return b""
    try:
        library = _load()
    except OSError:
        notes.append(f"the seccomp profile is left out: {_LIBRARY} is missing (Debian package libseccomp2)")
        return b""
    default = _action(profile.default_action, profile.default_errno_ret)
    context = library.seccomp_init(default)
    if not context:
        raise RuntimeFault(
            f"the seccomp profile's default action {profile.default_action} with the error {profile.default_errno_ret} "
            "is not valid; give an error from 0 to 4095"
        )
    try:
        for name in profile.architectures:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            if token:  # else of another machine; one that is there already is refused
                library.seccomp_arch_add(context, token)
        for rule in profile.syscalls:
            action = _action(rule.action, rule.errno_ret)
            if action != default:
                for name in rule.names:
                    _add(library, context, action, name, rule.args)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def version() -> str:
    """Return the version of the library, such as "2.5.4", whose programs may differ; "" if it is missing."""
    try:
        return ".".join(map(str, _load().seccomp_version().contents))
    except OSError:
        return ""


@cache
def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _action(name: str, errno: int | None) -> int:
    if name in _ERRNO_ACTIONS:
        return _ERRNO_ACTIONS[name] | (_EPERM if errno is None else errno & 0xFFFF)
    if name == "SCMP_ACT_NOTIFY":
        raise Refused("a seccomp profile cannot notify a program of the host of system calls in a virtual machine")
    try:
        return _ACTIONS[name]
    except KeyError:
        raise RuntimeFault(f"the action {name!r} of the seccomp profile does not exist") from None


def _add(library: ctypes.CDLL, context: int, action: int, name: str, arguments: Sequence[spec.SeccompArgument]) -> None:
    """Add the rules for a system call. Raises RuntimeFault."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == _UNKNOWN:
        return
    for group in _groups(arguments):
        compared = (_Argument * len(group))(*map(_argument, group))
        failed = library.seccomp_rule_add_array(context, action, number, len(group), compared)
        if failed:
            raise RuntimeFault(f"the seccomp rule for {name} is not valid: {os.strerror(-failed)}")


def _groups(arguments: Sequence[spec.SeccompArgument]) -> Iterator[Sequence[spec.SeccompArgument]]:
    """Yield the arguments of each rule: libseccomp compares each once, so several comparisons of one are rules each."""
    if len({one.index for one in arguments}) == len(arguments):
        yield arguments
    else:
        yield from ([one] for one in arguments)


def _argument(given: spec.SeccompArgument) -> _Argument:
    if given.op not in _COMPARISONS:
        raise RuntimeFault(f"the comparison {given.op!r} of the seccomp profile does not exist")
    return _Argument(given.index, _COMPARISONS[given.op], given.value, given.value_two)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    file = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        if failed := library.seccomp_export_bpf(context, file):
            raise RuntimeFault(f"the seccomp profile cannot be compiled: {os.strerror(-failed)}")
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
