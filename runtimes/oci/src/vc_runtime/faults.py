"""What went wrong, in the words and places where engines look: standard error, and the file of ``--log``."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


class RuntimeFault(Exception):
    """A verb cannot be performed; the text is one sentence."""


class NoSuchContainer(RuntimeFault):
    """There is no container of that id."""


class Refused(RuntimeFault):
    """The container asks for something that a virtual machine cannot do."""


class Log:
    """The file of ``--log``, None for none; ``form`` is "text", or "json" for an object in each line."""

    def __init__(self, path: Path | None, form: str) -> None:
        self._path, self._json = path, form == "json"

    def error(self, text: str) -> None:
        """Report why the verb fails: engines show the last line of either place."""
        self._write("error", text)
        print(f"vc-runtime: {text}", file=sys.stderr)  # noqa: T201 - a command's message

    def warning(self, text: str) -> None:
        """Report what is left out although the container asked for it. Engines take standard error for a failure."""
        self._write("warning", text)

    def _write(self, level: str, text: str) -> None:
        if self._path is None:
            return
        import json  # here, because few verbs have something to report

        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._json:
            line = json.dumps({"level": level, "msg": text, "time": time})
        else:
            line = f"time={json.dumps(time)} level={level} msg={json.dumps(text)}"
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
