"""Writes the repository's address wherever it stands, after a fork has set it in pyproject.toml: `make badges`.

What it does: puts `repository` and `branch` of [tool.bigger-and-deeper] into the badges of README and lessons and into
CITATION.cff; and gives each lesson its badge and its first cell, which is lessons/first_cell.py with that address. It
writes both into the notebooks, too, which need not be executed again: outside Colab that cell does nothing. With
--check nothing is written: what would change is listed, and the exit status is 1 if there is anything.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
import build_notebooks
from build_notebooks import LESSONS, ROOT, notebook_of, why_stale, write_whole

from utils.words import speak_anywhere

TEXTS = ("README.md", "CITATION.cff", "CONTRIBUTING.md")
COLAB, BINDER = "https://colab.research.google.com/github", "https://mybinder.org/v2/gh"

FIRST_CELL = LESSONS / "first_cell.py"
CELL = r"(?s)(tags: \[colab\]\n---\n).*?(\n```)"
OWN_BADGE = r"(\[!\[Open in Colab\]\([^)]*\)\]\([^)]*/notebooks/)[\w.-]*(\.ipynb\))"


@dataclass(frozen=True)
class Address:
    """Where the project lies on GitHub: `owner/name`, and the branch that the badges open."""

    repository: str
    branch: str

    def __post_init__(self) -> None:
        for name, value, pattern, example in (
            ("repository", self.repository, r"\w[\w-]*/(?!.*\.git$)\w[\w.-]*", "owner/name"),
            ("branch", self.branch, r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*", "main"),
        ):
            if not isinstance(value, str) or not re.fullmatch(pattern, value, flags=re.ASCII):
                raise ValueError(
                    f"{name} in pyproject.toml, under [tool.bigger-and-deeper], must be like {example!r} (letters, "
                    f"digits, hyphens, dots; no address and no .git), got {value!r}"
                )

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repository}"

    def written_into(self, text: str) -> str:
        """The text with this address in place of whichever stands there."""
        where = f"{self.repository}/{self.branch}"
        for pattern, address in (
            (rf"{COLAB}/[^\s)\"]+?(?=/notebooks/[\w.-]+\.ipynb)", f"{COLAB}/{self.repository}/blob/{self.branch}"),
            (rf"{BINDER}/[^\s)?\"]+", f"{BINDER}/{where}"),
            (r"https://github\.com/[\w.-]+/[\w.-]+(?=/actions/workflows/)", self.url),
            (r"(?m)^repository-code: .*$", f'repository-code: "{self.url}"'),
            (r'source, branch = "[^"]*", "[^"]*"', f'source, branch = "{self.url}", "{self.branch}"'),
        ):
            text = re.sub(pattern, lambda _, new=address: new, text)
        return text


def address() -> Address:
    """What pyproject.toml says; ValueError for what is no address."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    settings = settings.get("bigger-and-deeper", {})
    return Address(settings.get("repository"), settings.get("branch"))


def texts() -> list[Path]:
    """The files that hold the address, notebooks apart."""
    return [path for name in TEXTS if (path := ROOT / name).exists()] + [FIRST_CELL, *sorted(LESSONS.glob("*.md"))]


def write(here: Address, *, only_check: bool) -> list[str]:
    """Put it into every file; which ones were changed, or would be."""
    changed = []
    for path in texts():
        before = path.read_text(encoding="utf-8")
        is_lesson = path.parent == LESSONS and path != FIRST_CELL
        after = of_lesson(path, here) if is_lesson else here.written_into(before)
        notebook = carried_over(path, here) if is_lesson and notebook_of(path).exists() else None
        if notebook is not None:
            changed.append(notebook_of(path).name)
        if after != before:
            changed.append(path.name)
        if only_check:
            continue
        was_fresh = notebook is not None and why_stale(path) is None
        if after != before:
            write_whole(path, after)
        if notebook is not None:
            if was_fresh:
                notebook.metadata[build_notebooks.STAMP] = build_notebooks.stamp_of(path)
            build_notebooks.put_in_place(notebook, path)
    return changed


def of_lesson(lesson: Path, here: Address) -> str:
    """A lesson's text with its own badge, if it has one, and the first cell that all have."""
    text = here.written_into(lesson.read_text(encoding="utf-8"))
    text = re.sub(OWN_BADGE, rf"\g<1>{lesson.stem}\g<2>", text)
    return re.sub(CELL, lambda found: f"{found[1]}{first_cell(here)}{found[2]}", text, count=1)


def first_cell(here: Address) -> str:
    """The cell that all lessons begin with, with this address."""
    return here.written_into(FIRST_CELL.read_text(encoding="utf-8")).strip()


def carried_over(lesson: Path, here: Address) -> nbformat.NotebookNode | None:
    """The lesson's notebook with the same badge and first cell; None if it has them, or has to be built anew anyway."""
    try:
        notebook = nbformat.read(notebook_of(lesson), as_version=4)
    except ValueError:  # no JSON, such as what a merge leaves
        return None
    before = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        cell.source = here.written_into(cell.source)
        if cell.cell_type == "markdown":
            cell.source = re.sub(OWN_BADGE, rf"\g<1>{lesson.stem}\g<2>", cell.source)
        elif "colab" in cell.metadata.get("tags", []):
            cell.source = first_cell(here)
    return notebook if before != [cell.source for cell in notebook.cells] else None


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing, list what would change")
    options = parser.parse_args()
    os.chdir(ROOT)
    try:
        here = address()
    except ValueError as error:
        parser.error(str(error))
    changed = write(here, only_check=options.check)
    for name in changed:
        print(f"{name}: {'has another address' if options.check else 'written'}")
    if not changed:
        print(f"All of them lead to {here.url}, branch {here.branch}.")
    elif options.check:
        print("To do: make badges")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
