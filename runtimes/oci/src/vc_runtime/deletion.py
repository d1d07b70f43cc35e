"""Deletes containers, with all that was made for them."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import vc_core
from vc_core import ContainerNotFoundError, PodNotFoundError, VCError
from vc_runtime import cgroups, hooks, spec
from vc_runtime.calls import Call, state_of
from vc_runtime.faults import NoSuchContainer, RuntimeFault
from vc_runtime.records import Home, Record

#: Seconds for a shim that is killed to end.
_KILL_TIMEOUT = 10.0


def delete(call: Call, container_id: str, force: bool) -> None:
    """Delete a container with all that was made for it; with ``force`` in any state, and one that does not exist."""
    home = call.root.home(container_id)
    try:
        with home.locked():
            try:
                record = home.read()
            except (NoSuchContainer, RuntimeFault):
                if not force:
                    raise
                name = call.root.vc_id(container_id)
                record = Record(id=container_id, bundle="", pod=name, container=name)
            if not force and record.status not in ("stopped", "created"):
                raise RuntimeFault(f"cannot delete container {container_id} that is {record.status}; use --force")
            remove(call, home, record)
    except NoSuchContainer:
        if not force:
            raise


def remove(call: Call, home: Home, record: Record) -> None:
    """End what a record names, and remove it at last. Whatever is gone already is no error."""
    end_shim(record)
    members = [one for one in call.root.records() if one.pod == record.pod and one.id != record.id]
    shared = record.sandbox and (members or call.root.home(record.sandbox).path.exists())
    try:
        if shared:
            vc_core.delete_container(record.pod, record.container, force=True)
        else:
            vc_core.delete_pod(record.pod, force=True)
    except (PodNotFoundError, ContainerNotFoundError):
        pass
    with suppress(RuntimeFault):
        if record.bundle:
            config = spec.read(Path(record.bundle) / "config.json", spec.Spec)
            hooks.run_all("poststop", config.hooks.poststop, state_of(record, "stopped"), call.log)
    cgroups.remove(record.cgroup)
    home.remove()


def remove_forgotten(call: Call) -> None:
    """Remove the containers that have ended and whose bundles were removed without a delete. Called before a create."""
    for record in call.root.records():
        if is_forgotten(record):
            home = call.root.home(record.id)
            with suppress(RuntimeFault, VCError), home.locked():
                remove(call, home, home.read())


def is_forgotten(record: Record) -> bool:
    """Return whether nobody deletes a container any more: its engine has removed the bundle, as after a crash."""
    return record.status == "stopped" and not Path(record.bundle).exists()


def end_shim(record: Record) -> None:
    """Kill the shim of a container, and wait for its end."""
    if record.shim is None or (pidfd := record.shim.process.open_pidfd()) is None:
        return
    try:
        record.shim.process.send(SIGKILL)
        select.select([pidfd], [], [], _KILL_TIMEOUT)
    finally:
        os.close(pidfd)
