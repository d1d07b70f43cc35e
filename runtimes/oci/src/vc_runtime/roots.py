"""Decides whether a container writes to the directory that is its root, or to an overlay in the memory of its VM.

Only what is written to the directory is seen by its engine: when it copies files, compares, commits, and starts the
container again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import vc_core
from vc_core import PodNotFoundError, VCError
from vc_runtime import spec as oci
from vc_runtime.faults import RuntimeFault
from vc_runtime.records import Record
from vc_runtime.translate import Translated

#: The annotation by which a container must, "true", or must not, "false", write to the directory.
WRITABLE_ROOT = "io.virtcontainers.writable-root"


def why_overlay(spec: oci.Spec, root: Path) -> str:
    """Return why a container cannot write to the directory that is its root, "" if it can.

    Raises RuntimeFault if it must.
    """
    wanted = spec.annotations.get(WRITABLE_ROOT, "")
    if wanted not in ("", "true", "false"):
        raise RuntimeFault(f"annotation {WRITABLE_ROOT} is {wanted!r}; give true or false")
    if wanted == "false":
        return f"annotation {WRITABLE_ROOT} is false"
    try:
        vc_core.check_writable_root(str(root))
    except VCError as error:
        if wanted:
            raise RuntimeFault(f"annotation {WRITABLE_ROOT} is true, but {error}") from error
        return str(error)
    return ""


def choose(translated: Translated, spec: oci.Spec, record: Record) -> Translated:
    """Return the configuration of a container that is started, and of its pod, with what it writes to.

    A disk that is a root is not written to. Raises RuntimeFault if the container must write to the directory and
    cannot.
    """
    root = Path(record.rootfs)
    if not root.is_dir() or why_overlay(spec, root):
        return translated
    # Whatever the first container of a VM does, those that join it later have roots in the same place of the engine.
    pod = replace(translated.pod, writable_roots=True)
    if record.sandbox and not _takes_writable_roots(record.pod):
        if spec.annotations.get(WRITABLE_ROOT) == "true":
            raise RuntimeFault(
                f"annotation {WRITABLE_ROOT} is true, but the VM of the sandbox {record.sandbox} was started without "
                "writable roots; make that with the annotation too"
            )
        return replace(translated, pod=pod)
    writes = not translated.container.read_only
    return replace(translated, pod=pod, container=replace(translated.container, writable_root_fs=writes))


def _takes_writable_roots(pod: str) -> bool:
    try:
        return vc_core.inspect_pod(pod).writable_roots
    except PodNotFoundError:  # of which the start has a better error
        return False
