"""Compares what a distribution requires with what is installed.

The hooks have no version of their own: they are part of vc-core, and change with its version as
``docs/reference/compatibility.md`` says. So a plug-in declares the hooks that it was written for by its requirement on
vc-core, such as ``vc-core>=0.1,<0.2``. pip keeps it, unless a distribution is installed without its dependencies.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError

from packaging.specifiers import InvalidSpecifier, SpecifierSet

CORE = "vc-core"

#: Distributions of plug-ins whose requirement on the core is kept, because reading it takes longer than comparing it.
_DISTRIBUTIONS_KEPT = 64

#: A requirement on vc-core (PEP 508): what follows the name and extras.
_ON_CORE = re.compile(r"\s*vc[-_.]+core\s*(?:\[[^\]]*\])?\s*(?![\w.-])(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)

#: The marker of a requirement that a distribution has for one of its extras only, which are not asked for here.
_OF_EXTRA = re.compile(r"""\s*extra\s*==\s*(?:'[\w.-]+'|"[\w.-]+")\s*""", re.ASCII)


def core_versions(distribution: Distribution) -> str | None:
    """Return the versions of vc-core that a distribution requires here, such as ">=0.1,<0.2"; None if it requires none.

    Several requirements that apply count together. One that cannot be read is returned as it is written.
    """
    found = [
        versions
        for text in distribution.requires or ()
        if (match := _ON_CORE.fullmatch(text)) and (versions := _versions(text, match[1])) is not None
    ]
    return ",".join(filter(None, found)) if found else None


def _versions(text: str, rest: str) -> str | None:
    """Return the versions of the requirement ``text``, which ends with ``rest``; None if it does not apply here."""
    versions, _, marker = rest.partition(";")
    if "@" not in rest and _OF_EXTRA.fullmatch(marker):
        return None
    if not (";" in rest or "@" in rest):
        return versions.strip().removeprefix("(").removesuffix(")").strip()
    from packaging.requirements import InvalidRequirement, Requirement  # 20 ms, which few loads of a driver should take

    try:
        required = Requirement(text)
    except InvalidRequirement:
        return rest.strip()
    if required.marker is not None and not required.marker.evaluate({"extra": ""}):
        return None
    return str(required.specifier)


@lru_cache(_DISTRIBUTIONS_KEPT)
def core_mismatch(distribution: Distribution) -> str:
    """Return why a distribution's plug-ins do not fit this vc-core, as a clause about it; "" if they do.

    Called at each load of a plug-in, which it prevents. A distribution that requires no vc-core is not refused.
    """
    versions, installed = core_versions(distribution), importlib.metadata.version(CORE)
    try:
        if versions is None or SpecifierSet(versions).contains(installed, prereleases=True):
            return ""
    except InvalidSpecifier:
        return f"has a requirement that cannot be read, {CORE}{versions}; repair or uninstall it"
    return (
        f"requires {CORE}{versions}, and {CORE} {installed} is installed; "
        f"install a version of {distribution.name} for that, or the {CORE} that it requires"
    )


def missing_core_requirement(distribution: Distribution) -> str:
    """Return a clause about a distribution that requires no version of vc-core, "" about one that does."""
    if core_versions(distribution) is not None:
        return ""
    major, minor = importlib.metadata.version(CORE).split(".")[:2]
    wanted = f"{CORE}>={major}.{minor},<{major}.{int(minor) + 1}"
    return f"requires no version of {CORE}, so one that it was not written for loads it; let it require {wanted!r}"


def unmet_requirements(distribution: Distribution) -> Iterator[str]:
    """Yield a clause about a distribution for each of its requirements, but that on vc-core, that is not met.

    Called by ``virtc drivers``. Requirements of extras do not count.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # 20 ms, which no load of a driver should take
    from packaging.utils import canonicalize_name

    for text in distribution.requires or ():
        try:
            required = Requirement(text)
        except InvalidRequirement:
            yield f"has a requirement that cannot be read, {text!r}; repair or uninstall it"
            continue
        applies = required.marker is None or required.marker.evaluate({"extra": ""})
        if not applies or canonicalize_name(required.name) == CORE:
            continue
        wanted = f"{required.name}{required.specifier}"
        try:
            installed = importlib.metadata.version(required.name)
        except PackageNotFoundError:
            yield f"requires {wanted}, which is not installed; install it"
            continue
        if not required.specifier.contains(installed, prereleases=True):
            yield f"requires {wanted}, and {required.name} {installed} is installed; install a version that fits"
