"""Follows environment.yml to the letter, without conda: `make test-conda`.

conda's own part is a Python and pip; all else in that file is pip's. So this makes a virtual environment with that
Python, has pip install the file's list, as conda would, runs postBuild (the file's further steps, which Binder runs),
and then does there what a student does: in the folder of the notebooks imports utils and d2l, and runs a lesson.
It takes the network and 5 GB of disk, for a while: the environment is removed in the end.
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        project, environment = Path(scratch, "project"), Path(scratch, "bigger-and-deeper")
        copy_project(project)
        make(environment, python, packages)
        return follow(project, environment, Path(scratch))


def make(environment: Path, python: tuple[int, int], packages: list[str]) -> None:
    """What `conda env create` makes: that Python, and what pip is told to install."""
    uv = find_uv()
    run(uv, "venv", "--quiet", "--seed", "--python", colab_environment.find_python(uv, python), str(environment))
    print(f"Installing what environment.yml lists: {' '.join(packages)} …", flush=True)
    listed = environment / "pip.txt"
    listed.write_text("\n".join(packages), encoding="utf-8")
    run(str(environment / BIN / f"python{EXE}"), "-m", "pip", "install", "--quiet", "-r", str(listed))


def follow(project: Path, environment: Path, scratch: Path) -> int:
    """The further steps, then a student's: 0, or the status of the first that fails."""
    python, notebooks = str(environment / BIN / f"python{EXE}"), project / "notebooks"
    activated = os.environ | {
        "PATH": f"{environment / BIN}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(environment),
        "BIGGER_AND_DEEPER_RESULTS": str(scratch / "results"),
    }  # fmt: skip
    lesson = ("-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(scratch), LESSON)
    for command, folder in (
        (["sh", "./postBuild"], project), ([python, "-c", CHECK], notebooks), ([python, *lesson], notebooks),
    ):  # fmt: skip
        print(f"… {' '.join(command)}", flush=True)
        if status := subprocess.run(command, cwd=folder, env=activated).returncode:
            print(f"This failed (status {status}): {' '.join(command)}, in {folder}", file=sys.stderr)
            return status
    print(f"environment.yml and postBuild give what they should: {LESSON} ran.")
    return 0


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
