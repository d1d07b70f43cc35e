"""A plug-in of pytest: the fixtures ``pod`` and ``pod_factory``, and the marker ``needs_vm``.

pytest loads it by itself where vc-core is installed, so nothing but pytest is imported before a test uses it.
``docs/how-to/test-with-pods.md`` shows its use.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vc_core import Pod, PodConfig

__all__ = ["PodFactory"]

#: Lines of a container's log, and of the console, that the report of a failed test shows.
_LAST_LINES = 20

#: Of fixtures, as pytest has them.
_SCOPES = ("function", "class", "module", "package", "session")

_HOW_TO_CONFIGURE = (
    "the fixture 'pod' has no configuration; define the fixture pod_config in conftest.py, or name a pod file in the "
    "setting vc_pod_file of pytest"
)


class PodFactory:
    """What the fixture ``pod_factory`` returns: runs a pod at each call, and deletes all at the end of its scope."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._ids: list[str] = []

    def __call__(self, config: PodConfig | None = None, /, *, timeout: float | None = None, **changes: Any) -> Pod:
        """Run a pod, and return it when its containers have started.

        ``config``: its configuration, by default that of the fixture ``pod_config``. ``changes``: fields of it with
        other values. An id is chosen, also if the configuration has one, unless the changes have one; tests that run
        at the same time have pods of their own. ``timeout``: seconds that the guest may take to get ready, 60 by
        default. Raises as ``vc_core.run_pod``.
        """
        from dataclasses import replace

        import vc_core

        if config is None:
            config = self._request.getfixturevalue("pod_config")
        config = replace(config, **{"id": _new_id(), **changes})
        self._ids.append(config.id)  # before it is made, so that it is deleted whatever happens meanwhile
        return vc_core.run_pod(config, timeout=timeout)

    def last_lines(self) -> Iterator[tuple[str, str]]:
        """Yield, for each pod that there is, titles and texts that show why a test failed. Called for its report."""
        import vc_core

        for pod_id in self._ids:
            try:
                status = vc_core.status_pod(pod_id)
                if status.reason:
                    yield f"pod {pod_id}", f"{status.state}: {status.reason}"
                    yield f"console of pod {pod_id}", _last_lines(b"".join(vc_core.console_pod(pod_id)).splitlines())
                for one in status.containers:
                    code = "" if one.exit_code is None else f", exit code {one.exit_code}"
                    reason = f": {one.reason}" if one.reason else ""
                    lines = vc_core.logs_container(pod_id, one.id, tail=_LAST_LINES)
                    text = _last_lines([line.data for line in lines])
                    yield f"log of container {pod_id}/{one.id}, {one.state}{code}{reason}", text
            except vc_core.PodNotFoundError:
                pass  # it was not made, as the test's own error says, or the test has deleted it
            except vc_core.VCError as error:
                yield f"pod {pod_id}", f"no log can be shown: {error}"

    def delete_all(self) -> None:
        """Delete the pods, whatever their state. Raises the error of the first that could not be deleted."""
        import vc_core

        errors = []
        while self._ids:
            try:
                vc_core.delete_pod(self._ids.pop(), force=True)
            except vc_core.PodNotFoundError:
                pass  # the test has deleted it
            except vc_core.VCError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    return config.getini("vc_pod_scope")


@pytest.fixture(scope="session")
def pod_config(pytestconfig: pytest.Config) -> PodConfig:
    """Return the configuration of the fixture ``pod``: the pod file of ``vc_pod_file``. Define it for another one."""
    import vc_core

    name = pytestconfig.getini("vc_pod_file")
    if not name:
        raise pytest.UsageError(_HOW_TO_CONFIGURE)
    top = pytestconfig.rootpath if pytestconfig.inipath is None else pytestconfig.inipath.parent
    return vc_core.load_pod_config(top / name)


@pytest.fixture(scope=_scope)
def pod_factory(request: pytest.FixtureRequest) -> Iterator[PodFactory]:
    """Return a function that runs a pod; see :class:`PodFactory`. All of them are deleted at the end of the scope.

    It starts as a clone where there is a template of its kind; the first pod of a kind has one made.
    """
    _delete_leftovers(request.config)
    factory = PodFactory(request)
    request.config.stash[_factories].append(factory)
    try:
        yield factory
    finally:
        request.config.stash[_factories].remove(factory)
        factory.delete_all()


@pytest.fixture(scope=_scope)
def pod(pod_factory: PodFactory) -> Pod:
    """Return a running pod of the fixture ``pod_config``."""
    return pod_factory()


#: The factories that have pods now.
_factories = pytest.StashKey[list[PodFactory]]()

#: What keeps the VM of each hypervisor from running here, "" if nothing.
_missing_of = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings."""
    parser.addini("vc_pod_file", "Pod file of the fixture 'pod', relative to this file.", default="")
    parser.addini("vc_pod_scope", "Scope of the fixtures 'pod' and 'pod_factory', as 'module'.", default="function")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and check the settings of which fixtures are made. Raises pytest.UsageError."""
    scope = config.getini("vc_pod_scope")
    if scope not in _SCOPES:
        raise pytest.UsageError(f"the setting vc_pod_scope is {scope!r}; give one of {', '.join(_SCOPES)}")
    config.addinivalue_line(
        "markers", "needs_vm(hypervisor, ...): skip where these hypervisors run no VM; by default that of pods"
    )
    config.stash[_factories] = []
    config.stash[_missing_of] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test with the marker before its fixtures are set up."""
    for marker in item.iter_markers("needs_vm"):
        for name in marker.args or ("",):
            if not isinstance(name, str):
                pytest.fail(f"needs_vm has {name!r}; give names of hypervisors", pytrace=False)
            found = item.config.stash[_missing_of]
            if name not in found:
                found[name] = _missing(name)
            if found[name]:
                pytest.skip(f"no VM can run here: {found[name]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines that the containers wrote to the report of a failed test."""
    report = yield
    if report.failed and report.when != "teardown" and "pod_factory" in getattr(item, "fixturenames", ()):
        for factory in item.config.stash[_factories]:
            report.sections += factory.last_lines()
    return report


def _missing(hypervisor: str) -> str:
    """Return what keeps the VMs of a hypervisor, or of the default one, from running on this host; "" if nothing."""
    from vc_core import PodConfig, VCError
    from vc_core.plugins.registry import Plugins
    from vc_core.store.settings import read_settings

    try:
        name = hypervisor or read_settings().pod.complete(PodConfig()).hypervisor_type
        return "; ".join(Plugins().hypervisor(name).probe())
    except VCError as error:
        return str(error)


def _last_lines(lines: list[bytes]) -> str:
    """Return the last lines that a guest wrote; nothing in them can steer a terminal."""
    from vc_core.text import printable

    shown = (line.decode(errors="surrogateescape").rstrip("\r\n") for line in lines[-_LAST_LINES:])
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in shown) or "(nothing)"


def _new_id() -> str:
    """Return an id for a pod of this process, by which a later session finds what a killed one has left."""
    import uuid

    return f"{_mark(os.getpid())}-{uuid.uuid4().hex[:8]}"


def _mark(pid: int) -> str | None:
    """Return how the ids of a process' pods begin, None if there is no such process; a pid alone is used again."""
    from vc_core.driver.process import ProcessIdentity

    found = ProcessIdentity.of(pid)
    return None if found is None else f"pytest-{pid}-{found.start_time}"


#: Set once a session has looked for what others have left.
_has_looked = pytest.StashKey[bool]()


def _delete_leftovers(config: pytest.Config) -> None:
    """Delete the pods of sessions that were killed, before a session makes its first pod."""
    if config.stash.setdefault(_has_looked, False):
        return
    config.stash[_has_looked] = True
    import re

    import vc_core

    for one in vc_core.list_pods():
        made = re.fullmatch(r"(pytest-(\d+)-\d+)-[0-9a-f]{8}", one.id)
        if made and _mark(int(made[2])) != made[1]:
            with suppress(vc_core.PodNotFoundError):  # another session does the same
                vc_core.delete_pod(one.id, force=True)
