"""Which pod a text names: an id that is equal, or the beginning of just one id that nobody chose."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

import vc_core as vc
from vc_core.config.ids import is_new_id, new_id
from vc_core.config.pod import PodConfig
from vc_core.errors import ConfigError, ContainerNotFoundError, PodNotFoundError
from vc_core.store.records import PodRecord
from vc_core.store.store import Store

ONE, OTHER = "3f2a0000-0000-4000-8000-000000000001", "3f2b0000-0000-4000-8000-000000000002"


@pytest.fixture
def pods(store: Store) -> Store:
    for pod_id in (ONE, OTHER, "3f2b", "web-1", "deadbeef"):
        _create(store, pod_id)
    return store


def _create(store: Store, pod_id: str) -> None:
    record = PodRecord(id=pod_id, hypervisor="mock", agent="noop", supervised=False, created_at=1.0)
    store.create(PodConfig(id=pod_id), record)


def test_ids_that_are_made_are_recognised_and_chosen_ones_are_not() -> None:
    assert is_new_id(new_id())
    assert not any(map(is_new_id, ("web", "deadbeef", str(uuid.uuid4()).upper(), str(uuid.uuid1()))))


@pytest.mark.parametrize(("text", "found"), [(ONE, ONE), ("3f2a", ONE), ("3f2b0", OTHER), ("web-1", "web-1")])
def test_an_id_or_the_beginning_of_a_made_one_names_a_pod(pods: Store, text: str, found: str) -> None:
    assert vc.find_pod(text).id == found


def test_an_equal_id_wins_over_the_beginning_of_another(pods: Store) -> None:
    assert pods.find("3f2b") == "3f2b"


@pytest.mark.parametrize("text", ["web", "dead", "3f2c"])
def test_the_beginning_of_a_chosen_id_names_no_pod(pods: Store, text: str) -> None:
    assert pods.find(text) == text
    with pytest.raises(PodNotFoundError, match=f"no pod has the id '{text}'"):
        vc.find_pod(text)


def test_the_beginning_of_several_ids_is_an_error_that_lists_them(pods: Store) -> None:
    with pytest.raises(PodNotFoundError) as caught:
        vc.find_pod("3f2")
    assert str(caught.value) == f"the ids of 2 pods begin with '3f2': '{ONE}', '{OTHER}'; give more of the id"


def test_that_list_has_an_end(store: Store) -> None:
    for number in range(7):
        _create(store, f"a000000{number}-0000-4000-8000-000000000000")
    with pytest.raises(PodNotFoundError, match=r"'a0000004-[-0-9]*' and 2 more; give"):
        store.find("a")


@pytest.mark.parametrize("text", ["", "../x", "-", "3f2a*"])
def test_what_cannot_be_an_id_is_refused(pods: Store, text: str) -> None:
    with pytest.raises(ConfigError, match="is not valid"):
        vc.find_pod(text)


def test_a_container_is_named_with_its_pod_or_by_a_pod_that_has_one(mock_config: Callable[..., PodConfig]) -> None:
    for number, pod_id in enumerate(("empty", "single", "double")):
        vc.create_pod(mock_config(pod_id, containers=number))
    for text, found in {"single": "c1", "single/c1": "c1", "double/c2": "c2"}.items():
        container = vc.find_container(text)
        assert (container.pod_id, container.id) == (text.partition("/")[0], found)
    for text, sentence in {
        "double": "no container is named, and pod 'double' has the containers 'c1', 'c2'; name one, as double/c1",
        "empty": "no container is named, and pod 'empty' has none",
        "single/c2": "pod 'single' has no container 'c2'; it has 'c1'",
        "single/": "pod 'single' has no container ''; it has 'c1'",
    }.items():
        with pytest.raises(ContainerNotFoundError) as caught:
            vc.find_container(text)
        assert str(caught.value) == sentence
