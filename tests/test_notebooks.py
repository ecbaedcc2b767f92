"""The notebooks are what their lessons say, and the code that a lesson teaches is the code that utils keeps."""

import ast
import itertools
import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from for_tools import of_this_machine, tool
from torch import nn

from utils import blocks, models
from utils.architectures import VGG
from utils.profiling import profile

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

OF_THIS_MACHINE = of_this_machine()

build_notebooks = tool("build_notebooks")


def names(paths):
    return [path.stem for path in paths]


def test_every_lesson_has_a_notebook_and_the_other_way_round():
    assert names(LESSONS) == names(NOTEBOOKS) and LESSONS


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_the_notebook_is_up_to_date(lesson):
    assert build_notebooks.why_stale(lesson) is None, "run `make notebooks`"


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_the_notebook_has_the_lessons_cells(lesson):
    notebook = nbformat.read(build_notebooks.notebook_of(lesson), as_version=4)
    assert build_notebooks.cells_of(notebook) == build_notebooks.cells_of(jupytext.read(lesson))


def test_a_changed_lesson_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(build_notebooks, "LESSONS", tmp_path)
    changed = tmp_path / LESSONS[0].name
    changed.write_text(LESSONS[0].read_text(encoding="utf-8") + "\nOne more sentence.\n", encoding="utf-8")
    assert build_notebooks.why_stale(changed) == "lesson changed since"


def test_line_endings_make_nothing_stale(tmp_path):
    windows = tmp_path / LESSONS[0].name
    windows.write_bytes(LESSONS[0].read_bytes().replace(b"\n", b"\r\n"))
    assert build_notebooks.why_stale(windows) is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_the_notebook_is_fit_to_be_published(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert "widgets" not in notebook.metadata and len(text) < 1_000_000
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not any(build_notebooks.WIDGET in output.get("data", {}) for output in cell.outputs)
            assert cell.execution_count, f"not executed: {cell.source[:60]}"
            for output in cell.outputs:
                assert output.output_type != "error"
                found = OF_THIS_MACHINE.search(str(output))
                assert not found, f"{found[0]} in the output of: {cell.source[:60]}"
            size = len(json.dumps(cell.outputs))
            assert size < 200_000, f"{size:,} bytes of output: {cell.source[:60]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_plots_have_alternative_text(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and any("image/png" in o.get("data", {}) for o in cell.outputs):
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), cell.source[:80]


def taught() -> dict[str, str]:
    """The code of each cell tagged `teaches:NAME`, by NAME."""
    found = {}
    for path in LESSONS:
        for cell in jupytext.read(path).cells:
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("teaches:"):
                    found[tag.removeprefix("teaches:")] = cell.source
    return found


def taught_code() -> dict:
    """All taught functions, each of which may use the others."""
    namespace = {"torch": torch, "nn": nn, "OrderedDict": OrderedDict}
    for source in taught().values():
        exec(source, namespace)
    return namespace


def assert_same_network(theirs: nn.Module, ours: nn.Module, images: torch.Tensor) -> None:
    theirs, ours = theirs.eval(), ours.eval()
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(theirs(images), ours(images), rtol=0, atol=0)


def test_all_that_is_taught_is_compared_here():
    assert set(taught()) == {"lenet", "alexnet", "seen_by", "vgg_block", "vgg"}


def test_the_taught_lenet_is_the_kept_one():
    assert_same_network(taught_code()["lenet"](), models.lenet(), torch.randn(3, 1, 28, 28))


def test_the_taught_alexnet_is_the_kept_one():
    with torch.inference_mode():
        assert_same_network(taught_code()["alexnet"](), models.alexnet(), torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("num_convs", [1, 3])
def test_the_taught_block_is_the_kept_one(num_convs):
    theirs, ours = taught_code()["vgg_block"](num_convs, 3, 8), blocks.vgg_block(num_convs, 3, 8)
    assert isinstance(theirs, list)
    assert_same_network(nn.Sequential(*theirs), nn.Sequential(*ours), torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_the_taught_builder_makes_the_kept_vggs(name):
    """Shapes at full size; outputs at a sixteenth of the channels, at full size they would fill the memory."""
    vgg, plan = taught_code()["vgg"], [(len(b.convs), b.convs[0].out_channels) for b in VGG[name].blocks]
    with torch.device("meta"):
        theirs, ours = vgg(plan), models.build(VGG[name])
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    small = VGG[name].scaled(1 / 16).change(num_classes=10)
    theirs = vgg([(n, c // 16) for n, c in plan], hidden=256, num_classes=10)
    assert_same_network(theirs, models.build(small), torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("kernel_sizes", [(5,), (3, 3), (3, 3, 3), (13,), (1, 5, 3)])
def test_what_the_taught_mask_sees_is_what_the_profile_says(kernel_sizes):
    stack = nn.Sequential(*(nn.Conv2d(1, 1, k, padding=k // 2) for k in kernel_sizes))
    field = profile(stack, (1, 28, 28)).layers.receptive_field.iloc[-1]
    mask = taught_code()["seen_by"](*kernel_sizes)
    assert int(mask.any(0).sum()) == int(mask.any(1).sum()) == field and int(mask.sum()) == field**2


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_the_lesson_is_of_a_length_to_read(lesson):
    """60 to 120 lines of code. Those that check it don't count, nor the few that open an explorer or set Colab up."""
    cells = [cell for cell in jupytext.read(lesson).cells if cell.cell_type == "code"]
    code = [cell.source for cell in cells if not {"check", "explorer", "colab"} & set(cell.metadata.get("tags", []))]
    lines = [line for source in code for line in source.splitlines() if line.strip() and line.strip()[0] != "#"]
    assert 60 <= len(lines) <= 120, f"{len(lines)} lines of code: the machinery belongs in utils"


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_every_explorer_is_followed_by_a_picture_of_it(lesson):
    """For who reads the notebook and doesn't run it."""
    cells = [cell for cell in jupytext.read(lesson).cells if cell.cell_type == "code"]
    opening = [i for i, cell in enumerate(cells) if "from utils.widgets import" in cell.source]
    assert opening or lesson.stem.startswith("00")
    for i in opening:
        assert "explorer" in cells[i].metadata.tags and len(cells[i].source.splitlines()) <= 6
        name = cells[i].source.splitlines()[-1]  # shown as the cell's last value
        assert name.isidentifier() and f"{name} = " in cells[i].source
        assert "explorer" in cells[i + 1].metadata.tags and cells[i + 1].source == f"{name}.picture()"
        assert cells[i + 1].metadata.mystnb["image"]["alt"]
        assert "nbval-ignore-output" in cells[i].metadata.tags


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_every_cell_that_trains_is_checked_by_the_next(lesson):
    cells = [cell for cell in jupytext.read(lesson).cells if cell.cell_type == "code"]
    training = [(cell, following) for cell, following in itertools.pairwise(cells) if trains(cell.source)]
    assert training, "each lesson trains something"
    for cell, following in training:
        assert "check" in following.metadata.get("tags", []), cell.source[:80]


def trains(source):
    """Is fit, fit_arms or sweep called when the cell runs, other than in the body of a function that it defines?"""
    outside = [node for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef)]
    calls = [node.func for top in outside for node in ast.walk(top) if isinstance(node, ast.Call)]
    return not {"fit", "fit_arms", "sweep"}.isdisjoint(func.id for func in calls if isinstance(func, ast.Name))


def test_cells_that_train_are_told_from_others():
    assert trains("nets, found = fit_arms(arms, data)") and trains("def f():\n    pass\nfor x in y:\n    fit(x)")
    assert trains("print(table(sweep(mine, data)))") and not trains("def later():\n    fit(net)")
    assert not trains("refit(net)\nnet.fit(x)")


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_no_line_of_code_is_cut_off_on_a_projector(lesson):
    for cell in jupytext.read(lesson).cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else []:
            assert len(line) <= 100, line


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_utils_is_imported_before_torch(lesson):
    set_up, first = [cell.source for cell in jupytext.read(lesson).cells if cell.cell_type == "code"][:2]
    assert "torch" not in set_up
    assert first.index("from utils") < first.index("import torch"), "utils sets how torch's threads wait"


def test_importing_utils_sets_how_threads_wait_but_leaves_what_you_have_set():
    code = "import os, utils; print(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    for yours, expected in (({}, "PASSIVE 3000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE 3000")):
        run = subprocess.run(
            [sys.executable, "-c", code], env=clean | yours, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == expected


# What looks like a measurement in prose, and what makes it none of ours: a source in the same sentence.
MEASUREMENT = (
    r"(?<![\w.,])\d[\d,]*(?:\.\d+)?\s?"
    r"(?:%|per cent|points?\b|images/s|seconds\b|s\b|ms\b|[MG]B\b|G?FLOP/s|steps\b|times as\b|×(?!\s?\d))"
    r"|(?<![\w.])0\.\d+"
)
SOURCE = r"section \d|Table \d|Figure \d|arXiv|the makers of the data set"
NOT_MEASURED = {
    "00": {"10 %", "100 %", "64 MB"},  # of ten classes; asked for; what the cell copies
    "01": {"95 %"},  # a level
    "02": {
        "233 MB",
        "0.005",
        "0.5",
    },  # a download; rates, which tests/test_catalog.py holds to the table
    "03": {"28.7 %", "28.1 %", "27.0 %"},  # Table 3, named in the sentence before
    "04": {"29.7 %", "29.6 %", "507 MB", "0.1", "0.01"},  # Table 3, as before; a download; deviations of first weights
    "05": {"91 %", "0.4 points", "0.6"},  # √(p(1 − p)/N)
}


@pytest.mark.parametrize("lesson", LESSONS, ids=names(LESSONS))
def test_no_result_of_ours_is_typed_into_prose(lesson):
    """A cell prints it, from this run or from the reference; what a paper says has its place in the paper beside it."""
    for sentence in sentences(jupytext.read(lesson)):
        typed = set(re.findall(MEASUREMENT, sentence)) - NOT_MEASURED.get(lesson.stem[:2], set())
        assert not typed or re.search(SOURCE, sentence), f"{typed} in: {sentence}"


def sentences(notebook):
    """The prose, without code and formulas."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for paragraph in re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$", "", cell.source, flags=re.DOTALL).split("\n\n"):
                yield from re.split(r"(?<=[.:?!)])\s+(?=[A-Z(*\"“])", paragraph)


def test_a_typed_result_would_be_found():
    text = "Look at Table 3.\n\nThere: `0.3 s`. Two 3×3 lead by 1.3 points (91.2 % against 89.9 %) after 484 steps. "
    text += "That is 1.6 × as many, to a loss of 0.31, in 12.8 MB and 20 s. The paper says 7 % (section 4.1)."
    found = list(sentences(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])))
    typed = [re.findall(MEASUREMENT, sentence) for sentence in found]
    assert [len(numbers) for numbers in typed] == [0, 0, 4, 4, 1]
    assert typed[2] == ["1.3 points", "91.2 %", "89.9 %", "484 steps"]
    assert typed[3] == ["1.6 ×", "0.31", "12.8 MB", "20 s"]
    assert [bool(re.search(SOURCE, sentence)) for sentence in found] == [True, False, False, False, True]
