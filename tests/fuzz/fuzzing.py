"""The loop of a fuzzer in Python; its arguments are those of the fuzzers in C (``fuzz.c`` of the guest agent).

    python fuzz_NAME.py SECONDS SEED FOUND [FILE...]

First each FILE is an input, then inputs are made of them for SECONDS. The file FOUND holds the present input, so also
one that ends in an exception, or takes more than TIMEOUT seconds; after a good end it is empty.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: Seconds for one input.
TIMEOUT = 20.0

#: Bytes of an input, and changes and bytes of each change to a given one, at most.
INPUT_MAX, CHANGES_MAX, PIECE_MAX = 64 * 1024, 8, 64


def fuzz(words: Sequence[bytes], check: Callable[[bytes], None]) -> None:
    """Call ``check`` with one input after the other; its exception is a finding. ``words`` are inserted at random."""
    seconds, seed, found, *files = sys.argv[1:]
    given = [Path(name).read_bytes() for name in files] or [b""]
    end = time.monotonic() + float(seconds)
    count = 0
    with Path(found).open("wb", buffering=0) as save:
        for data in _inputs(given, words, random.Random(int(seed)), end):
            save.seek(0)
            save.truncate()
            save.write(data)
            faulthandler.dump_traceback_later(TIMEOUT, exit=True)
            check(data)
            count += 1
        faulthandler.cancel_dump_traceback_later()
        save.truncate(0)
    print(f"{count} executions")


def _inputs(given: Sequence[bytes], words: Sequence[bytes], source: random.Random, end: float) -> Iterator[bytes]:
    yield from given
    while time.monotonic() < end:
        data = bytearray(source.choice(given))
        for _ in range(source.randint(1, CHANGES_MAX)):
            _change(data, given, words, source)
        yield bytes(data[:INPUT_MAX])


def _change(data: bytearray, given: Sequence[bytes], words: Sequence[bytes], source: random.Random) -> None:
    at, count = source.randint(0, len(data)), source.randrange(PIECE_MAX)
    match source.randrange(6):
        case 0:
            data[at : at + 1] = bytes([source.randrange(256)])
        case 1:
            data[at:at] = source.choice(words)
        case 2:
            data[at : at + count] = source.choice(words)
        case 3:
            del data[at : at + count]
        case 4:
            piece = data[at : at + count]
            other = source.randint(0, len(data))
            data[other:other] = piece
        case _:
            data[at:] = source.choice(given)[at:]
