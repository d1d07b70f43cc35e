"""For tests: a fake of the guest, good or misbehaving, and the contract of an agent that speaks the protocol.

Subclass :class:`HyperstartContract` in a test module of your own, and pytest runs the contract against the fake. Needs
the extra ``vc-agent-hyperstart[testing]``.
"""

import pytest

pytest.register_assert_rewrite("vc_agent_hyperstart.testing.contract")

from vc_agent_hyperstart.testing.contract import (  # noqa: E402 - its asserts are only rewritten when asked for before
    HyperstartContract,
)

__all__ = ["HyperstartContract"]
