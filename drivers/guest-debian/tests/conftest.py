"""Fixtures: a repository with a made-up kernel, which is apt's only source, and a maker of guests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from needs import require
from vc_core.driver import GuestPayload

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share is no package of its own

from made_up_debian import MODULES, Maker, Repository, in_section, kernel_files


@pytest.fixture(scope="session")
def module_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Return real object files for the made-up modules, by their path below /lib/modules/VERSION."""
    require("cc", "apt-get")
    directory = tmp_path_factory.mktemp("modules")
    files = {}
    for path, (exports, imports, info) in MODULES.items():
        lines = [in_section(".modinfo", "info", f"license=GPL\\0{info}")]
        for symbol in exports.split():
            lines += [f"int {symbol};", in_section("__ksymtab_strings", f"{symbol}_name", symbol)]
        lines += [f"extern int {symbol}; int *use_{symbol} = &{symbol};" for symbol in imports.split()]
        source, target = directory / "module.c", directory / "module.o"
        source.write_text("\n".join(lines), encoding="utf-8")
        subprocess.run(["cc", "-c", "-o", target, source], check=True)
        files[f"{path}.ko"] = target.read_bytes()
    return files


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Return the directory where everything is; with the parameter "public" one that every user can enter."""
    if getattr(request, "param", "") != "public":
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="vc-guest-debian-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def use_sources(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a line of sources.list, and more configuration, all that the host's apt knows."""
    config, sources, empty = (place / "host-apt" / name for name in ("apt.conf", "sources.list", "empty"))

    def use(line: str, more: str = "") -> None:
        (empty / "lists/partial").mkdir(parents=True, exist_ok=True)
        sources.write_text(f"{line}\n", encoding="utf-8")
        config.write_text(
            f'Dir::Etc::sourcelist "{sources}"; Dir::Etc::sourceparts "{empty}";\n'
            f'Dir::Etc::preferencesparts "{empty}"; Dir::State::lists "{empty}/lists";\n{more}\n',
            encoding="utf-8",
        )
        monkeypatch.setenv("APT_CONFIG", str(config))

    return use


@pytest.fixture
def repository(place: Path, use_sources: Callable[[str], None], module_files: Mapping[str, bytes]) -> Repository:
    """Return a repository with the made-up kernel, the only one that apt knows."""
    repository = Repository(place / "repository")
    repository.directory.mkdir()
    repository.add_kernel("1:1.2.3-1", kernel_files(module_files))
    use_sources(f"deb [trusted=yes arch=amd64] file:{repository.directory} ./")
    return repository


@pytest.fixture
def maker(place: Path) -> Maker:
    """Return a maker of guests whose payload is a program and two modules."""
    init = place / "payload" / "init"
    init.parent.mkdir()
    init.write_bytes(b"the agent")
    init.chmod(0o755)
    return Maker(GuestPayload({"/init": str(init)}, modules=("share", "within")), place / "cache")


@pytest.fixture(autouse=True)
def _nothing_left_running(place: Path) -> Iterator[None]:
    """Fail a test after which a process still has its directory as an argument."""
    yield
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(place) not in path.read_text(errors="replace", encoding="utf-8"), path
        except (FileNotFoundError, ProcessLookupError):
            continue
