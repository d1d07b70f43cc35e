"""What each operation requires of the states of a pod and its container."""

from __future__ import annotations

import pytest

from vc_core.errors import ContainerNotFoundError, StateError
from vc_core.states import Action, State
from vc_core.store.records import ContainerRecord, PodRecord
from vc_core.store.status import exit_code, require


def pod(state: State, container: ContainerRecord) -> PodRecord:
    return PodRecord(
        id="p1", state=state, hypervisor="h", agent="a", supervised=True, created_at=0.0, containers={"c1": container}
    )


def refusal(state: State, container: State, action: Action, container_id: str = "") -> str:
    with pytest.raises(StateError) as refused:
        require(pod(state, ContainerRecord(state=container)), action, container_id)
    return str(refused.value)


@pytest.mark.parametrize("action", Action)
def test_the_wording_of_an_operation_has_a_place_for_what_it_acts_on(action: Action) -> None:
    assert action.value.wording.count("{}") == 1


def test_a_refused_operation_on_a_pod_names_the_states_that_it_needs() -> None:
    says = refusal(State.RUNNING, State.RUNNING, Action.DELETE_POD)
    assert says == "pod 'p1' is running; deleting it without force needs it ready or stopped or failed"


def test_an_operation_on_a_container_is_refused_for_its_pod_first() -> None:
    says = refusal(State.STOPPED, State.STOPPED, Action.STOP_CONTAINER, "c1")
    assert says == "pod 'p1' is stopped; stopping container 'c1' needs it running"


def test_an_operation_on_a_container_is_refused_for_its_own_state() -> None:
    says = refusal(State.RUNNING, State.STOPPED, Action.ENTER_CONTAINER, "c1")
    assert says == "container 'c1' of pod 'p1' is stopped; entering it needs it running"


def test_a_container_that_does_not_exist_is_reported_whatever_the_state_of_the_pod() -> None:
    with pytest.raises(ContainerNotFoundError):
        require(pod(State.READY, ContainerRecord()), Action.START_CONTAINER, "nope")


@pytest.mark.parametrize("state", State)
def test_a_stopped_container_can_be_deleted_and_waited_for_in_every_state_of_its_pod_but_paused(state: State) -> None:
    stopped = pod(state, ContainerRecord(state=State.STOPPED))
    require(stopped, Action.WAIT_CONTAINER, "c1")
    if state is State.PAUSED:  # the guest still holds it
        with pytest.raises(StateError, match="pod 'p1' is paused; deleting container 'c1'"):
            require(stopped, Action.DELETE_CONTAINER, "c1")
    else:
        require(stopped, Action.DELETE_CONTAINER, "c1")


def test_a_container_without_an_exit_code_is_an_error_with_the_reason() -> None:
    lost = ContainerRecord(state=State.STOPPED, reason="the guest is lost")
    with pytest.raises(StateError, match="'c1' of pod 'p1' ended without an exit code: the guest is lost"):
        exit_code(pod(State.RUNNING, lost), "c1")
