"""The Guest driver ``debian``: builds kernels and initramfs images from Debian packages.

:func:`list_guests` and :func:`remove_guest` look after what it built; everything else is reached through the core.
"""

from vc_guest_debian.cache import CachedGuest, list_guests, remove_guest

__all__ = ["CachedGuest", "list_guests", "remove_guest"]
