"""Agent driver ``sshd``: reaches into a guest through its SSH daemon."""

from vc_agent_sshd.config import SshdConfig

__all__ = ["SshdConfig"]
