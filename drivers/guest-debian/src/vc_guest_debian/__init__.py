"""Builds bootable guests from Debian packages: the Guest driver ``debian``."""
