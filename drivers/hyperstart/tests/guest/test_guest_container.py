"""What a process finds in its container."""

import hashlib
import shutil
from typing import Any

import pytest
from guest_vm import VM, RawHost, make_root_fs

from vc_agent_hyperstart.codec import Code

pytestmark = pytest.mark.vm


def output(host: RawHost, *args: str, **more: Any) -> str:
    status, out, err = host.run("c1", *args, **more)
    assert (status, err) == (0, b"")
    return out.decode()


def test_the_pod_has_its_host_name(host: RawHost) -> None:
    assert output(host, "hostname") == "pod-host\n"


def test_the_pod_has_process_numbers_of_its_own(host: RawHost) -> None:
    lines = output(host, "ps").splitlines()
    assert lines[1].split()[0] == "1"
    assert not any("kthreadd" in line for line in lines)


def test_the_first_process_of_the_pod_shows_nothing_of_the_guest_s_root(host: RawHost) -> None:
    assert output(host, "ls", "-A", "/proc/1/root/") == ""


def test_containers_share_process_numbers_ipc_and_host_name_but_not_mounts(host: RawHost) -> None:
    script = "for name in pid ipc uts mnt; do readlink /proc/self/ns/$name; done"
    host.start_container("c2", "sleep", "1000")
    one, two = (host.run(name, "sh", "-c", script)[1].splitlines() for name in ("c1", "c2"))
    assert one[:3] == two[:3]
    assert one[3] != two[3]
    host.ok(Code.KILLCONTAINER, {"container": "c2", "signal": 9})
    assert host.run("c1", "touch", "/tmp/mine")[0] == 0


def test_the_root_is_writable_and_the_host_s_directory_never_changes(host: RawHost, extended: VM) -> None:
    def tree() -> dict[str, str]:
        root = extended.directory / "share"
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}

    before = tree()
    script = "echo new >/new; echo changed >/etc/group; rm /bin/script; echo x >>/bin/sh; cat /new"
    host.start_container("c3", "sleep", "1000")
    assert host.run("c3", "sh", "-c", script)[:2] == (0, b"new\n")
    assert tree() == before
    assert not (extended.directory / "share/base/rootfs/new").exists()
    assert output(host, "cat", "/etc/group").startswith("root")
    host.ok(Code.KILLCONTAINER, {"container": "c3", "signal": 9})


def test_the_writable_layer_has_the_size_that_was_asked_for(host: RawHost) -> None:
    host.start_container("c4", "sleep", "1000", overlaySize=4)
    status, _, err = host.run("c4", "dd", "if=/dev/zero", "of=/big", "bs=1024k", "count=8")
    assert status == 1
    assert b"No space left on device" in err
    host.ok(Code.KILLCONTAINER, {"container": "c4", "signal": 9})


def test_the_root_keeps_its_owner_and_mode(host: RawHost, extended: VM) -> None:
    root = (extended.directory / "share/base/rootfs").stat()
    assert output(host, "stat", "-c", "%a %u", "/") == f"{root.st_mode & 0o7777:o} {root.st_uid}\n"


def test_a_new_container_of_an_old_name_has_the_new_root(host: RawHost, extended: VM) -> None:
    root = extended.directory / "share/swap"
    for content in ("first", "second"):
        (root / "bin").mkdir(parents=True)
        shutil.copy(extended.directory / "share/base/rootfs/bin/busybox", root / "bin/busybox")
        (root / "content").write_text(content, encoding="utf-8")
        stdio = host.start_container("swap", "/bin/busybox", "cat", "/content", image="swap", rootfs="")
        assert host.finish(stdio)[1].decode() == content
        host.ok(Code.REMOVECONTAINER, {"container": "swap"})
        root.rename(root.with_name(f"swap-{content}"))


def test_only_what_a_container_needs_is_mounted(host: RawHost) -> None:
    mounts = {tuple(line.split()[i] for i in (2, 4)) for line in output(host, "mount").splitlines()}
    assert mounts == {
        *(("/", "overlay"), ("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs")),
        *(("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue")),
        *((f"/dev/{name}", "tmpfs") for name in ("null", "zero", "full", "random", "urandom", "tty")),
    }


def test_sys_is_read_only(host: RawHost) -> None:
    status, _, err = host.run("c1", "sh", "-c", "echo 1 >/sys/power/pm_async")
    assert status != 0
    assert b"Read-only file system" in err


def test_the_usual_devices_work(host: RawHost) -> None:
    script = (
        "echo x >/dev/null && test -z $(head -c 1 /dev/null) && head -c 3 /dev/zero | wc -c && "
        "head -c 5 /dev/random | wc -c && head -c 5 /dev/urandom | wc -c && ! echo x 2>/dev/null >/dev/full && "
        "echo via-fd >/dev/stdout && touch /dev/shm/x && ls -d /dev/fd/0 /dev/mqueue /dev/ptmx"
    )
    assert output(host, "sh", "-c", script) == "3\n5\n5\nvia-fd\n/dev/fd/0\n/dev/mqueue\n/dev/ptmx\n"


def test_loopback_is_up(host: RawHost) -> None:
    assert "1 packets received" in output(host, "ping", "-c", "1", "127.0.0.1")


def test_a_process_starts_with_nothing_but_its_three_streams(host: RawHost) -> None:
    assert (
        output(host, "sh", "-c", "echo /proc/self/fd/*; cat /proc/self/status | head -30").split("\n")[0]
        == " ".join(f"/proc/self/fd/{number}" for number in range(3)) + " /proc/self/fd/3"
    )  # the directory that the shell reads
    status = output(host, "cat", "/proc/self/status")
    for mask in ("SigBlk", "SigIgn"):
        assert f"{mask}:\t0000000000000000" in status
    assert "Umask:\t0022" in status


def test_the_environment_is_that_of_the_command_over_defaults(host: RawHost) -> None:
    assert set(output(host, "env").splitlines()) == {
        *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=pod-host", "HOME=/root")
    }
    given = [{"env": "A", "value": "b c"}, {"env": "HOME", "value": "/h"}, {"env": "EMPTY", "value": ""}]
    found = output(host, "env", envs=given, user="bob").splitlines()
    assert {"A=b c", "HOME=/h", "EMPTY=", "USER=bob"} <= set(found)


def test_path_is_the_command_s_own(host: RawHost) -> None:
    assert output(host, "busybox", "echo", "found", envs=[{"env": "PATH", "value": "/nowhere:/bin"}]) == "found\n"
    process = {"stdio": 5, "stderr": 6, "args": ["sh"], "envs": [{"env": "PATH", "value": "/etc"}]}
    command = {"container": "c1", "process": process}
    assert host.refused(Code.EXECCMD, command)["exit_code"] == 127


def test_a_path_that_is_too_long_for_the_kernel_is_passed_over(host: RawHost) -> None:
    # Cut off at the kernel's 4095 bytes, "/trueish" below this directory would name /bin/true.
    longest = "/bin".ljust(4095 - len("/true"), "/")
    process = {"stdio": 5, "stderr": 6, "args": ["trueish"], "envs": [{"env": "PATH", "value": longest}]}
    reason = "trueish: command not found in the container"
    assert host.refused(Code.EXECCMD, {"container": "c1", "process": process}) == {"reason": reason, "exit_code": 127}
    both = [{"env": "PATH", "value": f"{longest}:/bin"}]
    assert output(host, "busybox", "echo", "found", envs=both) == "found\n"


def test_an_exec_inherits_the_container_s_environment_and_working_directory(host: RawHost) -> None:
    more = {"envs": [{"env": "FROM", "value": "container"}], "workdir": "/tmp"}
    host.start_container("c5", "sleep", "1000", process=more)
    assert host.run("c5", "sh", "-c", "echo $FROM $PWD")[1] == b"container /tmp\n"
    own = [{"env": "FROM", "value": "exec"}]
    assert host.run("c5", "sh", "-c", "echo $FROM $PWD", envs=own, workdir="/etc")[1] == b"exec /etc\n"
    host.ok(Code.KILLCONTAINER, {"container": "c5", "signal": 9})


@pytest.mark.parametrize(
    ("process", "identity"),
    [
        ({}, "uid=0(root) gid=0(root)"),
        ({"user": "bob"}, "uid=1000(bob) gid=1001(bob) groups=50(staff)"),
        ({"user": "1000"}, "uid=1000(bob) gid=1001(bob) groups=50(staff)"),
        ({"user": "4321"}, "uid=4321 gid=0(root)"),
        ({"user": "bob", "group": "extra"}, "uid=1000(bob) gid=60(extra) groups=50(staff)"),
        ({"user": "bob", "group": "77"}, "uid=1000(bob) gid=77 groups=50(staff)"),
        ({"group": "extra"}, "uid=0(root) gid=60(extra)"),
        (
            {"user": "bob", "additionalGroups": ["extra", "99"]},
            "uid=1000(bob) gid=1001(bob) groups=50(staff),60(extra),99",
        ),
    ],
)
def test_user_and_groups_are_those_of_the_container_s_files(
    host: RawHost, process: dict[str, Any], identity: str
) -> None:
    assert output(host, "id", **process).strip() == identity


LONG = "x" * 64


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        ({"user": LONG}, f"user '{LONG}': the name in /etc/passwd has more than 63 bytes"),
        ({"user": "2000"}, "user '2000': the name in /etc/passwd has more than 63 bytes"),
        ({"user": "far"}, "user 'far': the home directory in /etc/passwd has more than 255 bytes"),
        ({"user": "joiner"}, "user 'joiner' is in more than 256 groups"),
        ({"additionalGroups": ["0"] * 257}, "the process has more than 256 groups"),
    ],
    ids=["name", "number", "home", "groups", "additional groups"],
)
def test_an_identity_that_the_agent_cannot_hold_is_refused(
    host: RawHost, extended: VM, process: dict[str, Any], reason: str
) -> None:
    root = extended.directory / "share/crowded/rootfs"
    if not root.exists():
        make_root_fs(root)
        with (root / "etc/passwd").open("a", encoding="utf-8") as passwd:
            passwd.write(f"{LONG}:x:2000:2000::/home/bob:/bin/sh\njoiner:x:2002:2002::/home/bob:/bin/sh\n")
            passwd.write(f"far:x:2001:2001::/{'y' * 255}:/bin/sh\n")
        with (root / "etc/group").open("a", encoding="utf-8") as group:
            group.write("".join(f"g{number}:x:{number}:joiner\n" for number in range(3000, 3257)))
    stdio = host.start_container("crowded", "sleep", "1000", image="crowded")
    command = {"container": "crowded", "process": {"stdio": 5, "stderr": 6, "args": ["id"], **process}}
    assert host.refused(Code.EXECCMD, command) == {"reason": reason, "exit_code": 125}
    host.ok(Code.KILLCONTAINER, {"container": "crowded", "signal": 9})
    host.finish(stdio)
    host.ok(Code.REMOVECONTAINER, {"container": "crowded"})


def test_arguments_arrive_byte_for_byte(host: RawHost) -> None:
    arguments = [
        "",
        "two words",
        "quo'te\"s",
        "$(echo no)",
        "new\nline",
        "ünï-\U0001f600",
        "\x01\x7f\\",
        "-n",
        "--",
        "*",
    ]
    assert output(host, "sh", "-c", 'for a; do echo -n "$a|"; done', "sh", *arguments) == "".join(
        f"{a}|" for a in arguments
    )
    raw = (
        b'{"container":"c1","process":{"stdio":901,"stderr":902,"args":["/bin/echo","\xff\xfe\\u00e9\\ud83d\\ude00"]}}'
    )
    host.ok(Code.EXECCMD, raw)
    assert host.finish(901)[1] == b"\xff\xfe\xc3\xa9\xf0\x9f\x98\x80\n"


def test_a_terminal_is_the_controlling_terminal_of_its_process(host: RawHost) -> None:
    stdio = host.exec("c1", "sh", "-c", "tty; echo $TERM; exec sh -i", terminal=True)
    host.wait_for(lambda: b"xterm\r\n" in host.output.get(stdio, b""))
    host.ok(Code.WINSIZE, {"seq": stdio, "row": 33, "column": 99})
    host.send_stream(stdio, b"stty size; exit 4\n")
    status, out, _ = host.finish(stdio)
    assert status == 4
    assert out.startswith(b"/dev/pts/0\r\nxterm\r\n")
    assert b"33 99\r\n" in out


def test_a_terminal_has_its_size_from_the_start(host: RawHost) -> None:
    assert host.run("c1", "stty", "size", terminal=True, rows=33, columns=99)[1] == b"33 99\r\n"


def test_a_terminal_s_standard_error_can_be_a_stream_of_its_own(host: RawHost) -> None:
    assert host.run("c1", "sh", "-c", "echo out; echo err >&2", terminal=True) == (0, b"out\r\n", b"err\n")
    stdio = host.exec("c1", "sh", "-c", "echo out; echo err >&2", terminal=True, stderr=0)
    assert host.finish(stdio) == (0, b"out\r\nerr\r\n", b"")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_user_can_open_its_own_streams_anew(host: RawHost, terminal: bool) -> None:
    script = "echo out >/dev/stdout; echo errors >/dev/stderr; cat </dev/null"
    status, output, errors = host.run("c1", "sh", "-c", script, user="1000", terminal=terminal)
    assert (status, (output + errors).split()) == (0, [b"out", b"errors"])


def test_every_user_of_the_pod_can_listen_on_every_port_and_ping(host: RawHost) -> None:
    paths = [f"/proc/sys/net/ipv4/{name}" for name in ("ip_unprivileged_port_start", "ping_group_range")]
    assert host.run("c1", "cat", *paths)[1].split() == [b"0", b"0", b"2147483647"]


def test_the_host_sets_the_clock(host: RawHost) -> None:
    for time in (2_000_000_000, 1_900_000_000):
        host.ok(Code.CLOCK, {"time": time * 10**9})
        assert int(host.run("c1", "busybox", "date", "+%s")[1]) - time in range(60)


def test_containers_have_terminals_of_their_own(host: RawHost) -> None:
    host.start_container("c6", "sleep", "1000")
    stdio = host.exec("c6", "sleep", "1000", terminal=True)
    assert host.run("c6", "ls", "/dev/pts")[1] == b"0\nptmx\n"
    assert output(host, "ls", "/dev/pts") == "ptmx\n"
    host.ok(Code.SIGNAL, {"stdio": stdio, "signal": 9})
    host.ok(Code.KILLCONTAINER, {"container": "c6", "signal": 9})


def test_an_empty_frame_is_no_end_for_a_terminal_but_its_eof_character_is(host: RawHost) -> None:
    stdio = host.exec("c1", "cat", terminal=True)
    host.send_stream(stdio)
    host.send_stream(stdio, b"line\n\x04")
    assert host.finish(stdio) == (0, b"line\r\nline\r\n", b"")


def test_a_process_that_reads_an_endless_passwd_does_not_hold_up_the_guest(host: RawHost) -> None:
    host.start_container("c7", "sleep", "1000")
    assert host.run("c7", "sh", "-c", "rm /etc/passwd && /bin/busybox mkfifo /etc/passwd")[0] == 0
    process = {"stdio": 5, "stderr": 6, "args": ["true"], "user": "bob"}
    assert host.refused(Code.EXECCMD, {"container": "c7", "process": process})["exit_code"] == 125
    host.ok(Code.KILLCONTAINER, {"container": "c7", "signal": 9})


def test_initialize_writes_host_names_and_makes_the_working_directory(host: RawHost) -> None:
    script = "pwd; cat /etc/hostname; cat /etc/hosts; readlink /etc/mtab"
    more = {"initialize": True, "process": {"workdir": "/deep/er"}}
    stdio = host.start_container("c8", "sh", "-c", script, **more)
    hosts = b"127.0.0.1 localhost\n::1 localhost\n127.0.0.1 pod-host\n"
    assert host.finish(stdio) == (0, b"/deep/er\npod-host\n" + hosts + b"/proc/mounts\n", b"")


def guest_says(host: RawHost, script: str) -> str:
    status, out, err = host.run("", "sh", "-c", script)
    assert (status, err) == (0, b"")
    return out.decode()


def test_a_pod_without_a_root_runs_commands_in_the_guest_s_own(host: RawHost) -> None:
    lines = guest_says(host, "ps; hostname; pwd; mount").splitlines()
    assert any(line.split()[0] == "1" and "init" in line for line in lines)
    assert any("kthreadd" in line for line in lines)
    assert {"pod-host", "/"} <= set(lines)
    assert any(line.startswith("share on /run/vc/share type 9p (ro,") for line in lines)


def test_the_guest_s_own_root_has_the_usual_programs(host: RawHost) -> None:
    assert b"init" in host.run("", "ls", "/")[1]
    assert guest_says(host, "id -u; awk 'BEGIN { print 6 * 7 }'") == "0\n42\n"
    process = {"stdio": 5, "stderr": 6, "args": ["nosuch"]}
    assert host.refused(Code.EXECCMD, {"container": "", "process": process})["exit_code"] == 127


def test_a_command_in_the_guest_s_own_root_is_found_there_by_its_number(host: RawHost) -> None:
    assert guest_says(host, "cat /proc/$$/comm; true") == "sh\n"


def test_the_guest_s_own_root_has_terminals_and_orphans_there_are_reaped(host: RawHost) -> None:
    stdio = host.exec("", "sh", "-c", "tty; sleep 0.2 <&- >&- 2>&- & echo $!; exit 3", terminal=True)
    status, out, _ = host.finish(stdio)
    tty, orphan = out.decode().split()
    assert (status, tty) == (3, "/dev/pts/0")
    guest_says(host, f"while test -e /proc/{orphan}; do :; done")


def test_a_process_in_the_guest_s_own_root_may_not_keep_a_container_from_its_number(host: RawHost) -> None:
    """Processes that start afterwards are numbered in the pod again."""
    host.run("", "sh", "-c", "true")
    inside, own = host.run("c1", "sh", "-c", "readlink /proc/self/ns/pid; readlink /proc/1/ns/pid")[1].split()
    assert inside == own
    assert guest_says(host, "readlink /proc/self/ns/pid").strip().encode() != inside
