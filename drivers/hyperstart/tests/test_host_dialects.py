"""What each guest is asked, in its own dialect, and what is refused because it cannot do it."""

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hyperstart_agents import GUESTS, TIMEOUT, each_guest, make_agent, run

from vc_agent_hyperstart.agent import HyperstartAgent
from vc_agent_hyperstart.codec import Code
from vc_agent_hyperstart.testing.fake_guest import FEATURES, FakeHyperstart
from vc_core.driver import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    AgentCapability,
    Cmd,
    Confinement,
    ContainerUsage,
    DiskLocation,
    GuestContainer,
    GuestDisk,
    GuestInterface,
    GuestNetwork,
    GuestRoute,
    RLimit,
)
from vc_core.errors import AgentError, AgentProtocolError, ConfigError, NotSupportedError
from vc_core.testing.process_io import RecordedIO

ORIGINALS = ["2016", "4243", "4244"]


@contextlib.asynccontextmanager
async def connected(name: str = "ours", **options: Any) -> AsyncIterator[tuple[FakeHyperstart, HyperstartAgent]]:
    async with FakeHyperstart(**GUESTS[name], **options) as guest:
        agent = make_agent()
        await agent.connect(guest.open_channel, TIMEOUT)
        try:
            yield guest, agent
        finally:
            await agent.aclose()
        assert guest.violations == []


@contextlib.asynccontextmanager
async def pod(name: str = "ours", **options: Any) -> AsyncIterator[tuple[FakeHyperstart, HyperstartAgent]]:
    async with connected(name, **options) as (guest, agent):
        await agent.start_pod("p1", "", TIMEOUT)
        await agent.start_container(container(), RecordedIO(None), TIMEOUT)
        yield guest, agent


def container(name: str = "c1", **fields: Any) -> GuestContainer:
    return GuestContainer(name, "" if "disk" in fields else f"{name}/rootfs", Cmd(args=["sleep"]), **fields)


def last(guest: FakeHyperstart, code: int) -> dict[str, Any]:
    found: list[dict[str, Any]] = [json.loads(payload) for number, payload in guest.commands if number == code]
    return found[-1]


# What bounds a container.

BOUNDS = Confinement(
    read_only=True,
    overlay_size=64,
    memory=128,
    pids=20,
    rlimits=(RLimit("nofile", 100, 200), RLimit("core", None, None)),
    capabilities=("CAP_CHOWN",),
    no_new_privs=False,
    isolate=True,
)


def test_the_bounds_of_a_container_are_sent_to_this_project_s_guest() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            assert {AgentCapability.LIMITS, AgentCapability.STATS} <= agent.capabilities
            await agent.start_container(container("c2", confinement=BOUNDS), RecordedIO(None), TIMEOUT)
            sent = last(guest, Code.NEWCONTAINER)
            assert {key: sent[key] for key in ("readOnly", "overlay", "overlaySize", "memory", "pids")} == {
                "readOnly": True, "overlay": True, "overlaySize": 64, "memory": 128, "pids": 20,
            }  # fmt: skip
            assert sent["rlimits"] == [{"name": "nofile", "soft": 100, "hard": 200}, {"name": "core"}]
            assert sent["capabilities"] == ["CAP_CHOWN"]
            assert "noNewPrivs" not in sent
            assert sent["isolate"] is True

    run(main())


def test_by_default_a_container_of_ours_has_the_usual_capabilities_and_gains_none() -> None:
    async def main() -> None:
        async with pod() as (guest, _):
            sent = last(guest, Code.NEWCONTAINER)
            assert sent["capabilities"] == list(DEFAULT_CAPABILITIES)
            assert sent["noNewPrivs"] is True
            assert {"readOnly", "overlaySize", "memory", "pids", "rlimits"} & set(sent) == set()

    run(main())


@pytest.mark.parametrize(("capabilities", "expected"), [((), []), (CAPABILITIES, None)], ids=["none", "all"])
def test_no_capabilities_are_an_empty_list_and_all_of_them_no_list(
    capabilities: tuple[str, ...], expected: list[str] | None
) -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            bounds = Confinement(capabilities=capabilities)
            await agent.start_container(container("c2", confinement=bounds), RecordedIO(None), TIMEOUT)
            assert last(guest, Code.NEWCONTAINER).get("capabilities") == expected

    run(main())


@pytest.mark.parametrize("name", ORIGINALS)
def test_containers_of_an_original_have_all_capabilities_and_the_default_is_no_error(name: str) -> None:
    async def main() -> None:
        async with pod(name) as (guest, agent):
            assert AgentCapability.LIMITS not in agent.capabilities
            for chosen in (Confinement(), Confinement(capabilities=CAPABILITIES, no_new_privs=False)):
                await agent.start_container(container("c2", confinement=chosen), RecordedIO(None), TIMEOUT)
                assert set(last(guest, Code.NEWCONTAINER)) == {"id", "image", "rootfs", "process", "initialize"}
                await agent.signal_container("c2", 9, TIMEOUT)
                await agent.wait(await agent.exec("c1", Cmd(args=["true"]), RecordedIO(), TIMEOUT))
                await agent.remove_container("c2", TIMEOUT)

    run(main())


CHANGES = {
    "overlay_size": Confinement(overlay_size=1),
    "memory": Confinement(memory=1),
    "pids": Confinement(pids=1),
    "rlimits": Confinement(rlimits=(RLimit("core", 0, 0),)),
    "capabilities": Confinement(capabilities=("CAP_KILL",)),
    "read_only": Confinement(read_only=True),
    "isolate": Confinement(isolate=True),
}


@pytest.mark.parametrize("name", ORIGINALS)
@pytest.mark.parametrize("field", CHANGES)
def test_what_an_original_cannot_bound_is_refused_by_name(name: str, field: str) -> None:
    async def main() -> None:
        async with pod(name) as (guest, agent):
            before = len(guest.commands)
            asked = container("c2", confinement=CHANGES[field])
            if (field, name) == ("read_only", "4244"):
                await agent.start_container(asked, RecordedIO(None), TIMEOUT)
                assert last(guest, Code.NEWCONTAINER)["readOnly"] is True
                return
            with pytest.raises(NotSupportedError, match=f"^{field} of container 'c2' needs .* original hyperstart of"):
                await agent.start_container(asked, RecordedIO(None), TIMEOUT)
            assert len(guest.commands) == before
            processes = agent.save()["processes"]
            assert isinstance(processes, list)
            assert len(processes) == 1

    run(main())


def test_a_guest_of_ours_that_lacks_a_feature_is_asked_without_it() -> None:
    async def main() -> None:
        fewer = set(FEATURES) - {"confinement", "stats", "overlay", "isolation"}
        async with pod(features=fewer) as (guest, agent):
            lacks = {AgentCapability.LIMITS, AgentCapability.STATS, AgentCapability.ISOLATION}
            assert lacks & agent.capabilities == set()
            assert set(last(guest, Code.NEWCONTAINER)) == {"id", "image", "rootfs", "process", "initialize"}
            bounds = Confinement(memory=64)
            with pytest.raises(NotSupportedError, match="memory of container 'c2' needs the feature confinement"):
                await agent.start_container(container("c2", confinement=bounds), RecordedIO(None), TIMEOUT)
            with pytest.raises(NotSupportedError, match="STATS for container 'c1' needs the feature stats"):
                await agent.stats("c1", TIMEOUT)

    run(main())


# Disks.


@pytest.mark.parametrize(
    ("location", "image", "addr"),
    [(DiskLocation(name="vda"), "vda", None), (DiskLocation(scsi="0:1"), "", "0:1")],
    ids=["virtio-blk", "scsi"],
)
@pytest.mark.parametrize("writable", [False, True])
def test_a_root_that_is_a_disk_is_sent_by_its_location_and_file_system(
    location: DiskLocation, image: str, addr: str, writable: bool
) -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            assert AgentCapability.DISKS in agent.capabilities
            asked = container("c2", disk=GuestDisk(location, "ext4"), writable_root_fs=writable)
            await agent.start_container(asked, RecordedIO(None), TIMEOUT)
            sent = last(guest, Code.NEWCONTAINER)
            assert (sent["image"], sent["rootfs"], sent["fstype"], sent.get("addr")) == (image, "", "ext4", addr)
            assert sent.get("overlay", False) is not writable

    run(main())


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_only_has_disks_that_it_may_write_to(name: str) -> None:
    async def main() -> None:
        async with pod(name) as (guest, agent):
            disk = GuestDisk(DiskLocation(name="vda"), "ext4")
            with pytest.raises(NotSupportedError, match=r"writes to the disk .* set writable_root_fs"):
                await agent.start_container(container("c2", disk=disk), RecordedIO(None), TIMEOUT)
            asked = container("c2", disk=disk, writable_root_fs=True)
            await agent.start_container(asked, RecordedIO(None), TIMEOUT)
            assert last(guest, Code.NEWCONTAINER)["image"] == "vda"

    run(main())


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_has_no_directory_that_is_a_root_to_write_to(name: str) -> None:
    async def main() -> None:
        async with pod(name) as (_, agent):
            with pytest.raises(NotSupportedError, match=r"lets no container write .* leave writable_root_fs out"):
                await agent.start_container(container("c2", writable_root_fs=True), RecordedIO(None), TIMEOUT)

    run(main())


# The network.


@pytest.mark.parametrize("name", GUESTS)
def test_the_network_is_sent_with_the_pod(name: str) -> None:
    network = GuestNetwork(
        (GuestInterface("eth0", ("10.0.2.15/24",)), GuestInterface("eth1", ("10.1.0.1/16", "10.2.0.1/16"))),
        (GuestRoute("default", "10.0.2.2", "eth0"), GuestRoute("10.3.0.0/16", "", "eth1")),
        ("10.0.2.3",),
    )

    async def main() -> None:
        async with connected(name) as (guest, agent):
            assert AgentCapability.NETWORK in agent.capabilities
            await agent.start_pod("p1", "", TIMEOUT, network)
            sent = last(guest, Code.STARTPOD)
            assert sent["interfaces"] == [
                {"device": "eth0", "ipAddress": "10.0.2.15", "netMask": "24"},
                {
                    "device": "eth1",
                    "ipAddresses": [
                        {"ipAddress": "10.1.0.1", "netMask": "16"},
                        {"ipAddress": "10.2.0.1", "netMask": "16"},
                    ],
                },
            ]
            assert sent["routes"] == [
                {"dest": "default", "gateway": "10.0.2.2", "device": "eth0"},
                {"dest": "10.3.0.0/16", "device": "eth1"},
            ]
            assert sent["dns"] == ["10.0.2.3"]

    run(main())


LATER_NETWORKS = {
    "ipv6-address": (GuestNetwork((GuestInterface("eth0", ("fd00::2/64",)),)), "only IPv4 and not fd00::2/64"),
    "ipv6-route": (GuestNetwork(routes=(GuestRoute("fd00::/8", "", "eth0"),)), "only IPv4 and not fd00::/8"),
    "ipv6-gateway": (GuestNetwork(routes=(GuestRoute("default", "fd00::1", "eth0"),)), "only IPv4 and not fd00::1"),
    "no-address": (GuestNetwork((GuestInterface("eth0", ()),)), "needs an address for eth0"),
    "long-dns": (GuestNetwork(dns=("2001:db8:1111:2222:3333::53",) * 2), None),
    "longer-dns": (GuestNetwork(dns=("2001:db8:1111:2222:3333:4::53",)), "longer than the 27 characters"),
}


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize(("network", "problem"), LATER_NETWORKS.values(), ids=LATER_NETWORKS)
def test_an_original_has_ipv4_and_short_name_servers_and_ours_has_all(
    name: str, network: GuestNetwork, problem: str
) -> None:
    async def main() -> None:
        async with connected(name) as (guest, agent):
            if problem and name != "ours":
                with pytest.raises(NotSupportedError, match=problem):
                    await agent.start_pod("p1", "", TIMEOUT, network)
                assert Code.STARTPOD not in [code for code, _ in guest.commands]
            else:
                await agent.start_pod("p1", "", TIMEOUT, network)

    run(main())


@pytest.mark.parametrize("name", GUESTS)
def test_the_mtu_came_with_4244(name: str) -> None:
    network = GuestNetwork((GuestInterface("eth0", ("10.0.2.15/24",), 1400),))

    async def main() -> None:
        async with connected(name) as (guest, agent):
            if name in ("ours", "4244"):
                await agent.start_pod("p1", "", TIMEOUT, network)
                assert last(guest, Code.STARTPOD)["interfaces"][0]["mtu"] == 1400
                return
            with pytest.raises(NotSupportedError, match="mtu of pod 'p1' needs an original of API 4244 or the guest"):
                await agent.start_pod("p1", "", TIMEOUT, network)

    run(main())


@pytest.mark.parametrize("name", GUESTS)
def test_a_message_that_is_longer_than_a_control_frame_is_refused_before_it_is_sent(name: str) -> None:
    async def main() -> None:
        async with connected(name) as (guest, agent):
            with pytest.raises(ConfigError, match=r"STARTPOD with \d+ bytes is too long"):
                await agent.start_pod("x" * 1024 * 1024, "", TIMEOUT)
            assert Code.STARTPOD not in [code for code, _ in guest.commands]

    run(main())


# What containers use.


def test_the_usage_of_a_container_is_returned_in_seconds_and_bytes() -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            guest.usage = {"cpu": 1_500_000_000, "memory": 1 << 20, "pids": 2, "read": 0, "written": 0}
            assert await agent.stats("c1", TIMEOUT) == ContainerUsage(
                cpu_seconds=1.5, memory=1 << 20, memory_total=1 << 20, pids=2, read=0, written=0
            )
            guest.usage = {"memory": 1000, "memoryInactive": 300, "memoryCache": 400, "oomKills": 1}
            assert await agent.stats("c1", TIMEOUT) == ContainerUsage(
                memory=700, memory_total=1000, memory_cache=400, oom_kills=1
            )
            guest.usage = {}
            assert await agent.stats("c1", TIMEOUT) == ContainerUsage()
            with pytest.raises(AgentError, match="cannot measure the container"):
                await agent.stats("c9", TIMEOUT)

    run(main())


@pytest.mark.parametrize("usage", [{"cpu": -1}, {"memory": "1"}, {"pids": 2**63}, {"read": 1.5}])
def test_figures_that_cannot_be_are_a_protocol_error(usage: dict[str, Any]) -> None:
    async def main() -> None:
        async with pod() as (guest, agent):
            guest.usage = usage
            with pytest.raises(AgentProtocolError, match="reply to STATS that is not valid"):
                await agent.stats("c1", TIMEOUT)

    run(main())


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_original_does_not_support_the_usage_of_containers(name: str) -> None:
    async def main() -> None:
        async with pod(name) as (_, agent):
            assert AgentCapability.STATS not in agent.capabilities
            with pytest.raises(NotSupportedError, match="STATS"):
                await agent.stats("c1", TIMEOUT)

    run(main())


# Clones.


def test_a_clone_is_woken_before_hello_with_the_time_and_entropy_of_its_own() -> None:
    async def main() -> None:
        seen = []
        for _ in range(2):
            async with FakeHyperstart() as guest:
                agent = make_agent()
                before = time.time_ns()
                await agent.wake(guest.open_channel, TIMEOUT)
                assert [code for code, _ in guest.commands] == [Code.WAKE, Code.HELLO]
                [(now, entropy)] = guest.woken
                assert before <= now <= time.time_ns()
                assert len(entropy) == 64
                seen.append((entropy, last(guest, Code.HELLO)["token"]))
                await agent.start_pod(
                    "p1", "", TIMEOUT, GuestNetwork((GuestInterface("eth0", (), mac="52:54:00:00:00:01"),))
                )
                assert last(guest, Code.STARTPOD)["interfaces"][0]["mac"] == "52:54:00:00:00:01"
                await agent.aclose()
                assert guest.violations == []
        for first, second in zip(*seen, strict=True):
            assert first != second

    run(main())


@each_guest
def test_a_guest_settles_only_if_its_clones_can_be_woken(guest_options: dict[str, Any]) -> None:
    async def main() -> None:
        async with FakeHyperstart(**guest_options) as guest:
            agent = make_agent()
            if guest_options.get("ours", True):
                await agent.settle(guest.open_channel, TIMEOUT)
                assert not guest.extended  # by HELLO, which a guest takes from one host only
            else:
                with pytest.raises(
                    NotSupportedError, match="clones of this guest cannot be woken: the guest cannot wake as a clone"
                ):
                    await agent.settle(guest.open_channel, TIMEOUT)
            assert [code for code, _ in guest.commands] == [Code.WAKE]
            await agent.aclose()

    run(main())


@pytest.mark.parametrize("name", ORIGINALS)
def test_no_original_is_given_a_mac_address(name: str) -> None:
    async def main() -> None:
        async with connected(name) as (_, agent):
            network = GuestNetwork((GuestInterface("eth0", ("10.0.0.2/24",), mac="52:54:00:00:00:01"),))
            with pytest.raises(NotSupportedError, match="mac of pod 'p1' needs the feature wake"):
                await agent.start_pod("p1", "", TIMEOUT, network)

    run(main())
