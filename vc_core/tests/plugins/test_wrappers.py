"""A wrapper of an extension that breaks: the error names the extension, and a hang disables only that extension."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vc_core.config.pod import HypervisorConfig, Resources
from vc_core.driver import Hypervisor, PodContext, hookimpl
from vc_core.driver.kinds import PluginKind
from vc_core.errors import ConfigError, DriverContractError
from vc_core.plugins.registry import Plugins
from vc_hypervisor_mock import MockPlugin
from vc_hypervisor_mock.hypervisor import MockHypervisor

POD = PodContext("p1", "uuid", Path("/run/p1"), Path("/run/p1/share"), Resources(), HypervisorConfig())

Wrapper = Callable[[], Generator[None, Any, Any]]


class Toy(MockPlugin):
    """A driver that refuses the option ``bad``, as it should, and makes what ``make`` returns."""

    def __init__(self, make: Callable[..., object] = MockHypervisor) -> None:
        self.make = make

    @hookimpl
    def vc_hypervisor_create(self, pod: PodContext, config: object, saved: Mapping[str, object] | None) -> Any:
        return self.make(pod, config, saved)


class Around:
    """An extension with a wrapper of the create hook."""

    def __init__(self, wrapper: Wrapper) -> None:
        self.wrapper = wrapper

    @hookimpl(wrapper=True)
    def vc_hypervisor_create(self) -> Generator[None, Any, Any]:
        return (yield from self.wrapper())


class Quiet:
    """An extension that is not the one to blame."""

    @hookimpl(wrapper=True)
    def vc_hypervisor_create(self) -> Generator[None, Any, Any]:
        return (yield)


def wrapped(wrapper: Wrapper, make: Callable[..., object] = MockHypervisor) -> Callable[[], Hypervisor]:
    """Return a function that creates an object through a wrapper, between two others that do nothing."""
    plugins = Plugins()
    plugins.add_driver(PluginKind.HYPERVISOR, "toy", Toy(make))
    plugins.add_driver(PluginKind.EXTENSION, "inner", Quiet())
    plugins.add_driver(PluginKind.EXTENSION, "around", Around(wrapper))
    plugins.add_driver(PluginKind.EXTENSION, "outer", Quiet())
    driver = plugins.hypervisor("toy")
    config = driver.config({})
    return lambda: driver.create(POD, config, None)


def blame(create: Callable[[], object]) -> str:
    with pytest.raises(DriverContractError) as caught:
        create()
    return str(caught.value)


def test_what_is_raised_before_the_driver_names_the_extension() -> None:
    def raises() -> Generator[None, Any, Any]:
        if POD.id:
            raise SystemExit(3)
        yield

    found = blame(wrapped(raises))
    assert found.startswith(
        "extension 'around' added by the program raised SystemExit: 3 from its wrapper of vc_hypervisor_create"
    )


def test_what_is_raised_after_the_driver_names_the_extension() -> None:
    def raises() -> Generator[None, Any, Any]:
        yield
        raise KeyboardInterrupt

    assert blame(wrapped(raises)).startswith("extension 'around' added by the program raised KeyboardInterrupt from")


def test_what_a_wrapper_returns_wrongly_names_the_extension() -> None:
    def forgets() -> Generator[None, Any, Any]:
        yield

    found = blame(wrapped(forgets))
    assert found.startswith("extension 'around' added by the program returned None from its wrapper of vc_hypervisor_")
    assert "must return a vc_core.driver.Hypervisor" in found


@pytest.mark.parametrize(("yields", "words"), [(0, "without a yield"), (2, "with a second yield")])
def test_a_wrapper_that_does_not_yield_once_names_the_extension(yields: int, words: str) -> None:
    def around() -> Generator[None, Any, Any]:
        for _ in range(yields):
            yield

    assert blame(wrapped(around)).startswith(
        f"extension 'around' added by the program wraps vc_hypervisor_create {words}"
    )


def test_what_the_driver_raises_names_the_driver_however_it_is_wrapped() -> None:
    seen = []

    def notes() -> Generator[None, Any, Any]:
        try:
            return (yield)
        except Exception as error:
            seen.append(error)
            raise

    def make(*arguments: object) -> object:
        raise ZeroDivisionError("bad day")

    found = blame(wrapped(notes, make))
    assert found.startswith("hypervisor driver 'toy' added by the program raised ZeroDivisionError: bad day")
    assert [str(error) for error in seen] == [found]


def test_what_the_driver_returns_wrongly_names_the_driver_however_it_is_wrapped() -> None:
    def passes() -> Generator[None, Any, Any]:
        return (yield)

    assert blame(wrapped(passes, lambda *arguments: "a VM")).startswith(
        "hypervisor driver 'toy' added by the program returned 'a VM' from vc_hypervisor_create"
    )


def test_an_error_of_the_driver_passes_through_wrappers_as_it_is() -> None:
    error = ConfigError("no such machine")

    def passes() -> Generator[None, Any, Any]:
        return (yield)

    def make(*arguments: object) -> object:
        raise error

    with pytest.raises(ConfigError) as caught:
        wrapped(passes, make)()
    assert caught.value is error


def test_an_object_that_a_wrapper_put_around_the_driver_s_names_the_extension_and_the_driver_s_names_the_driver() -> (
    None
):
    class Outer(MockHypervisor):
        def __init__(self, inner: Hypervisor) -> None:
            self.inner = inner

        def save(self) -> Mapping[str, object]:
            return self.inner.save()

        def console_tail(self) -> str:
            raise ZeroDivisionError("of the wrapper")

    class Inner(MockHypervisor):
        def save(self) -> Mapping[str, object]:
            raise ZeroDivisionError("of the driver")

    def around() -> Generator[None, Any, Any]:
        return Outer((yield))

    made = wrapped(around, Inner)()
    with pytest.raises(DriverContractError, match=r"extension 'around' .* of the wrapper from console_tail"):
        made.console_tail()
    with pytest.raises(DriverContractError, match=r"hypervisor driver 'toy' .* of the driver from save"):
        made.save()


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return an event that ends what hangs, so that no thread outlives the test."""
    monkeypatch.setattr("vc_core.plugins.registry.EXTENSION_TIMEOUT", 0.1)
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.slow
@pytest.mark.parametrize("half", ["first", "second"])
def test_a_wrapper_that_hangs_is_disabled_and_the_call_goes_on_without_it(
    end: threading.Event, caplog: pytest.LogCaptureFixture, half: str
) -> None:
    def hangs() -> Generator[None, Any, Any]:
        if half == "first":
            end.wait()
        made = yield
        end.wait()
        return made

    create = wrapped(hangs)
    for _ in range(2):
        assert isinstance(create(), Hypervisor)
    assert caplog.text.count("did not return within 0.1 s; the extension is disabled") == 1
    assert "extension 'around' added by the program: hook vc_hypervisor_create" in caplog.text


@pytest.mark.slow
def test_an_error_of_the_driver_is_not_lost_in_a_wrapper_that_hangs(end: threading.Event) -> None:
    def hangs() -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            end.wait()

    def make(*arguments: object) -> object:
        raise ConfigError("no such machine")

    with pytest.raises(ConfigError, match="no such machine"):
        wrapped(hangs, make)()


def test_a_wrapper_of_an_optional_hook_gets_none_from_a_driver_without_it() -> None:
    seen = []

    class Guest:
        @hookimpl(wrapper=True)
        def vc_hypervisor_guest(self) -> Generator[None, Any, Any]:
            seen.append((yield))
            return "tiny"

    plugins = Plugins(bare=True)
    plugins.add_driver(PluginKind.HYPERVISOR, "toy", Toy())
    plugins.add_driver(PluginKind.EXTENSION, "guest", Guest())
    assert plugins.hypervisor("toy").guest() == "tiny"
    assert seen == [None]
