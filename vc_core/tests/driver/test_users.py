"""Which user of the host a process belongs to, in user namespaces as podman and containers have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from plain_user import PlainUser
from vc_core.driver import host_user

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.needs("user namespaces", "mount namespaces")]

SHOW = """
import os, sys
from pathlib import Path
from vc_core.driver import host_user
from vc_core.driver.users import root_owner
from vc_core.store.roots import Roots
Roots.from_environment()
if len(sys.argv) > 1:
    os.chroot(sys.argv[1])
roots = Roots.from_environment()
print(os.geteuid(), host_user(), root_owner(), roots.state, roots.run)
"""


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with TemporaryDirectory(prefix="users-", dir="/var/tmp") as place:
        yield PlainUser(Path(place), uid=54323)


def shown(user: PlainUser, *root: str) -> list[str]:
    """Return what a process says that has the id 0 in a user namespace of a user; ``root``: its root directory."""
    script = f'{f"mkdir -p {root[0]}/proc; mount --rbind /proc {root[0]}/proc; " if root else ""}exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return user.run(*unshare, "python", "-c", SHOW, *root).stdout.split()


def test_a_user_who_has_the_id_0_in_a_user_namespace_is_that_user_and_has_the_users_directories(
    user: PlainUser,
) -> None:
    overflow = Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii").strip()
    state, run = user.home / ".local/state/virtcontainers", user.runtime / "virtcontainers"
    assert shown(user) == ["0", str(user.uid), overflow, str(state), str(run)]


def test_root_of_a_system_in_a_user_namespace_is_root(user: PlainUser) -> None:
    assert shown(user, str(user.home)) == ["0", "0", "0", "/var/lib/virtcontainers", "/run/virtcontainers"]


def test_root_of_the_host_is_root() -> None:
    assert host_user() == 0
