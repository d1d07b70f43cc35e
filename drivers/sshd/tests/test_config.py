"""Which configurations are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_agent_sshd import SshdConfig
from vc_agent_sshd.agent import SshdAgent
from vc_core import PodConfig
from vc_core.driver import AgentCapability, GuestPort, PodContext, read_options
from vc_core.errors import ConfigError
from vc_core.testing import Plugins

DRIVER = Plugins().agent("sshd")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ"
GIVEN = {"server": "192.0.2.1", "priv_key_file": "/k", "host_key": KEY}


def test_nothing_given_means_a_guest_of_its_own_and_root() -> None:
    config = read_options(SshdConfig, {}, "agent sshd")
    assert config == SshdConfig()
    assert config.port == 22


def test_a_server_may_be_given_as_in_v0_1_0_with_a_port_as_text() -> None:
    options = {**GIVEN, "username": "me", "port": "2222", "protocol": "tcp4"}
    config = read_options(SshdConfig, options, "agent sshd")
    assert (config.port, config.host_key_is_text) == (2222, True)
    assert DRIVER.config(PodConfig(agent_config=config).agent_config) == config


def test_paths_are_kept_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = SshdConfig(server="h", priv_key_file="key", host_key="host.pub")
    assert (config.priv_key_file, config.host_key) == (f"{tmp_path}/key", f"{tmp_path}/host.pub")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"no-such": 1}, "no-such"),
        ({"server": "h", "host_key": KEY}, "priv_key_file"),
        ({"server": "h", "priv_key_file": "/k"}, "host_key"),
        ({"priv_key_file": "/k"}, "priv_key_file"),
        ({"host_key": KEY}, "host_key"),
        ({"port": 2222}, "port"),
        ({"username": "me"}, "username"),
        ({**GIVEN, "port": "ssh"}, "port"),
        ({**GIVEN, "port": 0}, "port"),
        ({**GIVEN, "port": True}, "port"),
        ({**GIVEN, "protocol": "udp"}, "protocol"),
        ({**GIVEN, "username": 5}, "username"),
        ({"spawner_options": "x"}, "spawner_options"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DRIVER.config(options)


def test_a_guest_is_built_unless_a_server_is_given() -> None:
    assert DRIVER.guest(DRIVER.config(GIVEN)) is None
    payload = DRIVER.guest(DRIVER.config({}))
    assert payload is not None
    assert all(Path(path).is_file() for path in payload.files.values())


def test_a_given_server_needs_no_port_of_the_guest_has_a_network_and_a_clock_of_its_own_and_is_not_cloned(
    pod: PodContext,
) -> None:
    given, own = (
        SshdAgent(pod, read_options(SshdConfig, options, "agent sshd"), None, None) for options in (GIVEN, {})
    )
    assert not any(isinstance(device, GuestPort) for device in given.devices())
    lacking = own.capabilities - given.capabilities
    assert lacking == {AgentCapability.NETWORK, AgentCapability.CLONES, AgentCapability.CLOCK}
