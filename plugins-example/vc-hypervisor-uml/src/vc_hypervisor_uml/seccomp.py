"""The filter of system calls (seccomp(2)) that the kernel's processes run under.

hostfs makes and changes files of the host at the guest's request, with the rights of the process. The filter keeps two
things out of directories that a guest can write to: set-user-id programs, and device files. It does not contain a
guest's kernel that an attacker controls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

#: prctl(2), <linux/seccomp.h>, <linux/audit.h>.
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_X86_64 = 0xC000003E

#: Where struct seccomp_data has the call's number, the architecture, and the lower half of the first argument.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

#: The bit of the x32 ABI (<asm/unistd_x32.h>), which has other numbers for the same calls on the same architecture.
_X32 = 0x40000000

#: Instructions of <linux/filter.h>: load a word, return, jump if equal, jump if any bit is set.
_LOAD, _RETURN, _IF_EQUAL, _IF_ANY = 0x20, 0x06, 0x15, 0x45

#: Mode bits: set-user-id and set-group-id; and the one that, of what mknod makes, only devices have (stat(2)).
_SET_ID = 0o6000
_DEVICE = 0o020000

#: Flags of open(2) without which it has no mode argument: O_CREAT and __O_TMPFILE.
_CREATE = 0o100 | 0o20000000

#: By the numbers of x86-64: which argument is the mode, and which of its bits are refused.
_MODES = {
    90: (1, _SET_ID),  # chmod
    91: (1, _SET_ID),  # fchmod
    268: (2, _SET_ID),  # fchmodat
    452: (2, _SET_ID),  # fchmodat2
    85: (1, _SET_ID),  # creat
    2: (2, _SET_ID),  # open
    257: (3, _SET_ID),  # openat
    133: (1, _SET_ID | _DEVICE),  # mknod
    259: (2, _SET_ID | _DEVICE),  # mknodat
}
#: Calls that have a mode only with certain flags: which argument holds the flags.
_FLAGS = {2: 1, 257: 2}

_INSTRUCTION = struct.Struct("=HBBI")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def restrict_thread() -> None:
    """Put the calling thread, and all processes that it starts later, under the filter. Raises OSError."""
    instructions = _filter()
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _filter() -> bytes:
    """Return the filter's instructions. A jump has the numbers of instructions to skip, if it is true and if not.

    Calls of another architecture or ABI have other numbers and are all refused.
    """
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_ANY, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number, (mode, refused) in _MODES.items():
        check = [
            (_LOAD, 0, 0, _ARGUMENTS + 8 * mode),
            (_IF_ANY, 0, 1, refused),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
        if number in _FLAGS:
            flags = [(_LOAD, 0, 0, _ARGUMENTS + 8 * _FLAGS[number]), (_IF_ANY, 1, 0, _CREATE), (_RETURN, 0, 0, _ALLOW)]
            check = flags + check
        code += [(_IF_EQUAL, 0, len(check), number), *check]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*one) for one in code)
