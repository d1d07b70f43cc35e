"""PodContext: the paths and settings of one pod, passed to its drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from vc_core.config.ids import pod_uuid
from vc_core.config.pod import HypervisorConfig, PodConfig, Resources
from vc_core.frozen import frozen


@frozen
class Boot:
    """What a VM boots. ``image`` is an initramfs or a disk; ``params`` are the kernel's command line, in order."""

    kernel: Path
    image: Path
    image_is_initramfs: bool
    params: tuple[str, ...]


@frozen
class PodContext:
    """A frozen view of a pod, for a driver's create hook.

    ``run_dir``: a directory in which the drivers keep sockets and files while the pod runs; only the pod's owner has
    access, and the core removes it with the pod. ``share_dir``: the host directory whose sub-directories are the
    containers' root file systems; an agent that shares files adds it to the VM. ``boot``: None for a hypervisor that
    boots nothing, and when the object is made to take over or to discard a VM. ``writable_dir``: a second host
    directory like ``share_dir``, for mounts that containers may write to; None when no container of the pod has any.
    ``roots_dir``: a third one, for root file systems that containers write to, which is shared with
    ``SharedDirectory.owners``; None when no container of the pod has one. ``sources``: what the core binds below these
    for the containers that the pod starts with; for each name the path of the open file, ``/proc/PID/fd/N``, which is
    valid until ``Hypervisor.prepare`` returns.

    ``mount_namespace``: a path of the mount namespace in which these directories have their content, for setns(2) and
    ``nsenter --mount=PATH``. A process that the supervisor starts is in this namespace already; one that a daemon
    starts must enter it before the VM opens a shared directory. The path is
    ``/proc/PID/ns/mnt`` (namespaces(7)) of the supervisor, so it is valid in the host's pid namespace and as long as
    the process lives that was given it; another supervisor of the same pod is given another path. The namespace
    itself lasts as long as any process in it, such as the VM. None when no supervisor exists: while a pod is created,
    for a pod whose VM is no process, and when a forced delete calls ``Hypervisor.discard``.
    """

    id: str
    uuid: str  #: differs between all pods of the host, in any state root; the VM's process or daemon is given it
    run_dir: Path
    share_dir: Path
    resources: Resources
    hypervisor_config: HypervisorConfig
    boot: Boot | None = None
    writable_dir: Path | None = None
    roots_dir: Path | None = None
    mount_namespace: Path | None = None
    sources: Mapping[Path, Path] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: PodConfig,
        run_dir: Path,
        boot: Boot | None = None,
        mount_namespace: Path | None = None,
        sources: Mapping[Path, Path] | None = None,
        writes_roots: bool = False,
    ) -> PodContext:
        """Return the context of a pod; ``run_dir``: its run directory, which need not exist yet.

        ``writes_roots``: a container that it starts with writes to the directory that is its root.
        """
        mounts = (mount for one in config.containers for mount in one.mounts)
        writes = config.writable_mounts or any(mount.type == "bind" and not mount.read_only for mount in mounts)
        return cls(
            id=config.id,
            uuid=pod_uuid(run_dir),
            run_dir=run_dir,
            share_dir=run_dir / "share",
            resources=config.vm_config,
            hypervisor_config=config.hypervisor_config,
            boot=boot,
            writable_dir=run_dir / "writable" if writes else None,
            roots_dir=run_dir / "roots" if writes_roots or config.writable_roots else None,
            mount_namespace=mount_namespace,
            sources=sources or {},
        )
