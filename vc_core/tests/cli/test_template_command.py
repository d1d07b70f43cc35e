"""``virtc template`` without any VM; tests/integration/test_templates.py has those of clones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import MOCK, virtc

from vc_core.store.roots import Roots
from vc_core.store.templates import Templates


@pytest.fixture
def kind(roots: Roots) -> str:
    """A template in the cache, as a maker publishes it."""
    cache = Templates(roots.cache)
    with cache.making("k1", lambda _: None) as making:
        for name in ("memory", "state"):
            (making / name).write_bytes(bytes(1024 * 1024))
        cache.publish(making, hypervisor="qemu", agent="hyperstart", memory=256, vcpus=0, size_max=2048)
    return "k1"


def test_templates_are_listed_with_what_their_pods_have(kind: str) -> None:
    header, line = virtc("template", "list").stdout.splitlines()
    assert header.split() == ["TEMPLATE", "HYPERVISOR", "AGENT", "MEMORY", "CPUS", "MIB"]
    assert line.split()[:5] == [kind, "qemu", "hyperstart", "256", "default"]
    assert virtc("template", "list", "--quiet").stdout == f"{kind}\n"
    assert [one["memory"] for one in json.loads(virtc("template", "list", "--json").stdout)] == [256]


@pytest.mark.parametrize("which", [["k1"], ["--all"]])
def test_a_template_is_removed_by_its_kind_or_with_all_others(kind: str, which: list[str], roots: Roots) -> None:
    assert virtc("template", "remove", *which).returncode == 0
    assert virtc("template", "list", "--quiet").stdout == ""
    assert not Path(roots.cache / "templates" / kind).exists()


def test_a_template_that_there_is_not_is_an_error_that_names_it() -> None:
    done = virtc("template", "remove", "k9")
    assert (done.returncode, done.stderr) == (1, "virtc: there is no template 'k9'; 'virtc template list' shows all\n")


def test_what_to_remove_must_be_said() -> None:
    assert virtc("template", "remove").returncode == 2
    assert virtc("template", "remove", "--all", "k1").returncode == 2


def test_pods_that_boot_no_guest_have_no_template() -> None:
    done = virtc("template", "create", *MOCK)
    assert done.returncode == 1
    assert done.stderr == "virtc: agent 'noop' brings no guest; give kernel_path and image_path\n"
