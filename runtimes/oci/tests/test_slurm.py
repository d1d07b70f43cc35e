"""slurm runs the steps of its jobs in virtual machines: ``srun --container``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from engine_host import MARKS, TIMEOUT, Host, daemon, host, make_rootfs, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.needs("slurmctld"), *MARKS]

#: One machine is controller and node. An address beside that of the loopback interface must exist.
_INTERFACE = "ip link add out type veth peer name other && ip address add 10.88.79.1/24 dev out && ip link set out up"

_SLURM = """\
ClusterName=tests
SlurmctldHost={name}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={top}/munge/socket
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/slurmd.pid
ProctrackType=proctrack/pgid
MpiDefault=none
NodeName={name} NodeAddr=127.0.0.1
PartitionName=tests Nodes=ALL Default=YES
"""

_OCI = """\
RunTimeRun="{runtime} run %n.%u.%j.%s.%t -b %b"
RunTimeQuery="{runtime} state %n.%u.%j.%s.%t"
RunTimeKill="{runtime} kill -a %n.%u.%j.%s.%t"
RunTimeDelete="{runtime} delete --force %n.%u.%j.%s.%t"
"""


class Slurm:
    """A controller with one node, and a bundle of busybox."""

    def __init__(self, place: Host) -> None:
        self.host = place
        self._variable = f"SLURM_CONF={place.top}/slurm.conf"
        self.bundle = place.top / "bundle"

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line of a program of slurm."""
        return self.host.command("env", self._variable, *arguments)

    def run(self, *arguments: str | Path, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of slurm and return what it wrote. Fails the test where it fails, unless ``check`` is false."""
        return self.host.run("env", self._variable, *arguments, given=given, check=check)

    def wait_completed(self) -> None:
        """Wait until slurm has cleaned up after all jobs, which goes on behind srun."""
        wait_for(lambda: self.run("squeue", "--noheader").stdout == "", "a job has not ended")
        here = ["--ns", self.host.network.split("/")[2], "--nslist", "net"]
        wait_for(
            lambda: subprocess.run(["pgrep", *here, "slurmstepd"], stdout=subprocess.DEVNULL).returncode == 1,
            "slurm has not deleted a container",
        )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    top = tmp_path_factory.mktemp("slurm")
    with ExitStack() as stack:
        place = stack.enter_context(host(top))
        made = Slurm(place)
        place.run("sh", "-c", _INTERFACE)
        make_rootfs(made.bundle / "rootfs")
        place.run(place.runtime, "spec", "--bundle", made.bundle)
        for folder in ("state", "spool", "munge"):
            (top / folder).mkdir(mode=0o755)
        (top / "slurm.conf").write_text(_SLURM.format(top=top, name=os.uname().nodename), encoding="utf-8")
        runtime = f"{place.runtime} --root {top}/records"
        (top / "oci.conf").write_text(_OCI.format(runtime=runtime), encoding="utf-8")
        munge = top / "munge"
        (munge / "key").write_bytes(os.urandom(64))
        (munge / "key").chmod(0o600)
        options = [f"--{one}-file={munge}/{one}" for one in ("key", "pid", "log", "seed")]
        command = place.command("munged", "--foreground", "--force", f"--socket={munge}/socket", *options)
        stack.enter_context(daemon(command, top / "munged", (munge / "socket").exists))
        command = made.command("slurmctld", "-D")
        up = stack.enter_context
        up(daemon(command, top / "slurmctld", lambda: made.run("scontrol", "ping", check=False).returncode == 0))
        nodes = ("sinfo", "--noheader", "--format", "%T")
        up(daemon(made.command("slurmd", "-D"), top / "slurmd", lambda: "idle" in made.run(*nodes).stdout))
        yield made


def test_a_step_gets_its_input_and_its_output_and_exit_code_come_back(slurm: Slurm) -> None:
    script = "echo job $SLURM_JOB_ID; cat; uname -r; exit 3"
    command = ("srun", "--quiet", "--container", slurm.bundle, "sh", "-c", script)
    done = slurm.run(*command, given="in\n", check=False)
    assert done.returncode == 3, done.stderr
    job, given, kernel = done.stdout.splitlines()
    assert (job.split()[0], given) == ("job", "in")
    assert kernel != os.uname().release
    slurm.wait_completed()
    assert slurm.host.pods() == []


def test_a_job_that_is_cancelled_ends_with_its_vm(slurm: Slurm) -> None:
    script = 'trap "exit 0" TERM; echo up; while true; do sleep 0.1; done'
    command = slurm.command("srun", "--quiet", "--container", slurm.bundle, "sh", "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"up\n", running.stderr.read()
        assert len(slurm.host.pods()) == 1
        slurm.run("scancel", slurm.run("squeue", "--noheader", "--format", "%i").stdout.strip())
        running.communicate(timeout=TIMEOUT)
    slurm.wait_completed()
    assert slurm.host.pods() == []
    assert list((slurm.host.top / "records").iterdir()) == []
