"""An engine's container in a VM, against the same container with runc: podman, with directories of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import vc_core as vc
from benchmarks.frame import Row, Turn, turn
from benchmarks.world import HERE, World

# The podman of the tests of the runtime, a module without a package, and what that imports.
sys.path += [str(HERE.parent / one) for one in ("runtimes/oci/tests", "tests/support")]
from podman_host import IMAGE, Podman, podman

#: Pods of the kinds that vc-runtime makes of containers with a network of podman, and without one.
_CONNECTED = vc.NetworkConfig(mode="tap", device="tap", addresses=["192.0.2.2/24"])
_ALONE = vc.NetworkConfig()


def _seconds(engine: Podman, *options: str) -> float:
    began = time.monotonic()
    engine.run(*options, IMAGE, "true")
    return time.monotonic() - began


def _run(network: vc.NetworkConfig, *options: str) -> Callable[[World], AbstractContextManager[Turn]]:
    """Return what measures ``podman run --rm`` with these options; the VM starts from a template."""

    @contextmanager
    def measure(world: World) -> Iterator[Turn]:
        vc.create_template(vc.PodConfig(writable_mounts=True, hostname="c", network=network))
        with podman(world.new_folder("podman")) as engine:
            command = ("run", "--rm", *options)
            yield turn(lambda: _seconds(engine, *command), lambda: _seconds(engine, "--runtime", "runc", *command))
            engine.wait_cleaned()

    return measure


ROWS = (
    Row(
        "podman", "`podman run --rm --runtime vc-runtime IMAGE true` from a template",
        "`podman run --rm --runtime runc IMAGE true`", _run(_CONNECTED), limit=4, rounds=9, warm_up=2,
    ),
    Row(
        "podman-none", "`podman run --rm --network none --runtime vc-runtime IMAGE true` from a template",
        "`podman run --rm --network none --runtime runc IMAGE true`", _run(_ALONE, "--network", "none"),
        limit=6, rounds=9, warm_up=2,
    ),
)  # fmt: skip
