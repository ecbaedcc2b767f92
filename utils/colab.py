"""What Colab lacks. The first cell of each lesson calls `set_up` there, once it has fetched the project.

Colab's own packages stay as they are, in whatever version: a newer numpy or ipywidgets beside what Colab has loaded
already breaks the runtime, or asks for a restart.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NOT_NEEDED = {"jupyterlab"}  # Colab is in its place
SECONDS = 120  # for pip, which tries for minutes where there is no network


def set_up() -> None:
    """Install what the project needs and is not here, d2l too, and nothing else; print what was done.

    Without their dependencies (pip's --no-deps), so that no version that is here changes. A second call finds all
    there.

    Raises RuntimeError, with what pip said, if something that the lessons need can't be installed. d2l is not needed by
    any: without it, a line says so.
    """
    needed, book = _lacking()
    if needed and (error := _pip_install(needed)):
        raise RuntimeError(
            f"{', '.join(needed)} must be installed, and pip could not do it:\n{error}\n"
            f"  to do: see that there is a network, then run this cell again"
        )
    if book and (error := _pip_install(book)):
        print(f"The book's package could not be installed, and no lesson needs it ({error.splitlines()[-1]})")
        book = []
    importlib.invalidate_caches()  # what was installed a moment ago is found without a restart
    done = f"Installed: {', '.join(needed + book)}." if needed + book else "Nothing was missing."
    print(f"Bigger & Deeper is in {PROJECT}. {done}")
    for line in _untested():
        print(line)


def _requirements() -> tuple[list[str], list[str]]:
    """What pyproject.toml says that the lessons need, and the book's package: `filelock>=3.13`."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["dependencies"], project["dependency-groups"]["d2l"]


def _lacking() -> tuple[list[str], list[str]]:
    """Of those, what no version is here of."""
    needed, book = ([line for line in lines if _version(_name(line)) is None] for lines in _requirements())
    return [line for line in needed if _name(line) not in NOT_NEEDED], book


def _untested() -> list[str]:
    """A line about each package that is here in a version with which the project has not been tested."""
    from packaging.requirements import Requirement  # matplotlib needs it, so it is there

    colabs = (PROJECT / "tests" / "colab.txt").read_text(encoding="utf-8").splitlines()  # ipywidgets 7, among others
    found = [(line, _version(_name(line))) for line in _requirements()[0]]
    return [
        f"{_name(line)} is {here} here, and the project is made for {line}: should a cell fail, that may be why."
        for line, here in found
        if here is not None
        and f"{_name(line)}=={here}" not in colabs
        and not Requirement(line).specifier.contains(here, prereleases=True)
    ]


def _name(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pip_install(requirements: list[str]) -> str:
    """Install them without what they ask for; in words what went wrong, nothing if nothing did."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    try:
        run = subprocess.run([*command, *requirements], capture_output=True, encoding="utf-8", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"pip was not done after {SECONDS} s"
    return (run.stderr.strip() or f"pip ended with status {run.returncode}") if run.returncode else ""
