"""Hooks of the site that ``./dev docs`` builds: its pages are Markdown files of this repository, where they are.

MkDocs calls the public functions. A link between two pages works on the site as in an editor or on a forge.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

_TARGET_OF_LINK = re.compile(r"(?<=\]\()[^)#\s]+(?=[)#])")
_ROW = re.compile(r"^\|.*$", flags=re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_TITLE = re.compile(r"^# (.*)$", flags=re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """Replace the patterns of the navigation by the pages that they match."""
    patterns = list(_names(config.nav or []))
    pages: dict[str, list[dict[str, str]]] = {pattern: [] for pattern in patterns}
    found = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    for title, name in sorted((_title(ROOT / name), name) for name in found):
        pages[max((one for one in patterns if fnmatchcase(name, one)), key=len)].append({title: name})
    config.nav = _expanded(config.nav or [], pages)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the site: those of ``docs`` and of the theme, and the pages of the navigation."""
    of_docs = [file for file in files if file.src_dir == config.docs_dir]
    names = dict.fromkeys([*(f"docs/{file.src_uri}" for file in of_docs), *_names(config.nav or [])])
    own = [File(name, str(ROOT), config.site_dir, use_directory_urls=False) for name in names]
    return Files([*own, *(file for file in files if file not in of_docs)])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links reach other pages on the site, and other files of the repository on its forge."""
    forge: str = config.extra["forge"]
    folder = posixpath.dirname(page.file.src_uri)

    def target(found: re.Match[str]) -> str:
        link = found[0]
        name = link.removeprefix(forge) if link.startswith(forge) else posixpath.normpath(posixpath.join(folder, link))
        if files.get_file_from_path(name):
            return posixpath.relpath(name, folder)
        return forge + name if (ROOT / name).is_file() else link

    # Forges need an escape before a bar in the code of a table; Python-Markdown shows it.
    rows = _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)
    return _TARGET_OF_LINK.sub(target, rows)


def _names(nav: Any) -> Iterator[str]:
    """Yield the pages, or patterns of pages, of a part of the navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _names(part)


def _expanded(nav: list[Any], pages: dict[str, list[dict[str, str]]]) -> list[Any]:
    """Return a part of the navigation with pages in the place of patterns; a page that has a title there keeps it."""
    parts: list[Any] = []
    for part in nav:
        if isinstance(part, str):
            parts += pages[part]
            continue
        for title, one in part.items():
            named = isinstance(one, str) and "*" not in one
            parts.append({title: one if named else _expanded([one] if isinstance(one, str) else one, pages)})
    return parts


def _title(page: Path) -> str:
    found = _TITLE.search(page.read_text(encoding="utf-8"))
    assert found is not None, f"{page} has no title"
    return found[1]
