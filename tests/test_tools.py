"""tools/: what `make curve`, `make notebooks` and `make environment` do, and what they say where they can't."""

import ast
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from utils import device, experiments
from utils.architectures import LENET, LENET_BOOK, VGG_SMALL, Head, vgg_like
from utils.data import DataError
from utils.experiments import Arm, Experiment
from utils.results import ResultsFile, pareto_front, points, table
from utils.throughput import inference_throughput
from utils.training import Recipe

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.system


def load(path):
    """A tool as a module of its own; what is changed in it is not changed anywhere else."""
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if is_kept(path)}


def is_kept(path):
    """Not a lock: an empty file, which stays where it is."""
    return path.is_file() and path.suffix != ".lock"


# --- make curve -------------------------------------------------------------------------------------------------------

SMALL, LARGE = (vgg_like((1,), (channels,), head=Head(hidden=(8,))) for channels in (2, 4))
SHORT = Recipe(epochs=1, batch_size=32, lr=0.1)
TINY_CURVE = Experiment("curve", "Which one?", (Arm(SMALL, SHORT), Arm(LARGE, SHORT)))


@pytest.fixture(scope="module")
def tiny(tiny):
    """The same images, which here pass for all there are."""
    return replace(tiny, is_sample=False)


@pytest.fixture
def small_world(tiny, tmp_path, monkeypatch):
    """Tiny data, a folder of its own and brief measurements for the tool that it is called with."""
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("BIGGER_AND_DEEPER_RESULTS", raising=False)
    monkeypatch.setattr(device, "fastest_dtype", lambda name: torch.float32)
    monkeypatch.setattr(
        experiments,
        "inference_throughput",
        lambda *a, **k: inference_throughput(*a, **k | {"repeats": 1, "seconds": 0}),
    )

    def settle(name):
        tool = load(ROOT / "tools" / f"{name}.py")
        monkeypatch.setattr(tool, "pick_device", lambda: torch.device("cpu"))
        monkeypatch.setattr(tool, "load_fashion_mnist", lambda device: tiny)

        def run(*words):
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
            return tool.main()

        tool.run = run
        return tool

    return settle


@pytest.fixture
def curve(small_world, monkeypatch):
    """tools/curve.py with two tiny networks; called with the words of a command."""
    tool = small_world("curve")
    monkeypatch.setattr(tool, "CURVE", TINY_CURVE)
    tool.run = partial(tool.run, "--workers", "1")
    return tool


def test_curve_prints_a_table_and_writes_its_results_and_plot(curve, tmp_path, capsys):
    assert curve.run("--seeds", "2") == 0
    assert sorted(files_in(tmp_path)) == [f"results/local/curve.{end}" for end in ("jsonl", "png", "svg")]
    records = ResultsFile(tmp_path / "results" / "local" / "curve.jsonl").read()
    assert sorted((r["label"], r["seed"]) for r in records if r["kind"] == "run") == sorted(
        (a.label, seed) for a in (SMALL, LARGE) for seed in (0, 1)
    )
    printed = capsys.readouterr().out
    for architecture in (SMALL, LARGE):
        assert re.search(rf"{re.escape(architecture.label)} .* \d+\.\d\d% +\d+\.\d\d points", printed)
    assert printed.count("written: ") == 2 and "curve.svg" in printed
    stars = len(re.findall(r"^ *VGG.* \*$", printed, flags=re.M))
    assert stars == len(pareto_front(points(table(records)))) and "* on the Pareto front" in printed


def test_curve_draws_the_others_where_one_network_fails(curve, tmp_path, capsys, monkeypatch):
    arms = (TINY_CURVE.arms[0], Arm(LARGE, replace(SHORT, lr=1e6)))
    monkeypatch.setattr(curve, "CURVE", replace(TINY_CURVE, arms=arms))
    assert curve.run() == 1
    printed = capsys.readouterr().out
    assert f"{LARGE.label}, seed 0, failed: the loss became" in printed
    assert (tmp_path / "results" / "local" / "curve.svg").exists()


def test_curve_says_so_where_every_network_fails(curve, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(curve, "CURVE", replace(TINY_CURVE, arms=(Arm(LARGE, replace(SHORT, lr=1e6)),)))
    assert curve.run() == 1
    assert "No network could be trained" in capsys.readouterr().err
    assert list(files_in(tmp_path)) == ["results/local/curve.jsonl"]


def test_curve_with_a_failed_seed_is_not_whole(curve, monkeypatch):
    def sweep(*arguments, **options):  # one of four runs failed
        return usual(*arguments, **options)[:-1]

    usual = curve.sweep
    monkeypatch.setattr(curve, "sweep", sweep)
    assert curve.run("--seeds", "2") == 1


def test_curve_can_be_stopped(curve, tmp_path, capsys, monkeypatch):
    def sweep(experiment, data, workers):
        assert experiment.seeds == (0, 1, 2) and {arm.recipe.epochs for arm in experiment.arms} == {7} and workers == 5
        raise KeyboardInterrupt

    monkeypatch.setattr(curve, "sweep", sweep)
    assert curve.run("--seeds", "3", "--epochs", "7", "--workers", "5") == 130
    assert "What was finished is kept" in capsys.readouterr().err
    assert files_in(tmp_path) == {}


def test_curve_says_what_is_wrong_with_the_data(curve, capsys, monkeypatch):
    def load_fashion_mnist(device):
        raise DataError("a file is not what it should be")

    monkeypatch.setattr(curve, "load_fashion_mnist", load_fashion_mnist)
    assert curve.run() == 1
    assert capsys.readouterr().err == "a file is not what it should be\n"


@pytest.mark.parametrize("words", [("--seeds", "0"), ("--seeds", "-1"), ("--epochs", "0"), ("--workers", "0")])
def test_curve_refuses_what_makes_no_sense(curve, capsys, monkeypatch, words):
    monkeypatch.setattr(curve, "load_fashion_mnist", None)  # not to be called
    with pytest.raises(SystemExit) as error:
        curve.run(*words)
    assert error.value.code == 2
    assert f"{words[0]} must be at least 1, got {words[1]}" in capsys.readouterr().err


def test_curve_writes_where_the_environment_says(curve, tmp_path, monkeypatch):
    monkeypatch.setenv("BIGGER_AND_DEEPER_RESULTS", str(tmp_path / "My Drive"))
    assert curve.run() == 0
    assert sorted(files_in(tmp_path)) == [f"My Drive/curve.{end}" for end in ("jsonl", "png", "svg")]


def test_curve_promotes_what_is_whole(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "device_name", lambda where: "A CPU")
    assert curve.run("--promote") == 0
    assert set(files_in(tmp_path / "results" / "reference")) == {
        f"a-cpu/curve.{end}" for end in ("jsonl", "png", "svg")
    }


def test_curve_on_validation_images_has_files_of_its_own(curve, tmp_path, capsys, monkeypatch):
    by = replace(TINY_CURVE, name="curve_validation", evaluate_on="validation")
    monkeypatch.setattr(curve, "CURVE_TO_CHOOSE_BY", by)
    assert curve.run("--validation") == 0
    assert sorted(files_in(tmp_path)) == [f"results/local/curve_validation.{end}" for end in ("jsonl", "png", "svg")]
    assert "validation accuracy" in capsys.readouterr().out


def test_curve_does_not_promote_the_sample_and_says_so(curve, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(curve, "load_fashion_mnist", lambda device: replace(tiny, is_sample=True))
    assert curve.run("--promote") == 1
    assert "Not promoted: a reference needs all of the images" in capsys.readouterr().err
    assert sorted(files_in(tmp_path)) == [f"results/local/curve.{end}" for end in ("jsonl", "png", "svg")]


# --- make experiments -------------------------------------------------------------------------------------------------

OTHER = replace(TINY_CURVE, name="other", arms=TINY_CURVE.arms[:1], seeds=(0, 1))


@pytest.fixture
def reference_runs(small_world, monkeypatch):
    tool = small_world("experiments")
    monkeypatch.setattr(tool, "EXPERIMENTS", {"curve": TINY_CURVE, "other": OTHER})
    monkeypatch.setattr(tool, "BY_LESSON", {"01": (TINY_CURVE,), "02": (OTHER, TINY_CURVE)})
    return tool


def test_experiments_without_a_name_lists_them_and_how_much_is_done(reference_runs, tmp_path, capsys):
    assert reference_runs.run() == 0
    assert files_in(tmp_path) == {}, "nothing is run"
    assert re.search(r"^01  curve +0 of +2 runs   Which one\?$", capsys.readouterr().out, flags=re.M)
    assert reference_runs.run("other", "--workers", "1") == 0
    capsys.readouterr()
    assert reference_runs.run() == 0
    assert re.search(r"^02  other +2 of +2 runs   Which one\?$", capsys.readouterr().out, flags=re.M)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["curve"], ["curve"]),
        (["other", "curve"], ["other", "curve"]),
        (["02"], ["other", "curve"]),
        (["01", "curve"], ["curve"]),
        (["all"], ["curve", "other"]),
    ],
)
def test_experiments_are_run_by_name_by_lesson_or_all(reference_runs, tmp_path, capsys, names, expected):
    assert reference_runs.run(*names, "--workers", "1") == 0
    assert sorted(files_in(tmp_path)) == sorted(f"results/local/{name}.jsonl" for name in expected)
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+): Which one\?$", printed, flags=re.M) == expected
    assert SMALL.label in printed


def test_experiments_run_the_seeds_that_are_declared_and_resume(reference_runs, tmp_path, capsys):
    for _ in range(2):
        assert reference_runs.run("other", "--workers", "1") == 0
    records = ResultsFile(tmp_path / "results" / "local" / "other.jsonl").read()
    assert [r["seed"] for r in records if r["kind"] == "run"] == [0, 1]
    assert "2 of 2 runs are in " in capsys.readouterr().out


def test_only_promote_makes_a_reference_and_only_of_what_is_whole(reference_runs, tmp_path, capsys, monkeypatch):
    reference = tmp_path / "results" / "reference"
    assert reference_runs.run("other", "--workers", "1") == 0 and not reference.exists()
    assert reference_runs.run("other", "--workers", "1", "--promote") == 0
    assert [file.name for file in reference.glob("*/*")] == ["other.jsonl"]
    failing = replace(OTHER, name="other", arms=(*OTHER.arms, Arm(LARGE, replace(SHORT, lr=1e6))))
    (file,) = reference.glob("*/*")
    file.with_suffix(".svg").write_text("drawn from what was there before", encoding="utf-8")
    assert reference_runs.run("other", "--workers", "1", "--promote") == 0
    accuracy = f"{table(ResultsFile(file).read()).accuracy[0]:.1%}"
    assert accuracy in file.with_suffix(".svg").read_text(encoding="utf-8") and file.with_suffix(".png").exists()
    monkeypatch.setattr(reference_runs, "EXPERIMENTS", {"other": failing})
    before = files_in(reference)
    assert reference_runs.run("other", "--workers", "1", "--promote") == 1
    printed = capsys.readouterr().err
    assert f"failed: {LARGE.label}, seed 0" in printed and "Not promoted: 2 of 4 runs are missing" in printed
    assert files_in(reference) == before


def test_experiments_that_there_are_not_are_refused_with_those_that_there_are(reference_runs, tmp_path, capsys):
    for words in (["nonsense"], ["curve", "--workers", "0"], ["curve", "--promot"], ["--promote"]):
        with pytest.raises(SystemExit) as stopped:
            reference_runs.run(*words)
        assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert "take one of curve, other; or a lesson's, 01, 02; or all" in printed and "at least 1, got 0" in printed
    assert files_in(tmp_path) == {}


def test_experiments_can_be_stopped(reference_runs, capsys, monkeypatch):
    def sweep(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(reference_runs, "sweep", sweep)
    assert reference_runs.run("all") == 130
    assert "the same command goes on from there" in capsys.readouterr().err


# --- which rate -------------------------------------------------------------------------------------------------------


def test_tune_tries_rates_on_validation_images_and_keeps_what_it_found(small_world, monkeypatch, tmp_path, capsys):
    tool = small_world("tune")
    named = replace(OTHER, arms=tuple(replace(arm, name="small") for arm in OTHER.arms))
    monkeypatch.setattr(tool, "EXPERIMENTS", {"curve": TINY_CURVE, "other": named})
    rates = ("--rates", "0.1", "0.0001")
    assert tool.run("other", "--epochs", "2", *rates, "--seeds", "2", "--only", "small") == 0
    tool.run("curve", "--rates", "0.1", "--only", LARGE.label)
    printed = capsys.readouterr().out
    assert re.search(r"small +\d+\.\d\d% +\d+\.\d\d% +0\.", printed)
    file = tmp_path / "results" / "local" / "tune.jsonl"
    runs = [record for record in ResultsFile(file).read() if record["kind"] == "run"]
    assert len(runs) == 5 and {run["evaluate_on"] for run in runs} == {"validation"}
    tool.run("--keep")
    assert [record for record in ResultsFile(file).read() if record["kind"] == "run"] == runs, "it trains nothing"
    (kept,) = (tmp_path / "results" / "reference").glob("*/*")
    found = pd.read_csv(kept)
    assert kept.name == "rates.csv" and list(found.columns) == "experiment arm epochs rate seeds accuracy".split()
    # The small network is an arm of both experiments: its recipe is the same but for rate and epochs.
    keys = list(zip(found.experiment, found.arm, found.epochs, found.rate, found.seeds, strict=True))
    assert keys == [
        ("curve", SMALL.label, 2, 0.0001, 2), ("curve", SMALL.label, 2, 0.1, 2), ("curve", LARGE.label, 1, 0.1, 1),
        ("other", "small", 2, 0.0001, 2), ("other", "small", 2, 0.1, 2),
    ]  # fmt: skip
    of_small = [100 * run["accuracy"] for run in runs if run["digest"] == SMALL.digest and run["recipe"]["lr"] == 0.1]
    assert found.accuracy[1] == pytest.approx(sum(of_small) / 2, abs=0.006)
    file.unlink()
    tool.run("--keep")
    assert pd.read_csv(kept).equals(found), "what was tried in another checkout stays"


def test_tune_says_which_rates_failed_and_never_reached_the_loss(small_world, monkeypatch, capsys):
    tool = small_world("tune")
    monkeypatch.setattr(tool, "EXPERIMENTS", {"curve": TINY_CURVE})
    assert tool.run("curve", "--rates", "1e9", "--only", SMALL.label) == 0
    assert re.search(
        r"^ *1e\+09 best\n.* – none$", capsys.readouterr().out.split("–: failed.\n")[1].split("  arm")[1], re.M
    )
    assert tool.run("curve", "--rates", "0.1", "1e9", "--only", SMALL.label, "--loss", "0.0001") == 0
    accuracies, steps = capsys.readouterr().out.split("–: failed.\n")[1:]
    assert re.search(r"\d% +– +0\.1$", accuracies, re.M) and re.search(r"inf +– +0\.1$", steps, re.M)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rates", "0"], "argument --rates: must be a number above 0, got '0'"),
        (["--rates", "0.1", "inf"], "argument --rates: must be a number above 0, got 'inf'"),
        (["--rates", "fast"], "argument --rates: must be a number above 0, got 'fast'"),
        (["--epochs", "0"], "argument --epochs: must be a whole number of at least 1, got '0'"),
        (["--seeds", "1.5"], "argument --seeds: must be a whole number of at least 1, got '1.5'"),
        (["--loss", "-1"], "argument --loss: must be a number above 0, got '-1'"),
        (["--only", "ResNet"], "curve has no ResNet: it has "),
    ],
)
def test_tune_refuses_what_makes_no_sense(small_world, monkeypatch, capsys, words, message):
    tool = small_world("tune")
    with pytest.raises(SystemExit):
        tool.run(*words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("no images here"), 1, "no images here"),
        (KeyboardInterrupt(), 130, "Stopped. What was finished is kept"),
    ],
)
def test_tune_ends_with_a_word_where_data_are_missing_or_it_is_stopped(
    small_world, monkeypatch, capsys, error, code, words
):
    tool = small_world("tune")

    def fail(device):
        raise error

    monkeypatch.setattr(tool, "load_fashion_mnist", fail)
    assert tool.run() == code and words in capsys.readouterr().err


# --- make bench -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tiny, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    tool = load(ROOT / "tools" / "bench.py")
    monkeypatch.setattr(tool, "load_fashion_mnist", lambda **_: tiny)
    monkeypatch.setattr(tool, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(device, "fastest_dtype", lambda name: torch.float32)
    return tool


def test_bench_prints_figure_goal_and_whether_it_is_met(bench):
    rows = [
        bench.Row("one", "12 ms", "≤ 20 ms", True),
        bench.Row("another one", "5", "≥ 10", False),
        bench.Row("c", "3"),
    ]
    assert bench.as_table(rows).splitlines() == [
        "| what        | figure | goal    | met |",
        "| ----------- | ------ | ------- | --- |",
        "| one         | 12 ms  | ≤ 20 ms | yes |",
        "| another one | 5      | ≥ 10    | NO  |",
        "| c           | 3      |         |     |",
    ]


def test_what_is_compared_is_measured_in_turn_and_the_first_round_does_not_count(bench, monkeypatch):
    clock, called = itertools.count(), []
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))

    def epoch(name, images):
        return lambda: called.append(name) or images * called.count(name)

    one, other = bench.compare(epoch("a", 10), epoch("b", 1), rounds=3)
    assert called == ["a", "b"] * 4
    assert one == [20.0, 30.0, 40.0] and other == [2.0, 3.0, 4.0], "images, and a second each"


@pytest.mark.parametrize(("goal", "met"), [(2.9, True), (3.0, True), (3.1, False), (None, None)])
def test_a_ratio_is_the_median_of_the_rounds(bench, goal, met):
    row = bench.ratio_row("a : b", [2000.0, 3000.0, 8000.0], [1000.0, 1000.0, 1000.0], goal)
    assert row.figure == "3,000 : 1,000 images/s, 3.0 × (2.0 to 8.0, 3 rounds)"
    assert row.met is met and row.goal == ("" if goal is None else f"≥ {goal:g} ×")


def test_ours_and_the_usual_loop_train_on_all_images_of_an_epoch(bench, tiny):
    with bench.where_the_book_looks(tiny) as folder:
        assert bench.usual(LENET_BOOK, folder)() == 240
        assert bench.usual(VGG_SMALL["VGG-11 ⅛ + BN"], folder)() == 240, "32×32: the images are framed"
    assert bench.ours(LENET_BOOK, tiny)() == 240


def test_the_books_trainer_trains_its_own_lenet_and_draws_as_in_a_notebook(bench, tiny, monkeypatch):
    from matplotlib.backends import backend_svg

    drawn, usual = [], backend_svg.FigureCanvasSVG.print_svg
    monkeypatch.setattr(
        backend_svg.FigureCanvasSVG, "print_svg", lambda self, *a, **k: drawn.append(1) or usual(self, *a, **k)
    )
    here = os.getcwd()
    with bench.where_the_book_looks(tiny), bench.as_in_a_notebook():
        assert bench.the_books()() == 240
    assert drawn and os.getcwd() == here


def test_bench_measures_how_long_a_student_waits(bench):
    row = bench.profile_row(repeats=2)
    assert re.fullmatch(r"\d+ ms \(\d+ to \d+, 2 times\)", row.figure) and row.goal == "≤ 100 ms"
    own, lesson = bench.import_rows(rounds=1)
    assert re.fullmatch(r"(\S+) s \(\1 to \1, 1 times\) after import torch's \d+\.\d\d s", own.figure)
    assert own.goal == "≤ 0.3 s" and lesson.goal == "" and lesson.met is None
    assert 0 < float(own.figure.split()[0]) < float(lesson.figure.split()[0])
    vgg = bench.small_vgg(bench.load_fashion_mnist(), epochs=1)
    assert re.fullmatch(r"[\d.]+% in [\d.]+ s", vgg.figure) and vgg.met is False, "240 images are too few"


def test_bench_measures_from_the_turn_of_a_slider_to_what_is_new(bench, tiny):
    rows = list(bench.slider_rows(tiny, turns=3))
    assert [row.what.split(":")[0] for row in rows] == [
        f"explorer, {n}" for n in ("LeNet", "VGG-11", "VGG-19") for _ in "12"
    ]
    for first, last in zip(rows[::2], rows[1::2], strict=True):
        assert (first.goal, last.goal) == ("≤ 100 ms", "≤ 200 ms")
        waits = [int(re.fullmatch(r"(\d+) ms, p95 \d+ ms \(3 times\)", row.figure)[1]) for row in (first, last)]
        assert 0 < waits[0] <= waits[1], "the table is there before the last drawing"


def test_bench_measures_from_stop_to_the_last_step(bench, tiny):
    row = bench.stop_row(tiny, LENET, times=2)
    assert row.what == "explorer, LeNet: from ■ to the last step" and row.goal == "≤ 1,000 ms"
    assert re.fullmatch(r"\d+ ms, p95 \d+ ms \(2 times\)", row.figure)


def test_bench_is_kept_only_if_asked_for(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    for name in ("import_rows", "training_rows", "slider_rows"):
        monkeypatch.setattr(bench, name, lambda *_: [])
    for name in ("profile_row", "small_vgg", "stop_row"):
        monkeypatch.setattr(bench, name, lambda *_, name=name: bench.Row(name, "1"))
    for words in ([], ["--promote"]):
        assert not list(tmp_path.rglob("*.md"))
        monkeypatch.setattr(sys, "argv", ["bench.py", *words])
        assert bench.main() == 0 and "| small_vgg" in capsys.readouterr().out
    (file,) = tmp_path.rglob("*.md")
    assert file.name == "bench.md" and file.parent.parent.name == "reference"
    text = file.read_text(encoding="utf-8")
    assert "| profile_row |" in text and f"torch {torch.__version__}" in text
    assert "batches of 256" in text and device.device_name("cpu") in text


def test_bench_measures_nothing_on_the_sample(bench, tiny, monkeypatch, capsys):
    monkeypatch.setattr(bench, "load_fashion_mnist", lambda **_: replace(tiny, is_sample=True))
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    assert bench.main() == 1 and "nothing is measured" in capsys.readouterr().err


# --- make notebooks ---------------------------------------------------------------------------------------------------

LESSON = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A lesson about Größe

```{code-cell} ipython3
:tags: [check]

x = 6 * 7
x
```

```{code-cell} ipython3
import os, sys
print("a warning", file=sys.stderr)
os.listdir(os.environ["BIGGER_AND_DEEPER_RESULTS"])
```

```{code-cell} ipython3
from tqdm.auto import tqdm
for i in tqdm(range(3)):
    pass
"done"
```
"""


class Executed:
    """Stands for nbclient's: it has run every cell at once, without a kernel."""

    def __init__(self, notebook, **options):
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def execute(self, **options):
        for number, cell in enumerate(self.cells, start=1):
            cell.execution_count = number


def failing_with(error):
    class Failing(Executed):
        def execute(self, **options):
            raise error

    return Failing


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """tools/build_notebooks.py on a project of one lesson; called with the words of a command."""
    tool = load(ROOT / "tools" / "build_notebooks.py")
    for folder in ("lessons", "notebooks", "utils"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(tool, folder.upper(), tmp_path / folder)
    tool.lesson, tool.notebook = tmp_path / "lessons" / "01_a.md", tmp_path / "notebooks" / "01_a.ipynb"
    tool.lesson.write_text(LESSON, encoding="utf-8")
    (tmp_path / "utils" / "models.py").write_text("x = 1\n", encoding="utf-8")
    tool.usual = tool.NotebookClient
    monkeypatch.setattr(tool, "NotebookClient", Executed)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["build_notebooks.py", *words])
        return tool.main()

    tool.run = run
    return tool


def edit(notebook, change):
    content = nbformat.read(notebook, as_version=4)
    change(content)
    nbformat.write(content, notebook)


def test_a_lesson_is_executed_and_gives_the_same_notebook_each_time(builder, capsys, monkeypatch):
    monkeypatch.setattr(builder, "NotebookClient", builder.usual)
    monkeypatch.setenv("BIGGER_AND_DEEPER_RESULTS", "mine")
    assert builder.run() == 0
    assert os.environ["BIGGER_AND_DEEPER_RESULTS"] == "mine"
    first = builder.notebook.read_bytes()
    notebook = nbformat.reads(first.decode(), as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == ["01_a-000", "01_a-001", "01_a-002", "01_a-003"]
    text, code, folder, bar = notebook.cells
    assert text.source == "# A lesson about Größe" and code.metadata.tags == ["check"]
    assert (code.execution_count, code.outputs[0].data["text/plain"]) == (1, "42")
    warning, listing = folder.outputs
    assert (warning.text, listing.data["text/plain"]) == ("a warning\n", "[]"), "in a folder for results that is empty"
    assert [output.data["text/plain"] for output in bar.outputs] == ["'done'"], "the progress bar is gone"
    assert set(notebook.metadata) == {"kernelspec", "language_info", "bigger_and_deeper"}
    assert builder.run("--all") == 0
    assert builder.notebook.read_bytes() == first
    assert list(files_in(builder.NOTEBOOKS)) == ["01_a.ipynb"]


def test_what_a_progress_bar_left_is_told_from_a_warning(builder):
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}}
    bar = nbformat.v4.new_output("display_data", widget | {"text/plain": " 50%|#####     | 1/2"})
    text = nbformat.v4.new_output("execute_result", {"text/plain": "accuracy 91 %|"})
    slider = nbformat.v4.new_output("display_data", widget | {"text/plain": "IntSlider(value=1)"})
    warning = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: 5%|\n")
    assert [builder.is_progress(output) for output in (bar, text, slider, warning)] == [True, False, False, False]


def test_only_what_is_stale_is_built(builder, capsys):
    assert builder.why_stale(builder.lesson) == "it has no notebook yet"
    assert builder.run() == 0 and "01_a: built" in capsys.readouterr().out
    assert builder.why_stale(builder.lesson) is None
    built = builder.notebook.stat().st_mtime_ns, builder.notebook.read_bytes()
    assert builder.run() == 0 and capsys.readouterr().out == "All notebooks are up to date.\n"
    assert (builder.notebook.stat().st_mtime_ns, builder.notebook.read_bytes()) == built
    assert builder.run("01_a") == 0 and "01_a: asked for\n01_a: built" in capsys.readouterr().out


def add_sentence(builder):
    builder.lesson.write_text(LESSON + "\nOne more sentence.\n", encoding="utf-8")


def change_module(builder):
    (builder.UTILS / "models.py").write_text("x = 2\n", encoding="utf-8")


def add_module(builder):
    (builder.UTILS / "plots").mkdir()
    (builder.UTILS / "plots" / "new.py").touch()


def delete_module(builder):
    (builder.UTILS / "models.py").unlink()


def rename_module(builder):
    (builder.UTILS / "models.py").rename(builder.UTILS / "nets.py")


def add_style(builder):
    (builder.UTILS / "a.mplstyle").touch()


def change_both(builder):
    add_sentence(builder)
    change_module(builder)


def edit_cell(builder):
    edit(builder.notebook, lambda notebook: notebook.cells[1].update(source="x = 43\nx"))


def edit_tags(builder):
    edit(builder.notebook, lambda notebook: notebook.cells[1].metadata.update(tags=[]))


def delete_cell(builder):
    edit(builder.notebook, lambda notebook: notebook.cells.pop())


def lose_stamp(builder):
    edit(builder.notebook, lambda notebook: notebook.metadata.pop("bigger_and_deeper"))


def merge(builder):
    builder.notebook.write_text("<<<<<<< HEAD\n" + builder.notebook.read_text("utf-8"), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_sentence, "lesson changed since"),
        (change_module, "utils changed since"),
        (add_module, "utils changed since"),
        (delete_module, "utils changed since"),
        (rename_module, "utils changed since"),
        (add_style, "utils changed since"),
        (change_both, "lesson and utils changed since"),
        (edit_cell, "notebook changed since"),
        (edit_tags, "notebook changed since"),
        (delete_cell, "notebook changed since"),
        (lose_stamp, "lesson and utils changed since"),
        (merge, "its notebook cannot be read"),
    ],
)
def test_what_changed_is_noticed_and_built_anew(builder, capsys, change, reason):
    builder.run()
    capsys.readouterr()
    assert builder.run("--check") == 0
    change(builder)
    before = files_in(builder.NOTEBOOKS)
    for words in (["--check"], ["--check", "01_a"], ["--check", "--all"]):
        capsys.readouterr()
        assert builder.run(*words) == 1
        assert capsys.readouterr().out.startswith(f"01_a: {reason}")
    assert files_in(builder.NOTEBOOKS) == before, "--check builds nothing"
    assert builder.run() == 0
    assert builder.run("--check") == 0


def test_a_notebook_that_was_only_run_again_is_not_stale(builder):
    def run_again(notebook):
        notebook.cells[1].update(execution_count=5, outputs=[nbformat.v4.new_output("stream", text="43")])
        notebook.metadata.kernelspec.display_name = "another"

    builder.run()
    edit(builder.notebook, run_again)
    assert builder.why_stale(builder.lesson) is None


def test_what_changes_while_a_lesson_runs_makes_it_stale(builder, monkeypatch):
    class Slow(Executed):
        def execute(self, **options):
            change_module(builder)

    monkeypatch.setattr(builder, "NotebookClient", Slow)
    builder.run()
    assert builder.why_stale(builder.lesson) == "utils changed since"


def test_a_cell_that_fails_is_named_and_the_old_notebook_stays(builder, capsys, monkeypatch):
    builder.run()
    before = files_in(builder.NOTEBOOKS)
    broken = LESSON + "\n```{code-cell} ipython3\nwidth = x / (x - 42)  # here\n```\n"
    builder.lesson.write_text(broken, encoding="utf-8")
    monkeypatch.setattr(builder, "NotebookClient", builder.usual)
    assert builder.run() == 1
    said = capsys.readouterr().err
    assert "01_a: a cell failed; its notebook is left as it was." in said
    assert "width = x / (x - 42)  # here" in said and "ZeroDivisionError" in said
    assert files_in(builder.NOTEBOOKS) == before


@pytest.mark.parametrize("error", [CellTimeoutError("A cell timed out: y = 1"), DeadKernelError("Kernel died: y = 1")])
def test_a_cell_that_hangs_or_kills_its_kernel_is_no_different(builder, capsys, monkeypatch, error):
    builder.run()
    before = files_in(builder.NOTEBOOKS)
    add_sentence(builder)
    monkeypatch.setattr(builder, "NotebookClient", failing_with(error))
    assert builder.run() == 1
    assert capsys.readouterr().err == f"01_a: a cell failed; its notebook is left as it was.\n{error}\n"
    assert files_in(builder.NOTEBOOKS) == before


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_notebook_is_written_whole_or_not_at_all(builder, monkeypatch, error):
    def replace_file(source, target):
        raise error

    builder.run()
    before = files_in(builder.NOTEBOOKS)
    add_sentence(builder)
    monkeypatch.setattr(builder.os, "replace", replace_file)
    with pytest.raises(type(error)):
        builder.run()
    assert files_in(builder.NOTEBOOKS) == before


def test_an_unknown_lesson_is_refused(builder, capsys):
    with pytest.raises(SystemExit) as error:
        builder.run("01_b")
    assert error.value.code == 2 and "no such lesson: 01_b; there are 01_a" in capsys.readouterr().err


def test_several_lessons_are_built_in_order_and_one_can_be_chosen(builder, capsys):
    (builder.LESSONS / "02_b.md").write_text(LESSON, encoding="utf-8")
    assert builder.run("02_b") == 0 and not builder.notebook.exists()
    assert builder.run("--check") == 1
    assert builder.run() == 0
    built = re.findall(r"(\w+): built in", capsys.readouterr().out)
    assert built == ["02_b", "01_a"]
    ids = [cell.id for path in sorted(builder.NOTEBOOKS.iterdir()) for cell in nbformat.read(path, 4).cells]
    assert len(set(ids)) == 8


# --- make environment -------------------------------------------------------------------------------------------------

TOOL = ROOT / "tools" / "setup_environment.py"
PYTHON = "{}.{}".format(*sys.version_info)


@pytest.fixture
def project(tmp_path):
    """A project in a folder whose name has what names may have."""
    folder = tmp_path / "Bücher & Größe (neu)"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(TOOL, folder / "tools")
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def setup(project, monkeypatch):
    """tools/setup_environment.py in that project; commands are noted, not run. `fails` says which of them do."""
    monkeypatch.chdir(project)  # and back, afterwards
    commands = []
    tool = SimpleNamespace(commands=commands, fails=lambda words: None, folder=project, venv=project / ".venv")

    def run(command, *, check=False, **options):
        commands.append(list(command))
        if "venv" in command and command[-1] == ".venv":
            Path(".venv").mkdir(exist_ok=True)
            Path(".venv", "pyvenv.cfg").write_text(f"home = /Ä\nversion_info = {PYTHON}.1\n", encoding="utf-8")
        if status := tool.fails(command):
            if check:
                raise subprocess.CalledProcessError(status, command)
            return subprocess.CompletedProcess(command, status, "ensurepip is not available\n", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    def main(*words):
        module = load(tool.folder / "tools" / "setup_environment.py")
        monkeypatch.setattr(sys, "argv", ["setup_environment.py", *words])
        commands.clear()
        module.main()
        return [" ".join(map(str, command)) for command in commands]

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/a path/{name}")
    tool.main = main
    return tool


def test_the_environment_is_made_once(setup):
    python = os.path.join(".venv", "Scripts" if os.name == "nt" else "bin", "python" + ".exe" * (os.name == "nt"))
    target = f"--quiet --compile-bytecode --python {python}"
    assert setup.main() == [
        f"/a path/uv venv --quiet --allow-existing --python {sys.executable} .venv",
        f"/a path/uv pip sync {target} requirements.txt --offline",
        f"/a path/uv pip install {target} --no-deps --no-build-isolation -e .",
    ]
    for _ in range(2):
        assert setup.main() == []


def change_requirements(project):
    (project / "requirements.txt").write_text("torch==2.12.0\n", encoding="utf-8")


def change_settings(project):
    file = project / "pyproject.toml"
    file.write_text(file.read_text(encoding="utf-8").replace('"tqdm>=4.66"', '"tqdm>=4.99"'), encoding="utf-8")


def delete_environment(project):
    shutil.rmtree(project / ".venv")


@pytest.mark.parametrize("change", [change_requirements, change_settings, delete_environment])
def test_the_environment_is_made_anew_when_what_it_is_made_of_changes(setup, change):
    setup.main()
    change(setup.folder)
    assert any("pip sync" in command for command in setup.main())
    assert setup.main() == []


def test_what_says_nothing_about_packages_needs_no_new_environment(setup):
    setup.main()
    file = setup.folder / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    fork, number = re.subn(r'(?m)^repository = ".*"$', 'repository = "jane/fork"', text)
    file.write_text(f"{fork}\n# more\n", encoding="utf-8")
    assert number == 1 and setup.main() == []
    file.write_text(text.replace('repository = "', "repository = ", 1), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"pyproject\.toml is not TOML: (?s:.)*words stand in quotes"):
        setup.main()
    assert setup.commands == [] and (setup.venv / ".ready").exists()


def test_what_the_cache_lacks_is_fetched(setup):
    setup.fails = lambda command: 2 if "--offline" in command else None
    offline, online = [command for command in setup.main() if "sync" in command]
    assert offline == f"{online} --offline" and (setup.venv / ".ready").exists()


def test_the_cpu_build_stays_until_the_environment_is_deleted(setup):
    setup.main()
    assert any("--torch-backend=cpu" in command for command in setup.main("--cpu"))
    for words in (["--cpu"], []):
        assert setup.main(*words) == []
    change_requirements(setup.folder)
    assert any("--torch-backend=cpu" in command for command in setup.main())
    delete_environment(setup.folder)
    assert not any("--torch-backend=cpu" in command for command in setup.main())


def test_a_moved_project_is_made_anew(setup, tmp_path):
    setup.main()
    os.chdir(tmp_path)  # Windows moves no folder that someone is in
    setup.folder = setup.folder.rename(tmp_path / "elsewhere")
    assert len(setup.main()) == 3, "the scripts in .venv hold the path"
    assert setup.main() == []


@pytest.mark.parametrize("step", ["venv", "sync", "install"])
def test_a_step_that_fails_is_named_and_the_next_call_tries_again(setup, step):
    setup.main()
    change_requirements(setup.folder)
    setup.fails = lambda command: 2 if step in command else None
    for _ in range(2):
        with pytest.raises(SystemExit) as error:
            setup.main()
        assert re.search(rf"This failed \(status 2\): /a path/uv .*{step}", str(error.value.code))
        assert not (setup.venv / ".ready").exists()
    setup.fails = lambda command: None
    assert len(setup.main()) == 3 and setup.main() == []


@pytest.mark.parametrize(("version", "kept"), [(f"{PYTHON}.0", True), ("3.9.18", False), ("3.1.1", False)])
def test_packages_of_another_python_are_not_left_beside_the_new_ones(setup, version, kept):
    setup.venv.mkdir()
    (setup.venv / "an old package").touch()
    (setup.venv / "pyvenv.cfg").write_text(f"home = /Ärger\nversion = {version}\n", encoding="utf-8")
    setup.main()
    assert (setup.venv / "an old package").exists() is kept


def test_the_cpu_build_has_every_pin_but_cudas(setup):
    commands = setup.main("--cpu")
    assert commands[1].endswith(os.path.join(".venv", "requirements-cpu.txt") + " --offline")
    assert re.search(r"--torch-backend=cpu torch==2\.11\.0 torchvision==0\.26\.0 --offline$", commands[2])
    assert commands[3].endswith("--no-deps --no-build-isolation -e .")

    def pins(path):
        return set(re.findall(r"^[\w.-]+==\S+", path.read_text("utf-8"), flags=re.M))

    left_out = pins(setup.folder / "requirements.txt") - pins(setup.venv / "requirements-cpu.txt")
    names = {pin.split("==")[0] for pin in left_out}
    assert {"torch", "torchvision", "triton"} < names
    assert all(re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", name) for name in names)
    rest = (setup.venv / "requirements-cpu.txt").read_text("utf-8")
    assert not re.search(r"^(nvidia|cuda|triton|torch)", rest, flags=re.M)
    entries = [entry for entry in re.split(r"\n(?=\S)", rest) if "==" in entry.split("\n")[0]]
    assert len(entries) > 100 and all("--hash=sha256:" in entry for entry in entries)


def test_without_uv_one_is_installed_into_the_project(setup, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    own = os.path.join(".uv", "Scripts" if os.name == "nt" else "bin", "")
    end = ".exe" * (os.name == "nt")
    commands = setup.main()
    assert commands[:2] == [f"{sys.executable} -m venv .uv", f"{own}python{end} -m pip install --quiet uv"]
    assert all(command.startswith(f"{own}uv{end} ") for command in commands[2:]) and len(commands) == 5
    Path(own).mkdir(parents=True)
    Path(f"{own}uv{end}").touch()
    change_requirements(setup.folder)
    assert len(setup.main()) == 3, "it is there now"


def test_without_ensurepip_the_systems_package_is_named(setup, monkeypatch):
    def half_made(command):
        if command[-1] == ".uv":
            (setup.folder / ".uv" / "bin").mkdir(parents=True)
            return 1

    monkeypatch.setattr(shutil, "which", lambda name: None)
    setup.fails = half_made
    with pytest.raises(SystemExit) as error:
        setup.main()
    message = str(error.value.code)
    assert f"sudo apt install python{PYTHON}-venv" in message
    assert "ensurepip is not available" in message and sys.executable in message
    assert not (setup.folder / ".uv").exists() and not setup.venv.exists()


def test_a_python_that_nobody_has_tested_yet_is_named_once(setup, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 99, 1, "final", 0))
    assert setup.main()
    assert "With Python 3.99 nobody has tested this project yet; with up to 3.13, yes." in capsys.readouterr().out
    assert not setup.main() and not capsys.readouterr().out, "the environment is there"


def test_a_python_that_is_too_old_is_told_so(setup, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 10, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or later(?s:.)*make lab PYTHON=python3"):
        setup.main()
    assert setup.commands == []


def test_a_python_that_is_too_old_can_read_what_tells_it_so():
    tree = ast.parse(TOOL.read_text("utf-8"), feature_version=(3, 8))
    first = next(node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert first.module == "__future__" and first.names[0].name == "annotations", "tuple[…] is no type before 3.9"


@pytest.mark.skipif(os.name != "posix", reason="uv's place is taken by a shell script")
def test_the_environment_is_made_as_a_program_from_any_folder(project, tmp_path):
    commands, log = tmp_path / "bin", tmp_path / "log"
    commands.mkdir()
    (commands / "uv").write_text(
        f"""#!/bin/sh\nprintf '%s|%s\\n' "$PWD" "$*" >> '{log}'\n[ "$1" != venv ] || mkdir -p .venv\n""",
        encoding="utf-8",
    )
    (commands / "uv").chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}
    # -S: whoever runs it has no packages yet; and a .venv in a folder named with umlauts needs more than the C locale
    tool = [sys.executable, "-S", project / "tools" / "setup_environment.py"]
    for _ in range(2):
        subprocess.run(tool, cwd=tmp_path, env=environment, check=True, capture_output=True)
    folders, calls = zip(*(line.split("|") for line in log.read_text("utf-8").splitlines()), strict=True)
    assert set(folders) == {str(project)} and len(calls) == 3
    assert (project / ".venv" / ".ready").exists() and json.dumps(calls).count("--quiet") == 3
