"""Runs ``virsh``, libvirt's own client: the only module that connects to the daemon.

A child process for each command serves an event loop better than the library would: it can be given up at any time, and
needs neither a compiler nor headers when this distribution is installed.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from vc_core.errors import HypervisorError, VMTimeoutError

#: Seconds for one command, unless its caller has less time.
TIMEOUT = 10.0


async def run(uri: str, *words: str, document: str = "", timeout: float = TIMEOUT) -> str:
    """Run a command that reads ``document`` from its input, and return its output.

    When this is cancelled, the daemon may still do what the command has asked for. Raises HypervisorError with the
    daemon's own message, VMTimeoutError.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *_argv(uri, words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise _missing(error) from error
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate(document.encode())
    except TimeoutError as error:
        raise _late(uri, words[0], timeout) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert process.returncode is not None
    return _output(words[0], process.returncode, output, errors)


async def destroy(uri: str, domain: str, timeout: float = TIMEOUT) -> None:
    """End a domain at once; no error if there is none. Raises HypervisorError, VMTimeoutError."""
    try:
        await run(uri, "destroy", domain, timeout=timeout)
    except VMTimeoutError:
        raise
    except HypervisorError:
        if domain in (await run(uri, "list", "--all", "--uuid", timeout=timeout)).split():
            raise


def _argv(uri: str, words: tuple[str, ...]) -> list[str]:
    return ["virsh", "--quiet", "--connect", uri, *words]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _output(command: str, status: int, output: bytes, errors: bytes) -> str:
    """Return the output. Raises HypervisorError with the message of a command that failed."""
    if status != 0:
        lines = errors.decode(errors="replace").replace("error: ", "").split("\n")
        # The first line is about the command; the others have the daemon's message, and that QEMU's.
        said = [line.strip() for line in lines if line.strip()]
        raise HypervisorError(f"libvirt refuses to {command}: {'; '.join(said[1:] or said) or f'status {status}'}")
    return output.decode(errors="replace")


def _missing(error: OSError) -> HypervisorError:
    return HypervisorError(f"virsh cannot be run: {error.strerror}; on Debian: apt install libvirt-clients")


def _late(uri: str, command: str, timeout: float) -> VMTimeoutError:
    return VMTimeoutError(f"the libvirt daemon at {uri} did not {command} within {timeout:g} s")
