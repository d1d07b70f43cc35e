"""What driver authors test with: fakes of the peers that drivers talk to, and the contract suites."""

import pytest

pytest.register_assert_rewrite("vc_core.testing.contract")
