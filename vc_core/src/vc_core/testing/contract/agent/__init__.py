"""The contract of agents, put together from its parts."""

from vc_core.testing.contract.agent.base import IN_TIME, MUCH, Commands, RunningGuest, StartGuest
from vc_core.testing.contract.agent.commands import CommandRuns
from vc_core.testing.contract.agent.connection import Connection
from vc_core.testing.contract.agent.containers import Containers
from vc_core.testing.contract.agent.take_over import TakeOver


class AgentContract(Connection, Containers, CommandRuns, TakeOver):
    """Subclass this for an agent, set ``driver_name``, and override the fixture ``guest``.

    ``commands`` are the commands that the containers of that guest run; ``root_fs`` is the path of the containers' root
    below the shared directory.
    """


__all__ = ["IN_TIME", "MUCH", "AgentContract", "Commands", "RunningGuest", "StartGuest"]
