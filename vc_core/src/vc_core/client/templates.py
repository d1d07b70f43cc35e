"""The operations of the API that act on templates; each written once, for both interpreters."""

from __future__ import annotations

from vc_core.client.coroutines import run_coroutine
from vc_core.client.interpreters import InThread, Operation
from vc_core.config.fields import check_type
from vc_core.config.pod import PodConfig
from vc_core.driver.guest import Progress
from vc_core.engine import templates
from vc_core.plugins.registry import Plugins
from vc_core.results import TemplateStatus
from vc_core.store.roots import Roots
from vc_core.store.settings import read_settings
from vc_core.store.templates import Templates


def create_template(config: PodConfig, progress: Progress | None = None) -> Operation[TemplateStatus]:
    """Make the template for pods with a configuration afresh. ``progress`` is called in the caller's thread.

    Raises NotSupportedError, BusyError, ConfigError, StorageError, DriverError, GuestError, HypervisorError,
    AgentError.
    """
    check_type("config", config, PodConfig)
    roots = Roots.from_environment()
    config = read_settings(roots.environment).pod.complete(config)
    return (yield from run_coroutine(lambda note: templates.make(Plugins(), config, roots, note), progress))


def list_templates() -> Operation[list[TemplateStatus]]:
    """Return all templates, the one that was used last at the end. Raises StorageError."""
    found: list[TemplateStatus] = yield InThread(lambda: Templates(Roots.from_environment().cache).list())
    return found


def delete_template(kind: str) -> Operation[None]:
    """Delete a template; its clones run on. Raises TemplateNotFoundError, StorageError."""

    def work() -> None:
        store = Templates(Roots.from_environment().cache)
        store.sweep(templates.end_leftovers)
        store.remove(kind)

    yield InThread(work)
