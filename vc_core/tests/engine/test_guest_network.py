"""The network that an agent configures in the guest is the one that the hypervisor resolved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vc_core.config.network import NetworkConfig, NetworkMode, Route
from vc_core.driver.agent import GuestInterface, GuestNetwork, GuestRoute
from vc_core.driver.devices import NetworkInterface
from vc_core.driver.hypervisor import Hypervisor
from vc_core.engine.guest_network import guest_network
from vc_core.errors import HypervisorError

TAP = NetworkConfig(mode=NetworkMode.TAP, device="tap0", addresses=["192.0.2.7/24", "2001:db8::7/64"], mtu=1400)
USER = NetworkConfig(mode=NetworkMode.USER)


class FakeHypervisor:
    """A hypervisor whose network gives ``fields`` to the guest."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def resolve_network(self, interface: NetworkInterface) -> NetworkInterface:
        return replace(interface, **self._fields)


def network(config: NetworkConfig, hypervisor: object, *further: NetworkConfig) -> GuestNetwork:
    interfaces = [NetworkInterface.of(one, "52:54:00:00:00:01") for one in (config, *further)]
    made = guest_network(hypervisor, interfaces)  # type: ignore[arg-type]
    assert made is not None
    return made


def test_a_guest_has_what_its_configuration_lists_and_nothing_else_by_default() -> None:
    class Default(FakeHypervisor):
        resolve_network = Hypervisor.resolve_network

    assert network(TAP, Default()) == GuestNetwork((GuestInterface("eth0", ("192.0.2.7/24", "2001:db8::7/64"), 1400),))


def test_a_guest_has_the_addresses_gateway_and_name_servers_of_its_hypervisors_network() -> None:
    hypervisor = FakeHypervisor(addresses=("192.168.122.9/24",), gateway="192.168.122.1", dns=("192.168.122.1",))
    assert network(USER, hypervisor) == GuestNetwork(
        (GuestInterface("eth0", ("192.168.122.9/24",)),),
        (GuestRoute("default", "192.168.122.1", "eth0"),),
        ("192.168.122.1",),
    )


def test_further_routes_come_before_the_default_route_whose_gateway_they_may_lead_to() -> None:
    config = replace(TAP, gateway="169.254.1.1", routes=[Route("169.254.1.1/32"), Route("10.1.0.0/16", "192.0.2.9")])

    class Default(FakeHypervisor):
        resolve_network = Hypervisor.resolve_network

    assert network(config, Default()).routes == (
        GuestRoute("169.254.1.1/32", "", "eth0"),
        GuestRoute("10.1.0.0/16", "192.0.2.9", "eth0"),
        GuestRoute("default", "169.254.1.1", "eth0"),
    )


def test_each_interface_has_its_own_name_addresses_and_routes() -> None:
    further = replace(TAP, device="tap1", addresses=["10.2.0.2/16"], mtu=0, routes=[Route("10.3.0.0/16", "10.2.0.1")])
    made = network(replace(TAP, gateway="192.0.2.1"), FakeHypervisor(), further)
    assert [(one.device, one.addresses[0], one.mtu) for one in made.interfaces] == [
        ("eth0", "192.0.2.7/24", 1400),
        ("eth1", "10.2.0.2/16", 0),
    ]
    assert made.routes == (
        GuestRoute("default", "192.0.2.1", "eth0"),
        GuestRoute("10.3.0.0/16", "10.2.0.1", "eth1"),
    )


@pytest.mark.parametrize("fields", [{"addresses": ("10.0.2",)}, {"gateway": "10.0.2.2/24"}, {"dns": ("dns",)}])
def test_an_address_of_a_hypervisor_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(HypervisorError, match="resolve_network of the hypervisor returned"):
        network(USER, FakeHypervisor(**fields))


def test_a_hypervisor_that_resolves_nothing_is_refused() -> None:
    class Wrong:
        def resolve_network(self, interface: NetworkInterface) -> None:
            return None

    with pytest.raises(HypervisorError, match="resolve_network of the hypervisor returned None"):
        network(USER, Wrong())
