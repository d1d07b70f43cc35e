"""The archives that guests get: of files of this host, and of tar archives."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from vc_core.archives.packing import name_of, pack, repack
from vc_core.errors import CopyError


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def packed(path: object, *, owners: bool = False, follow: bool = False) -> dict[str, tarfile.TarInfo]:
    return read(b"".join(pack(str(path), owners=owners, follow=follow)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "f").write_bytes(b"f" * 1000)
    (top / "f").chmod(0o4750)
    (top / "d/hard").hardlink_to(top / "f")
    (top / "d/link").symlink_to("/etc")
    (top / "d").chmod(0o500)
    return top


def test_a_tree_has_its_names_modes_and_links(tree: Path) -> None:
    found = packed(tree)
    assert sorted(found) == [".", "d", "d/hard", "d/link", "f"]
    assert (found["d"].mode, found["f"].mode) == (0o500, 0o750)
    assert (found["d/link"].issym(), found["d/link"].linkname) == (True, "/etc")
    names = {found["d/hard"].linkname or "d/hard", found["f"].linkname or "f"}
    assert len(names) == 1
    assert {one.uid for one in found.values()} == {0}


def test_owners_and_set_user_id_bits_are_kept_only_together(tree: Path) -> None:
    owned = packed(tree, owners=True)
    assert owned["f"].mode | owned["d/hard"].mode == 0o4750
    assert owned["f"].uid == os.getuid()


def test_the_contents_of_a_directory_come_without_its_own_entry(tree: Path) -> None:
    assert sorted(packed(f"{tree}/.")) == ["d", "d/hard", "d/link", "f"]
    assert [name_of(path) for path in ("a/b", "b/", "b/.", ".", "..", "/", "a/..")] == ["b", "b", *[""] * 5]


def test_a_link_is_a_link_unless_it_is_to_be_followed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "l").symlink_to("f")
    assert packed(tmp_path / "l")["."].issym()
    assert packed(tmp_path / "l", follow=True)["."].isreg()


def test_sockets_are_left_out_and_missing_files_are_one_sentence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        assert list(packed(tmp_path)) == ["."]
        with pytest.raises(CopyError, match="neither a file, a directory nor a link"):
            packed(tmp_path / "socket")
    with pytest.raises(CopyError, match=r"nosuch' cannot be read: No such file"):
        packed(tmp_path / "nosuch")


def test_a_file_that_becomes_shorter_has_the_size_of_its_header(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 2000)
    pieces = pack(str(path), owners=False, follow=False)
    begin = next(pieces)
    path.write_bytes(b"x")
    found = read(begin + b"".join(pieces))
    assert found["."].size == 2000


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_all_formats_are_read(format: int, compressed: bool) -> None:
    source = io.BytesIO()
    with tarfile.open(fileobj=source, mode="w", format=format) as archive:
        info = tarfile.TarInfo("/abs/" + "x" * 90)
        info.size, info.mtime, info.uid = 3, 1.5, 7
        archive.addfile(info, io.BytesIO(b"abc"))
    data = gzip.compress(source.getvalue(), mtime=0) if compressed else source.getvalue()
    found = read(b"".join(repack(io.BytesIO(data), owners=True)))
    (only,) = found.values()
    assert (only.name, only.size, only.mtime, only.uid) == ("abs/" + "x" * 90, 3, 1, 7)


@pytest.mark.parametrize("data", [b"", b"no archive at all", gzip.compress(b"x" * 2000, mtime=0)[:30]])
def test_what_is_not_an_archive_is_one_sentence(data: bytes) -> None:
    with pytest.raises(CopyError, match=r"^the tar archive cannot be read"):
        list(repack(io.BytesIO(data), owners=False))


def test_names_that_lead_out_are_refused_before_the_guest_sees_them() -> None:
    source = io.BytesIO(tarfile.TarInfo("../x").tobuf() + bytes(1024))
    with pytest.raises(CopyError, match="leads out"):
        list(repack(source, owners=False))
