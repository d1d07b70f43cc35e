"""The file ``state.json``: the state of a pod and its containers; and how the store's files are encoded and decoded.

Every file carries a schema number; one of a newer schema, or with unknown keys, is refused and left unchanged.
``config_record`` has the other file, in a module of its own because listing pods does not need it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from vc_core.config.network import PortForward
from vc_core.decoding import decode_json
from vc_core.errors import ConfigError, StorageError
from vc_core.states import State

#: The schema of the files that this version writes, and the newest that it reads.
SCHEMA = 1


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of one container.

    ``process`` is the agent's name for its main process, as long as the guest holds the container, ended or not.
    """

    state: State = State.READY
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None  #: seconds since the epoch
    ended_at: float | None = None
    process: str = ""
    terminal: bool = False  #: its main process was started on a terminal
    open_input: bool = False  #: the input of its main process stays open for clients that attach


class PodRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of a pod.

    ``supervised``: its VM is a process, so it has a supervisor while it runs. ``intent``: an operation that was begun
    and whose end is not recorded yet. ``vm``: the VM's process identity. ``discards``: its hypervisor driver, and not
    the core, finds a VM that is not recorded. ``saved_*``: what the drivers' objects need to
    take the VM over. ``forwards``: ports of this host that lead into the guest. ``warnings``: those of the agent.
    ``strict``: it may run in a full jail only, from the first start on that was to be strict.
    ``template``: the kind of the template of which the VM is a clone, "" if its guest booted.
    """

    schema: int = SCHEMA
    id: str
    state: State = State.READY
    reason: str = ""
    changed_at: float | None = None  #: when state and reason became what they are, in seconds since the epoch
    hypervisor: str
    agent: str
    supervised: bool
    created_at: float  #: seconds since the epoch
    intent: str = ""
    vm: dict[str, Any] | None = None
    discards: bool = False
    saved_hypervisor: dict[str, Any] | None = None
    saved_agent: dict[str, Any] | None = None
    acceleration: str = ""
    isolation: str = ""
    jail: str = ""
    jail_missing: list[str] = []
    strict: bool = False
    template: str = ""
    forwards: list[PortForward] = []
    warnings: list[str] = []
    labels: dict[str, str] = {}
    containers: dict[str, ContainerRecord] = {}


def encode(record: msgspec.Struct) -> bytes:
    """Return a record's JSON, indented for the people who look into state directories."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


class _Schema(msgspec.Struct):
    schema: int


_Record = TypeVar("_Record", bound=msgspec.Struct)


def decode_pod(data: bytes, path: str) -> PodRecord:
    """Return the record that ``state.json`` holds; ``path`` names the file in errors. Raises StorageError."""
    with suppress(msgspec.MsgspecError, ConfigError, UnicodeDecodeError, RecursionError):  # which is explained below
        record = decode_json(data, PodRecord)
        # Its Structs have refused unknown keys; forwards are dataclasses, which do not.
        if record.schema <= SCHEMA and not record.forwards:
            return record
    return decode(data, path, PodRecord)


def decode(data: bytes, path: str, wanted: type[_Record]) -> _Record:
    """Return the record of a file. Raises StorageError for one that is broken, newer, or has unknown keys."""
    try:
        schema = decode_json(data, _Schema).schema
        if schema > SCHEMA:
            raise StorageError(
                f"{path!r} was written by a newer version (schema {schema}; this one reads {SCHEMA}); use that version"
            )
        record = decode_json(data, wanted)
        raw, kept = decode_json(data, object), msgspec.to_builtins(record)
        unknown = "" if raw == kept else _unknown_key(raw, kept)
    except (msgspec.MsgspecError, ConfigError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"{path!r} is broken: {error}") from error
    if unknown:
        raise StorageError(f"{path!r} is broken: it has the unknown key {unknown!r}")
    return record


def _unknown_key(raw: object, kept: object) -> str:
    """Return the first key of ``raw`` that decoding dropped, or "".

    msgspec refuses unknown keys of its Structs (``forbid_unknown_fields``), but ignores those of dataclasses.
    """
    if isinstance(raw, dict) and isinstance(kept, dict):
        for key, value in raw.items():
            if found := _unknown_key(value, kept[key]) if key in kept else key:
                return str(found)
    elif isinstance(raw, list) and isinstance(kept, list):
        for one, other in zip(raw, kept, strict=True):
            if found := _unknown_key(one, other):
                return found
    return ""
