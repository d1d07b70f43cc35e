"""The errors of a driver that is not right yet: they name the driver, the hook, and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import distributions

pytestmark = pytest.mark.slow

GOOD = """
    from dataclasses import dataclass
    from typing import Annotated
    from vc_core.driver import hookimpl

    @dataclass(frozen=True)
    class Options:
        program: Annotated[str, "the program"] = "enter"

    class Plugin:
        @hookimpl
        def vc_driver_options(self):
            return Options

        @hookimpl
        def vc_spawner_create(self, config):
            from vc_core.driver import Spawner

            class Made(Spawner):
                def wrap(self, argv, target):
                    return list(argv)

            return Made()
"""

MAKE = "def vc_spawner_create(self, config):"

#: The mistake -> the replacement in GOOD that makes it, and words that the error must hold.
MISTAKES = {
    "no-such-module": (
        ("from vc_core.driver import hookimpl", "from vc_core.hooks import hookimpl"),
        ["No module named 'vc_core.hooks'", "repair"],
    ),
    "no-such-class": (
        ("class Plugin", "class Plugins"),
        ["stranger_no_such_class:Plugin", "has no attribute 'Plugin'"],
    ),
    "an-object": (("class Plugin:", "Plugin = object()\n    class Other:"), ["an entry point names a class"]),
    "a-function": (
        ("class Plugin:", "def Plugin():\n        return None\n    class Other:"),
        ["is None", "an entry point names a class without required arguments"],
    ),
    "arguments": (
        ("class Plugin:", "class Plugin:\n        def __init__(self, host): pass\n"),
        ["missing 1 required positional argument: 'host'", "an entry point names a class without required arguments"],
    ),
    "misspelt": (("vc_spawner_create", "vc_spawner_crate"), ["vc_spawner_crate", "vc_spawner_create"]),
    "missing": ((f"@hookimpl\n        {MAKE}", MAKE), ["vc_spawner_create", "hookimpl"]),
    "coroutine": ((MAKE, f"async {MAKE}"), ["vc_spawner_create with async def", "hooks are synchronous", "def"]),
    "other-argument": (("(self, config)", "(self, configuration)"), ["vc_spawner_create", "configuration", "config"]),
    "a-default": (("(self, config)", "(self, config=None)"), ["'config=None' of vc_spawner_create", "without default"]),
    "wrong-return": (
        ("return Made()", "return Made"),
        ["from vc_spawner_create", "must return a vc_core.driver.Spawner"],
    ),
    "no-return": (("return Made()", "pass"), ["None from vc_spawner_create", "must return a vc_core.driver.Spawner"]),
    "no-dataclass": (
        ("return Options", "return dict"),
        ["returned <class 'dict'> from vc_driver_options", "must return a frozen dataclass"],
    ),
    "not-frozen": (("@dataclass(frozen=True)", "@dataclass"), ["must return a frozen dataclass"]),
    "no-description": (
        ('Annotated[str, "the program"]', "str"),
        ["no description of option program", 'declare it as Annotated[type, "text"]'],
    ),
    "no-such-type": (('Annotated[str, "the program"]', "'Text'"), ["types cannot be read", "'Text' is not defined"]),
    "other-default": (
        ('= "enter"', "= 7"),
        [
            "refuses its own configuration's fields as options",
            "program of spawner other-default is 7; give text",
        ],
    ),
    "not-by-value": (
        ("@dataclass(frozen=True)", "@dataclass(frozen=True, eq=False)"),
        ["makes another configuration from the same options", "let it compare by value"],
    ),
    "own-error": (
        ("return Made()", "raise OSError(2, 'no such file')"),
        ["FileNotFoundError: [Errno 2] no such file from vc_spawner_create", "plug-ins may raise only VCErrors"],
    ),
    "abstract": (
        ("def wrap(", "def wrapp("),
        ["from vc_spawner_create", "abstract", "wrap"],
    ),
    "wraps": (
        (f"@hookimpl\n        {MAKE}", f"@hookimpl(wrapper=True)\n        {MAKE}\n            yield"),
        ["wraps vc_spawner_create", "only an extension may"],
    ),
    "io": (
        ("return Made()", "open('/var/tmp/vc-author-error', 'w').close(); return Made()"),
        ["does open /var/tmp/vc-author-error in vc_spawner_create", "leave that to the object's methods"],
    ),
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The output of ``virtc drivers --check`` for each, all of them installed."""
    site = tmp_path_factory.mktemp("site")
    for name, ((good, bad), _) in MISTAKES.items():
        assert good in GOOD
        distributions.install(site, name, "spawners", name, GOOD.replace(good, bad))
    distributions.install(site, "good", "spawners", "good", GOOD)
    done = subprocess.run(
        [Path(sys.executable).with_name("virtc"), "drivers", "--check", "--json"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    Path("/var/tmp/vc-author-error").unlink(missing_ok=True)
    return {one["name"]: "; ".join(one["violations"]) for one in json.loads(done.stdout)}


def test_a_good_driver_has_no_violations(reported: dict[str, str]) -> None:
    assert reported["good"] == ""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_an_author_is_explained(reported: dict[str, str], name: str) -> None:
    for word in [f"spawner driver {name!r} of stranger-{name} 7.8", *MISTAKES[name][1]]:
        assert word in reported[name]
