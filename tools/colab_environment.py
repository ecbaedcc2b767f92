"""Makes .venv-colab: Python 3.13 with the versions that Colab has, for `make test` to run everything there too.

What it does, all inside the project's folder: finds a Python 3.13 (on the PATH, pyenv's, or one that uv downloads);
makes .venv-colab; installs the versions of tests/colab.txt, what the tests need besides, and d2l without its pins;
looks whether each version is what it should be; and keeps the wheels of what Colab lacks, so that the tests can install
them as one does in Colab, but without a network. Called again it does nothing, in a moment, unless one of those files
has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # for who loads this file as a module
from setup_environment import BIN, EXE, find_uv, run  # noqa: E402

ENVIRONMENT = Path(".venv-colab")
PYTHON = ENVIRONMENT / BIN / f"python{EXE}"
PINS = Path("tests", "colab.txt")
VERSION = (3, 13)
# What Colab lacks, and what it might lack some day: the wheels that are kept.
TO_INSTALL = ("d2l", "filelock", "tqdm")
WHEELS = ENVIRONMENT / "wheels"
# What the tests need, and what Colab has in versions that tests/colab.txt doesn't name: in those of requirements.txt.
BESIDES = ("platformdirs", "filelock", "nbval", "hypothesis", "psutil", "pyyaml", "packaging", "jupytext")


def main() -> None:
    os.chdir(ROOT)
    make()


def make() -> None:
    """Make the environment, unless it is there and of these files."""
    ready, wanted = ENVIRONMENT / ".ready", digest_of_inputs()
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return
    uv = find_uv()
    print(f"Making the environment with Colab's versions in {ENVIRONMENT} …", flush=True)
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    run(uv, "venv", "--quiet", "--seed", "--python", find_python(uv), str(ENVIRONMENT))  # Colab has pip
    target = ("--quiet", "--compile-bytecode", "--python", str(PYTHON))
    run(uv, "pip", "install", *target, "--only-binary", ":all:", "-r", str(PINS), *besides())
    run(uv, "pip", "install", *target, "--no-deps", *pins_of("d2l"))  # its own pins don't go with these
    pins = [pin for name in TO_INSTALL for pin in pins_of(name)]
    run(str(PYTHON), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(WHEELS), *pins)
    check()
    ready.write_text(wanted, encoding="utf-8")


def digest_of_inputs() -> str:
    """Changes when the environment has to be made anew."""
    parts = [PINS.read_bytes(), Path(__file__).read_bytes(), "".join(besides()).encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def besides() -> list[str]:
    """What Colab hasn't and the tests need, as pins."""
    return [pin for name in BESIDES for pin in pins_of(name)]


def pins_of(name: str) -> list[str]:
    """`nbval==0.11.0`, as requirements.txt has it."""
    found = re.findall(rf"^{re.escape(name)}==[\w.]+", Path("requirements.txt").read_text(encoding="utf-8"), flags=re.M)
    if not found:
        sys.exit(f"{name} is not in requirements.txt: run `make lock`")
    return found[:1]


# --- a Python 3.13 ----------------------------------------------------------------------------------------------------


def find_python(uv: str, wanted: tuple[int, int] = VERSION) -> str:
    """A Python of that version that runs: this one, the PATH's, pyenv's, or one that uv downloads. Exits if there is
    none."""
    tried = []
    for where, python in candidates(wanted):
        found = version_of(python)
        if found == wanted:
            return python
        tried.append(f"  {where}: {'.'.join(map(str, found)) if found else 'none that runs'}")
    version = ".".join(map(str, wanted))
    got = subprocess.run([uv, "python", "install", version], capture_output=True, encoding="utf-8")
    found = subprocess.run([uv, "python", "find", version], capture_output=True, encoding="utf-8")
    if found.returncode == 0 and version_of(found.stdout.strip()) == wanted:
        return found.stdout.strip()
    tried.append(f"  uv python install {version}: {(got.stderr.strip().splitlines() or ['found none'])[-1]}")
    sys.exit(
        f"Everything is tested under other versions too, for which this takes a Python {version}. None is here:\n"
        + "\n".join(tried)
        + f"\nInstall one (python.org, your package manager, `pyenv install {version}`), then run this again. The "
        f"tests in the ordinary environment alone: .venv/{BIN}/python -m pytest"
    )


def candidates(wanted: tuple[int, int]) -> list[tuple[str, str]]:
    """Where a Python of that version may be, in words, and what to call there."""
    name = f"python{wanted[0]}.{wanted[1]}"
    found = [("this Python", sys.executable)]
    if on_path := shutil.which(name):
        found.append((f"{name} on the PATH", on_path))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    kept = pyenv.glob(f"{wanted[0]}.{wanted[1]}.*/{BIN}/python{EXE}")
    latest_first = sorted(kept, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])], reverse=True)
    return found + [("pyenv's", str(path)) for path in latest_first]


def version_of(python: str) -> tuple[int, int] | None:
    """The version of the Python that this command starts; None if it starts none (pyenv's shims may not)."""
    try:
        run = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, timeout=60
        )
        major, minor = map(int, run.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return major, minor


# --- the proof --------------------------------------------------------------------------------------------------------


def wanted_versions() -> dict[str, str]:
    """What tests/colab.txt pins, by name."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", PINS.read_text(encoding="utf-8"), flags=re.M))


def check() -> None:
    """Exits unless each package has exactly the version of tests/colab.txt."""
    names = list(wanted_versions())
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.check_output([str(PYTHON), "-c", code, *names], text=True).split()
    wrong = [
        f"{name} is {version.split('+')[0]}, expected {wanted}"
        for (name, wanted), version in zip(wanted_versions().items(), found, strict=True)
        if version.split("+")[0] != wanted
    ]
    if wrong:
        sys.exit(f"{ENVIRONMENT} is not what {PINS.as_posix()} says: {'; '.join(wrong)}. Delete it and run this again.")


if __name__ == "__main__":
    main()
