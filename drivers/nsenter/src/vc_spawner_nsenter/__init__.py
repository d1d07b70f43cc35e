"""Spawner driver ``nsenter``: runs a command in the namespaces of a container with nsenter(1) of util-linux."""

from vc_spawner_nsenter.config import NsenterConfig

__all__ = ["NsenterConfig"]
