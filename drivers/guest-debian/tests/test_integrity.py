"""The cache of guests is its owner's alone, and what is in it is what was built."""

import os
import stat
from pathlib import Path

import pytest
from made_up_debian import Maker

from vc_core.errors import GuestError
from vc_guest_debian import integrity

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("repository")
def test_a_guest_is_read_again_only_after_its_files_changed_or_the_host_booted(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = maker.build()
    read: list[str] = []
    real = integrity.hash_of

    def hash_of(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(integrity, "hash_of", hash_of)
    for _ in range(2):
        assert maker.find() == image
    assert read == ["kernel", "initramfs"]
    os.utime(image.kernel)
    assert maker.find() == image
    assert read == ["kernel", "initramfs"] * 2
    verified = image.kernel.with_name("verified")
    verified.write_text(
        verified.read_text(encoding="ascii").replace('"boot": "', '"boot": "another '), encoding="ascii"
    )
    assert maker.find() == image
    assert read == ["kernel", "initramfs"] * 3


@pytest.mark.usefixtures("repository")
def test_no_other_user_can_enter_the_cache_whatever_the_umask(maker: Maker) -> None:
    before = os.umask(0)
    try:
        image = maker.build()
    finally:
        os.umask(before)
    assert maker.find() == image
    for path in maker.cache_dir.glob("debian/**"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0 or maker.cache_dir / "debian/apt" in path.parents, path
    assert stat.S_IMODE((maker.cache_dir / "debian").stat().st_mode) == 0o700


@pytest.mark.root
@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("part", ["", "guests", "requests"])
def test_the_cache_of_another_user_is_refused(maker: Maker, part: str) -> None:
    maker.build()
    os.chown(maker.cache_dir / "debian" / part, 65534, -1)
    for use in (maker.find, maker.build):
        with pytest.raises(GuestError, match=r"belongs to user 65534; remove it, or set VIRTCONTAINERS_CACHE"):
            use()


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("name", ["", "kernel", "initramfs", "manifest.json"])
def test_a_guest_that_others_can_write_is_not_found_and_the_next_build_replaces_it(maker: Maker, name: str) -> None:
    image = maker.build()
    (image.kernel.parent / name).chmod(0o777)
    assert maker.find() is None
    assert maker.build() == image == maker.find()
