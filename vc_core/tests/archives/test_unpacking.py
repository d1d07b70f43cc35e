"""Archives of guests, also hostile ones: what becomes of them on the host."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vc_core.archives.entries import IncompleteError
from vc_core.archives.unpacking import pass_on, unpack
from vc_core.errors import CopyError

Entry = tuple[str, bytes, str | bytes, int]


def archive(*entries: Entry) -> io.BytesIO:
    """Return an archive of entries: name, type, contents or target of a link, and mode."""
    blocks = b""
    for name, kind, content, mode in entries:
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, mode
        if isinstance(content, str):
            info.linkname = content
        else:
            info.size = len(content)
        blocks += info.tobuf(tarfile.GNU_FORMAT)
        if isinstance(content, bytes):
            blocks += content + bytes(-len(content) % 512)
    return io.BytesIO(blocks + bytes(1024))


def top(mode: int = 0o755) -> Entry:
    return directory(".", mode)


def directory(name: str, mode: int = 0o755) -> Entry:
    return (name, tarfile.DIRTYPE, b"", mode)


def file(name: str, content: bytes = b"data", mode: int = 0o644) -> Entry:
    return (name, tarfile.REGTYPE, content, mode)


def link(name: str, target: str) -> Entry:
    return (name, tarfile.SYMTYPE, target, 0o777)


def hard_link(name: str, target: str) -> Entry:
    return (name, tarfile.LNKTYPE, target, 0o644)


def into(place: Path, *entries: Entry, name: str = "") -> None:
    unpack(archive(*entries), str(place), name, owners=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory beside which something precious lies."""
    (tmp_path / "precious").write_bytes(b"precious")
    made = tmp_path / "place"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def nothing_outside_changes(place: Path) -> object:
    def seen() -> list[tuple[str, int, bytes]]:
        outside = sorted(path for path in place.parent.iterdir() if path != place)
        return [(path.name, path.lstat().st_nlink, path.read_bytes()) for path in outside if path.is_file()]

    before = seen()
    yield
    assert seen() == before


def test_files_directories_and_links_become_what_they_were(place: Path) -> None:
    into(
        place,
        top(0o500),
        directory("d", 0o750),
        file("d/f", b"x" * 600, 0o640),
        link("d/l", "f"),
        link("d/up", "../d/f"),
        hard_link("h", "d/f"),
        name="copy",
    )
    made = place / "copy"
    assert (made / "d/f").read_bytes() == b"x" * 600
    assert stat.S_IMODE((made / "d/f").stat().st_mode) == 0o640
    assert [stat.S_IMODE((made / one).stat().st_mode) for one in ("", "d")] == [0o500, 0o750]
    assert [str((made / one).readlink()) for one in ("d/l", "d/up")] == ["f", "../d/f"]
    assert (made / "h").samefile(made / "d/f")


def test_a_top_becomes_the_destination_unless_that_is_a_directory(place: Path) -> None:
    into(place / "new", file("."), name="name")
    into(place, file("."), name="name")
    assert sorted(path.name for path in place.iterdir()) == ["name", "new"]
    with pytest.raises(CopyError, match="missing/x' cannot be written to"):
        into(Path(f"{place}/missing/x"), file("."), name="name")


@pytest.mark.parametrize(
    ("destination", "entry", "name", "shown"),
    [
        ("/proc/y", ".", "x", "/proc/y"),
        ("/proc", ".", "x", "/proc/x"),
        ("/proc/", "a", "", "/proc/a"),
        ("/", "proc/a", "", "/proc/a"),
    ],
)
def test_an_error_names_the_whole_path_on_this_host(destination: str, entry: str, name: str, shown: str) -> None:
    with pytest.raises(CopyError, match=f"^'{shown}' cannot be written: "):
        unpack(archive(file(entry)), destination, name, owners=False)


def test_without_a_name_the_entries_are_put_into_the_directory(place: Path) -> None:
    into(place / "made", top(0o000), file("f"))
    assert (place / "made/f").read_bytes() == b"data"
    assert stat.S_IMODE((place / "made").stat().st_mode) & 0o700 == 0o700, "a guest changed the caller's directory"


@pytest.mark.parametrize("name", ["../precious", "a/../../precious", "/etc/x", "..", "d/.."])
def test_a_name_that_leads_out_is_refused(place: Path, name: str) -> None:
    with pytest.raises(CopyError, match="leads out"):
        into(place, file(name))


@pytest.mark.parametrize("name", ["", "copy"])
@pytest.mark.parametrize(
    "entries",
    [
        [link("l", ".."), file("l/precious")],
        [directory("d"), link("d/l", ".."), file("d/l/new"), file("d/../precious")],
        [directory("d"), link("d/l", "."), file("d/l/x")],
    ],
    ids=["outside", "inside", "itself"],
)
def test_no_link_of_an_archive_is_followed(place: Path, entries: list[Entry], name: str) -> None:
    with pytest.raises(CopyError):
        into(place, top(), *entries, name=name)
    assert not list(place.rglob("precious"))


@pytest.mark.parametrize(
    ("name", "target"),
    [("l", "/etc/passwd"), ("l", ".."), ("l", "d/../x"), ("d/l", "../.."), ("d/l", "./../../x"), (".", "x")],
)
def test_links_that_may_lead_out_are_left_out_and_named_when_the_rest_was_copied(
    place: Path, name: str, target: str
) -> None:
    entries = [link(".", target)] if name == "." else [top(), directory("d"), link(name, target), file("rest")]
    with pytest.raises(CopyError, match=r"left out: .*is a link to") as failure:
        into(place, *entries, name="copy")
    assert failure.value.left_out
    assert len(failure.value.left_out) == 1
    assert not [path for path in place.rglob("*") if path.is_symlink()]
    assert name == "." or (place / "copy/rest").exists()


def test_a_link_that_is_there_is_not_followed_but_replaced_by_a_file(place: Path) -> None:
    (place / "f").symlink_to("../precious")
    into(place, file("f", b"new"))
    assert not (place / "f").is_symlink()
    (place / "d").symlink_to("..")
    with pytest.raises(CopyError, match="/d/precious' cannot be written: it is a link"):
        into(place, file("d/precious"))
    with pytest.raises(CopyError, match="/d' cannot be written: it is a link"):
        into(place, directory("d"))
    with pytest.raises(CopyError, match="/d' cannot be written: it is a link"):
        into(place, top(), name="d")


@pytest.mark.parametrize("target", ["mine", "nosuch", "../precious", "l", "f"])
def test_a_hard_link_leads_only_to_a_file_that_the_archive_made(place: Path, target: str) -> None:
    (place / "mine").write_bytes(b"mine")
    with pytest.raises(CopyError):
        into(place, file("x"), link("l", "x"), hard_link("f", target))
    assert (place / "mine").stat().st_nlink == 1


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out(place: Path, kind: bytes) -> None:
    with pytest.raises(CopyError, match="device or a pipe"):
        into(place, ("dev", kind, b"", 0o666), file("rest"))
    assert [path.name for path in place.iterdir()] == ["rest"]


def test_what_is_left_out_has_the_name_that_the_caller_gave(place: Path) -> None:
    with pytest.raises(CopyError, match="left out: 'pipe' is a device or a pipe"):
        unpack(archive((".", tarfile.FIFOTYPE, b"", 0o666)), str(place / "new"), "pipe", owners=False)


def test_what_is_not_a_file_is_not_replaced(place: Path) -> None:
    os.mkfifo(place / "f")
    with pytest.raises(CopyError, match="not a file"):
        into(place, file("f"))
    assert stat.S_ISFIFO((place / "f").stat().st_mode)


def test_no_file_is_set_user_id(place: Path) -> None:
    into(place, file("f", mode=0o6755), directory("d", 0o2777))
    assert stat.S_IMODE((place / "f").stat().st_mode) == 0o755
    assert stat.S_IMODE((place / "d").stat().st_mode) & 0o7000 == 0


def _cut(stream: io.BytesIO) -> bytes:
    return stream.getvalue()[:700]


def _huge_name(stream: io.BytesIO) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    return info.tobuf(tarfile.GNU_FORMAT)


def _negative_size(stream: io.BytesIO) -> bytes:
    block = bytearray(tarfile.TarInfo("f").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _late(stream: io.BytesIO) -> bytes:
    info = tarfile.TarInfo("f")
    info.mtime = 2**70
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax(stream: io.BytesIO) -> bytes:
    info = tarfile.TarInfo("f" * 300)
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "spoil", [_cut, _huge_name, _negative_size, _late, _pax, lambda stream: b"x" * 1024], ids=lambda one: one.__name__
)
def test_an_archive_that_is_not_valid_is_one_sentence(place: Path, spoil: Callable[[io.BytesIO], bytes]) -> None:
    with pytest.raises(CopyError, match=r"^the archive "):
        unpack(io.BytesIO(spoil(archive(file("f", b"x" * 600)))), str(place), "", owners=False)


def test_the_end_of_the_stream_is_an_error_of_its_own(place: Path) -> None:
    with pytest.raises(IncompleteError):
        unpack(io.BytesIO(b""), str(place), "", owners=False)


def test_owners_are_kept_if_that_is_wanted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: changed.append((uid, gid)))
    info = tarfile.TarInfo("f")
    info.uid, info.gid = 1000, 3_000_000_000
    blocks = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    unpack(io.BytesIO(blocks), str(place), "", owners=True)
    unpack(io.BytesIO(blocks), str(place), "", owners=False)
    assert changed == [(1000, 3_000_000_000)]


def test_an_archive_is_passed_on_with_the_name_of_its_top() -> None:
    target = io.BytesIO()
    entries = [top(), file("f"), hard_link("h", "f"), link("l", "/etc"), file("x" * 200)]
    pass_on(archive(*entries), target, "copy")
    target.seek(0)
    with tarfile.open(fileobj=target) as read:
        assert read.getnames() == ["copy", "copy/f", "copy/h", "copy/l", f"copy/{'x' * 200}"]
        assert [read.getmember(f"copy/{one}").linkname for one in "hl"] == ["copy/f", "/etc"]
        contents = read.extractfile("copy/f")
        assert contents
        assert contents.read() == b"data"


def test_names_that_lead_out_and_devices_are_not_passed_on() -> None:
    target = io.BytesIO()
    with pytest.raises(CopyError, match="leads out"):
        pass_on(archive(file("../f")), target, "copy")
    with pytest.raises(CopyError, match="'dev' is a device"):
        pass_on(archive(("dev", tarfile.CHRTYPE, b"", 0o666)), target, "copy")
