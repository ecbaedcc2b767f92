"""What can be seen without running anything: `make lint`, and before each commit (CONTRIBUTING.md says how).

code: ruff over package, tools, tests and, natively, notebooks. format: how it is laid out. notebooks: none is older
than its lesson or utils/. addresses: all badges lead where pyproject.toml says. links: every relative link and picture
is there. Name some of them to run just these.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
from setup_environment import BIN, EXE, ROOT

sys.path.insert(0, str(ROOT))  # for a Python that isn't the environment's
from utils.words import speak_anywhere

CHECKS = {
    "code": ("-m", "ruff", "check", "."),
    "format": ("-m", "ruff", "format", "--check", "."),
    "notebooks": ("tools/build_notebooks.py", "--check"),
    "addresses": ("tools/badges.py", "--check"),
    "links": ("tools/links.py",),
}
TO_DO = {
    "code": "ruff check --fix mends some of it",
    "format": "ruff format lays it out anew",
    "notebooks": "make notebooks",
    "addresses": "make badges",
    "links": "mend the link, or commit the file that it leads to",
}
PYTHON = Path(".venv", BIN, f"python{EXE}")


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("checks", nargs="*", metavar="check", help=f"of {', '.join(CHECKS)}; none: all of them")
    wanted = parser.parse_args().checks or [*CHECKS]
    if unknown := set(wanted) - CHECKS.keys():
        parser.error(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    os.chdir(ROOT)
    if not PYTHON.exists():
        sys.exit("There is no .venv yet: python tools/setup_environment.py makes it")
    failed = [name for name in wanted if not passes(name)]
    return int(bool(failed))


def passes(name: str) -> bool:
    """Run one of the checks: a line if all is well, else what it says and what to do."""
    run = subprocess.run([str(PYTHON), *CHECKS[name]], capture_output=True, encoding="utf-8", errors="replace")
    print(f"{name}: {'as it should be' if run.returncode == 0 else 'not as it should be'}", flush=True)
    if run.returncode:
        to_do = "" if "To do: " in run.stdout else f"To do: {TO_DO[name]}\n"
        print(f"{run.stdout}{run.stderr}{to_do}", flush=True)
    return run.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
