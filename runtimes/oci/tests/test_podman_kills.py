"""Whatever process is killed at whatever verb of podman, ``podman rm --force`` leaves nothing of the container."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from engine_host import MARKS
from podman_host import IMAGE, TIMEOUT, Podman
from podman_host import podman as made_podman

import vc_core

pytestmark = [pytest.mark.campaign, pytest.mark.needs("podman"), *MARKS]

#: Kills a party of a container before the runtime performs a verb, or meanwhile: it gets the runtime's arguments.
KILLER = """#!{python}
import json, os, sys, time
from pathlib import Path
victim, verb, seconds, records = "{victim}", "{verb}", {seconds}, Path("{records}")
if verb not in sys.argv[1:] or not (found := [one for one in records.iterdir() if one.name != ":seccomp"]):
    sys.exit()
container = found[0].name

def running(word):
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if word in words:
            return int(entry.name)
    return 0

if victim in ("shim", "conmon"):
    pid = json.loads((found[0] / "state.json").read_bytes())["shim"]["pid"]
    if victim == "conmon":
        try:
            pid = int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pid = 0
elif victim == "supervisor":
    pid = running(b"vc_core.supervisor\\0" + container.encode())
else:
    pid = running(b"guest=" + container.encode())
if not seconds:
    pid > 1 and os.kill(pid, 9)
elif not os.fork():
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, 1000)
    os.setsid()
    time.sleep(seconds)
    try:
        pid > 1 and os.kill(pid, 9)
    except ProcessLookupError:
        pass
"""

#: The runtime's verbs, and what a user types for each.
VERBS = {
    "exec": ("exec", "c", "true"),
    "pause": ("pause", "c"),
    "resume": ("unpause", "c"),
    "kill": ("stop", "--time", "3", "c"),
    "delete": ("restart", "--time", "0", "c"),
}


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with made_podman(tmp_path_factory.mktemp("podman")) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(podman: Podman) -> Iterator[None]:
    """Remove the container by force, and look for what is left; the census counts processes and mounts."""
    yield
    (podman.top / "before").unlink(missing_ok=True)
    deadline = time.monotonic() + TIMEOUT
    while (done := podman.run("rm", "--force", "--time", "0", "c", check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr  # podman waits for its conmon first, which is dead
    podman.wait_cleaned()
    while left := [*podman.recorded(), *attendants(podman)]:
        assert time.monotonic() < deadline, left
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIRTCONTAINERS_ROOT", str(podman.top / "vc"))
        assert vc_core.list_pods() == []


def attendants(podman: Podman) -> list[str]:
    """Return the processes that the runtime has left beside shims, which end by themselves."""
    done = subprocess.run(["pgrep", "-f", "--", f"--home {podman.records}/"], capture_output=True, encoding="ascii")
    return done.stdout.split()


def kill(podman: Podman, victim: str, verb: str, seconds: float) -> None:
    text = KILLER.format(python=sys.executable, victim=victim, verb=verb, seconds=seconds, records=podman.records)
    (podman.top / "before").write_text(text, encoding="utf-8")
    (podman.top / "before").chmod(0o755)


@pytest.mark.parametrize("seconds", [0, 0.3, 1.5])
@pytest.mark.parametrize("victim", ["shim", "conmon"])
def test_at_a_start(podman: Podman, victim: str, seconds: float) -> None:
    kill(podman, victim, "start", seconds)
    podman.run("run", "--detach", "--name", "c", "--network", "none", IMAGE, "sleep", "1000", check=False)


@pytest.mark.parametrize("seconds", [0, 0.3])
@pytest.mark.parametrize("victim", ["shim", "conmon", "supervisor", "QEMU"])
@pytest.mark.parametrize("verb", list(VERBS))
def test_at_a_verb(podman: Podman, verb: str, victim: str, seconds: float) -> None:
    podman("run", "--detach", "--name", "c", "--network", "none", IMAGE, "sleep", "1000")
    if verb == "resume":
        podman("pause", "c")
    kill(podman, victim, verb, seconds)
    try:
        podman.run(*VERBS[verb], check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"podman {VERBS[verb][0]} does not end")
