"""Decoding of JSON by several threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vc_core.decoding import convert, decode_json

#: Four threads use a class at the same time, for the first time; repeated with fresh classes.
PROGRAM = """
import sys, threading
import msgspec
from vc_core.decoding import convert, decode_json
sys.setswitchinterval(1e-6)
value = {f"part{i}": {f"field{j}": j for j in range(8)} for i in range(8)}
data = msgspec.json.encode(value)
for _ in range(100):
    parts = [msgspec.defstruct(f"Part{i}", [(f"field{j}", int | None) for j in range(8)]) for i in range(8)]
    whole = msgspec.defstruct("Whole", [(f"part{i}", part) for i, part in enumerate(parts)])
    ready, read = threading.Barrier(4), []
    def use():
        ready.wait()
        read.append(USE)
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [msgspec.to_builtins(one) for one in read] == [value] * 4
"""


@pytest.mark.parametrize("use", ["decode_json(data, whole)", "convert(value, whole)"])
def test_threads_use_a_class_at_the_same_time_for_the_first_time(use: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM.replace("USE", use)], check=True)


def test_json_and_values_become_objects_of_a_type() -> None:
    assert decode_json(b'["a"]', list[str]) == convert(["a"], list[str]) == ["a"]
    assert convert("1", int, strict=False) == 1
