"""Writes every generated file of this repository, or compares them: ``./dev generate``, ``./dev generate --check``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import generate_sync


def generated() -> Iterator[tuple[Path, str]]:
    """Yield each generated file with the text that it must hold.

    The caller writes a file before it asks for the next one: the reference follows from the modules already written.
    """
    yield generate_sync.PATH, generate_sync.blocking()
    import generate_options
    import generate_reference  # imports vc_core.sync

    for path, page in {**generate_reference.PAGES, **generate_options.PAGES}.items():
        yield path, page()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files that differ, or with ``--check`` list them; return the exit code: 1 if a checked file differs."""
    parser = argparse.ArgumentParser(prog="./dev generate", description="Write all generated files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    check = parser.parse_args(arguments).check
    differs = False
    for path, text in generated():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differs = True
        if check:
            print(f"{path} is not what the code generates; run: ./dev generate", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if check and differs else 0


if __name__ == "__main__":
    sys.exit(main())
