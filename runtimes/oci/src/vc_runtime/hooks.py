"""Runs the hooks of a container on the host, with its state on their standard input."""

from __future__ import annotations

from collections.abc import Sequence

from vc_runtime.faults import Log, RuntimeFault
from vc_runtime.spec import Hook

#: Seconds for a hook that has no timeout of its own.
_TIMEOUT = 120.0


def run(point: str, hooks: Sequence[Hook], state: bytes) -> None:
    """Run hooks one by one. Raises RuntimeFault for one that fails."""
    if not hooks:
        return
    import subprocess  # here, because few containers have hooks

    for hook in hooks:
        timeout = float(hook.timeout or _TIMEOUT)
        try:
            done = subprocess.run(
                hook.args or [hook.path],
                executable=hook.path,
                env=dict(one.partition("=")[::2] for one in hook.env),
                input=state,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeFault(f"{point} hook {hook.path} did not end in {timeout:g} s") from None
        except OSError as error:
            raise RuntimeFault(f"{point} hook {hook.path} cannot be run: {error.strerror}") from error
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip()[-400:]
            raise RuntimeFault(f"{point} hook {hook.path} failed with the code {done.returncode}: {why}")


def run_all(point: str, hooks: Sequence[Hook], state: bytes, log: Log) -> None:
    """Run hooks whose failure changes nothing, but is logged (specification, "Lifecycle")."""
    for hook in hooks:
        try:
            run(point, [hook], state)
        except RuntimeFault as error:
            log.warning(str(error))
