"""The driver through the plug-in machinery, as the core uses it."""

from pathlib import Path
from typing import Any

import pytest
from hyperstart_agents import make_agent

from vc_agent_hyperstart import HyperstartConfig, plugin
from vc_core import PodConfig
from vc_core.driver import Channel, SharedDirectory, Volume, read_options
from vc_core.errors import ConfigError, GuestError
from vc_core.testing import Plugins

DRIVER = Plugins().agent("hyperstart")


def test_options_become_the_configuration_and_back() -> None:
    options = {"sock_ctl_name": "/run/a", "volumes": [{"mount_tag": "data", "host_path": "/srv", "read_only": False}]}
    config = DRIVER.config(options)
    assert config == HyperstartConfig(sock_ctl_name="/run/a", volumes=[Volume("data", "/srv", read_only=False)])
    assert PodConfig(agent_config=config).agent_config == options
    assert PodConfig(agent_config=HyperstartConfig()).agent_config == {}


def test_the_configuration_object_is_an_agent_config() -> None:
    assert PodConfig(agent_config=HyperstartConfig(sock_tty_name="/run/b")).agent_config == {"sock_tty_name": "/run/b"}


SOCKETS = [
    {"device_id": "d0", "id": "s0", "host_path": "/run/s0", "name": "sh.hyper.channel.0"},
    {"device_id": "d1", "id": "s1", "host_path": "/run/s1", "name": "sh.hyper.channel.1"},
]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sock_ctl": "x"}, r"has no option 'sock_ctl' \(did you mean 'sock_ctl_name'\?\); it has sock_ctl_name, "),
        ({"sock_ctl_name": 1}, "sock_ctl_name of agent hyperstart is 1; give text"),
        ({"volumes": "data:/srv"}, "give a list"),
        ({"volumes": [{"tag": "data"}]}, r"option volumes\[0\] of agent hyperstart has no option 'tag'"),
        (
            {"volumes": [{"mount_tag": "data"}]},
            r"option host_path of option volumes\[0\] of agent hyperstart is missing",
        ),
        ({"volumes": ["data:/srv"]}, "give a mapping with mount_tag, host_path, read_only"),
        ({"sockets": SOCKETS[:1]}, "has 1 entries; give two"),
        ({"sockets": SOCKETS, "sock_ctl_name": "/run/a"}, "exclude each other"),
    ],
)
def test_an_option_that_cannot_be_accepted_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        DRIVER.config(options)


def test_sockets_and_volumes_become_devices() -> None:
    volumes = [
        {"mount_tag": "data", "host_path": "/srv"},
        {"mount_tag": "more", "host_path": "/more", "read_only": False},
    ]
    config = read_options(HyperstartConfig, {"sockets": SOCKETS, "volumes": volumes}, "agent hyperstart")
    devices = make_agent(config=config).devices()
    channels = [device for device in devices[:2] if isinstance(device, Channel)]
    assert [(channel.id, channel.name, str(channel.host_path)) for channel in channels] == [
        ("s0", "sh.hyper.channel.0", "/run/s0"),
        ("s1", "sh.hyper.channel.1", "/run/s1"),
    ]
    assert devices[2:4] == [
        SharedDirectory("data", Path("/srv"), read_only=True),
        SharedDirectory("more", Path("/more"), read_only=False),
    ]


def test_the_guest_gets_the_agent_as_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "init"
    binary.touch(mode=0o755)
    monkeypatch.setattr(plugin, "GUEST_AGENT", binary)
    payload = DRIVER.guest(DRIVER.config({}))
    assert payload is not None
    assert payload.files == {"/init": str(binary)}
    assert {"virtio_console", "9p", "9pnet_virtio", "overlay"} <= set(payload.modules)
    assert DRIVER.probe() == []


def test_a_missing_guest_agent_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "GUEST_AGENT", tmp_path / "init")
    with pytest.raises(GuestError, match="musl-tools"):
        DRIVER.guest(DRIVER.config({}))
    (problem,) = DRIVER.probe()
    assert "musl-tools" in problem
