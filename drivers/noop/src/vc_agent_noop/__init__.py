"""The agent driver ``noop``: every call succeeds and does nothing."""

from vc_agent_noop.plugin import NoopPlugin

__all__ = ["NoopPlugin"]
