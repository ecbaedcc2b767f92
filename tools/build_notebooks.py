"""Builds notebooks/*.ipynb from lessons/*.md, executes them and stamps them: `make notebooks`.

Only stale notebooks are built: those whose lesson, or whose code in utils/, has changed since, and those whose cells
were edited by hand. Name lessons to build just these (`make notebooks ARGS=01_lenet`), or say --all. With --check
nothing is built: the stale ones are listed, and the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from utils.words import speak_anywhere

ROOT = Path(__file__).resolve().parent.parent
LESSONS, NOTEBOOKS, UTILS = ROOT / "lessons", ROOT / "notebooks", ROOT / "utils"
STAMP = "bigger_and_deeper"  # the key in the notebook's metadata
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 600  # seconds: far more than any cell takes, so that a hung kernel ends


def digest(*files: Path) -> str:
    """SHA-256 over names and contents; line endings don't count, so that a checkout on Windows gives the same."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return total.hexdigest()


def stamp_of(lesson: Path) -> dict[str, str]:
    """What a notebook made now from `lesson` is stamped with."""
    return {"lesson": digest(lesson), "utils": digest(*UTILS.glob("**/*.py"), *UTILS.glob("**/*.mplstyle"))}


def notebook_of(lesson: Path) -> Path:
    """Where the lesson's notebook is, or will be."""
    return NOTEBOOKS / f"{lesson.stem}.ipynb"


def why_stale(lesson: Path) -> str | None:
    """In words why the lesson's notebook has to be built anew; None if it need not."""
    notebook = notebook_of(lesson)
    if not notebook.exists():
        return "it has no notebook yet"
    try:
        found = nbformat.read(notebook, as_version=4)
    except ValueError as error:  # no JSON, such as what a merge leaves
        return f"its notebook cannot be read ({str(error)[:80]}…)"
    stamp = found.metadata.get(STAMP, {})
    changed = [name for name, now in stamp_of(lesson).items() if stamp.get(name) != now]
    if not changed and cells_of(found) != cells_of(jupytext.read(lesson)):
        changed = ["notebook"]
    return f"{' and '.join(changed)} changed since" if changed else None


def cells_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
    """What a notebook has from its lesson: type, source and tags of each cell. Outputs are the machine's."""
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def build(lesson: Path) -> None:
    """Convert, execute, stamp, and only then put in place: a lesson that fails leaves the old notebook as it is."""
    stamp = stamp_of(lesson)  # before: what changes while it runs makes it stale
    notebook = jupytext.read(lesson)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{lesson.stem}-{i:03d}"  # the same each time: a diff then shows what changed
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        store_widget_state=False,  # GitHub renders no notebook that has it
        record_timing=False,
    )
    with tempfile.TemporaryDirectory() as fresh:  # nothing is resumed from runs of yours
        client.execute(env={**os.environ, "BIGGER_AND_DEEPER_RESULTS": fresh})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
            for output in cell.outputs:
                leave_out_widget(output)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            STAMP: stamp,
        }
    )
    put_in_place(notebook, lesson)


def put_in_place(notebook: nbformat.NotebookNode, lesson: Path) -> None:
    """Write the lesson's notebook: all of it or nothing."""
    nbformat.validate(notebook)
    write_whole(notebook_of(lesson), nbformat.writes(notebook))


def write_whole(target: Path, text: str) -> None:
    """All of the file or nothing, whenever it is interrupted."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Is it what a progress bar left? It is gone from the screen, and should be gone from the file."""
    return re.search(r"% ?\|", output.get("data", {}).get("text/plain", "")) is not None and WIDGET in output.data


def leave_out_widget(output: nbformat.NotebookNode) -> None:
    """What a widget says of itself in words stays: who opens the notebook has no kernel to draw it with, and would be
    shown an error in its place."""
    if len(output.get("data", {})) > 1:
        output.data.pop(WIDGET, None)


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("lessons", nargs="*", help="their names, such as 01_lenet; none: all that are stale")
    parser.add_argument("--all", action="store_true", help="build those that are up to date too")
    parser.add_argument("--check", action="store_true", help="build nothing, list the stale ones")
    options = parser.parse_args()
    known = {path.stem: path for path in sorted(LESSONS.glob("*.md"))}
    if unknown := set(options.lessons) - set(known):
        parser.error(f"no such lesson: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = [known[name] for name in options.lessons] or list(known.values())
    reasons = {lesson: why_stale(lesson) for lesson in wanted}
    if (options.all or options.lessons) and not options.check:
        reasons = {lesson: why or "asked for" for lesson, why in reasons.items()}
    stale = {lesson: why for lesson, why in reasons.items() if why}
    for lesson, why in stale.items():
        print(f"{lesson.stem}: {why}", flush=True)
        if options.check:
            continue
        start = time.monotonic()
        try:
            build(lesson)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{lesson.stem}: a cell failed; its notebook is left as it was.\n{error}", file=sys.stderr)
            return 1
        print(f"{lesson.stem}: built in {time.monotonic() - start:.0f} s", flush=True)
    if not stale:
        print("All notebooks are up to date.")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
