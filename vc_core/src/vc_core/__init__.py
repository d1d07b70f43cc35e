"""Containers that run inside a virtual machine per pod."""

__version__ = "0.1.0"
