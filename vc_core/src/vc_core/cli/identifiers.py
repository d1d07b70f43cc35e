"""How commands take pods and containers: ``POD`` and ``POD/CTR``, two arguments, or the options of v0.1.0."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from vc_core.client import queries
from vc_core.client.interpreters import run_blocking
from vc_core.errors import VCError
from vc_core.store.store import Store

_Command = Callable[..., Any]


def _begun_pods(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return [pod for pod in Store.here().ids() if pod.startswith(begun)]


def _begun_containers(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    pod = context.params.get("pod_id") or context.params.get("pod_option")
    try:
        store = Store.here()
        return [one for one in store.read(store.find(str(pod))).containers if one.startswith(begun)]
    except VCError:
        return []


def begun_targets(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete ``POD``, and after its slash ``POD/CTR``; called by click."""
    pod, separator, container = begun.partition("/")
    if not separator:
        return _begun_pods(context, parameter, begun)
    context.params["pod_id"] = pod
    return [f"{pod}/{one}" for one in _begun_containers(context, parameter, container)]


def _pod_option(name: str) -> Callable[[_Command], _Command]:
    return click.option(name, "pod_option", help="The pod, instead of the argument.")


def _takes_pod(option: str) -> Callable[[_Command], _Command]:
    """Accept a pod as an argument or as an option; the command gets its id, ``pod_id``."""

    def decorate(function: _Command) -> _Command:
        @functools.wraps(function)
        def resolve(pod_id: str | None, pod_option: str | None, **others: Any) -> Any:
            named = _either("pod", option, pod_id, pod_option)
            if named is None:
                raise _usage(f"no pod is given; name it as an argument or with {option}")
            return function(pod_id=Store.here().find(named), **others)

        argument = click.argument("pod_id", required=False, metavar="[POD]", shell_complete=_begun_pods)
        return _pod_option(option)(argument(resolve))

    return decorate


#: Take a pod; the command gets ``pod_id``.
pod = _takes_pod("--id")

#: Take a pod, where ``--id`` is something else; the command gets ``pod_id``.
pod_of_container = _takes_pod("--pod-id")


def several_pods(function: _Command) -> _Command:
    """Accept one pod or more, or ``--all``; the command gets ``pod_ids``, None for all."""

    @functools.wraps(function)
    def resolve(named: tuple[str, ...], pod_option: str | None, every: bool, **others: Any) -> Any:
        texts = named + (() if pod_option is None else (pod_option,))
        if every and texts:
            raise _usage("--all and a pod are given; give one of the two")
        if not every and not texts:
            raise _usage("no pod is given; name it as an argument or with --id, or give --all")
        found = None if every else tuple(dict.fromkeys(map(Store.here().find, texts)))
        return function(pod_ids=found, **others)

    decorated: _Command = resolve
    for decorate in (
        click.argument("named", metavar="[POD...]", nargs=-1, shell_complete=_begun_pods),
        click.option("--id", "pod_option", help="A pod, instead of the arguments."),
        click.option("-a", "--all", "every", is_flag=True, help="All pods to which it applies."),
    ):
        decorated = decorate(decorated)
    return decorated


def pods(function: _Command) -> _Command:
    """Accept any number of pods, also of deleted ones; the command gets their ids, ``pod_ids``."""

    @functools.wraps(function)
    def resolve(pod_ids: tuple[str, ...], **others: Any) -> Any:
        return function(pod_ids=tuple(map(Store.here().find, pod_ids)), **others)

    return click.argument("pod_ids", metavar="[POD...]", nargs=-1, shell_complete=_begun_pods)(resolve)


def container(function: _Command) -> _Command:
    """Accept a container: ``POD/CTR``, ``POD`` of one container, ``POD CTR`` or options.

    The command gets ``pod_id`` and ``container_id``.
    """

    @functools.wraps(function)
    def resolve(
        pod_id: str | None,
        pod_option: str | None,
        container_id: str | None,
        container_option: str | None,
        **others: Any,
    ) -> Any:
        named = _either("pod", "--pod-id", pod_id, pod_option)
        if named is None:
            raise _usage("no pod is given; name it as an argument or with --pod-id")
        inside = _either("container", "--id", container_id, container_option)
        pod, container = target(named if inside is None else f"{named}/{inside}")
        return function(pod_id=pod, container_id=container, **others)

    decorated: _Command = resolve
    for decorate in (
        click.argument("container_id", required=False, metavar="[CTR]", shell_complete=_begun_containers),
        click.argument("pod_id", required=False, metavar="[POD[/CTR]]", shell_complete=begun_targets),
        click.option("--id", "container_option", help="The container, instead of the argument."),
        _pod_option("--pod-id"),
    ):
        decorated = decorate(decorated)
    return decorated


#: Take a container as one argument; the command gets its text, ``named``, for :func:`target`.
target_argument = click.argument("named", metavar="POD[/CTR]", shell_complete=begun_targets)


#: Take any number of pods and containers; the command gets their texts, ``named``, for :func:`pod_or_container`.
targets_argument = click.argument("named", metavar="[POD[/CTR]...]", nargs=-1, shell_complete=begun_targets)


def pod_or_container(text: str) -> tuple[str, str]:
    """Return the ids of the pod, and of its container for ``POD/CTR``, else "". Raises VCError, click.UsageError."""
    if "/" in text:
        return target(text)
    return run_blocking(queries.find_pod(text)), ""


def target(text: str) -> tuple[str, str]:
    """Return the ids of the pod and the container that ``text`` names. Raises VCError, click.UsageError."""
    if text.count("/") > 1:
        raise _usage(f"{text!r} names more than one container; give POD/CTR")
    return run_blocking(queries.find_container(text))


def _either(what: str, option: str, argument: str | None, as_option: str | None) -> str | None:
    if argument is not None and as_option is not None and argument != as_option:
        raise _usage(f"the {what} is given twice: {argument!r} and {option} {as_option!r}")
    return as_option if argument is None else argument


def _usage(text: str) -> click.UsageError:
    return click.UsageError(text, click.get_current_context())
