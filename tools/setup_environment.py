"""Makes the project's environment in .venv, from nothing but Python: `python tools/setup_environment.py`.

What it does, all inside the project's folder: finds uv, or installs it into .uv; makes .venv; installs the tested
versions from requirements.txt (about 5 GB with CUDA); installs the project itself, editable. Called again it does
nothing, in a moment, unless what those files say about packages has changed. What uv has in its cache needs no network.

--cpu takes PyTorch's own CPU build instead (Linux and Windows; about 1.2 GB): no GPU, no CUDA libraries.
"""

from __future__ import annotations  # so that a Python that is too old gets as far as to be told so

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)  # that are tested
BIN = "Scripts" if os.name == "nt" else "bin"
EXE = ".exe" if os.name == "nt" else ""
CPU_REQUIREMENTS = "requirements-cpu.txt"
GPU_PARTS = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    options.add_argument("--cpu", action="store_true", help="PyTorch's CPU build, without CUDA's libraries")
    asked = options.parse_args().cpu
    os.chdir(ROOT)
    cpu = asked or Path(".venv", CPU_REQUIREMENTS).exists()  # what was chosen once stays, until .venv is deleted
    if sys.version_info < OLDEST:
        sys.exit(
            f"This project needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}. Install a newer "
            f"one (python.org, your package manager, `uv python install 3.12`) and name it: make lab PYTHON=python3.12"
        )
    ready, wanted = Path(".venv", ".ready"), digest_of_inputs(cpu)
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return
    if (here := sys.version_info[:2]) > NEWEST:
        print("With Python {}.{} nobody has tested this project yet; with up to {}.{}, yes.".format(*here, *NEWEST))
    uv = find_uv()
    size = "1.2" if cpu else "5"
    print(f"Making the environment in .venv (about {size} GB; the first time it is downloaded) …", flush=True)
    ready.unlink(missing_ok=True)
    if Path(".venv").exists() and not made_with_this_python():
        shutil.rmtree(".venv")
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, ".venv")
    # Compiled once here, on all cores, rather than in the first lesson.
    target = ("--quiet", "--compile-bytecode", "--python", str(Path(".venv", BIN, f"python{EXE}")))
    if cpu:
        install_cpu_build(uv, target)
    else:
        from_cache_or_network(uv, "pip", "sync", *target, "requirements.txt")
    run(uv, "pip", "install", *target, "--no-deps", "--no-build-isolation", "-e", ".")
    quieten_jupyterlab()
    ready.write_text(wanted, encoding="utf-8")


def quieten_jupyterlab() -> None:
    """No question about news over the lesson, and no look for updates: many classrooms have no network."""
    settings = Path(".venv", "share", "jupyter", "lab", "settings", "overrides.json")
    settings.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    settings.write_text(json.dumps(quiet, indent=1), encoding="utf-8")


def digest_of_inputs(cpu: bool) -> str:
    """Changes when the environment has to be made anew: other pins, other settings, another Python, a moved folder."""
    parts = [Path("requirements.txt").read_bytes(), said_about_packages().encode(), Path(__file__).read_bytes()]
    parts += [str(part).encode() for part in (ROOT, sys.version_info[:2], cpu)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def said_about_packages() -> str:
    """Of pyproject.toml. The rest (the repository's address, what ruff and pytest heed) needs no new environment."""
    import tomllib  # not there before Python 3.11, of which was said so by now

    try:
        said = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f'pyproject.toml is not TOML: {error}. Mend it (words stand in quotes: repository = "owner/name").')
    parts = [said.get(part) for part in ("project", "build-system", "dependency-groups")]
    return json.dumps([*parts, said.get("tool", {}).get("hatch")], sort_keys=True)


def made_with_this_python() -> bool:
    """Is .venv of this Python's version? Packages for another would lie beside the new ones."""
    config = Path(".venv", "pyvenv.cfg")
    return config.exists() and f"{sys.version_info[0]}.{sys.version_info[1]}." in config.read_text(encoding="utf-8")


def find_uv() -> str:
    """The uv on the PATH, or one of our own in .uv."""
    own = Path(".uv", BIN, f"uv{EXE}")
    if found := shutil.which("uv"):
        return found
    if not own.exists():
        print("uv is not here: installing it into .uv …", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", ".uv"], capture_output=True, text=True)
        if made.returncode:
            shutil.rmtree(".uv", ignore_errors=True)  # half a venv would be taken for a whole one next time
            version = "{}.{}".format(*sys.version_info)
            sys.exit(
                f"{sys.executable} cannot make a virtual environment:\n{made.stdout}{made.stderr}\n"
                f"On Debian and Ubuntu the part that it lacks is a package of its own: sudo apt install "
                f"python{version}-venv. Or install uv (docs.astral.sh/uv), then run this again."
            )
        run(str(Path(".uv", BIN, f"python{EXE}")), "-m", "pip", "install", "--quiet", "uv")
    return str(own)


def install_cpu_build(uv: str, target: tuple[str, ...]) -> None:
    """The pins without torch and what its CUDA build needs, then torch and torchvision from PyTorch's CPU index."""
    entries = re.split(r"\n(?=\S)", Path("requirements.txt").read_text(encoding="utf-8"))
    kept = [entry for entry in entries if not GPU_PARTS.match(entry)]
    pins = [match[0] for entry in entries if (match := re.match(r"(torch|torchvision)==[\w.]+", entry))]
    rest = Path(".venv", CPU_REQUIREMENTS)
    rest.write_text("\n".join(kept), encoding="utf-8")
    from_cache_or_network(uv, "pip", "sync", *target, str(rest))
    from_cache_or_network(uv, "pip", "install", *target, "--torch-backend=cpu", *pins)


def from_cache_or_network(*command: str) -> None:
    """Run uv, first without the network: it asks for what it has, too, and without one would give up."""
    if subprocess.run([*command, "--offline"], capture_output=True).returncode:
        run(*command)


def run(*command: str) -> None:
    """Run a command; end with its name if it fails."""
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"\nThis failed (status {error.returncode}): {' '.join(command)}\nMend what it says, then run again.")


if __name__ == "__main__":
    main()
