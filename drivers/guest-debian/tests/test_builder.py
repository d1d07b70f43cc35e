"""Guests built with the real tools from a repository of the tests, whose kernel is made up."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from made_up_debian import BOOTED_KERNEL, KERNEL, Maker, Repository, kernel_files, listing, unpack

from vc_core.errors import GuestError
from vc_guest_debian.cache import Cache

pytestmark = pytest.mark.slow

TIMEOUT = 60


# What a guest is


@pytest.mark.usefixtures("repository")
def test_a_guest_has_the_decompressed_kernel_the_agent_and_the_modules(
    maker: Maker, tmp_path: Path, module_files: Mapping[str, bytes]
) -> None:
    image = maker.build(kernel_params=("vc.api=4244",), later={"sums": ("virtio", "checksum")}, modules=("virtio_pci",))
    assert image.kernel.read_bytes() == BOOTED_KERNEL
    root = unpack(image.initramfs, tmp_path / "root")
    assert (root / "init").read_bytes() == b"the agent"
    assert os.access(root / "init", os.X_OK)
    loads = (root / "lib/modules/load").read_text(encoding="utf-8").splitlines()
    assert loads == [f"/lib/modules/{name}.ko" for name in ("virtio_ring", "virtio", "virtio_pci", "virtio-rng")]
    later = (root / "lib/modules/load.sums").read_text(encoding="utf-8").splitlines()
    assert later == ["/lib/modules/checksum.ko"]
    for path in (*loads, *later):
        assert (root / path[1:]).read_bytes() in module_files.values()
    assert image.kernel_params == ("cryptomgr.notests", "lockdown=confidentiality", "vc.api=4244")


@pytest.mark.usefixtures("repository")
def test_a_file_of_the_agent_in_lib_is_moved_below_usr(maker: Maker) -> None:
    image = maker.build(files={**maker.payload.files, "/bin/tool": "/bin/true", "/etc/x": "/bin/true"})
    paths = [line.split(maxsplit=8)[8] for line in listing(image.initramfs)]
    assert {"bin -> usr/bin", "usr/bin/tool", "lib -> usr/lib", "usr/lib/modules/load", "etc/x"} <= set(paths)
    assert not [path for path in paths if path.startswith(("bin/", "lib/", "sbin"))]  # written through no link


@pytest.mark.usefixtures("repository")
def test_the_same_inputs_make_the_same_bytes(maker: Maker, tmp_path: Path) -> None:
    other = Maker(maker.payload, tmp_path / "another cache")
    first, second = maker.build(), other.build()
    assert first.initramfs.read_bytes() == second.initramfs.read_bytes()
    assert first.kernel.parent.name == second.kernel.parent.name


def test_packages_come_with_their_libraries_below_usr_and_without_manuals_and_maintenance(
    maker: Maker, tmp_path: Path, repository: Repository
) -> None:
    repository.add(
        "server",
        "1.0",
        {
            "usr/sbin/server": b"server",
            "usr/share/man/man8/server.8": b"text",
            "bin/tool": "../usr/sbin/server",
        },
        depends="libserver, adduser",
    )
    repository.add("libserver", "2:1.0", {"lib/libserver.so": b"library"})
    repository.add("adduser", "3.0", {"usr/sbin/adduser": b"perl"})
    image = maker.build(packages=("server",))
    root = unpack(image.initramfs, tmp_path / "root")
    assert (root / "usr/sbin/server").read_bytes() == b"server"
    assert (root / "usr/lib/libserver.so").read_bytes() == b"library"
    assert (root / "lib/modules/load").is_file()
    assert {str((root / name).readlink()) for name in ("bin", "lib")} == {"usr/bin", "usr/lib"}
    assert (root / "usr/bin/tool").is_symlink()
    assert not (root / "usr/share/man/man8/server.8").exists()
    assert not (root / "usr/sbin/adduser").exists()


@pytest.mark.usefixtures("repository")
def test_the_option_lockdown_false_omits_the_kernel_parameter(maker: Maker) -> None:
    locked = maker.build()
    maker.config = type(maker.config)(lockdown=False)
    assert maker.find() is None
    assert maker.build().kernel_params == ("cryptomgr.notests",)
    assert locked.kernel.is_file()


# Finding it again


@pytest.mark.usefixtures("repository")
def test_a_built_guest_is_found_again(maker: Maker) -> None:
    assert maker.find() is None
    assert maker.build() == maker.find()


@pytest.mark.usefixtures("repository")
def test_a_guest_of_the_same_packages_is_not_made_again(maker: Maker) -> None:
    image = maker.build()
    made = image.initramfs.stat().st_ino
    for pointer in maker.cache_dir.glob("debian/requests/*"):
        pointer.unlink()
    phrases: list[str] = []
    assert maker.build(progress=lambda phrase, share: phrases.append(phrase)) == image == maker.find()
    assert image.initramfs.stat().st_ino == made
    assert "unpacking the kernel" not in phrases


@pytest.mark.usefixtures("repository")
def test_any_other_request_finds_nothing(maker: Maker, tmp_path: Path) -> None:
    maker.build()
    extra = {**maker.payload.files, "/etc/x": sys.executable}
    changes = {
        "modules": ("share",),
        "later": {"x": ()},
        "packages": ("server",),
        "kernel_params": ("a",),
        "files": extra,
    }
    for change in ({name: value} for name, value in changes.items()):
        assert maker.find(**change) is None
    init = Path(maker.payload.files["/init"])
    init.chmod(0o644)
    assert maker.find() is None
    init.chmod(0o755)
    assert maker.find() is not None
    init.write_bytes(b"The agent")
    assert maker.find() is None


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("name", ["kernel", "initramfs", "manifest.json"])
@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda file: os.truncate(file, 10), lambda file: file.write_bytes(bytes(file.stat().st_size))],
    ids=["missing", "cut short", "changed"],
)
def test_a_damaged_guest_is_not_found_and_the_next_build_repairs_it(
    maker: Maker, name: str, damage: Callable[[Path], object]
) -> None:
    whole = maker.build()
    damage(whole.kernel.parent / name)
    assert maker.find() is None
    assert maker.build() == whole == maker.find()
    assert whole.kernel.read_bytes() == BOOTED_KERNEL


def test_a_newer_kernel_makes_a_new_guest_and_leaves_the_old_one(
    maker: Maker, repository: Repository, module_files: Mapping[str, bytes]
) -> None:
    old = maker.build()
    repository.add_kernel("1:1.2.3-2", kernel_files(module_files))
    assert maker.find() == old
    new = maker.build()
    assert maker.find() == new != old
    assert old.kernel.is_file()
    assert {guest.image().kernel for guest in Cache(maker.cache_dir).guests()} == {old.kernel, new.kernel}


def test_a_package_that_was_downloaded_is_used_again(maker: Maker, repository: Repository) -> None:
    maker.build()
    for package in repository.directory.glob("*.deb"):
        package.unlink()
    maker.build(modules=())


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("missing", [0, 1], ids=["changed", "cut short"])
def test_a_damaged_download_is_fetched_again(maker: Maker, missing: int) -> None:
    image = maker.build()
    (package,) = maker.cache_dir.glob(f"debian/downloads/linux-image-{KERNEL}_*")
    whole = package.read_bytes()
    package.write_bytes(bytes(len(whole) - missing))
    assert maker.build() == image
    assert package.read_bytes() == whole


def test_downloads_that_no_guest_is_made_from_are_removed(
    maker: Maker, repository: Repository, module_files: Mapping[str, bytes]
) -> None:
    maker.build()
    repository.add_kernel("1:1.2.3-2", kernel_files(module_files))
    maker.build()
    (old, _) = sorted(Cache(maker.cache_dir).guests(), key=lambda guest: guest.package_files)
    Cache(maker.cache_dir).remove(old.key)
    maker.build()
    assert {path.name for path in maker.cache_dir.glob("debian/downloads/*")} == {
        f"linux-image-{KERNEL}_1%3a1.2.3-2_amd64.deb",
        "linux-image-amd64_1%3a1.2.3-2_amd64.deb",
    }


@pytest.mark.usefixtures("repository")
def test_a_removed_guest_is_not_found(maker: Maker) -> None:
    maker.build()
    (guest,) = Cache(maker.cache_dir).guests()
    Cache(maker.cache_dir).remove(guest.key)
    assert maker.find() is None
    assert Cache(maker.cache_dir).guests() == []
    assert not guest.directory.exists()
    with pytest.raises(GuestError, match=f"no guest '{guest.key}'"):
        Cache(maker.cache_dir).remove(guest.key)


@pytest.mark.parametrize("key", ["", ".", "..", "../guests", "a/b"])
def test_nothing_but_a_guest_can_be_removed(maker: Maker, key: str) -> None:
    maker.cache_dir.joinpath("debian/guests").mkdir(parents=True)
    with pytest.raises(GuestError, match="no guest"):
        Cache(maker.cache_dir).remove(key)
    assert maker.cache_dir.joinpath("debian/guests").is_dir()


# The host


def test_hooks_of_the_hosts_apt_do_not_run(
    maker: Maker, repository: Repository, use_sources: Callable[..., None], tmp_path: Path
) -> None:
    mark = tmp_path / "hook ran"
    hooks = "".join(
        f"{when} {{ \"touch '{mark}'\"; }};\n"
        for when in ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    )
    use_sources(f"deb [trusted=yes arch=amd64] file:{repository.directory} ./", hooks)
    maker.build()
    assert not mark.exists()


def test_the_hosts_lists_are_used(
    maker: Maker, repository: Repository, use_sources: Callable[..., None], tmp_path: Path
) -> None:
    source = f"deb [trusted=yes arch=amd64] file:{repository.directory} ./"
    use_sources(source)
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    (repository.directory / "Packages").unlink()
    assert maker.build() == maker.find()
    assert not list(maker.cache_dir.glob("debian/apt/lists/*Packages*"))


@pytest.mark.root
@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("place", ["public"], indirect=True)
def test_a_plain_user_can_build_and_leaves_nothing_outside_the_cache(maker: Maker, place: Path) -> None:
    elsewhere = place / "elsewhere"
    for directory in (maker.cache_dir, elsewhere):
        directory.mkdir()
        os.chown(directory, 65534, 65534)
    code = """
import sys
from made_up_debian import Maker
from vc_core.driver import GuestPayload
from pathlib import Path
print(Maker(GuestPayload({"/init": sys.argv[1]}, modules=("share", "within")), Path(sys.argv[2])).build().kernel)
"""
    # A plain user who can read this checkout, in any directory, and has no more rights than others.
    reading = [f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading, "--no-new-privs"]
    argv += [sys.executable, "-c", code, maker.payload.files["/init"], str(maker.cache_dir)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "HOME": str(elsewhere), "TMPDIR": str(elsewhere)}
    built = subprocess.run(argv, env=env, check=True, capture_output=True, encoding="utf-8", timeout=TIMEOUT)
    with pytest.raises(GuestError, match="belongs to user 65534"):
        maker.find()
    kernel = Path(built.stdout.strip())
    assert kernel.is_relative_to(maker.cache_dir)
    assert kernel.read_bytes() == BOOTED_KERNEL
    assert list(elsewhere.iterdir()) == []
