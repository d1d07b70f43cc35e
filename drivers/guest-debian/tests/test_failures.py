"""Guests that cannot be built: the error names the cause, and nothing is left."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from made_up_debian import KERNEL, Maker, Phrases, Repository, kernel_files

from vc_core.errors import GuestError
from vc_guest_debian import tools
from vc_guest_debian.builder import DebianBuilder
from vc_guest_debian.cache import Cache

pytestmark = pytest.mark.slow

TIMEOUT = 60


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
        asyncio.run(DebianBuilder(maker.config).build(strange, Phrases()))


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
