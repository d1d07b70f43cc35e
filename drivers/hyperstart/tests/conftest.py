"""What the test modules share, and the marks of the contract's tests."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

sys.path[:0] = [str(HERE), str(HERE / "guest")]  # what the test modules share is no package of its own
pytest.register_assert_rewrite("guest_vm", "hyperstart_agents")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the contract that let many peers misbehave: each waits for a timeout."""
    for item in items:
        if item.path.parent == HERE and "test_whatever_the_guest_does_each_call_ends" in item.name:
            item.add_marker(pytest.mark.slow)
