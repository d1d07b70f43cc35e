"""Guests built with the real tools from a repository of the tests, whose kernel is made up."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from made_up_debian import KERNEL, PVH_KERNEL, Maker, Phrases, Repository, kernel_files, listing, unpack

from vc_core.driver import GuestImage
from vc_core.errors import GuestError
from vc_guest_debian import integrity, tools
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.cache import Cache

pytestmark = pytest.mark.slow

T = TypeVar("T")

TIMEOUT = 60


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, TIMEOUT))


# What a guest is


@pytest.mark.usefixtures("repository")
def test_a_guest_has_the_decompressed_kernel_the_agent_and_the_modules(
    maker: Maker, tmp_path: Path, module_files: Mapping[str, bytes]
) -> None:
    image = maker.build(kernel_params=("vc.api=4244",), later={"sums": ("virtio", "checksum")}, modules=("virtio_pci",))
    assert image.kernel.read_bytes() == PVH_KERNEL
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
    assert whole.kernel.read_bytes() == PVH_KERNEL


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


# More than one at a time


@pytest.mark.usefixtures("repository")
def test_of_several_builders_of_one_guest_one_builds_and_all_return_it(maker: Maker) -> None:
    phrases = [Phrases() for _ in range(3)]

    async def main() -> list[GuestImage]:
        builds = (DebianBuilder(maker.config).build(maker.request(), noted) for noted in phrases)
        return await asyncio.gather(*builds)

    images = run(main())
    assert images == [maker.find()] * 3
    assert sorted(noted.count("unpacking the kernel") for noted in phrases) == [0, 0, 1]


@pytest.mark.usefixtures("repository")
def test_builders_of_different_guests_each_return_their_own(maker: Maker) -> None:
    async def main() -> list[GuestImage]:
        requests = [maker.request(modules=modules) for modules in (("share",), ("checksum",))]
        return await asyncio.gather(*(DebianBuilder(maker.config).build(request, Phrases()) for request in requests))

    images = run(main())
    assert images == [maker.find(modules=("share",)), maker.find(modules=("checksum",))]
    assert images[0] != images[1]


@pytest.mark.usefixtures("repository")
def test_a_builder_that_is_cancelled_while_waiting_does_not_block_the_next(maker: Maker) -> None:
    async def main() -> GuestImage:
        builds, waits = asyncio.Event(), asyncio.Event()
        builder = DebianBuilder(maker.config)
        first = asyncio.create_task(builder.build(maker.request(), lambda *_: builds.set()))
        await builds.wait()
        second = asyncio.create_task(builder.build(maker.request(), lambda *_: waits.set()))
        await waits.wait()
        assert not first.done()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert second.cancelled()
        return await builder.build(maker.request(modules=()), Phrases())

    assert run(main()) == maker.find(modules=())


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("phrase", ["looking for the packages", "downloading packages", "unpacking the kernel"])
def test_a_cancelled_build_leaves_nothing(maker: Maker, phrase: str) -> None:
    async def main() -> None:
        reached = asyncio.Event()

        def progress(done: str, _share: float | None) -> None:
            if done == phrase:
                reached.set()

        build = asyncio.create_task(DebianBuilder(maker.config).build(maker.request(), progress))
        await reached.wait()
        build.cancel()
        await asyncio.gather(build, return_exceptions=True)
        assert build.cancelled()

    run(main())
    assert maker.left_overs() == []
    assert maker.find() is None


@pytest.mark.usefixtures("repository")
def test_what_a_killed_builder_left_is_removed_by_the_next(maker: Maker) -> None:
    code = """
import asyncio, os, signal, sys
from made_up_debian import Maker
from vc_core.driver import GuestPayload
from pathlib import Path
def progress(phrase, fraction):
    if phrase == "assembling the initramfs":
        os.kill(os.getpid(), signal.SIGKILL)
Maker(GuestPayload({"/init": sys.argv[1]}, modules=("share", "within")), Path(sys.argv[2])).build(progress)
"""
    argv = [sys.executable, "-c", code, maker.payload.files["/init"], str(maker.cache_dir)]
    killed = subprocess.run(argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}, timeout=TIMEOUT)
    assert killed.returncode == -signal.SIGKILL
    assert len(maker.left_overs()) == 1
    assert maker.find() is None
    assert maker.build() == maker.find()
    assert maker.left_overs() == []


# What goes wrong


def failure(maker: Maker, **changes: Any) -> str:
    """Return the text of the error with which a build ends, after which nothing may be left of it."""
    with pytest.raises(GuestError) as error:
        maker.build(**changes)
    assert maker.left_overs() == []
    assert Cache(maker.cache_dir).guests() == []
    assert maker.find() is None
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("repository")
def test_an_unknown_module_is_named(maker: Maker) -> None:
    assert failure(maker, modules=("nonesuch",)) == f"the kernel {KERNEL} has no module 'nonesuch'"


@pytest.mark.usefixtures("repository")
def test_an_unknown_package_is_named(maker: Maker) -> None:
    assert failure(maker, packages=("nonesuch",)) == (
        "cannot find the package nonesuch: Unable to locate package nonesuch"
    )


def test_without_a_network_the_error_is_about_the_network(maker: Maker, use_sources: Callable[..., None]) -> None:
    use_sources("deb [trusted=yes arch=amd64] http://127.0.0.1:9/debian stable main", 'Acquire::Retries "0";')
    text = failure(maker)
    assert text.startswith("cannot fetch the lists of packages: Failed to fetch http://127.0.0.1:9/")
    assert "Connection refused" in text


def test_a_source_that_cannot_be_reached_does_not_prevent_a_build_from_the_others(
    maker: Maker, repository: Repository, use_sources: Callable[..., None]
) -> None:
    use_sources(
        f"deb [trusted=yes arch=amd64] http://127.0.0.1:9/debian stable main\n"
        f"deb [trusted=yes arch=amd64] file:{repository.directory} ./",
        'Acquire::Retries "0";',
    )
    assert maker.build() == maker.find()


def test_unsigned_packages_are_refused(maker: Maker, repository: Repository, use_sources: Callable[..., None]) -> None:
    use_sources(f"deb [arch=amd64] file:{repository.directory} ./")
    failure(maker)
    assert not list(maker.cache_dir.glob("debian/downloads/*.deb"))


def test_a_package_with_another_hash_than_in_the_lists_is_refused(maker: Maker, repository: Repository) -> None:
    (package,) = repository.directory.glob(f"linux-image-{KERNEL}_*")
    package.write_bytes(bytes(package.stat().st_size))
    assert f"cannot download linux-image-{KERNEL}=1:1.2.3-1" in failure(maker)
    assert not list(maker.cache_dir.glob(f"debian/downloads/linux-image-{KERNEL}_*.deb"))


@pytest.mark.usefixtures("repository")
def test_a_package_without_a_kernel_is_an_error_that_says_what_to_do(maker: Maker) -> None:
    maker.config = type(maker.config)(kernel_package="linux-base")
    assert "kernel_package" in failure(maker)


def test_a_kernel_package_that_contains_no_kernel_is_an_error_that_says_what_to_do(
    maker: Maker, repository: Repository, module_files: Mapping[str, bytes]
) -> None:
    files = kernel_files(module_files)
    del files[f"boot/vmlinuz-{KERNEL}"]
    repository.add_kernel("1:1.2.3-2", files)
    assert "kernel_package" in failure(maker)


def test_a_damaged_kernel_makes_no_guest(
    maker: Maker, repository: Repository, module_files: Mapping[str, bytes]
) -> None:
    repository.add_kernel("1:1.2.3-2", kernel_files(module_files, image=bytes(0x202) + b"HdrS" + b"\xff" * 200))
    assert "damaged" in failure(maker)


@pytest.mark.usefixtures("repository")
def test_a_cache_that_cannot_be_written_is_named(maker: Maker) -> None:
    maker.cache_dir.write_bytes(b"a file is in the way")
    with pytest.raises(GuestError, match=f"^cannot build a guest in {maker.cache_dir}: "):
        maker.build()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"/sbin/agent": "/bin/true"}, "the payload of the agent 'tester' has no /init"),
        ({"/init": "/nonesuch"}, "the guest's file /init cannot be read: .*/nonesuch"),
        ({"/init": "/bin/true", "etc/x": "/bin/true"}, "a file for 'etc/x'"),
        ({"/init": "/bin/true", "/../x": "/bin/true"}, "a file for '/../x'"),
        ({"/init": "/bin/true", "/lib/modules/load": "/bin/true"}, "a file for '/lib/modules/load'"),
        ({"/init": "/bin/true", "/lib/modules/load.x": "/bin/true"}, "a file for '/lib/modules/load.x'"),
    ],
)
def test_a_bad_payload_is_refused_before_anything_is_done(maker: Maker, files: object, message: str) -> None:
    with pytest.raises(GuestError, match=message):
        maker.build(files=files)
    assert not maker.cache_dir.exists()


def test_an_unsupported_machine_is_refused_by_name(maker: Maker) -> None:
    request = maker.request()
    strange = type(request)(request.agent, request.payload, "pdp11", request.cache_dir)
    with pytest.raises(GuestError, match="machine 'pdp11', only for x86_64, aarch64"):
        run(DebianBuilder(maker.config).build(strange, Phrases()))


@pytest.mark.usefixtures("repository")
def test_a_missing_tool_is_named_before_anything_is_done(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("apt-get", "dpkg-deb", "flock", "setpriv"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(GuestError, match=r"^depmod is not installed: install the Debian package kmod$"):
        maker.build()
    assert not maker.cache_dir.exists()


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
    assert kernel.read_bytes() == PVH_KERNEL
    assert list(elsewhere.iterdir()) == []


@pytest.mark.root
@pytest.mark.usefixtures("repository")
def test_without_space_the_error_says_so(maker: Maker, tmp_path: Path) -> None:
    maker.cache_dir.mkdir()
    code = """
import subprocess, sys
from made_up_debian import Maker
from vc_core.driver import GuestPayload
from vc_core.errors import GuestError
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", sys.argv[2]], check=True)
maker = Maker(GuestPayload({"/init": sys.argv[1]}, modules=("share", "within")), Path(sys.argv[2]))
try:
    maker.build()
except GuestError as error:
    print(error)
print(maker.left_overs())
"""
    argv = ["unshare", "--mount", sys.executable, "-c", code, maker.payload.files["/init"], str(maker.cache_dir)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    tried = subprocess.run(argv, env=env, check=True, capture_output=True, encoding="utf-8", timeout=TIMEOUT)
    text, left = tried.stdout.splitlines()
    assert text.startswith(f"no space is left in {maker.cache_dir}/debian; ")
    assert left == "[]"
