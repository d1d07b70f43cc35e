"""An image that somebody made to attack the host changes nothing outside of its own directory."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import vc_core as vc
from image_layouts import (
    add_blob,
    blob,
    directory,
    entry,
    hard_link,
    layer,
    link,
    make_index,
    make_layout,
    manifest_digest,
    write_index,
)
from vc_core.errors import ImageError
from vc_core.store.roots import Roots

pytestmark = pytest.mark.needs("skopeo", "umoci")


@pytest.fixture
def root(roots: Roots) -> Path:
    """Return the directory in which state and run root of the test are."""
    return roots.state.parent


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a directory of the host with a file that no image may read or change."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "secret").write_text("of the host", encoding="ascii")
    return place


def load(layout: Path) -> Path | None:
    """Import an image; return its root file system, or None if it was refused."""
    try:
        return Path(vc.import_image(str(layout)).root_fs)
    except ImageError:
        return None


def nothing_left(root: Path) -> bool:
    return {one.name for one in (root / "state/images").iterdir()} <= {".lock", "names.json"}


def contents(top: Path) -> dict[str, bytes]:
    """Return the regular files below a directory, by their paths."""
    files = (path for path in top.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


Members = Sequence[tuple[tarfile.TarInfo, bytes]]

ESCAPES: Mapping[str, Callable[[Path], Sequence[Members]]] = {
    "a path with ..": lambda to: [[entry(f"../../../../../../../../../..{to}/planted", b"x")]],
    "a directory with ..": lambda to: [[directory(f"a/../../../../../../../../../..{to}", 0o777)]],
    "an absolute path": lambda to: [[entry(f"{to}/planted", b"x")]],
    "a link out of the root": lambda to: [[link("out", str(to)), entry("out/planted", b"x")]],
    "a link of a former layer": lambda to: [[link("out", str(to))], [entry("out/planted", b"x")]],
    "a relative link": lambda to: [[link("out", f"../../../../../../../../../..{to}")], [entry("out/planted", b"x")]],
    "a chain of links": lambda to: [
        [link("a", "b"), link("b", "c/.."), link("c", f"{to}/x")],
        [entry("a/planted", b"x")],
    ],
    "a link in the place of the root": lambda to: [[link(".", str(to)), entry("planted", b"x")]],
    "a hard link": lambda to: [[hard_link("got", f"../../../../../../../../../..{to}/secret")], [entry("got", b"x")]],
    "a hard link by an absolute path": lambda to: [[hard_link("got", f"{to}/secret")]],
    "a hard link through a link": lambda to: [[link("out", str(to)), hard_link("got", "out/secret")]],
    "a file over a link": lambda to: [[link("file", f"{to}/secret")], [entry("file", b"x")]],
    "a whiteout through a link": lambda to: [[link("out", str(to))], [entry("out/.wh.secret")]],
    "an opaque whiteout through a link": lambda to: [[link("out", str(to))], [entry("out/.wh..wh..opq")]],
    "a whiteout of the parent": lambda _: [[entry(".wh...")]],
    "a whiteout of the parent, and a file": lambda _: [[entry(".wh..."), entry("b/c", b"x")]],
    "a whiteout of the parent of a directory": lambda _: [[entry("a/b")], [entry("a/.wh..."), entry("b/c", b"x")]],
    "a whiteout of nothing": lambda _: [[entry("a")], [entry(".wh.")]],
    "modes of a link's target": lambda to: [[link("out", str(to))], [directory("out", 0o777)]],
}


@pytest.mark.parametrize("attack", ESCAPES)
def test_no_layer_leads_out_of_the_root(attack: str, root: Path, victim: Path) -> None:
    layers = [layer(*members) for members in ESCAPES[attack](victim)]
    mode = victim.stat().st_mode
    unpacked = load(make_layout(victim.parent / "layout", layers))
    assert contents(victim) == {"secret": b"of the host"}
    assert victim.stat().st_mode == mode
    # In its home skopeo has a cache, unless it is root's.
    assert {one.name for one in victim.parent.iterdir()} - {"home"} == {"layout", "root", "victim"}
    if unpacked is None:
        assert nothing_left(root)
    else:
        assert b"of the host" not in contents(unpacked).values()
        assert {one.name for one in unpacked.parent.iterdir()} == {"rootfs", "image.json"}
        assert stat.S_ISDIR(unpacked.lstat().st_mode)


def test_files_that_a_later_layer_removes_are_not_there(root: Path, tmp_path: Path) -> None:
    first = layer(entry("gone", b"1"), entry("stays", b"2"), directory("d"), entry("d/old", b"3"), entry("again", b"4"))
    second = layer(
        entry(".wh.gone"), directory("d"), entry("d/.wh..wh..opq"), entry("d/new", b"5"), entry("again", b"6")
    )
    unpacked = load(make_layout(tmp_path / "layout", [first, second]))
    assert unpacked is not None
    assert contents(unpacked) == {"stays": b"2", "d/new": b"5", "again": b"6"}


def test_nobody_but_the_owner_reaches_a_program_that_gives_rights(root: Path, tmp_path: Path) -> None:
    unpacked = load(make_layout(tmp_path / "layout", [layer(entry("su", b"x", mode=0o4755))]))
    assert unpacked is not None
    assert (unpacked / "su").stat().st_mode & 0o4755 == 0o4755
    assert (root / "state/images").stat().st_mode & 0o077 == 0


def _spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_layer_with_another_digest_is_refused(root: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("a", b"x" * 4096))])
    _spoil(blob(layout, "layers"))
    with pytest.raises(ImageError, match=r"image 'oci:.*layout' cannot be imported: .*[Dd]igest"):
        vc.import_image(str(layout))
    assert nothing_left(root)


def test_a_layer_whose_content_has_another_digest_is_refused(root: Path, tmp_path: Path) -> None:
    wrong = {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}
    layout = make_layout(tmp_path / "layout", [layer(entry("a", b"x"))], rootfs=wrong)
    with pytest.raises(ImageError, match="cannot be imported"):
        vc.import_image(str(layout))
    assert nothing_left(root)


def test_a_layer_that_ends_early_is_refused(root: Path, tmp_path: Path) -> None:
    member = tarfile.TarInfo("huge")
    member.size = 1 << 40
    layout = make_layout(tmp_path / "layout", [member.tobuf() + b"x" * 1024])
    with pytest.raises(ImageError, match="unexpected EOF"):
        vc.import_image(str(layout))
    assert nothing_left(root)


DOCUMENTS = {
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "numbers for texts": b'{"config": {"Entrypoint": [1]}}',
    "not UTF-8": b'{"architecture": "\xff"}',
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_configuration_that_is_none_is_one_sentence(document: str, root: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("a"))])
    manifest = json.loads((layout / "blobs" / manifest_digest(layout).replace(":", "/")).read_text(encoding="ascii"))
    manifest["config"] = add_blob(layout, DOCUMENTS[document], manifest["config"]["mediaType"])
    write_index(layout, [add_blob(layout, json.dumps(manifest).encode(), manifest["mediaType"])])
    with pytest.raises(ImageError) as raised:
        vc.import_image(str(layout))
    assert "\n" not in str(raised.value)
    assert nothing_left(root)


def test_an_image_for_another_processor_is_refused(root: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("a"))], architecture="s390x")
    with pytest.raises(ImageError, match=r"is made for linux/s390x, but the guests of this host are linux/\w+"):
        vc.import_image(str(layout))
    layout = make_index(make_layout(tmp_path / "indexed", [layer(entry("a"))]), ["s390x"])
    with pytest.raises(ImageError):
        vc.import_image(str(layout))
    assert nothing_left(root)


def test_a_stop_signal_that_does_not_exist_is_refused(root: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("a"))], {"StopSignal": "SIGNOTHING"})
    with pytest.raises(ImageError, match="has a stop signal that does not exist: signal 'SIGNOTHING' is unknown"):
        vc.import_image(str(layout))


def test_a_variable_without_a_value_is_left_out_and_texts_of_others_are_safe_to_print(
    root: Path, tmp_path: Path
) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("a"))], {"Env": ["A=1", "NOTHING"], "Cmd": ["\x1b[31mred"]})
    image = vc.import_image(str(layout))
    assert image.env == ("A=1",)
    virtc = str(Path(sys.executable).with_name("virtc"))
    shown = subprocess.run([virtc, "image", "inspect", image.digest], capture_output=True, encoding="utf-8", check=True)
    assert "\x1b" not in shown.stdout
    assert json.loads(shown.stdout)["cmd"] == ["\x1b[31mred"]


#: Imports an image where the disk is a small one, and prints the error.
BOMB = """\
mount -t tmpfs -o size=300m none "$1"
export VIRTCONTAINERS_ROOT="$1/root"
virtc image import "$2" 2>&1 || true
find "$1" -name '.making*' -o -name 'sha256*'
"""


@pytest.mark.root
@pytest.mark.needs("mount namespaces")
def test_a_layer_that_would_fill_the_disk_is_ended_before_it_does(root: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [layer(entry("zeros", bytes(200 * 2**20)))])
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", BOMB, "sh", str(disk), str(layout)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.stdout.startswith("virtc: image 'oci:"), done
    assert "of which 256 stay free; make room, or remove images" in done.stdout
    assert done.stdout.count("\n") == 1, done.stdout
