"""The site of the documentation: complete, no link dead, the same text as on a forge, nothing from the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
FORGE = "https://github.com/virtcontainers-python/virtcontainers/blob/main/"
#: What a browser loads by itself.
LOADED = {"link": "href", "script": "src", "img": "src", "source": "srcset", "iframe": "src", "object": "data"}
BLOCKS = {
    "h1",
    "h2",
    "h3",
    "h4",
    "ul",
    "ol",
    "li",
    "pre",
    "table",
    "tr",
    "th",
    "td",
    "blockquote",
    "code",
    "em",
    "strong",
}

pytestmark = pytest.mark.slow


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout as ``./dev docs`` does."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    environment.pop("PYTHONWARNDEFAULTENCODING", None)  # MkDocs opens files of its own without an encoding
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )


def pages() -> list[str]:
    """Return the names of all pages of the repository."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.md", ":!.github", ":!changelog.d"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout.split()


def built(name: str) -> str:
    """Return the name that a page has on the site."""
    return re.sub(r"README\.md$|\.md$", lambda end: "index.html" if "R" in end[0] else ".html", name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout
    return folder


class Html(HTMLParser):
    """The elements of an HTML file, and the blocks and words of its article, or of all of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._shown = "" if "<article" in text else "all"
        self._flow: list[str] = []
        self._ignored = False  # the sign that leads to a heading
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._shown = "article" if tag == "article" else self._shown
        self._ignored = ("class", "headerlink") in attrs
        if tag in BLOCKS:
            self._flow.append(f" <{tag}> " if self._shown else "")

    def handle_endtag(self, tag: str) -> None:
        self._shown = "" if tag == "article" else self._shown
        self._ignored = False
        if tag in BLOCKS:
            self._flow.append(" " if self._shown else "")

    def handle_data(self, data: str) -> None:
        if self._shown and not self._ignored:
            self._flow.append(data)

    @property
    def words(self) -> list[str]:
        return "".join(self._flow).split()

    def values(self, attribute: str) -> Iterator[str]:
        """Yield the values that an attribute has anywhere."""
        yield from (value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None)


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Html]:
    """Return all pages of the site. The page of error 404 is only for servers, and has absolute links."""
    files = [path for path in site.rglob("*.html") if path.name != "404.html"]
    return {path: Html(path.read_text(encoding="utf-8")) for path in files}


def test_each_page_of_the_repository_is_in_the_navigation(site: Path, parsed: dict[Path, Html]) -> None:
    home = parsed[site / "index.html"].elements
    listed = {one["href"] for _, one in home if "md-nav__link" in (one.get("class") or "").split() and "href" in one}
    assert {built(name) for name in pages()} - listed == set()


def test_no_link_and_no_anchor_is_dead(parsed: dict[Path, Html]) -> None:
    dead = []
    anchors = {path: {*page.values("id"), "__skip"} for path, page in parsed.items()}
    for path, page in parsed.items():
        for link in [*page.values("href"), *page.values("src")]:
            parts = urlsplit(link)
            if link.startswith(FORGE):
                there = (ROOT / parts.path.partition("/blob/main/")[2]).exists()
            elif parts.scheme:
                there = True
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                there = target.is_file() and (not parts.fragment or parts.fragment in anchors.get(target, ()))
            if not there:
                dead.append((path.name, link))
    assert dead == []
    assert len(parsed) > 40


def test_a_browser_is_forbidden_to_load_from_the_network_before_it_loads_anything(parsed: dict[Path, Html]) -> None:
    for page in parsed.values():
        names = [tag if tag != "meta" else one.get("http-equiv") for tag, one in page.elements]
        rule = page.elements[names.index("Content-Security-Policy")][1]["content"]
        assert rule == "default-src 'self' file: data: blob: 'unsafe-inline'"
        assert "script" not in names[: names.index("Content-Security-Policy")]


def test_no_page_and_no_style_asks_for_anything_of_the_network(site: Path, parsed: dict[Path, Html]) -> None:
    wanted = [one[LOADED[tag]] for page in parsed.values() for tag, one in page.elements if LOADED.get(tag) in one]
    assert [link for link in wanted if link is None or urlsplit(link).scheme not in {"", "data"}] == []
    styles = list(site.rglob("*.css"))
    assert len(styles) > 2
    for path in styles:
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:|//)[^)]*", path.read_text(encoding="utf-8")) == []


def test_the_search_knows_each_page_with_a_server_and_without(site: Path) -> None:
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    assert (site / "search/search_index.js").read_text(encoding="utf-8") == f"var __index = {index}"
    assert {built(name) for name in pages()} - {one["location"] for one in json.loads(index)["docs"]} == set()


@pytest.mark.parametrize("name", pages())
def test_a_page_has_the_blocks_and_words_that_a_forge_shows(site: Path, parsed: dict[Path, Html], name: str) -> None:
    forge = MarkdownIt("commonmark").enable("table").render((ROOT / name).read_text(encoding="utf-8"))
    assert parsed[site / built(name)].words == Html(forge).words


def test_a_fault_of_a_page_fails_the_build_and_is_named(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for name in ("mkdocs.yml", "tools/docs_site", *pages()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name)
        else:
            shutil.copyfile(ROOT / name, root / name)
    (root / "docs/tutorial/faulty.md").write_text(
        "# Faulty\n\n[1](no-such.md) [2](first-pod.md#no-such) [3](#nowhere) ![4](no-such.svg)\n", encoding="utf-8"
    )
    (root / "docs/more").mkdir()
    (root / "docs/more/unlisted.md").write_text("# Unlisted\n", encoding="utf-8")
    done = build(root, tmp_path / "site")
    assert done.returncode == 1
    for part in ("'no-such.md'", "'first-pod.md#no-such'", "'#nowhere'", "'no-such.svg'", "docs/more/unlisted.md"):
        assert part in done.stdout
