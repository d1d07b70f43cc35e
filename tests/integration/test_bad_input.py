"""A pod that cannot work is refused with one sentence, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import vc_core as vc
from needs import require
from vc_core.store.roots import Roots
from waiting import ever_longer

from .conftest import supervisors, virtc, virtc_path

pytestmark = [pytest.mark.root, pytest.mark.needs("qemu"), pytest.mark.hypervisors("qemu")]


@pytest.fixture(scope="module")
def guest() -> dict[str, str]:
    """Return kernel and image of the built guest."""
    lines = subprocess.run(
        [virtc_path(), "guest", "build"], capture_output=True, encoding="utf-8", check=True
    ).stdout.splitlines()
    return dict(line.split() for line in lines)


@pytest.fixture(scope="module")
def silent_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an initramfs whose init prints one line on the console and then only sleeps."""
    require("busybox", "cpio")
    top = tmp_path_factory.mktemp("silent")
    (top / "dev").mkdir()
    (top / "init").write_text(
        "#!/busybox sh\n/busybox mount -t devtmpfs dev /dev\necho I am not an agent >/dev/ttyS0\n/busybox sleep 1000\n",
        encoding="utf-8",
    )
    (top / "init").chmod(0o755)
    shutil.copy(shutil.which("busybox") or "busybox", top / "busybox")
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=top, input=b"init\nbusybox\ndev\n", capture_output=True, check=True
    )
    path = top.parent / "silent.cpio"
    path.write_bytes(archive.stdout)
    return path


def refused(*words: str, code: int = 1) -> str:
    """Run virtc, which must fail in one sentence and leave nothing; return the sentence."""
    done = virtc("pod", "run", "--id", "bad", *words)
    stderr = done.stderr.decode()
    assert done.returncode == code, stderr
    assert done.stdout == b""
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert vc.list_pods() == []
    assert supervisors("bad") == []
    run_dir = Roots.from_environment().pod_run_dir("bad")
    assert not run_dir.exists()
    return lines[0]


Make = Callable[[Path, dict[str, str]], list[str]]

BEFORE_ANYTHING_STARTS: dict[str, tuple[Make, str]] = {
    "no bundle": (lambda top, guest: ["--bundle", str(top / "nope")], "nope"),
    "empty bundle": (lambda top, guest: ["--bundle", str(_made(top / "empty"))], "is empty"),
    "bundle is a file": (lambda top, guest: ["--bundle", "/etc/passwd"], "neither a directory nor a disk"),
    "no kernel": (lambda top, guest: ["--kernel", str(top / "k"), "--image", guest["initramfs"]], "kernel"),
    "no image": (lambda top, guest: ["--kernel", guest["kernel"], "--image", str(top / "i")], "image"),
    "kernel is a directory": (lambda top, guest: ["--kernel", str(top), "--image", guest["initramfs"]], "kernel"),
    "kernel is no kernel": (
        lambda top, guest: ["--kernel", "/etc/passwd", "--image", guest["initramfs"]],
        "/etc/passwd",
    ),
    "no qemu": (lambda top, guest: ["--hypervisor-path", str(top / "qemu")], "qemu"),
    "qemu is no qemu": (lambda top, guest: ["--hypervisor-path", "/bin/true"], "/bin/true"),
    "too much memory": (lambda top, guest: ["--memory", "99999999"], "99999999"),
    "too little memory": (lambda top, guest: ["--memory", "1"], "memory"),
    "too many cpus": (lambda top, guest: ["--cpus", "5000"], "5000"),
    "unknown hypervisor": (lambda top, guest: ["--hypervisor", "xen"], "xen"),
    "unknown agent": (lambda top, guest: ["--agent", "kata"], "kata"),
    "unknown guest": (lambda top, guest: ["--guest", "fedora"], "fedora"),
    "unknown hypervisor option": (lambda top, guest: ["--hypervisor-option", "colour=red"], "colour"),
    "unknown agent option": (lambda top, guest: ["--agent-option", "colour=red"], "colour"),
    "kernel parameter with a blank": (lambda top, guest: ["--kernel-param", "a=b c"], "b c"),
    "kernel parameters too long": (lambda top, guest: ["--kernel-param", "a=" + "b" * 2100], "2047"),
    "volume is not there": (lambda top, guest: ["--volume", f"t:{top / 'nope'}"], "nope"),
}


def _made(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.vm
@pytest.mark.parametrize("what", BEFORE_ANYTHING_STARTS)
def test_what_cannot_work_is_refused_in_one_sentence(
    what: str, bundle: Path, tmp_path: Path, guest: dict[str, str]
) -> None:
    make, message = BEFORE_ANYTHING_STARTS[what]
    words = make(tmp_path, guest)
    if "--bundle" not in words:
        words += ["--bundle", str(bundle)]
    assert message in refused(*words, "--", "true")


@pytest.mark.vm
def test_a_command_that_is_not_in_the_container_fails_the_run(bundle: Path) -> None:
    stderr = refused("--bundle", str(bundle), "--", "no-such-command")
    assert "no-such-command" in stderr.replace("virtc: notice", "")


@pytest.mark.vm
@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_in_the_foreground_the_exit_code_gives_the_cause(bundle: Path, command: str, code: int) -> None:
    assert command in refused("-i", "--bundle", str(bundle), "--", command, code=code)


@pytest.mark.vm
def test_a_guest_that_never_gets_ready_is_an_error_with_the_end_of_its_console(
    bundle: Path, guest: dict[str, str], silent_image: Path
) -> None:
    words = ["--bundle", str(bundle), "--kernel", guest["kernel"], "--image", str(silent_image), "--start-timeout"]
    for seconds in ever_longer(8):
        stderr = refused(*words, str(seconds), "--", "true")
        if "I am not an agent" in stderr:
            break
    assert "did not get ready" in stderr
    assert "I am not an agent" in stderr


@pytest.mark.vm
def test_a_kernel_that_panics_is_an_error_with_the_end_of_its_console(
    bundle: Path, guest: dict[str, str], tmp_path: Path
) -> None:
    """An archive without /init: the kernel has no root and panics; with panic=-1 and -no-reboot QEMU ends."""
    (tmp_path / "empty").touch()
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tmp_path, input=b"empty\n", capture_output=True, check=True
    )
    (tmp_path / "image").write_bytes(archive.stdout)
    stderr = refused(
        "--bundle",
        str(bundle),
        "--kernel",
        guest["kernel"],
        "--image",
        str(tmp_path / "image"),
        "--kernel-param",
        "panic=-1",
        "--",
        "true",
    )
    assert "panicked: VFS: Unable to mount root" in stderr


@pytest.mark.needs("user namespaces")
def test_a_user_whom_the_kernel_refuses_a_user_namespace_gets_one_sentence(bundle: Path) -> None:
    # Without a mapping this process has the user id of nobody, to whom the kernel gives no further namespace, and can
    # still read the files of this checkout.
    done = subprocess.run(
        ["unshare", "--user", virtc_path(), "pod", "run", "--bundle", str(bundle)],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert "cannot have pods, because the kernel refuses a user namespace: Operation not permitted" in done.stderr
    assert done.stderr.count("\n") == 1
    assert vc.list_pods() == []
