"""The pod files in the documentation are valid by the published schema, and have no errors but those that are shown."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

import vc_core as vc
from vc_core.podfile.formats import Format
from vc_core.store.settings import Settings

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/reference/pod.schema.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs/how-to/pod-files.md"
#: A file that an example of a shell writes.
FILE = re.compile(r"^cat >(\w+)\.(yaml|json|toml) <<'END'\n(.*?)^END$", flags=re.MULTILINE | re.DOTALL)
FILES = {f"{name}.{form}": (form, text) for name, form, text in FILE.findall(PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", FILES)
def test_a_pod_file_of_the_page_is_valid_unless_it_is_called_wrong(name: str, tmp_path: Path) -> None:
    form, text = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    data = Format(form).module.read(text)
    if name.startswith("wrong"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, SCHEMA)
        with pytest.raises(vc.ConfigError):
            vc.load_pod_config(tmp_path / name)
    else:
        jsonschema.validate(data, SCHEMA)
        assert vc.load_pod_config(tmp_path / name).containers


def test_the_short_and_long_forms_of_the_page_are_two_of_one_object() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+)` \| `(.+)` \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) == 8
    for field, *forms in rows:
        for form in forms:
            *outer, last = field.split(".")
            text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(outer))
            text += f"{'  ' * len(outer)}{last}: {form}\n"
            if field == "network.forwards":
                text += "  mode: user\n"
            if field == "envs":
                text = f"cmd: {{envs: {form}}}\n"
            if field in ("cmd", "envs", "mounts", "rlimits"):
                text = "containers:\n- id: a\n" + "".join(f"  {line}\n" for line in text.splitlines())
            jsonschema.validate(Format.YAML.module.read(text), SCHEMA)


def test_the_table_of_defaults_has_each_key_of_a_configuration_file() -> None:
    page = (ROOT / "docs/how-to/defaults.md").read_text(encoding="utf-8")
    tables = {table.name: getattr(Settings(), table.name) for table in fields(Settings)}
    keys = [f"{name}.{key.name}" for name, table in tables.items() for key in fields(table)]
    assert re.findall(r"^\| `([\w.]+)` \|", page, flags=re.MULTILINE) == keys
