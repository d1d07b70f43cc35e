"""The directories of state, run-time files and built guests."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from vc_core.driver.users import host_user
from vc_core.errors import ConfigError, StorageError
from vc_core.frozen import frozen

#: Moves both roots (to its sub-directories ``state`` and ``run``), for tests and for separate sets of pods on one host.
ROOT_VARIABLE = "VIRTCONTAINERS_ROOT"

#: Moves the cache of built guests, which several roots can share.
CACHE_VARIABLE = "VIRTCONTAINERS_CACHE"

#: With the value "off" no pod starts from a template, and none is made behind pods. With "existing" none is made behind
#: pods, but those that exist are used.
TEMPLATES_VARIABLE = "VIRTCONTAINERS_TEMPLATES"

_APPLICATION = "virtcontainers"

#: Where logind makes a directory for each user who is logged in, named by the user id.
SESSIONS = Path("/run/user")


@frozen
class Roots:
    """The state root (survives a reboot), the run root (need not) and the cache of built guests.

    ``environment``: the process' environment when they were determined. The processes that an operation starts get it,
    so that they use the same roots, whatever a plug-in changes in the process' own.
    """

    state: Path
    run: Path
    cache: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), compare=False, repr=False)

    @classmethod
    def from_environment(cls) -> Roots:
        """Return the roots of this user and environment, or those that :func:`fix_roots` has fixed.

        Called at the start of every operation.
        Raises StorageError for a root whose name is not UTF-8: records are JSON, and hold names of files below it.
        """
        if _fixed is not None:
            return _fixed
        moved, cache = os.environ.get(ROOT_VARIABLE), os.environ.get(CACHE_VARIABLE)
        if (user := host_user()) == 0:
            state, run, default_cache = (Path(top, _APPLICATION) for top in ("/var/lib", "/run", "/var/cache"))
        else:
            import platformdirs

            state = platformdirs.user_state_path(_APPLICATION)
            runtime = _runtime_dir(os.environ.get("XDG_RUNTIME_DIR"), user)
            run = runtime / _APPLICATION if runtime else state / "run"
            default_cache = platformdirs.user_cache_path(_APPLICATION)
        if moved:
            state, run = Path(moved).absolute() / "state", Path(moved).absolute() / "run"
        roots = cls(state, run, Path(cache).absolute() if cache else default_cache)
        for path in (roots.state, roots.run, roots.cache):
            try:
                str(path).encode()
            except UnicodeEncodeError as error:
                raise StorageError(
                    f"the name of directory {str(path)!r} is not UTF-8; set {ROOT_VARIABLE} or {CACHE_VARIABLE}"
                ) from error
        return roots

    @property
    def use_templates(self) -> bool:
        """Whether pods may start from templates. Raises ConfigError."""
        return self._templates != "off"

    @property
    def make_templates(self) -> bool:
        """Whether the template that a pod could have started from is made behind it. Raises ConfigError."""
        return not self._templates

    @property
    def _templates(self) -> str:
        value = self.environment.get(TEMPLATES_VARIABLE, "")
        if value not in ("", "off", "existing"):
            raise ConfigError(f"{TEMPLATES_VARIABLE} is {value!r}; give off or existing, or leave it empty")
        return value

    def pod_state_dir(self, pod_id: str) -> Path:
        """Return the directory that holds a pod's record and logs."""
        return self.state.joinpath("pods", pod_id)  # a list of pods calls this for each

    def pod_lock(self, pod_id: str) -> Path:
        """Return the file of a pod's lock, in a directory of its own."""
        return self.state / "locks" / f"{pod_id}.lock"

    def pod_run_dir(self, pod_id: str) -> Path:
        """Return the directory that holds a pod's sockets and mount points."""
        return self.run.joinpath("pods", pod_id)


def _runtime_dir(given: str | None, uid: int) -> Path | None:
    """Return the directory for run-time files of a plain user, None if there is none.

    A process outside of a login session (cron, su) lacks the variable; it gets the directory that a session would have
    (pam_systemd(8)), if there is one, so that it finds the pods of the session. No directory is guessed where other
    users write, such as /tmp.
    """
    if given and Path(given).is_absolute():  # a relative one is to be ignored (XDG Base Directory Specification)
        return Path(given)
    usual = SESSIONS / str(uid)
    try:
        status = usual.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return usual if private else None


#: The roots of this process, once they are fixed.
_fixed: Roots | None = None


def fix_roots() -> None:
    """Let this process use the roots that it has now, whatever a plug-in changes in its environment later.

    Called by virtc before it loads a plug-in. Where the roots are not valid, the first operation raises the error.
    """
    global _fixed
    with suppress(StorageError):
        _fixed = Roots.from_environment()


def private_directory(path: Path, variable: str = ROOT_VARIABLE) -> Path:
    """Make a directory that only its owner can enter, or check that an existing one is safe; return it.

    Called for the roots and the directories directly below them, before anything is written there. ``variable``: the
    environment variable that moves it, for errors.
    Raises StorageError if it cannot be made, is a link, belongs to another user or is writable by others.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise StorageError(
            f"directory {str(path)!r} cannot be made: {error.strerror}; make it writable or set {variable}"
        ) from error
    require_private(path, status, variable)
    return path


def require_private(path: Path, status: os.stat_result, variable: str = ROOT_VARIABLE) -> None:
    """Refuse an existing directory that others could have made or can write to; ``status``: of it, links not followed.

    Raises StorageError.
    """
    if not stat.S_ISDIR(status.st_mode):
        raise StorageError(f"{str(path)!r} is not a directory; move it away or set {variable}")
    if status.st_uid != os.geteuid():
        raise StorageError(f"directory {str(path)!r} belongs to user {status.st_uid}; set {variable} to one of yours")
    if status.st_mode & 0o022:
        raise StorageError(f"directory {str(path)!r} is writable by others; run: chmod 700 {path}")


def guests_below(cache: Path) -> Path:
    """Return the path of the directory of built guests below a cache; it need not exist."""
    return cache / "guests"


def guest_cache(cache: Path) -> Path:
    """Return the directory of built guests below a cache, both made or checked as by :func:`private_directory`.

    Called before a guest driver looks for a guest, or builds one: who can write there can run code in every guest.
    """
    return private_directory(guests_below(private_directory(cache, CACHE_VARIABLE)), CACHE_VARIABLE)
