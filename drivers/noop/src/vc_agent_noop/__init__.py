"""The agent driver ``noop``: succeeds at everything and does nothing."""

from vc_agent_noop.plugin import NoopPlugin

__all__ = ["NoopPlugin"]
