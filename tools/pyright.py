"""Type checks as a user with pyright has them; called as ``./dev pyright``, by basedpyright's environment.

The examples of the documentation pass the strict mode, and each type of the public API is written out: type checkers
infer what is not in different ways.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CORE = ROOT / "vc_core/src/vc_core"
PROGRAM = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
#: Pages for users of the API; those for authors of drivers show parts of files.
PAGES = [page for folder in ("how-to", "tutorial") for page in sorted((ROOT / "docs" / folder).glob("[!w]*.md"))]
#: What programs import; of the driver's side only what its one module names.
PUBLIC = re.compile(r"vc_core\.(\w+|(aio|sync|errors|results|config|podfile|host_report|pytest|driver)(\..*)?)")


def pyright(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright of this interpreter's environment."""
    program = Path(sys.executable).with_name("basedpyright")
    return subprocess.run([program, *arguments], cwd=cwd, stdout=subprocess.PIPE, encoding="utf-8")


def check_examples(where: Path) -> bool:
    """Check the programs of the pages in strict mode; return whether there is no error."""
    for page in PAGES:
        for number, text in enumerate(PROGRAM.findall(page.read_text(encoding="utf-8"))):
            (where / f"{page.stem.replace('-', '_')}_{number}.py").write_text(text, encoding="utf-8")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(CORE.parent)]}
    (where / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = pyright("--pythonpath", os.environ["PROJECT_PYTHON"], cwd=where)
    print(done.stdout, end="")
    return done.returncode == 0


def check_api(where: Path) -> bool:
    """Print each name of the public API whose type is not written out; return whether there is none."""
    done = pyright("--verifytypes", "vc_core", "--ignoreexternal", "--outputjson", cwd=where)
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [one for one in symbols if one["isExported"] and PUBLIC.fullmatch(one["name"])]
    unclear = [one["name"] for one in public if one["isTypeAmbiguous"] or not one["isTypeKnown"]]
    print(f"{len(public)} names of the public API, {len(unclear)} without a type that is written out")
    print("".join(f"  {name}\n" for name in unclear), end="")
    return len(public) > 300 and not unclear


def main() -> int:
    """Check both; return the exit code."""
    # It looks at packages that are installed beside it only; both are found by a link.
    [site] = Path(sys.prefix).glob("lib/python3*/site-packages")
    for name in ("vc_core", "pluggy", "click", "msgspec"):
        link = site / name
        link.unlink(missing_ok=True)
        [of_project] = Path(os.environ["PROJECT_PYTHON"]).parents[1].glob("lib/python3*/site-packages")
        link.symlink_to(CORE if name == "vc_core" else of_project / name)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        results = [check_examples(Path(one)), check_api(Path(other))]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
