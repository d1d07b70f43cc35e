"""Hooks get the container's state, and their failure is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from vc_runtime import hooks
from vc_runtime.faults import Log, RuntimeFault
from vc_runtime.spec import Hook


def shell(script: str, timeout: int | None = None) -> Hook:
    return Hook(path="/bin/sh", args=["sh", "-c", script], env=["A=b"], timeout=timeout)


def test_a_hook_gets_the_state_on_its_standard_input_and_no_environment_but_its_own(tmp_path: Path) -> None:
    hooks.run("prestart", [shell(f"cat >{tmp_path}/state; echo $A $HOME >{tmp_path}/env")], b"{}")
    assert (tmp_path / "state").read_bytes() == b"{}"
    assert (tmp_path / "env").read_text(encoding="utf-8") == "b\n"


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        (shell("echo why >&2; exit 3"), "prestart hook /bin/sh failed with the code 3: why"),
        (shell("exec sleep 1000", timeout=1), "prestart hook /bin/sh did not end in 1 s"),
        (Hook(path="/no/where"), "prestart hook /no/where cannot be run: No such file or directory"),
    ],
)
def test_a_hook_that_fails_is_named(hook: Hook, sentence: str) -> None:
    with pytest.raises(RuntimeFault, match=f"^{sentence}$"):
        hooks.run("prestart", [hook], b"{}")


def test_hooks_whose_failure_changes_nothing_are_all_run_and_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    hooks.run_all("poststop", [shell("exit 3"), shell(f"touch {tmp_path}/second")], b"{}", Log(log, "text"))
    assert (tmp_path / "second").exists()
    assert "failed with the code 3" in log.read_text(encoding="utf-8")
