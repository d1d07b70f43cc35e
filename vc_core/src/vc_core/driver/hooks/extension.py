"""Hooks of an extension (entry-point group ``vc_core.extensions``): notified of what happened, asked nothing."""

from __future__ import annotations

from typing import Protocol

from vc_core.driver.hooks._markers import hookspec


class ExtensionSpec(Protocol):
    """What an extension may implement. Each is called; one that raises is logged and passed over.

    The process that committed a state calls the hooks on a thread of their own, for one state after the other; it does
    not wait for them before it goes on, but before it ends. An extension whose hook does not return within 3 seconds is
    disabled.
    """

    @hookspec
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Learn that a pod changed its state.

        Called: after the new state is on disk, by the process that committed it.
        ``pod_id``: the pod. ``old``, ``new``: values of ``State``; ``old`` is "" for a pod just created,
        ``new`` for one just deleted. Returns nothing.
        """

    @hookspec
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Learn that a container changed its state.

        Called: after the new state is on disk, by the process that committed it.
        ``pod_id``, ``container_id``: the container. ``old``, ``new``: as in ``vc_pod_transition``. Returns nothing.
        """
