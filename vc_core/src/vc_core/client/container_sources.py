"""Opens the sources of a container that joins a running pod, which its supervisor may not see.

The supervisor lives in a mount namespace that was copied when the pod started: what was mounted since is not there. So
this process opens and checks the files, and passes them as copies of their mounts that have no place yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from vc_core.store.records import PodRecord
from vc_core.store.store import Store
from vc_core.supervisor.wire import SOURCES_MAX

if TYPE_CHECKING:
    from vc_core.config.container import ContainerConfig
    from vc_core.config.pod import PodConfig


@contextmanager
def passed(store: Store, record: PodRecord, container_id: str) -> Iterator[list[int]]:
    """Yield descriptors of the mounts of a container's root and of its mounts, in order, open in the body.

    None where the supervisor opens the sources by their names: those of a plain user, who has no mounts that the
    supervisor lacks; a root that is a disk; and so many that no message carries them. Raises ConfigError, StorageError.
    """
    config = _config(store.current_config(record), container_id)
    if os.geteuid() != 0 or not record.supervised or len(config.mounts) + 1 > SOURCES_MAX:
        yield []
        return
    from vc_core.host import mounts, sources
    from vc_core.host.paths import Rules

    opened = sources.open_container(config, Rules(store.roots), plugged=True)
    with ExitStack() as stack:
        stack.callback(opened.close)
        every = [opened.root, *filter(None, opened.mounts)]
        yield [] if opened.root.fstype else [stack.enter_context(mounts.copied(one.fd, one.path)) for one in every]


def _config(pod: PodConfig, container_id: str) -> ContainerConfig:
    return next(one for one in pod.containers if one.id == container_id)
