"""An imitation of Colab, for test_colab_door.py: its versions, its modules, an empty folder, and GitHub in a folder.

    colab = ImitatedColab(tmp_path, origin)
    outputs = colab.run(["print('hello')"])

It is a copy of .venv-colab without what Colab hasn't (d2l and what the tests need), in which `google.colab` is loaded
when Python starts, as it is there. The project's address on GitHub leads to `origin` by a setting of git's, and pip
finds nothing but the wheels that were kept when .venv-colab was made: so no network is needed, and the lessons' first
cell runs as it stands.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from for_tools import tool
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
elsewhere = tool("elsewhere")
WHEELS = ROOT / ".venv-colab" / "wheels"
NOT_IN_COLAB = ("d2l", "nbval", "hypothesis", "jupytext")
SECONDS = 600  # for a cell


def snapshot(folder: Path, branch: str) -> Path:
    """A repository of the working tree as it is, what isn't committed too, with one commit on `branch`."""
    elsewhere.copy_project(folder)
    who = ("-c", "user.name=A test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    made = ("init", "--quiet", f"--initial-branch={branch}")
    for words in (made, ("add", "--all"), (*who, "commit", "--quiet", "-m", "As it is")):
        subprocess.run(["git", *words], cwd=folder, check=True, env=git_environment())
    return folder


def git_environment(setting: str = "", value: str = "") -> dict[str, str]:
    """This process's, in which git heeds no settings but this one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    one = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": setting, "GIT_CONFIG_VALUE_0": value} if setting else {}
    return inherited | alone | one


def linked(source: str, target: str) -> None:
    """A hard link, which takes no time; on another disk a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class ImitatedColab:
    """One runtime of Colab's: `content`, the folder that its notebooks start in, and `python`, which runs them."""

    def __init__(self, folder: Path, url: str, origin: Path | str) -> None:
        """folder: an empty one, for everything. url: what is taken for `origin`, a repository's folder or address."""
        self.content = folder / "content"
        self.content.mkdir()
        environment = folder / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        self.python = environment / "bin" / "python"
        (self.site,) = environment.glob("lib/python*/site-packages")
        self._fill()
        where = origin if isinstance(origin, str) else origin.as_uri()
        kernels = folder / "jupyter" / "kernels" / "imitated-colab"
        kernels.mkdir(parents=True)
        argv = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        specification = {"argv": argv, "display_name": "Colab", "language": "python"}
        (kernels / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
        self.environment = git_environment(f"url.{where}.insteadOf", url) | {
            "JUPYTER_PATH": str(folder / "jupyter"), "IPYTHONDIR": str(folder / "ipython"),
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS.as_uri(), "PIP_CONFIG_FILE": os.devnull,
        }  # fmt: skip
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            self.environment.pop(name, None)

    def _fill(self) -> None:
        """Hard links: a copy in a second. What pip removes here is still there."""
        (theirs,) = (ROOT / ".venv-colab").glob("lib/python*/site-packages")
        left_out = shutil.ignore_patterns(*NOT_IN_COLAB, *(f"{name}-*.dist-info" for name in NOT_IN_COLAB))
        shutil.copytree(theirs, self.site, copy_function=linked, dirs_exist_ok=True, ignore=left_out)
        (self.site / "google" / "colab").mkdir(parents=True, exist_ok=True)
        (self.site / "google" / "colab" / "__init__.py").touch()
        (self.site / "google_colab.pth").write_text("import google.colab\n", encoding="utf-8")

    def remove(self, *names: str) -> None:
        """Take packages away, as if Colab had never had them."""
        subprocess.run(
            [self.python, "-m", "pip", "uninstall", "--quiet", "--yes", *names], check=True, env=self.environment
        )

    def freeze(self) -> set[str]:
        """Which packages are installed in which version: `numpy==2.1.3`."""
        run = subprocess.run(
            [self.python, "-m", "pip", "freeze", "--all"],
            check=True,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return {*run.stdout.split("\n")} - {""}

    def run(self, notebook: nbformat.NotebookNode | Sequence[str]) -> list[str]:
        """Run a notebook, or cells, in a new kernel; what each cell of code has printed. Raises CellExecutionError."""
        if not isinstance(notebook, nbformat.NotebookNode):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in notebook])
        resources = {"metadata": {"path": str(self.content)}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JUPYTER_PATH", self.environment["JUPYTER_PATH"])  # where the kernel is looked for
            client = NotebookClient(notebook, timeout=SECONDS, kernel_name="imitated-colab", resources=resources)
            client.execute(env=self.environment)
        return ["".join(o.get("text", "") for o in c.outputs) for c in notebook.cells if c.cell_type == "code"]
