"""utils/experiments.py: what is measured once isn't measured again, what is finished is kept, and no process is left.

The networks and the images are few and small: a run takes less than a second, or never ends.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from for_processes import broken, killed_once, killed_with_large
from tqdm import tqdm

from utils import device, experiments, training
from utils.architectures import Architecture, Head, vgg_like
from utils.catalog import KERNELS
from utils.experiments import Arm, Experiment, Run, fit_arms, plan, promote, reference, sweep
from utils.faults import OutOfMemory
from utils.models import build
from utils.results import ResultsFile, points, table
from utils.throughput import inference_throughput
from utils.training import Recipe, StopTraining, evaluate, fit

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120  # seconds for what happens by itself, on a machine that is busy

SMALL, LARGE = (vgg_like((1,), (channels,), head=Head(hidden=(8,))) for channels in (2, 4))
SHORT, ENDLESS = Recipe(epochs=1, batch_size=32, lr=0.1), Recipe(epochs=100_000, batch_size=32, lr=0.001)
TWO = Experiment("two", "Which one?", (Arm(SMALL, SHORT), Arm(LARGE, SHORT)), seeds=(0, 1))
ONE = replace(TWO, name="one", arms=TWO.arms[:1], seeds=(0,))
UNENDING = replace(ONE, arms=(Arm(LARGE, ENDLESS), Arm(SMALL, SHORT)))  # its second run is that of ONE
DIVERGING = Arm(LARGE, replace(SHORT, lr=1e6), "diverging")


def measured_quickly(*arguments, **options):
    return inference_throughput(*arguments, **options | {"repeats": 1, "seconds": 0})


def make_quick(monkeypatch):
    """Measure as briefly as can be; and "auto" is float32, whatever is faster at this moment."""
    monkeypatch.setattr(experiments, "inference_throughput", measured_quickly)
    monkeypatch.setattr(device, "fastest_dtype", lambda name: torch.float32)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)
    usual = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have; and two, for networks this small, only wait for each other
    yield
    torch.set_num_threads(usual)


@pytest.fixture
def trained(monkeypatch):
    """The runs that were trained in this process, in order: (label, seed) of each."""
    usual, calls = experiments.train_once, []

    def train_once(run, *arguments, **options):
        calls.append((run.architecture.label, run.seed))
        return usual(run, *arguments, **options)

    monkeypatch.setattr(experiments, "train_once", train_once)
    return calls


def swept(experiment, images, folder, **options):
    """The records of a sweep in this process, and what it reported."""
    lines = []
    options = {"workers": 1, "progress": False} | options
    return sweep(experiment, images, folder=folder, report=lines.append, **options), lines


def runs_in(folder, experiment):
    return ResultsFile(folder / f"{experiment.name}.jsonl").by_key("run")


def workers_of(process=None):
    """The spawned processes, without the one that multiprocessing keeps to clean up."""
    found = []
    for child in (process or psutil.Process()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what}: not in {PATIENCE} s"
        time.sleep(0.05)


def is_gone(process):
    """A zombie is: it only waits for whoever adopted it to notice."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- the plan ---------------------------------------------------------------------------------------------------------

RUN = Run(SMALL, SHORT, 0, "test", "d" * 64, 240, "float32", "a CPU, 2 cores", {"python": "3.11.7", "torch": "2.11.0"})
OTHER_RECIPE = {
    "epochs": 2, "batch_size": 33, "optimizer": "adamw", "lr": 0.2, "momentum": 0.8, "weight_decay": 0.0,
    "schedule": "cosine", "augment": "flip", "label_smoothing": 0.1, "dtype": "bfloat16", "channels_last": False,
    "compile": True,
}  # fmt: skip
OTHER_RUN = {
    "architecture": LARGE, "seed": 1, "evaluate_on": "validation", "data_digest": "e" * 64, "data_size": 220,
    "dtype": "bfloat16", "device": "a CPU, 4 cores", "versions": {"python": "3.11.7", "torch": "2.11.1"},
}  # fmt: skip


def test_a_runs_key_changes_with_every_field():
    assert {f.name for f in dataclasses.fields(Recipe)} == OTHER_RECIPE.keys()
    assert {f.name for f in dataclasses.fields(Run)} == OTHER_RUN.keys() | {"recipe"}
    others = [replace(RUN, **{name: value}) for name, value in OTHER_RUN.items()]
    others += [replace(RUN, recipe=replace(SHORT, **{name: value})) for name, value in OTHER_RECIPE.items()]
    keys = [run.key for run in (RUN, *others)]
    assert len(set(keys)) == len(keys) == 1 + 8 + 12


def test_a_runs_key_is_the_same_for_an_equal_run():
    again = replace(RUN, architecture=Architecture.from_json(SMALL.to_json()), recipe=Recipe(**vars(SHORT)))
    again = replace(again, versions=dict(reversed(RUN.versions.items())))
    assert again.key == RUN.key == pickle.loads(pickle.dumps(RUN)).key


def test_the_plan_is_each_arm_with_each_seed(tiny):
    runs = plan(TWO, tiny)
    assert [(run.architecture, run.seed) for run in runs] == [(SMALL, 0), (LARGE, 0), (SMALL, 1), (LARGE, 1)]
    for run in runs:
        assert (run.data_digest, run.data_size, run.evaluate_on) == (tiny.digest, 240, "test")
        assert run.recipe == replace(SHORT, dtype="float32"), "never 'auto': it is another dtype on another device"
        assert run.device == device.device_name("cpu") and run.versions == device.versions()
    assert {run.data_size for run in plan(replace(TWO, evaluate_on="validation"), tiny)} == {220}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ()}, r"^arms must be at least one, got none: give \(Arm\("),
        ({"seeds": ()}, r"^seeds must be at least one, got none: give \(0,\)"),
        ({"seeds": (0, 1, 0)}, "with seed 0 twice"),
        (
            {"arms": (Arm(SMALL, SHORT), Arm(LARGE, SHORT), Arm(SMALL, Recipe(**vars(SHORT))))},
            "with seed 0 twice",
        ),
        (
            {"arms": (Arm(SMALL, SHORT), Arm(SMALL, replace(SHORT, dtype="float32")))},
            "with seed 0 twice",
        ),
        ({"evaluate_on": "train"}, "evaluate_on must be one of 'test', 'validation', got 'train'"),
        ({"arms": (SMALL,)}, r"arms\[0\] must be an Arm, got "),
        (
            {"arms": (Arm(SMALL.change(in_channels=3), SHORT),)},
            "in_channels must be 1, as many as the images have, got 3",
        ),
        ({"arms": (Arm(SMALL.change(num_classes=9), SHORT),)}, "num_classes must be at least 10, .* got 9"),
        *(
            ({"name": bad}, f"name must be the results file's name, of letters.* got {re.escape(repr(bad))}$")
            for bad in ("", "..", "../elsewhere", "a/b", ".hidden", None)
        ),
        ({"question": None}, "question must be a str, such as .* got None"),
        ({"seeds": 3}, "seeds must be a sequence such as a tuple or a list, got 3"),
        ({"seeds": (0.5,)}, "a seed must be a whole number of at least 0, got 0.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(tiny, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        swept(replace(TWO, **change), tiny, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ((SHORT, SHORT), r"^architecture must be an Architecture, such as VGG\['A'\] .* got Recipe\("),
        ((SMALL, {"lr": 1}), r"^recipe must be a Recipe, such as Recipe\(epochs=2, lr=0\.05\), got {'lr': 1}"),
    ],
)
def test_an_arm_is_a_network_and_a_recipe(arm, message):
    with pytest.raises(ValueError, match=message):
        Arm(*arm)


def test_a_sweep_is_of_an_experiment_on_all_the_data_into_a_folder(tiny, tmp_path):
    with pytest.raises(ValueError, match="experiment must be an Experiment, such as CURVE, got 'curve'"):
        swept("curve", tiny, tmp_path)
    with pytest.raises(ValueError, match=r"data must be a FashionMNIST, such as load_fashion_mnist\(\), got Images\("):
        swept(TWO, tiny.train, tmp_path)
    (tmp_path / "notes.txt").write_text("no folder", encoding="utf-8")
    with pytest.raises(OSError, match=r"results can't be kept there\. Make room, or name another folder") as caught:
        swept(TWO, tiny, tmp_path / "notes.txt")
    assert caught.value.filename == str(tmp_path / "notes.txt" / "two.jsonl")
    assert (tmp_path / "notes.txt").read_text("utf-8") == "no folder"


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_a_number_of_workers_that_makes_no_sense_is_refused(tiny, tmp_path, workers):
    with pytest.raises(ValueError, match=f"workers must be a whole number of at least 1, got {workers}"):
        swept(TWO, tiny, tmp_path, workers=workers)


def test_change_changes_each_arms_recipe_alike():
    arms = (Arm(SMALL, SHORT), Arm(LARGE, replace(SHORT, lr=0.2)))
    changed = replace(TWO, arms=arms).change(epochs=5)
    assert changed.arms == (Arm(SMALL, replace(SHORT, epochs=5)), Arm(LARGE, replace(SHORT, epochs=5, lr=0.2)))
    assert (changed.name, changed.seeds) == (TWO.name, TWO.seeds)
    assert replace(TWO, arms=arms + arms).architectures == (SMALL, LARGE)


# --- one process ------------------------------------------------------------------------------------------------------


def test_a_record_is_what_training_gives(tiny, tmp_path):
    records, _ = swept(TWO, tiny, tmp_path)
    for record in (r for r in records if r["kind"] == "run"):
        architecture, seed = Architecture.from_dict(record["architecture"]), record["seed"]
        torch.manual_seed(seed)
        net = build(architecture)
        history = fit(net, tiny.all_train, SHORT, image_size=architecture.image_size, seed=seed, progress=False)
        found = evaluate(net, tiny.test, image_size=architecture.image_size)
        assert (record["accuracy"], record["loss"]) == (found.accuracy, found.loss)
        assert record["losses"] == [round(loss, 4) for loss in history.losses] and len(history.losses) == 7
        assert record["parameters"] == sum(p.numel() for p in net.parameters())
    assert len({record["loss"] for record in records if record["kind"] == "run"}) == 4, "seeds and networks differ"


def test_records_are_plain_json_with_their_stamps(tiny, tmp_path):
    records, _ = swept(TWO, tiny, tmp_path)
    lines = (tmp_path / "two.jsonl").read_text("utf-8").splitlines()
    assert sorted(map(json.dumps, map(json.loads, lines))) == sorted(map(json.dumps, records)), "nothing but JSON"
    kinds = [record["kind"] for record in records]
    assert kinds == ["throughput"] * 2 + ["run"] * 4, "the file may have another order"
    for record in records:
        assert record["device"] == device.device_name("cpu") and record["versions"] == device.versions()
        assert record["threads"] == torch.get_num_threads()
    for record, run in zip(records[2:], plan(TWO, tiny), strict=True):
        assert record["key"] == run.key and record["seed"] == run.seed
        assert Architecture.from_dict(record["architecture"]) == run.architecture
        assert record["digest"] == run.architecture.digest and record["label"] == run.architecture.label
        assert Recipe(**record["recipe"]) == run.recipe
        assert record["is_sample"] is True and record["evaluate_on"] == "test"
        assert record["data"] == {"digest": tiny.digest, "size": 240}
        time.strptime(record["time"], "%Y-%m-%dT%H:%M:%SZ")
    for record in records[:2]:
        assert (record["batch_size"], record["dtype"]) == (256, "float32")
        assert record["low"] <= record["images_per_s"] <= record["high"]


def test_whole_data_makes_no_sample_records(tiny, tmp_path):
    records, _ = swept(ONE, replace(tiny, is_sample=False), tmp_path)
    assert records[-1]["is_sample"] is False


def test_many_steps_are_thinned_out_to_the_mean_of_a_few(tiny, tmp_path, monkeypatch):
    histories = []
    monkeypatch.setattr(experiments, "fit", lambda *a, **k: histories.append(fit(*a, **k)) or histories[-1])
    records, _ = swept(ONE.change(epochs=10, batch_size=4), tiny, tmp_path)
    record, losses = records[-1], histories[0].losses
    assert (record["steps_per_epoch"], record["steps_per_loss"], len(losses)) == (60, 3, 600)
    means = [sum(losses[start : start + 3]) / 3 for start in range(0, 600, 3)]
    assert record["losses"] == pytest.approx(means, abs=1e-4)


def test_two_arms_of_one_label_are_refused_before_anything_is_trained(tiny, tmp_path, trained):
    arms = (Arm(SMALL, SHORT), Arm(SMALL, replace(SHORT, lr=0.2)))
    with pytest.raises(ValueError, match=r"each arm needs a label of its own, got .* twice: give them names"):
        swept(replace(TWO, arms=arms), tiny, tmp_path)
    assert trained == [] and not list(tmp_path.iterdir())


def test_the_longest_run_is_trained_first(tiny, tmp_path, trained, monkeypatch):
    def inference_throughput(net, *arguments, **options):
        measured = measured_quickly(net, *arguments, **options)
        return replace(measured, images_per_s=100.0 if net.features[0].out_channels == 4 else 300.0)

    monkeypatch.setattr(experiments, "inference_throughput", inference_throughput)
    arms = (Arm(SMALL, SHORT), Arm(LARGE, SHORT), Arm(SMALL, replace(SHORT, epochs=4), "longer"))
    records, _ = swept(replace(TWO, arms=arms, seeds=(0,)), tiny, tmp_path)
    assert trained == [(SMALL.label, 0), (LARGE.label, 0), (SMALL.label, 0)]  # 4/300, 1/100, 1/300
    epochs = [r["recipe"]["epochs"] for r in ResultsFile(tmp_path / "two.jsonl").by_key("run").values()]
    assert epochs == [4, 1, 1]
    assert [r["recipe"]["epochs"] for r in records[2:]] == [1, 1, 4], "given back in the plan's order"


def test_the_bar_says_how_much_is_done(tiny, tmp_path, capsys, monkeypatch):
    swept(TWO, tiny, tmp_path / "without")
    assert capsys.readouterr().err == ""
    swept(TWO, tiny, tmp_path / "with", progress=True)
    assert "% |" in capsys.readouterr().err
    monkeypatch.setattr(experiments, "progress_bar", partial(tqdm, mininterval=0, miniters=0))  # drawn at each step
    swept(TWO, tiny, tmp_path / "drawn", progress=True)
    drawn = re.findall(r"(\d+) % \|.*?\| (\d of 4) trained", capsys.readouterr().err)
    shares, counts = zip(*drawn, strict=True)
    assert list(dict.fromkeys(counts)) == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert list(map(int, shares)) == sorted(map(int, shares)) and shares[-1] == "100"


def test_accuracy_is_of_the_dtype_whose_throughput_is_measured(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "fastest_dtype", lambda name: torch.bfloat16)
    usual, seen = experiments.evaluate, []
    monkeypatch.setattr(experiments, "evaluate", lambda *a, **o: seen.append(o["dtype"]) or usual(*a, **o))
    in_full = replace(ONE, arms=(Arm(SMALL, replace(SHORT, dtype="float32")),))
    speed, run = swept(in_full, tiny, tmp_path)[0]
    assert set(seen) == {"bfloat16"} and speed["dtype"] == run["dtype"] == "bfloat16"
    assert run["recipe"]["dtype"] == "float32", "training is another matter"


def test_validation_never_touches_the_test_images(tiny, tmp_path):
    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError(f"{name} of images that are not to be looked at")

        def __len__(self):
            raise AssertionError("their number")

    experiment = replace(ONE, evaluate_on="validation")
    records, _ = swept(experiment, replace(tiny, test=Forbidden(), all_train=Forbidden()), tmp_path)
    assert records[-1]["data"]["size"] == 220 and records[-1]["evaluate_on"] == "validation"
    torch.manual_seed(0)
    net = build(SMALL)
    fit(net, tiny.train, SHORT, seed=0, progress=False)
    assert records[-1]["accuracy"] == evaluate(net, tiny.validation).accuracy


def test_throughputs_are_measured_in_rounds(tiny, tmp_path, monkeypatch):
    """What slows the machine for a while slows each network once; a round that is slow for all moves no median."""
    usual, order = experiments.inference_throughput, []
    speeds = iter([10, 20, 1, 2, 30, 60, 11, 22, 12, 24])

    def one(net, shape, **options):
        order.append(net[0][0].out_channels)
        speed = float(next(speeds))
        return replace(usual(net, shape, **options), images_per_s=speed, low=speed, high=speed)

    monkeypatch.setattr(experiments, "inference_throughput", one)
    records, _ = swept(replace(TWO, seeds=(0,)), tiny, tmp_path)
    assert order == [2, 4] * experiments.ROUNDS == [2, 4] * 5
    small, large = (record for record in records if record["kind"] == "throughput")
    assert (small["images_per_s"], small["low"], small["high"], small["repeats"]) == (11, 1, 30, 5)
    assert (large["images_per_s"], large["low"], large["high"], large["repeats"]) == (22, 2, 60, 5)


# --- going on ---------------------------------------------------------------------------------------------------------


def test_the_second_call_trains_and_measures_nothing_and_says_so(tiny, tmp_path, trained, monkeypatch):
    records, lines = swept(TWO, tiny, tmp_path)
    assert len(trained) == 4 and lines == []
    content = (tmp_path / "two.jsonl").read_bytes()
    monkeypatch.setattr(experiments, "inference_throughput", None)  # not to be called
    again, lines = swept(TWO, tiny, tmp_path)
    assert len(trained) == 4 and again == records
    assert lines == [f"4 of 4 runs are in {tmp_path / 'two.jsonl'} already; they aren't repeated."]
    assert (tmp_path / "two.jsonl").read_bytes() == content


@pytest.mark.parametrize("lost", range(2, 6))
def test_a_deleted_line_is_trained_again_alone(tiny, tmp_path, trained, lost):
    records, _ = swept(TWO, tiny, tmp_path)
    lines = (tmp_path / "two.jsonl").read_bytes().splitlines(keepends=True)
    deleted = json.loads(lines.pop(lost))
    (tmp_path / "two.jsonl").write_bytes(b"".join(lines))
    trained.clear()
    again, reported = swept(TWO, tiny, tmp_path)
    assert trained == [(deleted["label"], deleted["seed"])]
    assert reported[0].startswith("3 of 4 runs are in ")
    assert [r["loss"] for r in again[2:]] == [r["loss"] for r in records[2:]], "the same run gives the same"


def test_a_torn_last_line_is_trained_again(tiny, tmp_path, trained):
    records, _ = swept(TWO, tiny, tmp_path)
    content = (tmp_path / "two.jsonl").read_bytes()
    torn = json.loads(content.splitlines()[-1])
    (tmp_path / "two.jsonl").write_bytes(content[:-20])
    trained.clear()
    again, _ = swept(TWO, tiny, tmp_path)
    assert trained == [(torn["label"], torn["seed"])]
    assert [r["key"] for r in again] == [r["key"] for r in records]


def test_a_deleted_throughput_is_measured_again_and_nothing_trained(tiny, tmp_path, trained):
    records, _ = swept(TWO, tiny, tmp_path)
    lines = (tmp_path / "two.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "two.jsonl").write_bytes(b"".join(lines[1:]))
    trained.clear()
    again, _ = swept(TWO, tiny, tmp_path)
    assert trained == [] and [r["key"] for r in again] == [r["key"] for r in records]
    assert again[1:] == records[1:]


def test_other_data_another_seed_or_recipe_is_trained_anew(tiny, tmp_path, trained):
    swept(ONE, tiny, tmp_path)
    swept(ONE, replace(tiny, digest="e" * 64), tmp_path)
    swept(replace(ONE, seeds=(0, 7)), tiny, tmp_path)
    records, _ = swept(ONE.change(lr=0.2), tiny, tmp_path)
    assert [seed for _, seed in trained] == [0, 0, 7, 0]
    assert [r["recipe"]["lr"] for r in records[1:]] == [0.2], "only what was asked for is given back"
    assert len(runs_in(tmp_path, ONE)) == 4


def test_another_batch_size_is_measured_anew_but_not_trained(tiny, tmp_path, trained):
    swept(ONE, tiny, tmp_path)
    records, _ = swept(replace(ONE, batch_size=8), tiny, tmp_path)
    assert len(trained) == 1 and [r["batch_size"] for r in records if r["kind"] == "throughput"] == [8]
    with pytest.raises(ValueError, match="must share their batch_size"):
        table(ResultsFile(tmp_path / "one.jsonl").read())


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (DIVERGING.recipe, "the loss became"),
        (replace(DIVERGING.recipe, batch_size=240, lr=1e30, schedule="constant"), "after the last of 1 steps"),
    ],
    ids=["in the middle", "in the only step"],
)
def test_a_run_that_fails_is_named_and_the_rest_goes_on(tiny, tmp_path, trained, recipe, says):
    experiment = replace(TWO, arms=(Arm(LARGE, recipe), Arm(SMALL, SHORT)), seeds=(3, 4))
    for _ in range(2):  # the second call tries the failed ones again
        records, lines = swept(experiment, tiny, tmp_path)
        assert [(r["label"], r["seed"]) for r in records if r["kind"] == "run"] == [(SMALL.label, 3), (SMALL.label, 4)]
        failed = [line for line in lines if "failed" in line]
        assert [line.split(", failed: ")[0] for line in failed] == [f"{LARGE.label}, seed {seed}" for seed in (3, 4)]
        assert all(says in line and f"lr={recipe.lr}" in line and "try a third of" in line for line in failed)
    assert trained.count((LARGE.label, 3)) == 2 and trained.count((SMALL.label, 3)) == 1
    assert table(records).label.tolist() == [SMALL.label]


def test_any_other_error_is_raised(tiny, tmp_path, monkeypatch):
    def train_once(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(experiments, "train_once", train_once)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        swept(ONE, tiny, tmp_path)


@pytest.mark.parametrize("reason", [KeyboardInterrupt, StopTraining])
def test_stop_keeps_what_is_finished_and_the_next_call_goes_on(tiny, tmp_path, trained, monkeypatch, reason):
    usual, steps = experiments._teller, []

    def teller(tell):
        say_how_much = usual(tell)

        def say_or_stop(step):
            say_how_much(step)
            steps.append(step.number)
            if len(trained) == 3 and step.number == 3:
                raise reason

        return say_or_stop

    monkeypatch.setattr(experiments, "_teller", teller)
    with pytest.raises(KeyboardInterrupt):
        swept(TWO, tiny, tmp_path)
    assert len(trained) == 3 and steps == [*range(1, 8), *range(1, 8), 1, 2, 3]
    assert len(runs_in(tmp_path, TWO)) == 2, "half a run is no result"
    monkeypatch.setattr(experiments, "_teller", usual)
    records, lines = swept(TWO, tiny, tmp_path)
    assert len(trained) == 5 and len(records) == 6 and lines[0].startswith("2 of 4 runs are in ")


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled(tiny, tmp_path_factory):
    """A sweep with two workers of one thread: its records, what it reported, what went on when it measured."""
    folder, lines, beside = tmp_path_factory.mktemp("pooled"), [], []

    def inference_throughput(*arguments, **options):
        beside.append((workers_of(), len(runs_in(folder, TWO))))
        return measured_quickly(*arguments, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        make_quick(monkeypatch)
        monkeypatch.setattr(experiments, "inference_throughput", inference_throughput)
        monkeypatch.setattr(experiments, "cpu_cores", lambda: 2)
        experiment = replace(TWO, arms=(*TWO.arms, DIVERGING))
        records = sweep(experiment, tiny, folder=folder, progress=False, report=lines.append)
    return SimpleNamespace(records=records, lines=lines, beside=beside, workers_left=workers_of(), folder=folder)


@pytest.mark.system
def test_one_bar_shows_all_workers(tiny, tmp_path, capsys, monkeypatch):
    """Both are seen under way at once, and the bar never goes back."""
    long = replace(SHORT, epochs=150)
    experiment = replace(ONE, arms=(Arm(SMALL, long), Arm(LARGE, long)))
    monkeypatch.setattr(experiments, "cpu_cores", lambda: 2)
    monkeypatch.setattr(experiments, "progress_bar", partial(tqdm, mininterval=0, miniters=0))  # drawn at each word
    swept(experiment, tiny, tmp_path, workers=2, progress=True)
    drawn = re.findall(r"(\d+) % \|.*?\| (\d) of 2 trained,(.*?) \d\d:\d\d,", capsys.readouterr().err)
    both = [words for *_, words in drawn if " and " in words]
    under_way = [re.fullmatch(r" now (.+) \d+ % and (.+) \d+ %,", words) for words in both]
    assert both and all(found and {*found.groups()} == {SMALL.label, LARGE.label} for found in under_way)
    shares = [int(share) for share, *_ in drawn]
    assert shares == sorted(shares) and shares[-1] == 100 and any(0 < share < 100 for share in shares)


def test_workers_get_what_one_process_gets(pooled, tiny, tmp_path):
    alone, _ = swept(TWO, tiny, tmp_path)
    both = [[r for r in records if r["kind"] == "run"] for records in (pooled.records, alone)]
    for ours, expected in zip(*both, strict=True):
        for name in ("key", "accuracy", "loss", "losses", "parameters", "is_sample", "threads", "versions", "device"):
            assert ours[name] == expected[name], name
    assert both[0][0]["threads"] == 1, "two cores, two workers"


def test_workers_name_the_run_that_fails(pooled):
    failed = [f"{LARGE.label}, seed {seed}, failed" for seed in TWO.seeds]
    assert sorted(line.split(":")[0] for line in pooled.lines) == failed
    assert all("lr=1000000.0, try a third of it" in line for line in pooled.lines)


def test_nothing_else_runs_while_throughput_is_measured(pooled):
    assert pooled.beside == [([], 0)] * 2 * experiments.ROUNDS, "no workers, no run, for each of two networks"


def test_workers_are_gone_when_the_sweep_ends(pooled):
    assert pooled.workers_left == []


def test_what_workers_trained_is_not_trained_again(pooled, tiny, trained):
    _, lines = swept(TWO, tiny, pooled.folder)
    assert trained == [] and lines[0].startswith("4 of 4 runs are in ")


@pytest.fixture
def started(tiny, tmp_path, monkeypatch):
    """Begins to sweep ONE, which is trained already, and two networks that never end, in two workers of this process;
    meanwhile, another thread calls what it is given with these workers. Returns them; checks that they are gone."""
    arms = (*ONE.arms, Arm(SMALL, ENDLESS, "endless"), Arm(LARGE, ENDLESS))
    swept(ONE, tiny, tmp_path)
    workers = []

    def sweep_and(do):
        def wait_and_do():
            wait_until(lambda: len(workers_of()) == 2, "two workers")
            workers.extend(workers_of())
            do(workers)

        thread = threading.Thread(target=wait_and_do)
        thread.start()
        try:
            swept(replace(ONE, arms=arms), tiny, tmp_path, workers=2)
        finally:
            thread.join()

    yield sweep_and
    assert len(workers) == 2 and all(map(is_gone, workers)) and workers_of() == []
    assert list(runs_in(tmp_path, ONE)) == [run.key for run in plan(ONE, tiny)], "what is finished is kept"


@pytest.mark.system
def test_workers_that_die_while_they_start_are_an_error_with_advice(started):
    with pytest.raises(
        RuntimeError, match=r"Most likely memory ran out(?s:.)*workers=1(?s:.)* in a script .* __name__ =="
    ):
        started(lambda workers: workers[0].kill())


posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@posix
def test_ctrl_c_while_the_workers_start_ends_them_without_a_word(started, capfd):
    def interrupt(workers):
        for worker in workers:  # a terminal sends it to all at once, as Jupyter does
            worker.send_signal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        started(interrupt)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def worked_by(monkeypatch):
    """Have the workers call another function than `_train_in_worker`."""

    def become(function):
        usual = experiments.run_in_workers
        monkeypatch.setattr(experiments, "run_in_workers", lambda _, *a, **o: usual(function, *a, **o))

    return become


@posix
@pytest.mark.system
def test_a_worker_that_dies_is_replaced_and_its_run_tried_again(tiny, tmp_path, worked_by, monkeypatch):
    monkeypatch.setenv("KILLED_ONCE", str(tmp_path / "flag"))
    worked_by(killed_once)
    records, lines = swept(TWO, tiny, tmp_path, workers=2)
    assert [r["kind"] for r in records] == ["throughput"] * 2 + ["run"] * 4
    (line,) = lines
    assert line.endswith("its process died (killed by signal 9); it is tried once more.")
    alone, _ = swept(TWO, tiny, tmp_path / "alone")
    assert [r.get("accuracy") for r in records] == [r.get("accuracy") for r in alone]
    assert workers_of() == []


@posix
@pytest.mark.system
def test_a_run_whose_worker_dies_twice_is_marked_as_failed_and_the_rest_goes_on(tiny, tmp_path, worked_by, trained):
    worked_by(killed_with_large)
    records, lines = swept(TWO, tiny, tmp_path, workers=2)
    assert [(r["kind"], r["label"], r["seed"]) for r in records[2:]] == [
        *(("run", SMALL.label, seed) for seed in TWO.seeds),
        *(("failure", LARGE.label, seed) for seed in TWO.seeds),
    ]
    assert all("its process died 2 times (killed by signal 9). Most likely memory" in r["error"] for r in records[4:])
    assert sum("tried once more" in line for line in lines) == sum("failed: its process" in line for line in lines) == 2
    assert table(records).label.tolist() == [SMALL.label], "a failure is no result"
    again, _ = swept(TWO, tiny, tmp_path)  # in this process, where nobody is killed
    assert sorted(trained) == [(LARGE.label, 0), (LARGE.label, 1)], "the next call tries them again"
    assert [r["kind"] for r in again[2:]] == ["run"] * 4, "what was done in the end is no failure any more"


SWEEP = """
import pickle, sys
from utils import device, experiments
import torch

if __name__ == "__main__":
    usual = experiments.inference_throughput
    experiments.inference_throughput = lambda *a, **k: usual(*a, **k | {"repeats": 1, "seconds": 0})
    device.fastest_dtype = lambda name: torch.float32
    with open(sys.argv[1], "rb") as file:
        experiment, data = pickle.load(file)
    experiments.sweep(experiment, data, folder=sys.argv[2], workers=2, progress=False)
"""
UNGUARDED = SWEEP.replace('if __name__ == "__main__":', "if True:")


@pytest.mark.system
def test_a_script_without_its_guard_ends_and_is_told_so(tiny, tmp_path):
    """Not: the processes wait for the file that the first one holds, and that one for them."""
    (tmp_path / "sweep.py").write_text(UNGUARDED, encoding="utf-8")
    (tmp_path / "arguments").write_bytes(pickle.dumps((TWO, tiny)))
    run = subprocess.run(
        [sys.executable, tmp_path / "sweep.py", tmp_path / "arguments", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert run.returncode == 1 and 'must stand under `if __name__ == "__main__":`' in run.stderr
    assert "Something else is at work" not in run.stdout


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_tilde_is_the_home_folder(tiny, tmp_path, monkeypatch, by):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("BIGGER_AND_DEEPER_RESULTS", "~/mine")
    swept(ONE, tiny, "~/mine" if by == "argument" else None)
    assert (tmp_path / "mine" / "one.jsonl").exists() and not Path("~").exists()


@pytest.mark.system
def test_another_error_in_a_worker_is_raised_with_where_it_was(tiny, tmp_path, worked_by):
    worked_by(broken)
    with pytest.raises(LookupError, match="a bug") as caught:
        swept(TWO, tiny, tmp_path, workers=2)
    assert "in broken" in str(caught.value.__cause__) and workers_of() == []


def sweeping_into(experiment, data, folder):
    """A process of its own, in a group of its own, that sweeps with two workers."""
    (folder / "sweep.py").write_text(SWEEP, encoding="utf-8")
    (folder / "arguments").write_bytes(pickle.dumps((experiment, data)))
    return subprocess.Popen(
        [sys.executable, folder / "sweep.py", folder / "arguments", folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def sweeping(tiny, tmp_path):
    """A process that sweeps UNENDING into tmp_path, and will never be done."""
    process = sweeping_into(UNENDING, tiny, tmp_path)
    yield psutil.Process(process.pid), process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whoever is left
    process.wait()
    process.stdout.close()


@posix
@pytest.mark.system
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(sweeping, tiny, tmp_path, trained):
    info, process = sweeping
    wait_until(lambda: runs_in(tmp_path, UNENDING), "the short run")
    children = info.children(recursive=True)
    assert len(workers_of(info)) == 2
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    wait_until(lambda: all(map(is_gone, children)), "the end of the workers")
    assert process.returncode == -signal.SIGINT
    assert output.count("Traceback") == 1 and output.rstrip().endswith("KeyboardInterrupt"), output
    records, lines = swept(ONE, tiny, tmp_path)  # the keys are the same in every process
    assert trained == [] and lines[0].startswith("1 of 1 runs are in ") and len(records) == 2


@posix
@pytest.mark.system
def test_the_workers_of_a_killed_process_end(sweeping):
    info, process = sweeping
    wait_until(lambda: len(workers_of(info)) == 2, "two workers")
    children = info.children(recursive=True)
    process.kill()
    wait_until(lambda: all(map(is_gone, children)), "the end of the workers")


ZYGOTE = """
import os, pickle, sys
from utils import device, experiments
import torch, torch._dynamo

# Torch is imported once; then each line that is read makes a process that sweeps, until someone kills it.
usual = experiments.inference_throughput
experiments.inference_throughput = lambda *a, **k: usual(*a, **k | {"repeats": 1, "seconds": 0})
device.fastest_dtype = lambda name: torch.float32
torch.set_num_threads(1)
with open(sys.argv[1], "rb") as file:
    experiment, data = pickle.load(file)
for line in sys.stdin:
    child = os.fork()
    if not child:
        experiments.sweep(experiment, data, folder=sys.argv[2], workers=1, progress=False, report=lambda line: None)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@posix
@pytest.mark.system
def test_killed_at_twenty_random_moments_every_run_is_in_the_file_exactly_once(tiny, tmp_path):
    several = replace(TWO, name="several", seeds=tuple(range(12)))
    (tmp_path / "zygote.py").write_text(ZYGOTE, encoding="utf-8")
    (tmp_path / "arguments").write_bytes(pickle.dumps((several, tiny)))
    zygote = subprocess.Popen(
        [sys.executable, tmp_path / "zygote.py", tmp_path / "arguments", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    file, moments, known, cut_short = tmp_path / "several.jsonl", random.Random(0), [], 0

    def sweep_for(seconds):
        """Whether it was killed before it was done."""
        print("go", file=zygote.stdin, flush=True)
        child = int(zygote.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert zygote.stdout.readline() == "gone\n"

    with zygote:
        for kill in range(20):
            sweep_for(moments.uniform(0, 0.25))
            lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
            cut_short += len(known) < len(several.arms) * len(several.seeds) + 2
            if kill % 4 == 3:  # the moment that is too short to be hit by chance: in the middle of a line
                file.write_bytes(b"\n".join([*lines[:-1], b""]) + b'{"kind": "run", "key": "ha')
            assert [*map(json.loads, lines[:-1])][: len(known)] == known, "what was there is still there"
            known = [*map(json.loads, lines[:-1])]
        sweep_for(None)
        zygote.stdin.close()
    assert cut_short >= 10, "most of the kills came in the middle"
    records = [*map(json.loads, file.read_text(encoding="utf-8").splitlines())]
    keys = [record["key"] for record in records]
    assert len(keys) == len(set(keys)), "nothing twice"
    assert {r["key"] for r in records if r["kind"] == "run"} == {run.key for run in plan(several, tiny)}
    assert sum(r["kind"] == "throughput" for r in records) == 2


@posix
@pytest.mark.system
def test_killed_with_its_workers_at_work_every_run_is_in_the_file_exactly_once(tiny, tmp_path):
    several = replace(TWO, name="several", arms=tuple(Arm(a.architecture, replace(SHORT, epochs=20)) for a in TWO.arms))
    several = replace(several, seeds=tuple(range(8)))
    moments = random.Random(1)
    for kill in range(3):
        process = sweeping_into(several, tiny, tmp_path)
        wanted = len(runs_in(tmp_path, several)) + 1
        wait_until(lambda wanted=wanted: len(runs_in(tmp_path, several)) >= wanted, "another run")
        time.sleep(moments.uniform(0, 0.3))
        workers = workers_of(psutil.Process(process.pid))
        if kill % 2:  # one of its workers first: as when memory runs out
            with contextlib.suppress(psutil.NoSuchProcess):
                moments.choice(workers).kill()
        process.kill()
        process.communicate()
        wait_until(lambda workers=workers: all(map(is_gone, workers)), "the end of the workers")
    killed_after = len(runs_in(tmp_path, several))
    assert 3 <= killed_after < 16, "the kills came in the middle"
    swept(several, tiny, tmp_path, workers=2)
    records = [*map(json.loads, (tmp_path / "several.jsonl").read_text(encoding="utf-8").splitlines())]
    keys = [record["key"] for record in records if record["kind"] == "run"]
    assert len(keys) == len(set(keys)) == 16, "nothing twice, and nothing is missing"


def test_two_sweeps_at_once_into_one_folder_share_one_set_of_runs(tiny, tmp_path, trained):
    results, said = [], []

    def one_of_them():
        results.append(sweep(TWO, tiny, folder=tmp_path, workers=1, progress=False, report=said.append))

    threads = [threading.Thread(target=one_of_them) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [json.loads(line)["key"] for line in (tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(keys) == len(set(keys)) == 6 and len(trained) == 4, "every run and throughput once"
    assert results[0] == results[1] == results[2] and len(results[0]) == 6, "and all of them have all"
    assert sum("waiting until it has ended" in line for line in said) >= 1


@posix
@pytest.mark.system
def test_a_second_process_waits_for_the_first_even_if_that_is_killed(sweeping, tiny, tmp_path, trained):
    """The lock goes with the process: nobody waits for a dead one."""
    _, process = sweeping
    wait_until(lambda: runs_in(tmp_path, UNENDING), "the short run")
    timer = threading.Timer(1.0, process.kill)
    timer.start()
    records, lines = swept(ONE, tiny, tmp_path)
    timer.join()
    assert "waiting until it has ended" in lines[0] and "1 of 1 runs are in" in lines[1]
    assert trained == [] and len(records) == 2


@posix
def test_a_full_disk_is_named_keeps_what_was_finished_and_leaves_no_half_line(tiny, tmp_path, trained):
    """A limit on the size of files stands for the disk: the system takes a part of a line, then refuses."""
    import resource

    swept(ONE, tiny, tmp_path)
    file = tmp_path / "one.jsonl"
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    more = replace(ONE, seeds=(0, 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not be kept\. What was finished before is whole") as caught:
            swept(more, tiny, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(file) and caught.value.errno == errno.EFBIG
    assert file.read_bytes() == before
    records, lines = swept(more, tiny, tmp_path)
    assert len(records) == 3 and lines[0].startswith("1 of 2 runs are in "), "there is room again: it goes on"


@posix
@pytest.mark.system
def test_a_full_disk_ends_the_workers_too(tiny, tmp_path, monkeypatch):
    def append(self, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        experiments, "_measure_all", lambda e, *_: {a.digest: {"images_per_s": 1.0} for a in e.architectures}
    )
    monkeypatch.setattr(ResultsFile, "append", append)
    with pytest.raises(OSError, match="No space left"):
        swept(TWO, tiny, tmp_path, workers=2)
    assert workers_of() == []


def test_a_network_too_large_for_the_memory_is_marked_as_failed_and_the_rest_goes_on(tiny, tmp_path, monkeypatch):
    usual = experiments.fit

    def fit(net, *arguments, **options):
        if net.features[0].out_channels == 4:
            raise OutOfMemory("memory ran out. About 7 images fit", 7)
        return usual(net, *arguments, **options)

    monkeypatch.setattr(experiments, "fit", fit)
    records, lines = swept(TWO, tiny, tmp_path)
    assert [(r["kind"], r["label"]) for r in records[2:]] == [("run", SMALL.label)] * 2 + [("failure", LARGE.label)] * 2
    assert all(r["error"] == "memory ran out. About 7 images fit" for r in records[4:])
    assert lines == [f"{LARGE.label}, seed {seed}, failed: memory ran out. About 7 images fit" for seed in (0, 1)]
    runs = ResultsFile(tmp_path / "two.jsonl").by_key("run").values()
    assert {run["recipe"]["batch_size"] for run in runs} == {32}, "no recipe was changed"


def test_a_network_too_large_to_be_measured_is_marked_as_failed_and_the_rest_goes_on(tiny, tmp_path, monkeypatch):
    def inference_throughput(net, *arguments, **options):
        if net.features[0].out_channels == 4:
            raise OutOfMemory("memory ran out while throughput was measured")
        return measured_quickly(net, *arguments, **options)

    monkeypatch.setattr(experiments, "inference_throughput", inference_throughput)
    records, lines = swept(TWO, tiny, tmp_path)
    assert {(r["kind"], r["label"]) for r in records} == {("throughput", SMALL.label), ("run", SMALL.label)}
    assert lines == [f"{LARGE.label} failed: memory ran out while throughput was measured"]
    (failed,) = ResultsFile(tmp_path / "two.jsonl").by_key("failure").values()
    assert failed["label"] == LARGE.label


@pytest.mark.parametrize("when", ["built", "measured"])
def test_weights_that_do_not_fit_are_marked_as_failed_and_the_rest_goes_on(tiny, tmp_path, monkeypatch, when):
    def no_room(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def build_some(architecture):
        net = build(architecture)
        if architecture == LARGE:
            if when == "built":
                raise OutOfMemory("memory ran out while it was built")
            net._apply = no_room
        return net

    monkeypatch.setattr(experiments, "build", build_some)
    records, (line,) = swept(TWO, tiny, tmp_path)
    assert {(r["kind"], r["label"]) for r in records} == {("throughput", SMALL.label), ("run", SMALL.label)}
    assert line.startswith(f"{LARGE.label} failed: memory ran out while ")


def test_weights_for_which_memory_runs_out_in_training_are_marked_as_failed(tiny, tmp_path, monkeypatch):
    usual = training.prepare

    def prepare(net, *arguments):
        if net.features[0].out_channels == 4:
            raise OutOfMemory("memory ran out while the network was moved")
        return usual(net, *arguments)

    monkeypatch.setattr(training, "prepare", prepare)
    records, lines = swept(TWO, tiny, tmp_path)
    assert [(r["kind"], r["label"]) for r in records[2:]] == [("run", SMALL.label)] * 2 + [("failure", LARGE.label)] * 2
    assert all("failed: memory ran out while the network was moved" in line for line in lines) and len(lines) == 2


def test_a_network_that_learnt_nothing_is_reported_and_its_record_says_so(tiny, tmp_path):
    stuck = SMALL.change(init="normal", init_std=1e-9)
    experiment = replace(ONE, arms=(Arm(stuck, replace(SHORT, epochs=10, lr=1e-6)),))
    records, lines = swept(experiment, tiny, tmp_path)
    (line,) = lines
    assert line.startswith(f"{stuck.label}, seed 0: the loss stayed at ln 10 = 2.303")
    assert records[1]["warning"] in line and swept(ONE, tiny, tmp_path)[0][1]["warning"] is None


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tiny, tmp_path, monkeypatch):
    """Images that pass for all of them; results/ is a folder of the test's, and the device has a name."""
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    monkeypatch.delenv("BIGGER_AND_DEEPER_RESULTS", raising=False)
    monkeypatch.setattr(experiments, "device_name", lambda where: "AMD EPYC™ (9B45), 2 cores")
    return replace(tiny, is_sample=False)


def test_without_a_folder_results_are_local_or_where_the_environment_says(whole, tmp_path, monkeypatch):
    swept(ONE, whole, None)
    assert list(tmp_path.rglob("*.jsonl")) == [tmp_path / "local" / "one.jsonl"]
    monkeypatch.setenv("BIGGER_AND_DEEPER_RESULTS", str(tmp_path / "My Drive"))
    records, lines = swept(ONE, whole, None)
    assert lines == [] and ResultsFile(tmp_path / "My Drive" / "one.jsonl").read() == records
    assert promote(ONE, whole).is_relative_to(tmp_path / "reference"), "what is promoted is the project's"


def test_a_promoted_experiment_is_the_reference(whole, tmp_path):
    records, _ = swept(TWO, whole, None)
    assert reference(TWO, whole) == []
    target = promote(TWO, whole)
    assert target == tmp_path / "reference" / "amd-epyc-9b45-2-cores" / "two.jsonl"
    assert ResultsFile(target).read() == records
    assert reference(TWO, whole) == points(table(records)) and len(reference(TWO, whole)) == 2
    assert [path.name for path in target.parent.iterdir()] == ["two.jsonl"]
    assert reference(ONE, whole) == [], "another experiment's"


def test_no_reference_is_drawn_beside_the_sample(whole, tiny):
    swept(ONE, whole, None)
    promote(ONE, whole)
    assert len(reference(ONE, whole)) == 1 and reference(ONE, tiny) == []


def test_the_sample_is_not_promoted(whole, tiny, tmp_path):
    swept(ONE, tiny, None)
    with pytest.raises(ValueError, match="needs all of the images, and these are the sample"):
        promote(ONE, tiny)
    assert not (tmp_path / "reference").exists()


def test_half_an_experiment_is_not_promoted(whole, tmp_path):
    with pytest.raises(ValueError, match=f"4 of 4 runs are missing .{SMALL.label[:3]}"):
        promote(TWO, whole)
    swept(replace(TWO, seeds=(0,)), whole, None)
    with pytest.raises(ValueError, match="2 of 4 runs are missing") as error:
        promote(TWO, whole)
    assert f"{SMALL.label}, seed 1" in str(error.value)
    with pytest.raises(ValueError, match=r"throughput of .* is missing(?s:.)*batch size 8"):
        promote(replace(TWO, seeds=(0,), batch_size=8), whole)
    assert not (tmp_path / "reference").exists()


def test_only_what_belongs_to_the_experiment_is_promoted(whole):
    swept(replace(TWO, batch_size=8), whole, None)  # the same runs, other throughputs
    swept(TWO.change(lr=0.2), whole, None)
    records, _ = swept(TWO, whole, None)
    swept(replace(TWO, batch_size=16), whole, None)
    assert ResultsFile(promote(TWO, whole)).read() == records


def test_promoting_again_replaces(whole):
    swept(TWO, whole, None)
    promote(TWO, whole)
    changed = TWO.change(lr=0.2)
    records, _ = swept(changed, whole, None)
    assert ResultsFile(promote(changed, whole)).read() == records


def test_a_promotion_that_fails_leaves_the_reference_as_it_was(whole, monkeypatch):
    swept(TWO, whole, None)
    target = promote(TWO, whole)
    before, usual, calls = target.read_bytes(), ResultsFile.append, []

    def append(self, record):
        calls.append(record)
        if len(calls) == 4:
            raise OSError("the disk is full")
        usual(self, record)

    changed = TWO.change(lr=0.2)
    swept(changed, whole, None)
    monkeypatch.setattr(ResultsFile, "append", append)
    with pytest.raises(OSError, match="the disk is full"):
        promote(changed, whole)
    assert len(calls) == 4 and target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target], "and nothing beside it"


def test_nothing_goes_on_from_the_reference(whole, tmp_path, trained):
    swept(TWO, whole, None)
    promote(TWO, whole)
    (tmp_path / "local" / "two.jsonl").unlink()
    trained.clear()
    _, lines = swept(TWO, whole, None)
    assert len(trained) == 4 and lines == []


@pytest.mark.parametrize(
    ("arms", "options", "message"),
    [
        (KERNELS, {}, r"arms must be a list of them, got Experiment.*experiment\.arms"),
        (KERNELS.arms[0], {}, r"arms must be a list of them, got Arm.*: write \[arm\]"),
        ([], {}, r"arms must be at least one, got none: give \(Arm\("),
        (["one 5×5"], {}, r"arms\[0\] must be an Arm, got 'one 5×5'"),
        (KERNELS.arms[:1] * 2, {}, "each arm needs a label of its own, got 'one 5×5' twice"),
        (KERNELS.arms[:1], {"epoch": 1}, "epoch is not a field of Recipe: it has augment, "),
        (KERNELS.arms[:1], {"seed": "a"}, "seed must be a whole number of at least 0, got 'a'"),
    ],
)
def test_arms_that_cannot_be_trained_are_refused_before_anything_is(tiny, arms, options, message):
    with pytest.raises(ValueError, match=message):
        fit_arms(arms, tiny.train, **options)
