"""The examples of the documentation work as documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plain_user import PlainUser
from waiting import PATIENCE

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
#: A block of Python that is a file of this name rather than a program.
FILE = re.compile(r"# (\S+/\S+\.py)\n")
INDENTED = re.compile(r"^    (virtc .*)$", flags=re.MULTILINE)

TUTORIAL = ROOT / "docs/tutorial/first-pod.md"
#: What a plain user does, and what root does as well.
OF_PLAIN_USER = ROOT / "docs/how-to/plain-user.md"
#: It shows what a boot consists of.
OF_BOOTS = ROOT / "docs/how-to/trace-a-start.md"
HOW_TO = sorted({*(ROOT / "docs/how-to").glob("*.md")} - {OF_PLAIN_USER})


NOTEBOOK = ROOT / "docs/how-to/notebook.ipynb"
#: Runs cells one after the other as Jupyter does, and prints the value of the last line of each.
AS_NOTEBOOK = """
import ast, json, sys
shown, names = [], {{}}
sys.displayhook = lambda value: shown.append(repr(value)) if value is not None else None
for cell in {cells}:
    *before, last = ast.parse(cell).body
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    exec(compile(ast.Interactive([last]), "cell", "single"), names)
print(json.dumps(shown))
"""


class Reader:
    """Somebody who follows a page in a directory of their own, as a terminal shows it: output and errors together."""

    def __init__(self, where: Path) -> None:
        self._where = where
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "VIRTCONTAINERS_ROOT": str(where / "root")}
        # What a page installs goes to a place of the reader's own, and what it needs is there already.
        site = str(where / "site")
        pip = {"TARGET": site, "UPGRADE": "1", "NO_DEPS": "1", "NO_INDEX": "1", "NO_BUILD_ISOLATION": "0"}
        self._environment |= {f"PIP_{name}": value for name, value in pip.items()}
        self._environment |= {"PYTHONPATH": site, "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment.pop("PYTHONWARNDEFAULTENCODING", None)  # pip would warn of its own files

    def run(self, language: str, text: str) -> str:
        command = ["sh", "-eu", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command,
            cwd=self._where,
            env=self._environment,
            encoding="utf-8",
            timeout=5 * PATIENCE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def use_templates(self) -> None:
        """Let pods of the usual kinds start as clones."""
        self._environment["VIRTCONTAINERS_TEMPLATES"] = "existing"

    def follow(self, page: Path) -> None:
        """Run the examples in order; a text block is what the example before it prints, ``...`` in it anything."""
        content = page.read_text(encoding="utf-8")
        if "virtc guest remove" in content:  # takes no guest from others
            self._environment["VIRTCONTAINERS_CACHE"] = str(self._where / "cache")
        if page in {*HOW_TO} - {OF_BOOTS}:  # those of the tutorial boot
            self.use_templates()
        if "virtc template create" in content:  # which tests leave out otherwise
            self._environment["VIRTCONTAINERS_TEMPLATES"] = ""
        printed = ""
        for language, text in BLOCK.findall(content):
            if language == "python" and (file := FILE.match(text)):
                path = self._where / file[1]
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif language != "text":
                printed = self.run(language, text)
            else:
                pattern = re.escape(text).replace(re.escape("..."), ".*")
                assert re.fullmatch(pattern, printed, flags=re.DOTALL), f"not\n{text}but\n{printed}"
        assert not self.pods(), "the page leaves pods"

    def pods(self) -> list[str]:
        """Return the pods that there are."""
        return self.run("sh", "virtc pod list --quiet").split()

    def make_bundle(self) -> None:
        """Make the bundle as the tutorial does."""
        blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
        self.run(*next(block for block in blocks if "busybox --list" in block[1]))


class PlainReader(Reader):
    """The same as a plain user of the host."""

    def __init__(self, user: PlainUser) -> None:
        self._user = user

    def run(self, language: str, text: str) -> str:
        assert language == "sh"
        return self._user.run("sh", "-eu", "-c", f"exec 2>&1\n{text}").stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    for pod in made.pods():
        made.run("sh", f"virtc pod delete --force {pod}")


@pytest.mark.vm
@pytest.mark.root
def test_the_tutorial_works_from_its_first_line_to_its_last(reader: Reader) -> None:
    reader.follow(TUTORIAL)


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.usefixtures("templates")
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_works_from_its_first_line_to_its_last(page: Path, reader: Reader) -> None:
    reader.make_bundle()
    reader.follow(page)


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.usefixtures("templates")
def test_the_cells_of_the_notebook_give_what_it_shows(reader: Reader) -> None:
    reader.use_templates()
    reader.make_bundle()
    cells = [one for one in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if one["cell_type"] == "code"]
    shown = ["".join(line for output in one["outputs"] for line in output["data"]["text/plain"]) for one in cells]
    printed = reader.run("python", AS_NOTEBOOK.format(cells=["".join(one["source"]) for one in cells]))
    assert json.loads(printed) == shown


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.needs("user namespaces", "mount namespaces")
def test_the_how_to_for_plain_users_works_as_one() -> None:
    with TemporaryDirectory(prefix="plain-", dir="/var/tmp") as place:
        user = PlainUser(Path(place))
        user.take_guest()
        reader = PlainReader(user)
        try:
            reader.make_bundle()
            reader.follow(OF_PLAIN_USER)
        finally:
            for pod in reader.pods():
                reader.run("sh", f"virtc pod delete --force {pod}")


@pytest.mark.vm
@pytest.mark.root
@pytest.mark.usefixtures("templates")
def test_the_examples_of_the_readme_work(tmp_path: Path, reader: Reader) -> None:
    reader.use_templates()
    reader.make_bundle()
    page = (ROOT / "README.md").read_text(encoding="utf-8").replace("/srv/busybox", str(tmp_path / "bundle"))
    examples = [("sh", text) for text in INDENTED.findall(page)] + BLOCK.findall(page)
    assert {language for language, _ in examples} == {"sh", "python"}
    for language, text in examples:
        assert "Linux" in reader.run(language, text)
    assert not reader.pods()


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} links to {target}"
