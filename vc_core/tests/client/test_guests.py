"""Guests are built, listed and deleted by the API and by ``virtc guest``, with a made-up builder."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import vc_core as vc
from vc_core import aio
from vc_core.cli.main import virtc
from vc_core.client import guests
from vc_core.client.interpreters import InThread
from vc_core.driver import BuiltGuest, GuestBuilder, GuestImage, GuestPayload, GuestRequest, Progress, hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.plugins.registry import Plugins
from vc_core.store.roots import Roots
from waiting import PATIENCE


@dataclass(frozen=True, kw_only=True)
class Options:
    hang: bool = False
    fail: bool = False


class Builder(GuestBuilder):
    """Writes a directory for a guest; with the option ``hang`` its build does not end."""

    building = threading.Event()
    cancelled = threading.Event()

    def __init__(self, options: Options) -> None:
        self._options = options

    async def find(self, request: GuestRequest) -> GuestImage | None:
        return None

    async def build(self, request: GuestRequest, progress: Progress) -> GuestImage:
        if self._options.hang:
            self.building.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if self._options.fail:
            raise vc.GuestError("there is no kernel")
        progress("unpacking", None)
        progress("packing", 0.5)
        number = len(list(request.cache_dir.glob("*")))
        directory = request.cache_dir / f"guest-{9 - number}"
        directory.mkdir(parents=True)
        os.utime(directory, (number, number))
        return GuestImage(kernel=directory / "kernel", initramfs=directory / "initramfs")

    def list(self, cache_dir: Path) -> list[BuiltGuest]:
        directories = sorted(cache_dir.glob("*"))
        return [BuiltGuest(one.name, "made-up", ("air",), one, 2**20) for one in directories]

    def remove(self, cache_dir: Path, key: str) -> None:
        try:
            (cache_dir / key).rmdir()
        except OSError as error:
            raise vc.GuestError(f"there is no guest {key!r}") from error


class GuestPlugin:
    @hookimpl
    def vc_driver_options(self) -> type[Options]:
        return Options

    @hookimpl
    def vc_guest_create(self, config: Options) -> GuestBuilder:
        return Builder(config)


class PluginsWithBuilder(Plugins):
    """The plug-ins that are installed, the made-up builder, and the noop agent with a guest."""

    def __init__(self) -> None:
        super().__init__()
        self.add_driver(PluginKind.GUEST, "made-up", GuestPlugin())


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    from vc_agent_noop.plugin import NoopPlugin

    class WithGuest(NoopPlugin):
        @hookimpl
        def vc_agent_guest(self, config: object) -> GuestPayload:
            return GuestPayload(files={"/init": "/bin/true"})

    def plugins() -> Plugins:
        made = PluginsWithBuilder()
        made.add_driver(PluginKind.AGENT, "with-guest", WithGuest())
        return made

    monkeypatch.setattr(guests, "Plugins", plugins)
    Builder.building.clear()
    Builder.cancelled.clear()
    return Builder


def build(**options: object) -> vc.GuestImage:
    return vc.build_guest(agent_type="with-guest", guest="made-up", guest_options=options)


def test_a_built_guest_is_listed_newest_last_and_deleted(roots: Roots) -> None:
    first, second = build(), build()
    assert first.kernel.parent.parent == roots.cache / "guests"
    assert [one.directory for one in vc.list_guests(guest="made-up")] == [first.kernel.parent, second.kernel.parent]
    vc.delete_guest(first.kernel.parent.name, guest="made-up")
    assert [one.directory for one in vc.list_guests(guest="made-up")] == [second.kernel.parent]


def test_the_async_functions_do_the_same() -> None:
    async def work() -> None:
        image = await aio.build_guest(agent_type="with-guest", guest="made-up")
        assert [one.key for one in await aio.list_guests(guest="made-up")] == [image.kernel.parent.name]
        await aio.delete_guest(image.kernel.parent.name, guest="made-up")
        assert await aio.list_guests(guest="made-up") == []

    asyncio.run(work())


def test_progress_is_called_in_the_callers_thread() -> None:
    steps: list[tuple[str, float | None, threading.Thread]] = []
    vc.build_guest(
        agent_type="with-guest",
        guest="made-up",
        progress=lambda phrase, fraction: steps.append((phrase, fraction, threading.current_thread())),
    )
    here = threading.current_thread()
    assert steps == [("unpacking", None, here), ("packing", 0.5, here)]


def test_a_build_that_fails_raises_its_error() -> None:
    with pytest.raises(vc.GuestError, match="there is no kernel"):
        build(fail=True)


def test_an_error_of_the_callers_progress_ends_the_build() -> None:
    def progress(phrase: str, fraction: float | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        vc.build_guest(agent_type="with-guest", guest="made-up", progress=progress)


def test_cancelling_a_build_cancels_its_builder(builder: type[Builder]) -> None:
    async def work() -> None:
        building = asyncio.create_task(
            aio.build_guest(agent_type="with-guest", guest="made-up", guest_options={"hang": True})
        )
        assert await asyncio.to_thread(builder.building.wait, PATIENCE)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        assert builder.cancelled.is_set()

    asyncio.run(work())


def test_an_interrupt_of_a_blocking_build_cancels_its_builder(builder: type[Builder]) -> None:
    operation = guests.build_guest("with-guest", {}, "made-up", {"hang": True})
    operation.send(None)
    assert builder.building.wait(PATIENCE)
    step = operation.throw(KeyboardInterrupt())
    assert isinstance(step, InThread)
    step.function()
    with pytest.raises(KeyboardInterrupt):
        operation.send(None)
    assert builder.cancelled.is_set()


def test_an_agent_without_a_guest_is_refused() -> None:
    with pytest.raises(vc.ConfigError, match="agent 'noop' brings no guest"):
        vc.build_guest(agent_type="noop", guest="made-up")


def test_a_guest_that_does_not_exist_is_named() -> None:
    with pytest.raises(vc.GuestError, match="there is no guest 'x'"):
        vc.delete_guest("x", guest="made-up")


def test_the_command_builds_lists_and_removes_guests() -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(virtc, ["guest", *words, "--guest", "made-up"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "guest-9/kernel" in run("build", "--agent", "with-guest")
    assert run("list").splitlines()[1].split() == ["guest-9", "made-up", "1.0", "air"]
    assert json.loads(run("list", "--json"))[0]["size"] == 2**20
    image = json.loads(run("build", "--agent", "with-guest", "--json"))
    assert sorted(image) == ["initramfs", "kernel", "kernel_params"]
    assert Path(image["kernel"]).parent.name == "guest-8"
    assert run("list", "--quiet") == "guest-9\nguest-8\n"
    run("remove", "guest-9")
    assert run("list", "--quiet") == "guest-8\n"
    run("remove", "--all")
    assert run("list", "--quiet") == ""
