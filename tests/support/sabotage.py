"""Runs the contract kit, in a pytest of its own, against drivers that are broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Seconds for the whole run of one module of broken drivers.
_TIMEOUT = 600

#: Leaves out, for each class, all tests but those of the promise that its driver breaks. Most are not even collected,
#: because the tests of all classes are thousands; a promise whose name is no test's is the parameter of one.
_CONFTEST = """
PROMISES = {promises!r}


def promise_of(cls):
    return PROMISES.get(cls.__name__.removeprefix("Test"), "")


def pytest_pycollect_makeitem(collector, name, obj):
    cls = getattr(collector, "cls", None)
    if cls is not None and name.startswith("test_"):
        promise = promise_of(cls)
        if promise.startswith("test_") and promise.partition("[")[0] not in name:
            return []


def pytest_collection_modifyitems(config, items):
    wanted = [item for item in items if promise_of(item.cls) in item.name]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
"""


@dataclass(frozen=True)
class Sabotage:
    """A test class of the kit whose driver is broken, and what the kit must find.

    ``body`` follows the class' name. ``promise`` is part of the name of the test that must fail; without it, the class
    must keep the whole contract. ``says`` is part of the failure's message.
    """

    body: str
    promise: str = ""
    says: str = ""


def run_kit(folder: Path, head: str, classes: Mapping[str, Sabotage]) -> dict[str, dict[str, str]]:
    """Run the classes in a module that begins with ``head``; return each class' failed tests with their messages.

    A class with a promise runs the tests of that promise only. A test that was skipped, and a promise that no test has,
    fail nothing, so the caller sees no failure for them.
    """
    module = folder / "test_sabotage.py"
    text = "\n\n".join([head, *(f"class Test{name}{one.body}" for name, one in classes.items())])
    module.write_text(text, encoding="utf-8")
    promises = {name: one.promise for name, one in classes.items()}
    (folder / "conftest.py").write_text(_CONFTEST.format(promises=promises), encoding="utf-8")
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "-o", "junit_logging=no",
         f"--junitxml={report}", "--rootdir", folder, module],
        env=os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=_TIMEOUT,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout  # 1: tests failed
    failed: dict[str, dict[str, str]] = {name: {} for name in classes}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").rpartition(".Test")[2]
        assert name in classes, done.stdout  # pytest itself failed
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                failed[name][case.get("name", "")] = f"{found.get('message', '')}\n{found.text}"
    return failed


def check(sabotage: Sabotage, failed: Mapping[str, str]) -> None:
    """Fail unless the kit found what is wrong with one driver, and nothing wrong with a good one."""
    if not sabotage.promise:
        assert not failed, failed
        return
    messages = [message for test, message in failed.items() if sabotage.promise in test]
    assert messages, f"{sabotage.promise} does not find it"
    assert any(sabotage.says in message for message in messages), messages
