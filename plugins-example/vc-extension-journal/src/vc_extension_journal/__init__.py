"""The extension ``journal``: what became of pods, and how long each call of a hypervisor took, as lines of JSON."""

from vc_extension_journal.plugin import JournalPlugin

__all__ = ["JournalPlugin"]
