"""Pods as an older version stored them, in the directory ``older_pods``: the development version of 2026-11-29.

Of the pods, "live", "ready" and "stopped" are of the hypervisor mock. "running" has a VM of qemu, a container "c" that
runs, and a container "ended". Files of newer versions are added beside these, which stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PODS = Path(__file__).parent / "older_pods"


def install(state_root: Path, root_fs: Path, volume: Path) -> None:
    """Store all these pods below a state root."""
    places = {"@root@": state_root.parent, "@rootfs@": root_fs, "@volume@": volume}
    for file in _PODS.glob("*/*.json"):
        text = file.read_text(encoding="utf-8")
        for name, place in places.items():
            text = text.replace(name, str(place))
        copy = state_root / "pods" / file.parent.name / file.name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")


def rewrite(pod: Path) -> list[str]:
    """Write the files of a pod as the older version would have done; return the keys that it did not write.

    ``pod``: its directory below the state root. The pod has the containers that "running" has.
    """
    dropped: list[str] = []
    for name in ("config.json", "state.json"):
        older = json.loads((_PODS / "running" / name).read_text(encoding="utf-8"))
        newer = json.loads((pod / name).read_text(encoding="utf-8"))
        (pod / name).write_text(json.dumps(_as_in(newer, older, dropped)), encoding="utf-8")
    return dropped


def _as_in(newer: Any, older: Any, dropped: list[str]) -> Any:
    """Return a value without the keys of objects that ``older`` has not, at any depth."""
    if isinstance(newer, dict) and isinstance(older, dict):
        dropped += newer.keys() - older.keys()
        return {key: _as_in(value, older[key], dropped) for key, value in newer.items() if key in older}
    if isinstance(newer, list) and isinstance(older, list) and older:
        return [_as_in(one, older[0], dropped) for one in newer]
    return newer
