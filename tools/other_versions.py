"""Every test and notebook with other versions: `make test-oldest`, `make test-newest`. Further words are pytest's.

oldest: the lowest versions of our own dependencies that pyproject.toml admits (what those need in turn: the newest), on
the oldest Python. newest: the newest of everything that the registry has today, on the Python that Colab has. Each is
an environment of its own beside .venv; which versions it has is printed, and kept in it.

As with Colab's versions, the notebooks' outputs are compared with nothing, and what is marked `once` is left out. This
takes the network, and 5 GB of disk for each.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
import colab_environment
import install_chromium
from build_notebooks import write_whole
from lock import GROUPS
from setup_environment import BIN, EXE, OLDEST, ROOT, find_uv, run

from utils.words import speak_anywhere

RESOLUTIONS = {"oldest": ("lowest-direct", OLDEST), "newest": ("highest", colab_environment.VERSION)}
KEPT = ROOT / "tests" / "oldest.txt"
PYTEST = ("-o", "addopts=--import-mode=importlib --nbval-lax", "-m", "not once")


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("which", choices=RESOLUTIONS)
    parser.add_argument("--only-make", action="store_true", help="make the environment, and test nothing")
    options, words = parser.parse_known_args()
    os.chdir(ROOT)
    environment = make(options.which)
    if options.only_make:
        return 0
    python = environment / BIN / f"python{EXE}"
    cache = ("-o", f"cache_dir=.pytest_cache/{options.which}")
    status = subprocess.run([str(python), "-m", "pytest", *PYTEST, *cache, *words]).returncode
    if options.which == "oldest" and not words and status == 0:
        keep(environment / "requirements.txt")
    return status


def keep(pins: Path) -> None:
    """Write down which versions everything was green with: a test holds the lower bounds to them."""
    if not install_chromium.find_chromium():
        print(f"{KEPT.name} stays as it is: without a browser nobody has seen the explorers. {install_chromium.TO_DO}")
        return
    versions = "\n".join(direct(pins.read_text(encoding="utf-8")))
    write_whole(KEPT, f"# What `make test-oldest` was last green with.\n#\n{versions}\n")


def make(which: str) -> Path:
    """The environment of these versions: made, or brought up to what the registry has today."""
    resolution, version = RESOLUTIONS[which]
    environment, uv = Path(f".venv-{which}"), find_uv()
    python = colab_environment.find_python(uv, version)
    if environment.exists() and colab_environment.version_of(str(environment / BIN / f"python{EXE}")) != version:
        shutil.rmtree(environment)
    print(f"Making the environment with the {which} versions in {environment} …", flush=True)
    run(uv, "venv", "--quiet", "--allow-existing", "--python", python, str(environment))
    pins = environment / "requirements.txt"
    groups = [word for group in GROUPS for word in ("--group", group)]
    run(
        uv, "pip", "compile", "pyproject.toml", *groups, "--resolution", resolution, "--upgrade", "--quiet",
        "--no-emit-index-url", "--python", python, "--output-file", str(pins),
    )  # fmt: skip
    target = ("--quiet", "--compile-bytecode", "--python", str(environment / BIN / f"python{EXE}"))
    run(uv, "pip", "sync", *target, str(pins))
    run(uv, "pip", "install", *target, "--no-deps", "--no-build-isolation", "-e", ".")
    print("\n".join(direct(pins.read_text(encoding="utf-8"))), flush=True)
    return environment


def direct(pins: str) -> list[str]:
    """Of compiled pins, those that pyproject.toml itself names: `numpy==2.0.0`."""
    entries = re.split(r"\n(?=\S)", pins)
    return [entry.split()[0] for entry in entries if re.search(r"# +(via )?bigger-and-deeper \(pyproject", entry)]


if __name__ == "__main__":
    sys.exit(main())
