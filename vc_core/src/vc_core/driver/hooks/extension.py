"""Hooks of an extension (entry-point group ``vc_core.extensions``): notifications; return values are ignored."""

from __future__ import annotations

from typing import Protocol

from vc_core.driver.hooks._markers import hookspec


class ExtensionSpec(Protocol):
    """What an extension may implement. An exception that a hook raises is logged.

    The process that committed a state calls the hooks on a thread of their own, for one state after the other; it waits
    for them only before it ends. An extension whose hook does not return within 3 seconds is disabled.
    """

    @hookspec
    def vc_pod_transition(self, pod_id: str, old: str, new: str) -> None:
        """Handle a change of a pod's state.

        Called: after the new state is on disk, by the process that committed it.
        ``pod_id``: the pod. ``old``, ``new``: values of ``State``; ``old`` is "" for a pod just created,
        ``new`` for one just deleted. Returns nothing.
        """

    @hookspec
    def vc_container_transition(self, pod_id: str, container_id: str, old: str, new: str) -> None:
        """Handle a change of a container's state.

        Called: after the new state is on disk, by the process that committed it.
        ``pod_id``, ``container_id``: the container. ``old``, ``new``: as in ``vc_pod_transition``. Returns nothing.
        """
