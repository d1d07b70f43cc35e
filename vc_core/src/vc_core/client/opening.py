"""Starts pods whose only container runs beside its caller."""

from __future__ import annotations

from vc_core.client.interpreters import Operation
from vc_core.client.pods import create_and_start
from vc_core.client.processes import Running, open_with_streams
from vc_core.client.starting import Starting
from vc_core.client.stdio import Output
from vc_core.config.pod import PodConfig
from vc_core.errors import ConfigError
from vc_core.store.status import effective_record
from vc_core.store.store import Store
from vc_core.supervisor.messages import Start, Streams


def run_pod(
    config: PodConfig,
    supervisor: Starting,
    stdin: Output,
    stdout: Output,
    stderr: Output,
    terminal: tuple[int, int] | None,
    discard: bool,
) -> Operation[Running]:
    """Create a pod with one container and start it; return the container's main process once it runs.

    ``supervisor``: as for ``pods.run_pod``. ``discard``: the pod's supervisor stops and deletes it when the container
    has ended, unless another one runs, or this connection was lost before. Raises what ``pods.run_pod`` raises.
    """
    store = Store.here()
    if len(config.containers) != 1:
        raise ConfigError(f"a pod whose container is opened has one, not {len(config.containers)}")
    container = config.containers[0]

    def start(pod_id: str, early: Starting) -> Operation[Running]:
        record = effective_record(store.read(pod_id))

        def request(streams: Streams) -> Start:
            return Start(container=container.id, streams=streams, discard=discard)

        what, streams = f"the main process of {pod_id}/{container.id}", (stdin, stdout, stderr)
        return (yield from open_with_streams(store, record, what, request, *streams, terminal, early=early))

    return (yield from create_and_start(store, config, supervisor, start))[1]
