"""A plug-in that was loaded, and the errors that name it."""

from __future__ import annotations

from dataclasses import dataclass

from vc_core.driver.kinds import PluginKind
from vc_core.errors import DriverContractError
from vc_core.plugins.quoting import one_line


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPlugin:
    """A plug-in object and the distribution that supplied it, "" for one that the program added."""

    kind: PluginKind
    name: str
    distribution: str
    version: str
    obj: object

    def __str__(self) -> str:
        origin = f"of {self.distribution} {self.version}" if self.distribution else "added by the program"
        return f"{self.kind.noun} {self.name!r} {origin}"

    def contract_error(self, clause: str) -> DriverContractError:
        """Return the error whose sentence is this plug-in and ``clause``, such as "wraps vc_driver_probe"."""
        return DriverContractError(f"{self} {clause}", kind=self.kind, name=self.name)

    def raised(self, error: BaseException, where: str) -> DriverContractError:
        """Return the error for an exception that no plug-in may raise; ``where``: its hook or method."""
        if isinstance(error, NotImplementedError) and str(error):
            return self.contract_error(f"lacks {one_line(error).partition(': ')[2]}")
        return self.contract_error(f"raised {one_line(error)} from {where}; plug-ins may raise only VCErrors")
