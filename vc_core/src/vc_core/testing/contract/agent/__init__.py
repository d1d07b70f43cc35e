"""The contract of agents, put together from its parts."""

from vc_core.testing.contract.agent.base import HOSTNAME, IN_TIME, RunningGuest, StartGuest
from vc_core.testing.contract.agent.commands import CommandRuns
from vc_core.testing.contract.agent.confinement import Confinements
from vc_core.testing.contract.agent.connection import Connection
from vc_core.testing.contract.agent.containers import Containers
from vc_core.testing.contract.agent.copies import Copies
from vc_core.testing.contract.agent.engine_needs import EngineNeeds
from vc_core.testing.contract.agent.environment import Environment
from vc_core.testing.contract.agent.probes import DATA, MUCH, NUMBERS, Commands
from vc_core.testing.contract.agent.streams import Streams
from vc_core.testing.contract.agent.take_over import TakeOver
from vc_core.testing.contract.agent.terminals import Terminals


class AgentContract(
    Connection, Containers, CommandRuns, Streams, Copies, Environment, Terminals, Confinements, EngineNeeds, TakeOver
):
    """Subclass this for an agent, set ``driver_name``, and override the fixture ``guest``.

    ``commands`` are the commands that the containers of that guest run; ``root_fs`` is the path of the containers' root
    below the shared directory. That root has the users and groups of ``vc_core.testing.rootfs``.
    """


__all__ = [
    "DATA",
    "HOSTNAME",
    "IN_TIME",
    "MUCH",
    "NUMBERS",
    "AgentContract",
    "Commands",
    "RunningGuest",
    "StartGuest",
]
