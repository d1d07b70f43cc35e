"""Which subordinate ids a user has; tests/integration/test_plain_user.py has pods with them."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from vc_core.host.namespaces import subordinate_ids

NAME = pwd.getpwuid(0).pw_name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"other:100000:65536\n{NAME}:165536:1000\n{NAME}:300000:9\n", (165536, 1000)),
        ("0:200000:5", (200000, 5)),
        ("", None),
        (f"{NAME}2:100000:65536\n", None),
        (f"{NAME}\n{NAME}:\n{NAME}:x:y\n{NAME}:1:0\n\n{NAME}:-1:3\n", None),
    ],
)
def test_the_first_range_of_a_user_is_found_by_name_or_id(
    tmp_path: Path, text: str, found: tuple[int, int] | None
) -> None:
    (tmp_path / "subuid").write_text(text, encoding="utf-8")
    assert subordinate_ids(tmp_path / "subuid", 0) == found


def test_a_user_without_a_name_and_a_host_without_the_file_have_none(tmp_path: Path) -> None:
    assert subordinate_ids(tmp_path / "missing", 0) is None
    (tmp_path / "subuid").write_text("54321:7:8\n", encoding="utf-8")
    assert subordinate_ids(tmp_path / "subuid", 54321) == (7, 8)
