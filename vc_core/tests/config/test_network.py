"""Networks of pods: which configurations are valid, and what the guest and the hypervisor get of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vc_core as vc
from vc_core.config.network import NetworkConfig, NetworkMode, PortForward, Route, TapInterface
from vc_core.config.pod import PodConfig
from vc_core.driver.context import PodContext
from vc_core.driver.devices import NetworkInterface
from vc_core.engine import assembly
from vc_core.errors import ConfigError
from vc_core.plugins.registry import Plugins


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("80", PortForward(80)),
        ("8080:80", PortForward(80, 8080)),
        ("0:53/udp", PortForward(53, 0, "udp")),
        ("65535:1/tcp", PortForward(1, 65535)),
    ],
)
def test_a_forward_is_read_and_printed(text: str, forward: PortForward) -> None:
    assert PortForward.parse(text) == forward
    assert PortForward.parse(str(forward)) == forward


@pytest.mark.parametrize("text", ["", "x", "0", "80:0", "70000", "1:70000", "1:2:3", "80/icmp", "-1", "80 ", "٣"])
def test_a_text_that_is_not_a_forward_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        PortForward.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "bridge"}, "bridge"),
        ({"mode": "none", "forwards": [PortForward(80)]}, "forwards"),
        ({"mode": "tap"}, "tap"),
        ({"mode": "user", "device": "tap0"}, "tap0"),
        ({"mode": "tap", "device": "a/b"}, "a/b"),
        ({"mode": "tap", "device": "averyverylongname"}, "averyverylongname"),
        ({"mode": "user", "addresses": ["10.0.0.300/8"]}, "10.0.0.300/8"),
        ({"mode": "user", "addresses": "10.0.0.3/8"}, "addresses"),
        ({"mode": "user", "gateway": "nowhere"}, "nowhere"),
        ({"mode": "user", "dns": ["8.8.8"]}, "8.8.8"),
        ({"mode": "user", "mac": "01:00:00:00:00:00"}, "01:00:00:00:00:00"),
        ({"mode": "user", "mtu": 7}, "7"),
        ({"mode": "none", "dns": ["8.8.8.8"]}, "dns"),
        ({"mode": "none", "interfaces": [TapInterface("tap1")]}, "interfaces"),
        ({"mode": "tap", "device": "tap1", "interfaces": [TapInterface("tap1")]}, "two interfaces of the network"),
    ],
)
def test_a_network_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig(**fields)
    assert message in str(caught.value)


def test_a_further_interface_is_read_and_printed() -> None:
    text = "tap1,address=192.0.2.7/24,address=2001:db8::7/64,route=10.0.0.0/8=192.0.2.1,mac=52:54:00:12:34:56,mtu=1400"
    read = TapInterface.parse(text)
    assert (read.device, len(read.addresses), read.routes) == ("tap1", 2, (Route("10.0.0.0/8", "192.0.2.1"),))
    assert (read.mac, read.mtu, str(read)) == ("52:54:00:12:34:56", 1400, text)
    assert TapInterface.parse("tap1") == TapInterface("tap1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no tap device"),
        ("a/b", "not a name of an interface"),
        ("tap1,gateway=10.0.0.1", "has the part 'gateway=10.0.0.1'"),
        ("tap1,mtu=1400,mtu=1300", "has the part 'mtu=1300'"),
        ("tap1,mtu=big", "give bytes, a whole number"),
        ("tap1,mtu=70000", "give 576 to 65535 bytes"),
        ("tap1,address=10.0.0.300/8", "10.0.0.300/8"),
        ("tap1,route=10.0.0.0/8=2001:db8::1", "of another kind"),
        ("tap1,mac=01:00:00:00:00:00", "give a unicast address"),
    ],
)
def test_a_further_interface_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TapInterface.parse(text)


def test_the_further_interfaces_of_a_pod_are_devices_with_addresses_of_their_own_on_the_wire() -> None:
    network = NetworkConfig(mode="user", interfaces=[TapInterface("tap1"), TapInterface("tap2", ["192.0.2.7/24"])])
    config = PodConfig(id="p", hypervisor_type="mock", agent_type="noop", network=network)
    pod = PodContext.of(config, Path("/nowhere/p"))
    _, agent = assembly.make_drivers(Plugins(), config, pod)
    made = [one for one in assembly.devices_of(config, agent, pod) if isinstance(one, NetworkInterface)]
    assert [(one.config.mode, one.config.device, one.addresses) for one in made] == [
        ("user", "", ()),
        ("tap", "tap1", ()),
        ("tap", "tap2", ("192.0.2.7/24",)),
    ]
    assert len({one.mac for one in made}) == 3


def test_a_pod_has_no_network_unless_it_asks_for_one() -> None:
    assert PodConfig().network.mode is NetworkMode.NONE


def test_pods_have_different_addresses_on_the_wire_and_keep_them(mock_config: Callable[..., vc.PodConfig]) -> None:
    plugins = Plugins()

    def mac(pod_id: str, root: str = "/nowhere", **fields: Any) -> str:
        config = PodConfig(
            id=pod_id, hypervisor_type="mock", agent_type="noop", network=NetworkConfig(mode=NetworkMode.USER, **fields)
        )
        pod = PodContext.of(config, Path(root, pod_id))
        _, agent = assembly.make_drivers(plugins, config, pod)
        [interface] = [one for one in assembly.devices_of(config, agent, pod) if isinstance(one, NetworkInterface)]
        return interface.mac

    assert mac("a") == mac("a")
    assert len({mac("a"), mac("b"), mac("a", root="/elsewhere")}) == 3
    assert mac("a").startswith("52:54:00:")
    assert mac("a", mac="52:54:00:12:34:56") == "52:54:00:12:34:56"


def test_a_hypervisor_without_networks_refuses_the_pod() -> None:
    import vc_core as vc

    config = PodConfig(id="p", hypervisor_type="mock", agent_type="noop", network=NetworkConfig(mode=NetworkMode.USER))
    with pytest.raises(ConfigError, match="a network, which hypervisor 'mock' does not have"):
        vc.create_pod(config)
    assert vc.list_pods() == []


def test_forwards_have_an_order() -> None:
    first, second, third = PortForward(53, 0, "tcp"), PortForward(53, 0, "udp"), PortForward(80)
    assert sorted([third, second, first]) == [first, second, third]
    assert third >= second > first <= first
    with pytest.raises(TypeError):
        first < (53, 0, "tcp")  # noqa: B015 # the mistake of which this is a test
