"""A proxy passes on every call of its interface, with its arguments, and returns what the other one returns."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from vc_core.driver.agent import Agent
from vc_core.driver.hypervisor import Hypervisor
from vc_core.driver.proxies import AgentProxy, HypervisorProxy

MEMBERS = [
    pytest.param(proxy, interface, name, id=f"{interface.__name__}.{name}")
    for proxy, interface in ((HypervisorProxy, Hypervisor), (AgentProxy, Agent))
    for name in vars(interface)
    if not name.startswith("_")
]


class Inner:
    """Has every attribute; notes each call and returns a new object for it."""

    def __init__(self, interface: type) -> None:
        self._interface = interface
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.returned = object()

    def __getattr__(self, name: str) -> Any:
        member = inspect.getattr_static(self._interface, name)
        if isinstance(member, property):
            return self.returned

        def call(*arguments: object, **named: object) -> object:
            self.calls.append((name, arguments, named))
            return self.returned

        async def call_async(*arguments: object, **named: object) -> object:
            return call(*arguments, **named)

        return call_async if inspect.iscoroutinefunction(member) else call


@pytest.mark.parametrize(("proxy", "interface", "name"), MEMBERS)
def test_every_member_is_passed_on_with_all_its_arguments(proxy: Any, interface: type, name: str) -> None:
    assert name in vars(proxy), f"{proxy.__name__} does not pass on {name}"
    inner = Inner(interface)
    made = proxy(inner)
    member = inspect.getattr_static(interface, name)
    if isinstance(member, property):
        assert getattr(made, name) is inner.returned
        return
    own, wanted = inspect.signature(vars(proxy)[name]), inspect.signature(member)
    assert own == wanted
    arguments = tuple(object() for _ in list(wanted.parameters)[1:])
    result = getattr(made, name)(*arguments)
    if inspect.iscoroutinefunction(member):
        result = asyncio.run(_await(result))
    assert inner.calls == [(name, arguments, {})]
    assert result is (None if wanted.return_annotation == "None" else inner.returned)


async def _await(awaitable: Any) -> object:
    return await awaitable


def test_a_proxy_can_be_derived_from_to_change_one_method() -> None:
    class Named(HypervisorProxy):
        @property
        def acceleration(self) -> str:
            return "hypergate"

    inner: Any = Inner(Hypervisor)
    assert Named(inner).acceleration == "hypergate"
    assert Named(inner).isolation is inner.returned
