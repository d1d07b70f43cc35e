"""The keys that detach a caller from what runs on its terminal."""

from __future__ import annotations

import re

from vc_core.errors import ConfigError

#: The keys of docker and podman.
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"

#: One key: a character, or one with Ctrl, which clears the bits 0x60 of a letter or of one of @ [ \ ] ^ _ (ASCII).
_KEY = re.compile(r"ctrl-(?P<control>[a-zA-Z@\[\\\]^_])|(?P<plain>[!-~])")


class DetachKeys:
    """Looks for a sequence of keys in what is typed; ``pressed`` is set when they came, and nothing passes after them.

    What may be the beginning of the sequence is held back until the next key shows whether it is.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys, self._held = keys, b""
        self.pressed = False

    @classmethod
    def parse(cls, text: str) -> DetachKeys | None:
        """Return the keys given as ``KEY[,KEY...]``, each a character or ``ctrl-`` and one; None for an empty text.

        Raises ConfigError.
        """
        if not text:
            return None
        keys = bytearray()
        for word in text.split(","):
            found = _KEY.fullmatch(word)
            if found is None:
                raise ConfigError(
                    f"detach keys {text!r} are not valid: {word!r} is neither a character nor one after 'ctrl-'; "
                    f"give keys such as {DEFAULT_DETACH_KEYS!r}, or '' for none"
                )
            control = found["control"]
            keys.append(ord(control.upper()) & 0x1F if control else ord(found["plain"]))
        return cls(bytes(keys))

    def passed(self, data: bytes) -> bytes:
        """Return what of ``data``, and of what was held back, is for the program."""
        typed = self._held + data
        self._held = b""
        if self.pressed:
            return b""
        if (place := typed.find(self._keys)) >= 0:
            self.pressed = True
            return typed[:place]
        for length in range(min(len(self._keys) - 1, len(typed)), 0, -1):
            if self._keys.startswith(typed[-length:]):
                self._held = typed[-length:]
                return typed[:-length]
        return typed
