"""For tests: a fake guest, and the contract of an agent that speaks the hyperstart protocol.

Subclass :class:`HyperstartContract` in a test module, and pytest runs the contract against the fake guest. Needs the
extra ``vc-agent-hyperstart[testing]``.
"""

import pytest

pytest.register_assert_rewrite("vc_agent_hyperstart.testing.contract")

from vc_agent_hyperstart.testing.contract import (  # noqa: E402 - its asserts are only rewritten when asked for before
    HyperstartContract,
)

__all__ = ["HyperstartContract"]
