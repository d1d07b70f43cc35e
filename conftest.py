"""What all tests of this repository share."""

# pytest names the module of vc_core/tests/test_x.py "vc_core.tests.test_x". Unless the real package is imported by then,
# the folder vc_core/ of this repository becomes a namespace package of that name and hides it.
import vc_core  # noqa: F401 - see above
