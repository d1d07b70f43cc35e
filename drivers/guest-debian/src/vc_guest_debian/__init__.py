"""The guest driver ``debian``: builds guests from Debian packages."""
