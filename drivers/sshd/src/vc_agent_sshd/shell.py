"""Builds lines for the guest's shell, in which every word arrives byte for byte."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files

from vc_core.driver import Cmd, Confinement, GuestContainer, GuestNetwork, Spawner, SpawnTarget
from vc_core.errors import ConfigError, NotSupportedError

#: Most bytes of a line: sshd passes it to the shell as one argument (MAX_ARG_STRLEN of Linux, 32 pages).
LINE_MAX = 128 * 1024 - 1

#: The variable PATH of a command that sets none.
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Files that :func:`setup` writes into the guest.
SCRIPTS = ("containers.sh", "launch.sh")

#: Where a guest of the pod's own does what :func:`setup` does, when it boots (init.sh).
_MADE = "/run/vc-sshd/.made"

#: Runs launch.sh in a container, with the shell and the libraries that are mounted there.
_LAUNCH = ("/dev/vc/ld.so", "--library-path", "/dev/vc", "/dev/vc/sh", "/dev/vc/launch.sh")

#: Prints the pid of its shell, then runs the words in a directory and exits with their exit code. They run below that
#: shell, so that death by any signal becomes 128 + its number; the shell's own message about it is dropped. They run in
#: a subshell, because busybox redirects a plain command in the shell itself, which would then write that message there.
#: The subshell prints the pid ($$ is that of the shell), so that a signal sent then finds what it is for.
_FURTHER = """\
cd -- "$1" || { echo $$; exit 125; }
shift
exec 4>&2 2>/dev/null
(echo $$; exec 2>&4 4>&-; exec "$@")
exit $?"""

#: Variables of the user in the guest, as sshd sets them.
_OWN = """HOME="$HOME" USER="$USER" ${SSH_TTY:+"TERM=$TERM"}"""


def line(argv: Sequence[str]) -> str:
    """Return words quoted as one line. Raises ConfigError if it is longer than :data:`LINE_MAX`."""
    return _checked(shlex.join(argv))


def in_guest(cmd: Cmd, tools: str) -> str:
    """Return the line that runs a command in the guest itself. ``tools``: the guest's directory with launch.sh.

    Raises ConfigError, NotSupportedError.
    """
    variables = _variables(cmd)
    if cmd.user or cmd.group or cmd.additional_groups:
        words = shlex.join(["sh", f"{tools}/launch.sh", *launch(cmd, None), *variables, *_program(cmd)])
    else:
        words = f"env -i {_OWN} {shlex.join([*variables, *_program(cmd)])}"
    return _further(cmd.work_dir, words)


def in_container(spawner: Spawner, target: SpawnTarget, cmd: Cmd, confinement: Confinement, group: str) -> str:
    """Return the line that runs a command in a container. ``group``: its cgroup, "" if it has none.

    Raises ConfigError, NotSupportedError.
    """
    words = [*_LAUNCH, *launch(cmd, confinement), *_variables(cmd), *_program(cmd)]
    join = f"echo 0 >{shlex.quote(group)}/cgroup.procs || exit 125\n" if group else ""
    return _further("/", shlex.join(spawner.wrap(words, target)), join)


def launch(cmd: Cmd, confinement: Confinement | None) -> list[str]:
    """Return the first arguments of launch.sh; without ``confinement`` capabilities and limits stay as they are.

    Raises ConfigError.
    """
    for name in cmd.additional_groups:
        if not name or set(name) & set(" ,"):
            raise ConfigError(f"additional group {name!r} is no name of a group")
    capabilities, no_new_privs, limits = "", "no", ""
    if confinement is not None:
        names = (f"+{name.removeprefix('CAP_').lower()}" for name in confinement.capabilities)
        capabilities = ",".join(("-all", *names))
        no_new_privs = "yes" if confinement.no_new_privs else "no"
        limits = " ".join(f"--{one.name}={_value(one.soft)}:{_value(one.hard)}" for one in confinement.rlimits)
    groups = " ".join(cmd.additional_groups)
    return ["", cmd.work_dir or "/", cmd.user, cmd.group, groups, capabilities, no_new_privs, limits]


def run_container(
    home: str, hostname: str, container: GuestContainer, root: str, mounts: Sequence[str], spec: str, has_input: bool
) -> str:
    """Return the line that starts a container. ``mounts``: source, target and access of each, one after the other.

    Raises ConfigError, NotSupportedError.
    """
    limits = container.confinement
    size = f"{limits.overlay_size}M" if limits.overlay_size else "50%"
    if container.writable_root_fs:
        size = "none"
    memory = str(limits.memory << 20) if limits.memory else ""
    words = [
        *("run", container.id, _yes(container.terminal is not None), _yes(has_input), spec),
        *(hostname, root, size, _yes(limits.read_only), memory, str(limits.pids or "")),
        *(str(len(mounts) // 3), *mounts),
        *launch(container.cmd, limits)[1:],
        *_variables(container.cmd),
        *_program(container.cmd),
    ]
    return line(["sh", f"{home}/containers.sh", *words])


def setup(home: str) -> str:
    """Return the line that writes the scripts into a given server."""
    q = shlex.quote
    scripts = {name: (files(__package__) / "guest" / name).read_text(encoding="utf-8") for name in SCRIPTS}
    steps = [
        # What a pod of this name has left that was never stopped.
        f"if [ -e {q(home)}/containers.sh ]; then sh {q(home)}/containers.sh remove_all; fi",
        f"umask 077; mkdir -p {q(home)}/tools",
        f"printf %s {q(scripts['containers.sh'])} >{q(home)}/containers.sh",
        f"printf %s {q(scripts['launch.sh'])} >{q(home)}/tools/launch.sh",
        f"exec sh {q(home)}/containers.sh setup",
    ]
    return "\n".join(steps)


def configure(hostname: str, network: GuestNetwork | None, home: str) -> str:
    """Return the line that sets the name of a guest of the pod's own, its network, and its containers' name servers."""
    q = shlex.quote
    steps = ["set -e", f"[ -e {q(home)} ] || mv {_MADE} {q(home)}", f"echo {q(hostname)} >/proc/sys/kernel/hostname"]
    config = network or GuestNetwork()
    for one in config.interfaces:
        mac, size = (["address", one.mac] if one.mac else []), (["mtu", str(one.mtu)] if one.mtu else [])
        steps.append(shlex.join(["ip", "link", "set", "dev", one.device, *mac, *size, "up"]))
        steps += [shlex.join(["ip", "address", "replace", address, "dev", one.device]) for address in one.addresses]
    for route in config.routes:
        by = ["via", route.gateway] if route.gateway else []
        steps.append(shlex.join(["ip", "route", "add", route.destination, *by, "dev", route.device]))
    if addresses := [address.partition("/")[0] for one in config.interfaces for address in one.addresses]:
        steps.append(f"printf '%s\\n' {shlex.join(addresses)} >{q(home)}/addresses")
    if config.dns:
        servers = "".join(f"nameserver {address}\n" for address in config.dns)
        steps.append(f"printf %s {q(servers)} | tee /etc/resolv.conf >{q(home)}/resolv.conf")
    return "\n".join(steps)


def _further(work_dir: str, words: str, before: str = "") -> str:
    return _checked(f"set -- {shlex.quote(work_dir or '/')} {words}\n{before}{_FURTHER}")


def _checked(text: str) -> str:
    if (size := len(text.encode())) > LINE_MAX:
        raise ConfigError(
            f"the command has {size} bytes when quoted for the guest's shell; {LINE_MAX} at most: "
            "pass large data on stdin"
        )
    return text


def _program(cmd: Cmd) -> Sequence[str]:
    if not cmd.args or not cmd.args[0]:
        raise ConfigError("the command has no args; name a program")
    if "=" in cmd.args[0]:
        raise NotSupportedError(f"the program {cmd.args[0]!r} has an equals sign in its name; call it by another")
    return cmd.args


def _variables(cmd: Cmd) -> list[str]:
    path = [] if any(one.var == "PATH" for one in cmd.envs) else [_PATH]
    return [*path, *map(str, cmd.envs)]


def _value(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
