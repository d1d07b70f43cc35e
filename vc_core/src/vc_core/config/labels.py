"""Labels: texts by which callers find their pods again."""

from __future__ import annotations

from collections.abc import Mapping

from vc_core.config.values import check_text, quoted
from vc_core.errors import ConfigError

#: Most characters of a label's key, and of its value.
KEY_MAX, VALUE_MAX = 128, 4096


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as they are kept. Raises ConfigError for a key or value that is not valid."""
    for key, value in labels.items():
        if not isinstance(key, str) or not key or len(key) > KEY_MAX or not key.isprintable() or set(key) & {"=", " "}:
            raise ConfigError(
                f"the label {quoted(key)} is not valid; give a key of 1 to {KEY_MAX} printable characters without '=' "
                "and blanks",
                field="labels",
            )
        if not isinstance(value, str) or len(value) > VALUE_MAX:
            raise ConfigError(
                f"the label {key!r} is {quoted(value)}; give text of at most {VALUE_MAX} characters", field="labels"
            )
        check_text(f"the label {key!r}", value, "labels")
        check_text("the key of a label", key, "labels")
    return dict(labels)


def parse_label(text: str) -> tuple[str, str]:
    """Return the label given as ``KEY=VALUE``, or ``KEY`` for an empty value. Raises ConfigError."""
    key, _, value = text.partition("=")
    checked_labels({key: value})
    return key, value


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Return whether ``labels`` have all that are wanted; a value of None stands for any."""
    return all(key in labels and value in (None, labels[key]) for key, value in wanted.items())
