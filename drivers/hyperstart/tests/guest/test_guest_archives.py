"""Archives that the guest agent writes and reads, with the sanitizers: what becomes of names and links in them."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
GUEST = HERE.parents[1] / "guest"
TIMEOUT = 60

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The function that runs the agent's part with arguments and input."""
    program = tmp_path_factory.mktemp("archives") / "archives"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", str(GUEST)]
    sources = [GUEST / f"{name}.c" for name in ("util", "kernel", "tar", "pack", "unpack")]
    subprocess.run(["gcc", *flags, "-o", program, HERE / "archives.c", *sources], check=True)

    def run(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        # What several names lead to is remembered until the process ends.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        words = [str(one) for one in arguments]
        return subprocess.run([program, *words], input=data, capture_output=True, timeout=TIMEOUT, env=environment)

    return run


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", target: str = "", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, len(content), mode
    info.uid, info.gid, info.mtime = os.getuid(), os.getgid(), 1_000_000_000
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + bytes(1024)


def members(data: bytes) -> dict[str, tuple[int, bytes, str]]:
    """Return mode, contents and target of each entry; a hard link has the contents of its file."""
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        found = {}
        for one in read:
            contents = read.extractfile(one) if one.isreg() or one.islnk() else None
            found[one.name] = (one.mode, contents.read() if contents else one.type, one.linkname * one.issym())
        return found


LONG = "/".join(["n" * 90] * 5)


def test_a_tree_comes_back_as_it_was(archives: Run, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / LONG).mkdir(parents=True)
    (top / LONG / "f").write_bytes(os.urandom(70_000))
    (top / "hard").hardlink_to(top / LONG / "f")
    (top / "link").symlink_to("/" + "t" * 300)
    os.mkfifo(top / "pipe", 0o640)
    (top / "f").write_bytes(b"x" * 512)
    (top / "f").chmod(0o4751)
    packed = archives("pack", top)
    assert (packed.returncode, packed.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as read:  # any reader of tar understands it
        assert sorted(read.getnames())[0] == "."
        assert read.getmember("link").linkname == "/" + "t" * 300
    unpacked = archives("unpack", tmp_path / "copy", "top", data=packed.stdout)
    assert (unpacked.returncode, unpacked.stderr) == (0, b"")
    assert members(archives("pack", tmp_path / "copy").stdout) == members(packed.stdout)
    assert (tmp_path / "copy/hard").samefile(tmp_path / "copy" / LONG / "f")


def test_a_link_is_followed_only_if_that_is_wanted(archives: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "l").symlink_to("f")
    for how, kind in (("pack", tarfile.SYMTYPE), ("pack-target", tarfile.REGTYPE)):
        with tarfile.open(fileobj=io.BytesIO(archives(how, tmp_path / "l").stdout)) as read:
            assert [one.type for one in read] == [kind]


def test_file_systems_that_hold_no_files_are_left_out(archives: Run) -> None:
    with tarfile.open(fileobj=io.BytesIO(archives("pack", "/proc/self").stdout)) as read:
        assert read.getnames() == ["."]


@pytest.mark.parametrize(("path", "reason"), [("nosuch", "No such file"), ("deep", "64 directories deep")])
def test_what_cannot_be_packed_is_one_sentence(archives: Run, tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "/".join(["deep"] * 70)).mkdir(parents=True)
    failed = archives("pack", tmp_path / path)
    assert failed.returncode == 1
    assert reason in failed.stderr.decode()
    assert failed.stderr.count(b"\n") == 1


def test_files_are_put_where_cp_would_put_them(archives: Run, tmp_path: Path) -> None:
    one = archive(entry(".", content=b"one"))
    assert archives("unpack", tmp_path / "new", "name", data=one).returncode == 0
    assert archives("unpack", tmp_path, "name", data=one).returncode == 0
    assert archives("unpack", f"{tmp_path}//", "name2", data=one).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name", "name2", "new"]
    missing = archives("unpack", f"{tmp_path}/missing/", "name", data=one)
    assert b"not a directory" in missing.stderr


def test_without_a_name_entries_are_put_into_the_directory_which_keeps_its_mode(archives: Run, tmp_path: Path) -> None:
    data = archive(entry(".", tarfile.DIRTYPE, mode=0o000), entry("a/b/f", content=b"x"))
    assert archives("unpack", tmp_path / "made", data=data).returncode == 0
    assert (tmp_path / "made/a/b/f").read_bytes() == b"x"
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o755


def test_what_is_there_is_replaced_and_directories_are_merged(archives: Run, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_bytes(b"kept")
    (tmp_path / "f").symlink_to("d/kept")
    (tmp_path / "to-d").symlink_to("d")
    data = archive(
        entry("d", tarfile.DIRTYPE, mode=0o700),
        entry("f", content=b"new"),
        entry("to-d", tarfile.DIRTYPE, mode=0o000),
        entry("to-d/g", content=b"g"),
    )
    done = archives("unpack", tmp_path, data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "d/kept").read_bytes() == b"kept"
    assert ((tmp_path / "f").is_symlink(), (tmp_path / "d/g").read_bytes()) == (False, b"g")
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../out", content=b"x")],
        [entry("a/../../out", content=b"x")],
        [entry("/tmp/out", content=b"x")],
        [entry("l", tarfile.SYMTYPE, target=".."), entry("l/out", content=b"x")],
        [entry("l", tarfile.SYMTYPE, target=".."), entry("l", tarfile.DIRTYPE, mode=0o777)],
        [entry("l", tarfile.SYMTYPE, target=".."), entry("l/made", tarfile.DIRTYPE)],
        [entry("l", tarfile.SYMTYPE, target="../precious"), entry("h", tarfile.LNKTYPE, target="l/../precious")],
        [entry("h", tarfile.LNKTYPE, target="../precious")],
        [entry("d", tarfile.CHRTYPE)],
    ],
)
def test_nothing_outside_of_the_directory_is_touched(archives: Run, tmp_path: Path, entries: list[bytes]) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "place").mkdir()
    tmp_path.chmod(0o700)
    failed = archives("unpack", tmp_path / "place", data=archive(*entries))
    assert failed.returncode == 1
    assert failed.stderr.count(b"\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "precious"]
    assert (tmp_path / "precious").stat().st_nlink == 1
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize("length", [0, 100, 512, 700, 1023])
def test_an_archive_that_is_cut_is_an_error(archives: Run, tmp_path: Path, length: int) -> None:
    failed = archives("unpack", tmp_path, data=archive(entry("f", content=b"x" * 600))[:length])
    assert (failed.returncode, failed.stderr) == (1, b"the archive is not complete\n")


@pytest.mark.parametrize("data", [b"x" * 2048, tarfile.TarInfo("f" * 300).tobuf(tarfile.PAX_FORMAT) + bytes(1024)])
def test_what_is_not_such_an_archive_is_an_error(archives: Run, tmp_path: Path, data: bytes) -> None:
    failed = archives("unpack", tmp_path, data=data)
    assert failed.returncode == 1
    assert failed.stderr.startswith(b"the archive has ")
