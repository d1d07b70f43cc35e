"""The order of the guest agent's files: each uses only those below it, so that none of them form a circle."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GUEST = Path(__file__).parents[2] / "guest"

#: The files of the agent from the bottom up: each may use only those that come before it.
#: Put a new file after everything that it uses, and before everything that is to use it.
LAYERS_TEXT = """
    util kernel json loop phase
    modules devices boot dialect
    confine disk copy tar pack unpack network names spec users cgroup share wake
    channel stream
    process
    mux root namespaces
    container launch start
    files pod
    protocol commands control main
"""
LAYERS = LAYERS_TEXT.split()

FILES = sorted(GUEST.glob("*.[ch]"))
SOURCES = [path for path in FILES if path.suffix == ".c"]


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^#include "(\w+)\.h"', path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def symbols(path: Path, *options: str) -> set[str]:
    """Return the names of an object's external symbols that ``nm`` prints with these options."""
    command: list[str | Path] = ["nm", "--portability", "--extern-only", *options, path]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    return {line.split()[0] for line in output.splitlines()}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The object of each source by its name."""
    directory = tmp_path_factory.mktemp("objects")
    subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-c", *SOURCES], check=True, cwd=directory)
    return {path.stem: directory / f"{path.stem}.o" for path in SOURCES}


def test_every_file_has_its_place() -> None:
    stems = {path.stem for path in FILES}
    assert sorted(LAYERS) == sorted(stems), f"LAYERS_TEXT in {__file__} must name each file once"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_includes_only_what_lies_below_it(path: Path) -> None:
    below = set(LAYERS[: LAYERS.index(path.stem)])
    above = sorted(includes(path) - below - {path.stem})
    assert not above, f"{path.name} includes {', '.join(above)}, which come after it in LAYERS_TEXT of {__file__}"


def test_a_file_uses_no_symbol_of_one_above_it(objects: dict[str, Path]) -> None:
    homes = {symbol: stem for stem, path in objects.items() for symbol in symbols(path, "--defined-only")}
    upward = [
        f"{stem} uses {symbol} of {homes[symbol]}"
        for stem, path in objects.items()
        for symbol in sorted(symbols(path, "--undefined-only") & set(homes))
        if LAYERS.index(homes[symbol]) > LAYERS.index(stem)
    ]
    assert not upward, f"these come after their users in LAYERS_TEXT of {__file__}"


def test_the_symbols_of_the_agent_are_seen(objects: dict[str, Path]) -> None:
    assert {"main", "process_start", "failure"} <= {
        symbol for path in objects.values() for symbol in symbols(path, "--defined-only")
    }
    assert "process_start" in symbols(objects["commands"], "--undefined-only")
