"""A plug-in that was loaded, and the errors that name it."""

from __future__ import annotations

from functools import lru_cache

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError, VCError
from vc_core.frozen import frozen
from vc_core.plugins.quoting import one_line
from vc_core.plugins.running_call import Call

#: Part of the error for an entry point that does not name a class: the first mistake of most authors of plug-ins.
NOT_A_CLASS_MESSAGE = "an entry point names a class without required arguments"


@frozen
class LoadedPlugin:
    """A plug-in object and the distribution that supplied it, "" for one that the program added."""

    kind: PluginKind
    name: str
    distribution: str
    version: str
    obj: object

    # Each is equal to itself alone.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __str__(self) -> str:
        origin = f"of {self.distribution} {self.version}" if self.distribution else "added by the program"
        return f"{self.kind.noun} {self.name!r} {origin}"

    def call(self, method: str) -> Call:
        """Return a call of this plug-in's hook or method, for the record of what is executed."""
        return _call(self, method)

    def contract_error(self, clause: str) -> DriverContractError:
        """Return the error whose sentence is this plug-in and ``clause``, such as "wraps vc_driver_probe"."""
        return DriverContractError(f"{self} {clause}", kind=self.kind, name=self.name)

    def raised(self, error: BaseException, where: str) -> DriverContractError:
        """Return the error for an exception that no plug-in may raise; ``where``: its hook or method."""
        raised = one_line(error)
        if isinstance(error, VCError) and raised == type(error).__name__:
            return self.contract_error(f"raised {raised} from {where} without a text, which says what is wrong")
        if isinstance(error, NotImplementedError) and str(error):
            return self.contract_error(f"lacks {raised.partition(': ')[2]}")
        return self.contract_error(f"raised {raised} from {where}; plug-ins may raise only VCErrors")


@lru_cache(1024)
def _call(plugin: LoadedPlugin, method: str) -> Call:
    return Call(plugin.kind, plugin.name, str(plugin), method)
