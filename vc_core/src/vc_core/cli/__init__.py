"""The command ``virtc``: reads arguments, calls the API, prints. One module per group of commands."""

from vc_core.cli.main import main

__all__ = ["main"]
