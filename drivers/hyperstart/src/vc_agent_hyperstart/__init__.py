"""Agent driver ``hyperstart``: reaches into a guest whose pid 1 speaks the hyperstart protocol."""

from vc_agent_hyperstart.config import HyperstartConfig

__all__ = ["HyperstartConfig"]
