"""Known holes of QEMU and its libraries that a guest can reach, and which versions have them: data.

Distributions fix holes without a new version number of QEMU, so a version says only what its developers fixed in it; a
hole without a version that fixes it counts as open.
"""

from __future__ import annotations

import re

from vc_core.driver import frozen

#: A version as numbers, in order.
Version = tuple[int, ...]


@frozen
class Hole:
    """One hole. ``fixed``: the first version of ``program`` without it; None while none is published."""

    name: str
    program: str  #: QEMU or LIBSLIRP
    reach: str  #: which pods' guests can reach it, as the subject of a sentence
    effect: str  #: what such a guest can do, as its verb and object
    fixed: Version | None
    remedy: str
    source: str  #: address of the record


QEMU, LIBSLIRP = "QEMU", "libslirp"

HOLES = (
    # Published in September 2026. The record lists RHEL 8, 9 and 10 as affected, and no version as fixed.
    Hole(
        "CVE-2026-93834",
        QEMU,
        "the guest of a pod with a shared directory (virtio-9p), which is every pod of the agent hyperstart,",
        "can read and write what QEMU's process can, and execute code in it",
        None,
        "let pods start in a full jail only (virtc pod run --strict), so that QEMU's process has little; update QEMU "
        "as soon as your distribution's notes name this hole as fixed",
        "https://raw.githubusercontent.com/CVEProject/cvelistV5/main/cves/2026/93xxx/CVE-2026-93834.json",
    ),
    Hole(
        "CVE-2026-9539",
        LIBSLIRP,
        "the guest of a pod with a user network (--network user, --publish, --outbound)",
        "can read memory of QEMU's process",
        (4, 9, 2),
        "update libslirp to 4.9.2, or leave user networks out; a tap device does not use it",
        "https://suriq.io/blog/qemu-libslirp-guest-reads-host-memory",
    ),
)


def version_of(text: str) -> Version:
    """Return the first version number in a text, such as the output of ``--version``; empty if it has none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def is_open(hole: Hole, version: Version) -> bool:
    """Return whether a version has a hole; an unrecognized one (empty) has it."""
    return hole.fixed is None or version < hole.fixed
