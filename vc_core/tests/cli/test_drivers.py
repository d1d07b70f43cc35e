"""``virtc drivers`` with names: the options of a driver, and names that no driver has."""

from __future__ import annotations

import json

import pytest
from commands import virtc


@pytest.mark.slow
def test_the_options_of_a_named_driver_are_listed_with_type_default_and_description() -> None:
    done = virtc("drivers", "nsenter", "noop")
    page = " ".join(done.stdout.split())
    assert "Options of spawner driver nsenter (--agent-option spawner_options.NAME=VALUE):" in page
    assert "program nsenter in the guest: a name or a path [text; default: nsenter]" in page
    assert "cgroup enter the cgroup namespace too [true or false; default: false]" in page
    assert "agent driver noop has no options" in page


def test_json_has_the_options_of_each_driver() -> None:
    (mock,) = json.loads(virtc("drivers", "--json", "mock").stdout)
    assert mock["options"][0] == {
        "name": "fail_prepare",
        "type": "text",
        "default": "",
        "required": False,
        "description": "text of the error that preparing a VM raises each time, instead of doing it",
    }


def test_a_name_that_no_driver_has_is_answered_with_a_similar_one() -> None:
    done = virtc("drivers", "nsentre")
    assert done.returncode == 1
    assert done.stderr == "virtc: no driver 'nsentre' is installed; did you mean 'nsenter'?\n"
