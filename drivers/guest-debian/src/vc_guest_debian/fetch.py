"""Selects the packages that a guest is made from, and downloads them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from vc_core.driver import Progress, frozen
from vc_core.errors import GuestError
from vc_guest_debian.apt import Apt, Package
from vc_guest_debian.recipe import Recipe
from vc_guest_debian.tools import ToolError

#: Dependencies of a kernel package that contain the kernel or its modules; Debian has both in one package.
_KERNEL_PARTS = re.compile(r"linux-(image|binary|modules)-.*")

#: Dependencies that only maintainer scripts need, which do not run here. They are left out unless the agent asks for
#: them by name; more than half of OpenSSH's dependencies are of this kind.
_MAINTENANCE = re.compile(
    r"adduser|debconf(-.*)?|debianutils|dpkg|init-system-helpers|libgdbm.*|libpam-(modules|runtime).*|libperl5\..*"
    r"|libsemanage.*|libsepol\d|lib.*-perl|lsb-base|openssh-client|passwd|perl(-.*)?|procps|runit-helper"
    r"|sensible-utils|sysvinit-utils|tar|ucf|usrmerge"
)


@frozen
class Packages:
    """The packages that a guest is made from: those of the kernel, and those of the agent."""

    kernel: list[Package]
    agent: list[Package]

    def file_names(self) -> list[str]:
        """Return the names of the packages' files."""
        return [package.file_name for package in (*self.kernel, *self.agent)]


async def fetch(recipe: Recipe, apt_dir: Path, downloads: Path, progress: Progress) -> Packages:
    """Download the current versions of a recipe's packages to ``downloads``, and return them.

    The host's package lists are tried first, then lists that are fetched to ``apt_dir``. Raises GuestError.
    """
    with contextlib.suppress(ToolError):
        return await _fetch_by(Apt(apt_dir, recipe.architecture, own_lists=False), recipe, downloads, progress)
    progress("fetching the lists of packages", 0.0)
    apt = Apt(apt_dir, recipe.architecture, own_lists=True)
    missing_lists: ToolError | None = None
    try:
        await apt.update()
    except ToolError as error:
        missing_lists = error  # perhaps only lists of sources that the recipe does not need
    try:
        return await _fetch_by(apt, recipe, downloads, progress)
    except ToolError as error:
        raise missing_lists or error from error


async def _fetch_by(apt: Apt, recipe: Recipe, downloads: Path, progress: Progress) -> Packages:
    progress("looking for the packages", 0.0)
    kernel = await apt.closure([recipe.kernel_package])
    agent = await apt.closure(recipe.packages) if recipe.packages else []
    packages = Packages(
        kernel=[package for package in kernel if _KERNEL_PARTS.fullmatch(package.name)],
        agent=[
            package for package in agent if package.name in recipe.packages or not _MAINTENANCE.fullmatch(package.name)
        ],
    )
    if not packages.kernel:
        raise GuestError(
            f"the package {recipe.kernel_package} contains no kernel and depends on none; "
            "give another with the option kernel_package"
        )
    downloading = _part(progress, "downloading packages", 0.05, 0.6)
    downloading(0)
    await apt.download([*packages.kernel, *packages.agent], downloads, downloading)
    return packages


def _part(progress: Progress, phrase: str, begin: float, end: float) -> Callable[[float], None]:
    """Return a callback for the progress of one step, which takes the whole from ``begin`` to ``end``."""
    return lambda share: progress(phrase, begin + share * (end - begin))
