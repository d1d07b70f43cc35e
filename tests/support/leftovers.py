"""Looks at what is there after a process of the pod ``p`` was killed, or an operation has failed."""

from __future__ import annotations

from typing import Any

from forked import Server

#: Lists pods, deletes the pod if it is listed, and lists the files that are left below state and run root, hidden ones
#: too. Directories that both roots always have, the files of events and whole images are not counted. Prints the pods,
#: the seconds of the delete by a stopwatch, the files.
_LOOK = """
import contextlib, json, os
from pathlib import Path
import vc_core as vc
from vc_core.store.images import Images
from vc_core.store.roots import Roots
from vc_core.testing.slowness import Stopwatch
listed = {one.id: [one.state, one.reason] for one in vc.list_pods()}
if STOP:
    with contextlib.suppress(vc.VCError):
        vc.stop_pod("p")
watch = Stopwatch()
try:
    vc.delete_pod("p", force=True)
except vc.PodNotFoundError:
    if listed:
        raise
seconds = watch.seconds()
roots = Roots.from_environment()
left = [
    os.path.join(top, name)
    for root in (roots.state, roots.run)
    for top, directories, files in os.walk(root)
    for name in [*files, *(directories if top not in (str(roots.state), str(roots.run)) else [])]
    if os.path.join(top, name) not in (str(roots.state / "events"), str(roots.state / "events.1"))
]
images = roots.state / "images"
whole = [images / "names.json", images / ".lock", *(Path(one.root_fs).parent for one in Images(roots).all())]
left = [path for path in left if not path.startswith(tuple(map(str, whole)))]
print(json.dumps([listed, seconds, left]))
"""


def look(server: Server, stop: bool = False) -> list[Any]:
    """Return what pods are listed, with state and reason, how long a forced delete then took, and what it left.

    ``stop``: a pod that runs is stopped before, because a forced delete starts another interpreter for that.
    """
    found: list[Any] = server.call(f"STOP = {stop}\n{_LOOK}")
    return found
