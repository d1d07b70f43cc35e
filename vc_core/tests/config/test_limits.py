"""Bounds of a container: capabilities, limits of memory, processes and CPU, and resource limits."""

from __future__ import annotations

import pytest

from vc_core.config.container import ContainerConfig
from vc_core.config.limits import CAPABILITIES, DEFAULT_CAPABILITIES, CapabilitySets, RLimit
from vc_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", RLimit("nofile", 1024, 1024)),
        ("nofile=1024:4096", RLimit("nofile", 1024, 4096)),
        ("core=0:unlimited", RLimit("core", 0, None)),
        ("stack=unlimited", RLimit("stack", None, None)),
    ],
)
def test_a_limit_is_read_and_printed(text: str, limit: RLimit) -> None:
    assert RLimit.parse(text) == limit
    assert RLimit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    "text", ["", "nofile", "nofile=", "nofile=-1", "files=3", "nofile=2:1", "nofile=unlimited:1", "nofile=1:2:3"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        RLimit.parse(text)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["chown", "CAP_KILL"], ("CAP_CHOWN", "CAP_KILL")),
        ([], ()),
        (["ALL"], CAPABILITIES),
        (["all", "chown"], CAPABILITIES),
    ],
)
def test_capabilities_are_kept_by_their_full_names(given: list[str], kept: tuple[str, ...]) -> None:
    assert ContainerConfig(id="c", capabilities=given).capabilities == kept


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ConfigError, match="CAP_FLY"):
        ContainerConfig(id="c", capabilities=["CAP_FLY"])


def test_containers_cannot_administer_the_guest_by_default() -> None:
    assert "CAP_SYS_ADMIN" not in ContainerConfig(id="c").capabilities
    assert ContainerConfig(id="c").capabilities == DEFAULT_CAPABILITIES


@pytest.mark.parametrize("field", ["memory", "pids", "overlay_size"])
@pytest.mark.parametrize("value", [-1, True, 1.5, 2**31, "8"])
def test_an_absurd_limit_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        ContainerConfig(id="c", **{field: value})  # type: ignore[arg-type] # on purpose


def test_a_root_is_either_read_only_or_written_to() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        ContainerConfig(id="c", read_only=True, writable_root_fs=True)


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        ({"effective": ["KILL"]}, "'CAP_KILL' is effective but not permitted"),
        ({"inheritable": ["KILL"]}, "is inheritable but not bounding"),
        ({"bounding": ["KILL"], "inheritable": ["KILL"], "ambient": ["KILL"]}, "is ambient but not permitted"),
        ({"permitted": ["KILL"], "ambient": ["KILL"]}, "is ambient but not inheritable"),
        ({"bounding": ["FLY"]}, "'CAP_FLY' is unknown"),
    ],
)
def test_sets_of_capabilities_that_the_kernel_would_refuse_are_refused(
    sets: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        CapabilitySets(**sets)
