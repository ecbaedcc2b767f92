"""Follows environment.yml to the letter, without conda, and then README's lines for pip: `make test-conda`.

conda's own part is a Python and pip; all else in that file is pip's. So this makes a virtual environment with that
Python, has pip install the file's list, as conda would, runs postBuild (the file's further steps, which Binder runs),
and then does there what a student does: in the folder of the notebooks imports utils and d2l, and runs a lesson. The
same once more in an environment that has nothing but what README has you type.
It takes the network and 10 GB of disk, for a while: the environments are removed in the end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
import colab_environment
from elsewhere import copy_project
from setup_environment import BIN, EXE, ROOT, find_uv, run

from utils.words import speak_anywhere

LESSON = "00_start_here.ipynb"
CHECK = "import utils; from d2l import torch as d2l; print('utils:', utils.__file__); print('d2l:', d2l.__name__)"


def main() -> int:
    speak_anywhere()
    if os.name != "posix":
        sys.exit("This takes Linux or macOS: postBuild is a shell script.")
    os.chdir(ROOT)
    python, packages = what_is_asked_for(Path("environment.yml").read_text(encoding="utf-8"))
    steps = lines_for_pip(Path("README.md").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        project, by_conda, by_hand = (Path(scratch, name) for name in ("project", "bigger-and-deeper", "by-hand"))
        copy_project(project)
        make(by_conda, python)
        install(by_conda, packages)
        if status := follow(["sh", "./postBuild"], project, by_conda, Path(scratch)):
            return status
        make(by_hand, python)
        return follow(["sh", "-e", "-c", steps], project, by_hand, Path(scratch))


def make(environment: Path, python: tuple[int, int]) -> None:
    """That Python and pip, and nothing else."""
    uv = find_uv()
    run(uv, "venv", "--quiet", "--seed", "--python", colab_environment.find_python(uv, python), str(environment))


def install(environment: Path, packages: list[str]) -> None:
    """As `conda env create` does what stands under `pip:`."""
    print(f"Installing what environment.yml lists: {' '.join(packages)} …", flush=True)
    listed = environment / "pip.txt"
    listed.write_text("\n".join(packages), encoding="utf-8")
    run(str(environment / BIN / f"python{EXE}"), "-m", "pip", "install", "--quiet", "-r", str(listed))


def follow(steps: list[str], project: Path, environment: Path, scratch: Path) -> int:
    """The further steps, then a student's: 0, or the status of the first that fails."""
    python, notebooks = str(environment / BIN / f"python{EXE}"), project / "notebooks"
    activated = os.environ | {
        "PATH": f"{environment / BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(environment),
        "BIGGER_AND_DEEPER_RESULTS": str(scratch / "results"),
    }  # fmt: skip
    lesson = ("-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(scratch), LESSON)
    for command, folder in (
        (steps, project), ([python, "-c", CHECK], notebooks), ([python, *lesson], notebooks),
    ):  # fmt: skip
        print(f"… {' '.join(command)}", flush=True)
        if status := subprocess.run(command, cwd=folder, env=activated).returncode:
            print(f"This failed (status {status}): {' '.join(command)}, in {folder}", file=sys.stderr)
            return status
    print(f"{environment.name}: all is there, {LESSON} ran.", flush=True)
    return 0


def lines_for_pip(readme: str) -> str:
    """What README has one type who has an environment already. ValueError if it says that no more."""
    if not (found := re.search(r"(?m)^\*\*pip\.\*\*[^`]*\n```bash\n(.*?)^```$", readme, flags=re.DOTALL)):
        raise ValueError("README.md has no lines of bash after **pip.**")
    return found[1]


def what_is_asked_for(text: str) -> tuple[tuple[int, int], list[str]]:
    """Of environment.yml: conda's Python, and pip's list. ValueError if conda is asked for anything else."""
    dependencies = yaml.safe_load(text)["dependencies"]
    (by_pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    by_conda = sorted(entry for entry in dependencies if isinstance(entry, str))
    if not (found := re.fullmatch(r"pip python=(\d+)\.(\d+)", " ".join(by_conda))):
        raise ValueError(f"environment.yml must ask conda for python=3.X and pip alone, got {', '.join(by_conda)}")
    return (int(found[1]), int(found[2])), by_pip


if __name__ == "__main__":
    sys.exit(main())
