"""``--filter``: which pods a command is about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vc_core.cli import times
from vc_core.config.labels import has_labels, parse_label
from vc_core.errors import ConfigError
from vc_core.states import State

if TYPE_CHECKING:
    from vc_core.results import PodStatus

_TEXTS = {"label": "label=KEY[=VALUE]", "state": "state=STATE", "until": "until=TIME"}


class Filter:
    """What pods must have to pass: all labels, and one of the states if there are any.

    ``until``: seconds since the epoch; pods that became what they are later do not pass.
    """

    def __init__(self) -> None:
        self.labels: dict[str, str | None] = {}
        self.states: set[State] = set()
        self.until: float | None = None

    def passes(self, pod: PodStatus) -> bool:
        """Return whether a pod passes."""
        return (
            has_labels(pod.labels, self.labels)
            and (not self.states or pod.state in self.states)
            and (self.until is None or (pod.changed_at or pod.created_at or 0.0) <= self.until)
        )


def takes_filter(*kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--filter`` with these kinds; the command gets ``wanted``, the :class:`Filter`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def build(filters: tuple[str, ...], **given: Any) -> Any:
            return function(wanted=_filter(filters, kinds), **given)

        forms = " or ".join(_TEXTS[kind] for kind in kinds)
        help_text = f"Only pods that pass: {forms}; repeatable."
        return click.option("--filter", "filters", multiple=True, metavar="KIND=VALUE", help=help_text)(build)

    return decorate


def _filter(texts: tuple[str, ...], kinds: tuple[str, ...]) -> Filter:
    made = Filter()
    for text in texts:
        kind, separator, value = text.partition("=")
        if kind not in kinds or not separator or not value:
            forms = " or ".join(_TEXTS[one] for one in kinds)
            raise click.UsageError(f"--filter {text!r} is not valid; give {forms}", click.get_current_context())
        if kind == "label":
            key, given = parse_label(value)
            made.labels[key] = given if "=" in value else None
        elif kind == "state":
            made.states.add(_state(value))
        else:
            made.until = times.parse_moment(value)
    return made


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise ConfigError(f"the state {text!r} does not exist; give {', '.join(State)}") from None
