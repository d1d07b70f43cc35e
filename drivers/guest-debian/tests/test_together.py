"""More than one builder at a time, and builds that are cancelled or killed."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from made_up_debian import Maker, Phrases

from vc_core.driver import GuestImage
from vc_guest_debian.builder import DebianBuilder

pytestmark = pytest.mark.slow

T = TypeVar("T")

TIMEOUT = 60


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, TIMEOUT))


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


@pytest.mark.usefixtures("repository")
def test_what_a_killed_builder_left_goes_with_any_guest_unless_a_builder_is_at_work(maker: Maker) -> None:
    builder, guests = DebianBuilder(maker.config), [maker.build(), maker.build(kernel_params=("quiet",))]
    keys = [guest.kernel.parent.name for guest in guests]
    (maker.cache_dir / "debian/work-killed").mkdir()
    with (maker.cache_dir / "debian/lock").open(encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder.remove(maker.cache_dir, keys[0])
        assert maker.left_overs() == ["work-killed"]
    builder.remove(maker.cache_dir, keys[1])
    assert maker.left_overs() == []


@pytest.mark.usefixtures("repository")
def test_the_event_loop_runs_while_a_build_removes_its_directory(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy disk that took 12 s."""
    removers: list[threading.Thread] = []

    def remove(directory: Path, ignore_errors: bool) -> None:
        removers.append(threading.current_thread())

    monkeypatch.setattr("vc_guest_debian.cache.shutil.rmtree", remove)
    run(DebianBuilder(maker.config).build(maker.request(), Phrases()))
    assert removers
    assert threading.main_thread() not in removers
