"""The archive, as the system's own cpio reads it."""

import stat
import subprocess
from pathlib import Path

from vc_core.driver.initramfs import Entry, file_entry, pack


def unpack(archive: Path, target: Path) -> Path:
    target.mkdir()
    argv = ["cpio", "--extract", "--quiet", "--no-absolute-filenames"]
    subprocess.run(argv, input=archive.read_bytes(), cwd=target, check=True)
    return target


def listing(archive: Path) -> list[str]:
    argv = ["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet"]
    listed = subprocess.run(argv, input=archive.read_bytes(), check=True, capture_output=True)
    return listed.stdout.decode(errors="surrogateescape").splitlines()


FILES = {
    "/init": file_entry(b"#!/bin/sh\n", executable=True),
    "/usr/lib/data": file_entry(b"odd"),
    "/usr/lib/empty": file_entry(b""),
    "/lib": Entry(stat.S_IFLNK | 0o777, b"usr/lib"),
    "/usr/lib/\udcff": file_entry(b"a name that is not UTF-8"),
    "/usr/bin": Entry(stat.S_IFDIR | 0o750),
}


def test_the_archive_holds_each_file_with_its_contents_and_mode(tmp_path: Path) -> None:
    archive = tmp_path / "initramfs"
    archive.write_bytes(b"".join(pack(FILES)))
    root = unpack(archive, tmp_path / "root")
    assert {f"/{path.relative_to(root)}" for path in root.rglob("*")} == {*FILES, "/usr", "/usr/lib"}
    for path, entry in FILES.items():
        target = root / path[1:]
        assert stat.S_IFMT(target.lstat().st_mode) == stat.S_IFMT(entry.mode)
        if target.is_symlink():
            assert str(target.readlink()).encode() == entry.data
        else:
            assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(entry.mode)
            assert target.is_dir() or target.read_bytes() == entry.data


def test_everything_belongs_to_root_and_carries_the_time_0(tmp_path: Path) -> None:
    archive = tmp_path / "initramfs"
    archive.write_bytes(b"".join(pack(FILES)))
    for line in listing(archive):
        _, _, owner, group, _, *date = line.split()[:8]
        assert (owner, group) == ("0", "0")
        assert date == ["Jan", "1", "1970"]


def test_the_order_in_which_files_are_named_changes_nothing() -> None:
    assert b"".join(pack(FILES)) == b"".join(pack(dict(reversed(FILES.items()))))
