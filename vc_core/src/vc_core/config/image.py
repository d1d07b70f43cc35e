"""ImageReference: the name of a container image, read as docker reads it."""

from __future__ import annotations

import re
from typing import Self

from vc_core.config.values import quoted
from vc_core.errors import ConfigError
from vc_core.frozen import frozen

#: Where images without a registry in their name come from, and where those without a namespace are there.
DEFAULT_REGISTRY, _OFFICIAL = "docker.io", "library"

#: The tag of a name that has neither a tag nor a digest.
_DEFAULT_TAG = "latest"

# The grammar of github.com/distribution/reference, which docker, podman and skopeo use.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

#: A digest alone may be shortened, as docker shortens ids.
_SHORT_DIGEST = re.compile(r"sha256:[0-9a-f]{12,64}")

#: Characters of registry and path together, at most.
_NAME_MAX = 255


@frozen
class ImageReference:
    """The name of an image: ``docker.io/library/busybox:1.36``, with ``@sha256:...`` that of one content only.

    ``name`` has the registry, and is empty for an image that is named by its digest alone, which may be shortened to
    12 digits then. One of ``tag`` and ``digest`` is given; with both, the digest decides.
    """

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference given as docker takes it: ``[REGISTRY/]PATH[:TAG][@sha256:DIGEST]``, or a digest alone.

        ``busybox`` is ``docker.io/library/busybox:latest``. Raises ConfigError.
        """
        if not isinstance(text, str):
            raise ConfigError(f"image {quoted(text)} is not a string; give a name such as busybox:1.36")
        if _SHORT_DIGEST.fullmatch(text):
            return cls("", digest=text)
        rest, at, digest = text.removeprefix("docker://").partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise ConfigError(
                f"image {quoted(text)} has the digest {quoted(digest)}; give sha256: and 64 digits of hex"
            )
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise ConfigError(f"image {quoted(text)} has the tag {quoted(tag)}; a tag has letters, digits and _.- only")
        registry, path = _registry_and_path(head + slash + last)
        if not _REGISTRY.fullmatch(registry) or not _PATH.fullmatch(path) or len(registry) + len(path) > _NAME_MAX:
            raise ConfigError(
                f"image {quoted(text)} is not a name of an image; give [REGISTRY/]NAME[:TAG], in small letters "
                "('virtc image import' gives a name to an archive or a layout of this host)"
            )
        return cls(f"{registry}/{path}", tag if tag or digest else _DEFAULT_TAG, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.name and self.digest else f"{self.name}{tag}{self.digest}"

    def pinned(self, digest: str) -> ImageReference:
        """Return the reference to one content of this name."""
        return ImageReference(self.name, self.tag, digest)


def _registry_and_path(name: str) -> tuple[str, str]:
    """Return the two parts of a name. As for docker, a first part that looks like a host is the registry."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DEFAULT_REGISTRY, name
    if first == f"index.{DEFAULT_REGISTRY}":
        first = DEFAULT_REGISTRY
    return first, f"{_OFFICIAL}/{rest}" if first == DEFAULT_REGISTRY and "/" not in rest else rest
