"""The command line of ``vc-runtime``: that of runc, as engines call it.

Engines wait for each verb, and loading modules is most of what one takes: each loads its own when it is called.
"""

from __future__ import annotations

import argparse
import atexit
import os
import pwd
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vc_core import VCError, __version__
from vc_core.driver import host_user
from vc_runtime import spec
from vc_runtime.calls import Call
from vc_runtime.faults import Log, RuntimeFault
from vc_runtime.records import Root

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

#: Where the attendant of a shim leaves its socket.
_ATTENDANT_FD = 3

#: Columns of help.
_WIDTH = 78


def main(arguments: list[str] | None = None) -> int:
    """Perform one verb; return the exit code of the command, which is also that of ``run`` and ``exec``.

    Without ``arguments`` those of this process are taken, which ends in the place of a return.
    """
    if arguments is None:
        _open_standard_descriptors()
        _leave(_perform(sys.argv[1:]))
    return _perform(arguments)


def _perform(arguments: Sequence[str]) -> int:
    _complete_environment()
    try:
        given = _parser(arguments).parse_args(arguments)
    except RuntimeFault as error:
        Log(None, "text").error(str(error))
        return 1
    log = Log(given.log, given.log_format)
    try:
        return int(given.perform(_call(given, log), given) or 0)
    except (RuntimeFault, VCError) as error:
        log.error(str(error))
    except OSError as error:
        log.error(f"{error.filename or 'the host'}: {error.strerror}")
    except KeyboardInterrupt:  # after the verb has undone what it had begun
        return 128 + signal.SIGINT
    return 1


def _leave(code: int) -> NoReturn:
    """End this process, for which an engine waits: the kernel frees its memory faster than the interpreter would."""
    if threads := sys.modules.get("threading"):
        for one in threads.enumerate():
            if one is not threads.main_thread() and not one.daemon:
                one.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # its reader has gone, or no stream is open
            stream.flush()
    os._exit(code)


def _call(given: argparse.Namespace, log: Log) -> Call:
    options = ["--root", str(given.root.absolute())]
    if given.log is not None:
        options += ["--log", str(given.log.absolute()), "--log-format", given.log_format]
    return Call(Root(given.root), log, tuple(options))


def _open_standard_descriptors() -> None:
    """Open the null device in the place of a closed standard descriptor, whose number another file would get.

    A shim started then would have that file as a standard stream, and the verb would wait for it for ever.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # gets the lowest number that is free
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _complete_environment() -> None:
    """Give a plain user's process the home directory that podman leaves out for most verbs; pods are below it."""
    if "HOME" not in os.environ and (user := host_user()) != 0:
        with suppress(KeyError):
            os.environ["HOME"] = pwd.getpwuid(user).pw_dir


def _default_root() -> Path:
    user = host_user()
    runtime = "/run" if user == 0 else os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{user}")
    return Path(runtime, "vc-runtime")


class _Help(argparse.HelpFormatter):
    """Formats help for a width that needs no look at a terminal, for which argparse loads several libraries."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)


class _Parser(argparse.ArgumentParser):
    """Reports help that cannot be written: argparse ignores that."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help on standard output. Raises RuntimeFault."""
        _print_line(self.format_help().removesuffix("\n"))


class _Version(argparse.Action):
    """Prints the version, as argparse's own action, but reports when it cannot be written."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it, and end this process. Raises RuntimeFault."""
        _print_line(f"vc-runtime version {__version__}\nspec: {spec.VERSION}")
        parser.exit()


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line: with its verb alone, or with all if that is not found."""
    text = "Runs containers in virtual machines."
    parser = _Parser(prog="vc-runtime", description=text, formatter_class=_Help)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    parser.add_argument("--root", type=Path, default=_default_root(), help="directory of the containers' records")
    parser.add_argument("--log", type=Path, help="file for errors, and for what is left out")
    parser.add_argument("--log-format", choices=["text", "json"], default="text")
    for name in ("--debug", "--systemd-cgroup"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    for name in ("--criu", "--rootless"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    of = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=parser.prog)
    verbs = _verbs()
    given = _verb(arguments)
    for name in [given] if given in verbs else verbs:
        perform, text, add = verbs[name]
        # The help of the command lists a verb that has any help.
        shown: dict[str, Any] = {} if text is argparse.SUPPRESS else {"help": text}
        one = of.add_parser(name, description=text, formatter_class=_Help, **shown)
        one.set_defaults(perform=perform)
        add(one)
    return parser


def _verb(arguments: Sequence[str]) -> str:
    """Return the verb of a command line, or the option before it that no engine gives; "" if it ends before a verb."""
    words = iter(arguments)
    for word in words:
        if word in ("--root", "--log", "--log-format", "--criu", "--rootless"):
            next(words, "")
        elif word not in ("--debug", "--systemd-cgroup"):
            return word
    return ""


def _verbs() -> dict[str, tuple[Callable[..., int | None], str, Callable[[argparse.ArgumentParser], None]]]:
    """Return for each verb the function that performs it, what it does, and what adds its arguments."""
    return {
        "create": (_create, "make a container of a bundle", _add_bundle),
        "run": (_run, "make a container of a bundle, start it, and wait for its end", _add_bundle),
        "start": (_start, "start a container that was created", _add_id),
        "state": (_state, "print the state of a container", _add_id),
        "kill": (_kill, "send a signal to a container", _add_kill),
        "delete": (_delete, "delete a container", _add_delete),
        "exec": (_exec, "run a command in a container", _add_exec),
        "list": (_list, "print all containers", _add_list),
        "ps": (_ps, "print the processes that stand for a container", _add_ps),
        "pause": (_pause, "suspend the processes of a container", _add_id),
        "resume": (_resume, "let the processes of a paused container go on", _add_id),
        "update": (_update, "change the limits of a container", _add_update),
        "events": (_events, "print what a container uses", _add_events),
        "attend": (_attend, argparse.SUPPRESS, _add_id),
        "checkpoint": (_refuse, "not possible", _add_rest),
        "restore": (_refuse, "not possible", _add_rest),
        "spec": (_spec, "write a config.json", _add_spec),
        "features": (_features, "print what this runtime supports", _add_nothing),
    }


def _add_nothing(one: argparse.ArgumentParser) -> None:
    pass


def _add_id(one: argparse.ArgumentParser) -> None:
    one.add_argument("id", help="the container")


def _add_rest(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("rest", nargs=argparse.REMAINDER)


def _add_process(one: argparse.ArgumentParser) -> None:
    """Add what ``create``, ``run`` and ``exec`` have for the process that they start."""
    _add_id(one)
    one.add_argument("--pid-file", type=Path)
    one.add_argument("--console-socket", default="")
    one.add_argument("--preserve-fds", type=int, default=0)
    one.add_argument("-d", "--detach", action="store_true")


def _add_bundle(one: argparse.ArgumentParser) -> None:
    _add_process(one)
    one.add_argument("-b", "--bundle", type=Path, default=Path())
    one.add_argument("--no-pivot", action="store_true", help=argparse.SUPPRESS)
    one.add_argument("--no-new-keyring", action="store_true", help=argparse.SUPPRESS)


def _add_kill(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("signal", nargs="?", default="SIGTERM")
    one.add_argument("-a", "--all", action="store_true")


def _add_delete(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("-f", "--force", action="store_true")


def _add_exec(one: argparse.ArgumentParser) -> None:
    _add_process(one)
    one.add_argument("-p", "--process", type=Path)
    one.add_argument("-t", "--tty", action="store_true")
    one.add_argument("-e", "--env", action="append", default=[])
    one.add_argument("--cwd", default="")
    one.add_argument("-u", "--user", default="")
    one.add_argument("--no-new-privs", action="store_true", help=argparse.SUPPRESS)
    one.add_argument("--cgroup", help=argparse.SUPPRESS)
    one.add_argument("args", nargs=argparse.REMAINDER)


def _add_list(one: argparse.ArgumentParser) -> None:
    one.add_argument("-f", "--format", choices=["table", "json"], default="table")
    one.add_argument("-q", "--quiet", action="store_true")


def _add_ps(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("-f", "--format", choices=["table", "json"], default="table")
    one.add_argument("args", nargs=argparse.REMAINDER)


def _add_update(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("-r", "--resources", default="", help="file with linux.resources; - for standard input")
    one.add_argument("--memory", type=int, help="bytes")
    one.add_argument("--pids-limit", type=int)
    one.add_argument("--cpu-quota", type=int, help="microseconds")
    one.add_argument("--cpu-period", type=int, help="microseconds")
    for name in (
        "--cpu-share",
        "--cpu-shares",
        "--memory-swap",
        "--memory-reservation",
        "--blkio-weight",
        "--cpuset-cpus",
    ):
        one.add_argument(name, help=argparse.SUPPRESS)  # without an effect


def _add_events(one: argparse.ArgumentParser) -> None:
    _add_id(one)
    one.add_argument("--stats", action="store_true")
    one.add_argument("--interval", default="5s")


def _add_spec(one: argparse.ArgumentParser) -> None:
    one.add_argument("-b", "--bundle", type=Path, default=Path())


def _create(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import creation

    _no_descriptors(given)
    creation.create(call, given.id, given.bundle, given.pid_file, given.console_socket)


def _run(call: Call, given: argparse.Namespace) -> int:
    from vc_runtime import creation

    _no_descriptors(given)
    return creation.run(call, given.id, given.bundle, given.pid_file, given.console_socket, given.detach)


def _no_descriptors(given: argparse.Namespace) -> None:
    if given.preserve_fds:
        raise RuntimeFault("--preserve-fds is not possible: a descriptor of the host cannot be in a virtual machine")


def _start(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import creation

    creation.start(call, given.id)


def _state(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    _print(verbs.state(call, given.id))


def _kill(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    verbs.kill(call, given.id, _signal(given.signal), given.all)


def _signal(text: str) -> int:
    if text.isdecimal() and 0 <= int(text) <= 64:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals[name].value
    except KeyError:
        raise RuntimeFault(f"signal {text!r} does not exist; give a name such as TERM, or a number") from None


def _delete(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import deletion

    deletion.delete(call, given.id, given.force)


def _exec(call: Call, given: argparse.Namespace) -> int:
    from vc_runtime import commands

    _no_descriptors(given)
    if given.process is not None:
        process = spec.read(given.process, spec.Process)
    else:
        process = commands.process_of(call, given.id)
        process.args = [one for index, one in enumerate(given.args) if index or one != "--"]
        process.env += given.env
        process.cwd = given.cwd or process.cwd
        if given.user:
            process.user = _user(given.user)
    process.terminal = process.terminal or given.tty
    return commands.exec_(call, given.id, process, given.pid_file, given.console_socket, given.detach)


def _user(text: str) -> spec.User:
    numbers = text.split(":")
    if len(numbers) > 2 or not all(one.isdecimal() for one in numbers):
        raise RuntimeFault(f"user {text!r} is not valid; give UID or UID:GID")
    return spec.User(uid=int(numbers[0]), gid=int(numbers[-1]) if len(numbers) == 2 else 0)


def _list(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    found = verbs.list_(call)
    if given.quiet:
        for one in found:
            _print_line(one["id"])
    elif given.format == "json":
        _print(found)
    else:
        _print_line(f"{'ID':<32} {'PID':<8} {'STATUS':<8} BUNDLE")
        for one in found:
            _print_line(f"{one['id']:<32} {one['pid']:<8} {one['status']:<8} {one['bundle']}")


def _ps(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    pids = verbs.ps(call, given.id)
    if given.format == "json":
        _print(pids)
    else:
        _print_line("PID")
        for pid in pids:
            _print_line(str(pid))


def _pause(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    verbs.pause(call, given.id)


def _resume(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    verbs.resume(call, given.id)


def _update(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    if given.resources:
        if given.resources == "-":
            resources = spec.parse(sys.stdin.buffer.read(), spec.Resources, "the standard input")
        else:
            resources = spec.read(Path(given.resources), spec.Resources)
    else:
        resources = spec.Resources(
            memory=spec.Memory(limit=given.memory),
            cpu=spec.Cpu(quota=given.cpu_quota, period=given.cpu_period),
            pids=None if given.pids_limit is None else spec.Pids(limit=given.pids_limit),
        )
    verbs.update(call, given.id, resources)


def _events(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    if not given.stats:
        raise RuntimeFault("events without --stats is not supported; give --stats")
    _print(verbs.stats(call, given.id))


def _attend(call: Call, given: argparse.Namespace) -> None:
    import socket

    from vc_runtime import attendance

    try:
        sock = socket.socket(fileno=_ATTENDANT_FD)
    except OSError:  # the shim has ended
        return attendance.ended(call, given.id)
    with sock:
        return attendance.attend(call, given.id, sock)


def _refuse(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import verbs

    verbs.refuse(given.verb)


def _spec(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import documents

    path = given.bundle / "config.json"
    if path.exists():
        raise RuntimeFault(f"{path} exists; remove it first")
    import json

    path.write_text(json.dumps(documents.SPEC, indent=4) + "\n", encoding="utf-8")


def _features(call: Call, given: argparse.Namespace) -> None:
    from vc_runtime import documents

    _print(documents.FEATURES)


def _print(value: Any) -> None:
    import json  # here, because most verbs print nothing

    _print_line(json.dumps(value))


def _print_line(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # what it has kept is not written as the interpreter ends
        raise RuntimeFault(f"the standard output cannot be written: {error.strerror}") from error


if __name__ == "__main__":  # as attendants that an earlier version has started run it
    sys.exit(main())
