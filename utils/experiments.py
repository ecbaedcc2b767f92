"""Architectures × seeds × a recipe → results: trained in parallel, filed one by one, resumed where they stopped.

A run is known by its key (architecture, recipe, seed, data, device, dtype, versions): what is in the file already
isn't trained again, and what was trained under other conditions doesn't count as the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from utils.architectures import Architecture
from utils.checks import changed, of_kind, one_of, shown, some_of, whole
from utils.cores import cpu_cores
from utils.data import FashionMNIST, Images
from utils.device import device_name, dtype_name, versions
from utils.faults import OutOfMemory, TrainingError
from utils.models import build
from utils.progress import progress_bar
from utils.results import Point, Record, ResultsFile, points, table
from utils.throughput import Throughput, inference_throughput, merged
from utils.training import Callback, History, Recipe, Step, evaluate, fit
from utils.words import counted, percent
from utils.workers import Tell, WorkerDied, check_not_imported_by_worker, run_in_workers

RESULTS = Path(__file__).resolve().parent.parent / "results"
ROUNDS = 5  # in which throughputs are measured
EXAMPLE_OF_AN_ARM = "Arm(LENET, Recipe(epochs=2, lr=0.05))"
PROBED = 10_000  # of the training images, for the accuracy on what was learnt from


def local_folder() -> Path:
    """Where your own runs are filed: the folder that BIGGER_AND_DEEPER_RESULTS names (one of your Drive, in Colab), or
    results/local."""
    return Path(os.environ.get("BIGGER_AND_DEEPER_RESULTS") or RESULTS / "local").expanduser()


# --- what is run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """One of the things that an experiment compares: a network, and how it is trained.

    name: what it stands for in this experiment, if the network's label doesn't say it.
    """

    architecture: Architecture
    recipe: Recipe
    name: str = ""

    def __post_init__(self) -> None:
        of_kind("architecture", self.architecture, Architecture, "VGG['A'] or vgg_like((1, 2), (8, 16))")
        of_kind("recipe", self.recipe, Recipe, "Recipe(epochs=2, lr=0.05)")
        of_kind("name", self.name, str, "'two 3×3'")

    @property
    def label(self) -> str:
        """What the arm is called: its name, or else the network's label."""
        return self.name or self.architecture.label


@dataclass(frozen=True)
class Experiment:
    """A question, and the arms that answer it. `name` is the results file's name."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0,)
    evaluate_on: str = "test"  # "test": trained on all 60,000 images; "validation": on 55,000, for what is chosen
    batch_size: int = 256  # at which inference throughput is measured

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w .-]*", self.name):
            raise ValueError(
                f"name must be the results file's name, of letters, digits, _ and -, such as 'my_sweep', "
                f"got {self.name!r}"
            )
        of_kind("question", self.question, str, "'Does depth help?'")
        object.__setattr__(self, "arms", some_of("arms", self.arms, EXAMPLE_OF_AN_ARM, Arm))
        object.__setattr__(self, "seeds", some_of("seeds", self.seeds, "0"))
        for seed in self.seeds:
            whole("a seed", seed, least=0)
        whole("batch_size", self.batch_size, least=1)
        one_of("evaluate_on", self.evaluate_on, ("test", "validation"))

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """The arms' networks, each once, in order."""
        return tuple(dict.fromkeys(arm.architecture for arm in self.arms))

    def change(self, **recipe: Any) -> Experiment:
        """A copy in which every arm's recipe is changed alike: `CURVE.change(epochs=1)`."""
        return replace(self, arms=tuple(replace(arm, recipe=changed(arm.recipe, recipe)) for arm in self.arms))


@dataclass(frozen=True)
class Run:
    """One training run: everything that decides its result.

    The recipe's dtype is what it is trained in; `dtype` is what it is used in: evaluated, and its throughput measured.
    Both are resolved, never "auto".
    """

    architecture: Architecture
    recipe: Recipe
    seed: int
    evaluate_on: str
    data_digest: str
    data_size: int
    dtype: str
    device: str
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """SHA-256 over all of the fields."""
        return _key(self.architecture, **{name: value for name, value in vars(self).items() if name != "architecture"})


def _key(architecture: Architecture, **conditions: Any) -> str:
    plain = {name: asdict(v) if isinstance(v, Recipe) else v for name, v in conditions.items()}
    return hashlib.sha256(json.dumps([architecture.digest, plain], sort_keys=True).encode()).hexdigest()


def plan(experiment: Experiment, data: FashionMNIST) -> list[Run]:
    """All runs of an experiment on this data and device.

    Raises ValueError if there is one twice, or a network that doesn't fit the data.
    """
    for arm in experiment.arms:
        check_fits(arm.architecture, data)
    device = data.train.device
    size = len(data.all_train if experiment.evaluate_on == "test" else data.train)
    runs = [
        Run(arm.architecture, _resolved(arm.recipe, device), seed, experiment.evaluate_on, data.digest, size,
            dtype_name("auto", device), device_name(device), versions())
        for seed in experiment.seeds
        for arm in experiment.arms
    ]  # fmt: skip
    keys = [run.key for run in runs]
    if twice := [run for run in runs if keys.count(run.key) > 1]:
        raise ValueError(
            f"runs must differ in architecture, recipe or seed, got {twice[0].architecture.label} with seed "
            f"{twice[0].seed} twice: leave one out"
        )
    return runs


class UnfitForData(ValueError):
    """A network can't be trained on these images as it is.

    The message is for who writes code. For who turns knobs: `why`, in words, and `changes`, the fields of the
    architecture that would have to be others.
    """

    def __init__(self, architecture: Architecture, expected: str, found: int, why: str, **changes: int) -> None:
        to_do = ", ".join(f"{name}={value}" for name, value in changes.items())
        super().__init__(f"{architecture.label}: {expected}, got {found}: take architecture.change({to_do})")
        self.why = why
        self.changes = changes


def check_fits(architecture: Architecture, data: FashionMNIST) -> None:
    """UnfitForData unless the network takes the images and tells their classes apart."""
    channels, side, classes = data.train.pixels.shape[1], data.train.pixels.shape[-1], len(data.classes)
    if (own := architecture.image_size) < side:
        expected = f"image_size must be at least {side}, the images' own size"
        why = f"it is made for {own}×{own} pixels, and the images have {side}×{side}"
        raise UnfitForData(architecture, expected, own, why, image_size=side)
    if (own := architecture.in_channels) != channels:
        expected = f"in_channels must be {channels}, as many as the images have"
        why = f"it takes images of {counted(own, 'channel')}, and these have {channels}"
        raise UnfitForData(architecture, expected, own, why, in_channels=channels)
    if (own := architecture.num_classes) < classes:
        expected = f"num_classes must be at least {classes}, as many as the data has"
        why = f"it tells {own} class{'es' * (own != 1)} apart, and there are {classes}"
        raise UnfitForData(architecture, expected, own, why, num_classes=classes)


def _resolved(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with "auto" replaced by the dtype that it means here."""
    return replace(recipe, dtype=dtype_name(recipe.dtype, device))


# --- one run --------------------------------------------------------------------------------------------------------


def train_once(run: Run, data: FashionMNIST, *, callbacks: Sequence[Callback] = ()) -> Record | None:
    """Train and evaluate one network; its record, or None if a callback stopped it (half a run is no result)."""
    seen, held_out = (data.all_train, data.test) if run.evaluate_on == "test" else (data.train, data.validation)
    torch.manual_seed(run.seed)
    net = build(run.architecture)
    history = fit(net, seen, run.recipe, seed=run.seed, callbacks=callbacks, progress=False)
    if history.stopped:
        return None
    try:
        result = evaluate(net, held_out, dtype=run.dtype)
        # With dropout off and nothing augmented, so that it can be held against the other: the losses can't.
        on_training = evaluate(net, Images(seen.pixels[:PROBED], seen.labels[:PROBED]), dtype=run.dtype)
    except OutOfMemory:
        raise
    except TrainingError as error:
        steps, lr = history.total_steps, run.recipe.lr
        raise TrainingError(f"after the last of {steps} steps, with lr={lr}: {error}") from error
    every = max(1, history.total_steps // 200)  # 200 points draw a learning curve as well as all of them
    return {
        "kind": "run",
        "key": run.key,
        "label": run.architecture.label,
        "digest": run.architecture.digest,
        "architecture": run.architecture.to_dict(),
        "parameters": sum(p.numel() for p in net.parameters()),
        "recipe": asdict(run.recipe),
        "seed": run.seed,
        "evaluate_on": run.evaluate_on,
        "dtype": run.dtype,
        "data": {"digest": run.data_digest, "size": run.data_size},
        "is_sample": data.is_sample,
        "accuracy": result.accuracy,
        "loss": result.loss,
        "training_accuracy": on_training.accuracy,
        "losses": [round(sum(part) / len(part), 4) for part in _pieces(history.losses, every)],
        "steps_per_loss": every,
        "steps_per_epoch": history.steps_per_epoch,
        "seconds": round(history.seconds, 3),
        "train_images_per_s": round(history.images_per_s, 1),
        "threads": torch.get_num_threads(),
        "device": run.device,
        "versions": run.versions,
        "warning": history.warning,
        "time": now(),
    }


def fit_arms(
    arms: Sequence[Arm],
    data: Images,
    *,
    validation: Images | None = None,
    seed: int = 0,
    progress: bool = True,
    **recipe: Any,
) -> tuple[dict[str, nn.Module], dict[str, History]]:
    """Train the arms here, one after the other, as a lesson shows them: the networks and the histories, by label.

    recipe: what is changed in every arm's recipe, such as epochs=2. Each begins from the weights that `sweep` gives it
    with this seed. progress: with a bar for each, and a word about one that has learnt nothing.

    Raises ValueError for what are no arms, or two with one label, for a field that recipes don't have, and for what
    `fit` can't train.
    """
    recipes = {arm.label: changed(arm.recipe, recipe) for arm in checked_arms(arms)}
    whole("seed", seed, least=0)
    nets, histories = {}, {}
    for arm in arms:
        torch.manual_seed(seed)
        net = build(arm.architecture)
        histories[arm.label] = fit(net, data, recipes[arm.label], validation=validation, seed=seed, progress=progress)
        nets[arm.label] = net
    return nets, histories


def checked_arms(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """ValueError unless these are arms, one at least, each with a label of its own."""
    if isinstance(arms, (Arm, Experiment)):
        raise ValueError(f"arms must be a list of them, got {shown(arms)}: write [arm], or experiment.arms")
    arms = some_of("arms", arms, EXAMPLE_OF_AN_ARM, Arm)
    labels = [arm.label for arm in arms]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(
            f"each arm needs a label of its own, got {twice[0]!r} twice: give them names, Arm(…, name='…')"
        )
    return arms


def _pieces(values: list[float], length: int) -> Iterator[list[float]]:
    for start in range(0, len(values), length):
        yield values[start : start + length]


# --- many runs ------------------------------------------------------------------------------------------------------


def sweep(
    experiment: Experiment,
    data: FashionMNIST,
    *,
    folder: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> list[Record]:
    """Measure every network's throughput, then train every run that isn't in the file yet; the experiment's records.

    The file is `experiment.name`.jsonl in `folder`, or in `local_folder()` unless you name one. On a CPU, `workers`
    processes (one a core, unless you say otherwise) train side by side; on a GPU one network trains at a time. A run
    that fails (its loss is no number, memory runs out, its process dies twice) is reported and marked as failed in the
    file, and the rest goes on; the next call tries it again. ■ or Ctrl-C ends the workers; what is finished is kept,
    and the next call goes on from there. A second sweep into the same file waits until the first has ended.

    In a script of yours call it under `if __name__ == "__main__":`, because the processes import the script.
    """
    check_not_imported_by_worker()
    of_kind("experiment", experiment, Experiment, "CURVE")
    of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
    if workers is not None:
        whole("workers", workers, least=1)
    runs = plan(experiment, data)
    checked_arms(experiment.arms)  # now, not when they are compared: then they would have been trained
    file = ResultsFile(Path(folder or local_folder()).expanduser() / f"{experiment.name}.jsonl")
    with file.for_one_alone(report):
        speeds = _measure_all(experiment, data.train.device, file, progress, report)
        done = file.by_key("run")
        if any(run.key in done for run in runs):
            known = sum(run.key in done for run in runs)
            report(f"{known} of {len(runs)} runs are in {_short(file.path)} already; they aren't repeated.")
        todo = [run for run in runs if run.key not in done and run.architecture.digest in speeds]
        _train_into(file, todo, speeds, data, workers, progress, report)
        finished, failed = file.by_key("run"), file.by_key("failure")
    keys = [run.key for run in runs]
    return [
        *speeds.values(),
        *(finished[key] for key in keys if key in finished),
        *(failed[key] for key in keys if key in failed and key not in finished),
    ]


def _train_into(
    file: ResultsFile,
    todo: list[Run],
    speeds: dict[str, Record],
    data: FashionMNIST,
    workers: int | None,
    progress: bool,
    report: Callable[[str], None],
) -> None:
    """Train the runs, and write each one's record when it is there."""
    # The longest first: then no core is left alone with a long one at the end.
    speed = {digest: record["images_per_s"] for digest, record in speeds.items()}
    cost = {run.key: run.data_size * run.recipe.epochs / speed[run.architecture.digest] for run in todo}
    todo = sorted(todo, key=lambda run: cost[run.key], reverse=True)
    if data.train.device.type != "cpu":
        workers = 1
    workers = min(workers or cpu_cores(), len(todo))
    bar = progress_bar(
        total=sum(cost.values()),
        disable=not progress or not todo,
        bar_format="{percentage:3.0f} % |{bar}| {postfix[0]} {elapsed}, {remaining} left",
        postfix=[""],
    )
    with bar:
        for run, record in _train_all(todo, data, workers, _Progress(bar, todo, cost), report):
            if isinstance(record, Exception):
                report(f"{run.architecture.label}, seed {run.seed}, failed: {record}")
                record = _failure(run.key, run.architecture, record, seed=run.seed)
            elif record["warning"]:
                report(f"{run.architecture.label}, seed {run.seed}: {record['warning']}")
            file.append(record)


def _failure(key: str, architecture: Architecture, error: Exception, **more: Any) -> Record:
    """The record that marks something as failed. One that says that it was done, if it comes later, outranks it."""
    stamp = {"kind": "failure", "key": key, "label": architecture.label, "digest": architecture.digest}
    return stamp | more | {"error": str(error), "time": now()}


def now() -> str:
    """The time in UTC, as a record has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _short(path: Path) -> str:
    """The path as the student knows it: from the project's folder on, if it is in there."""
    return str(path.relative_to(RESULTS.parent)) if path.is_relative_to(RESULTS.parent) else str(path)


class _Progress:
    """One bar for all workers. Its unit is a run's expected cost, so that the time left is worth something."""

    def __init__(self, bar: tqdm, runs: Sequence[Run], cost: dict[str, float]) -> None:
        self.bar, self.runs, self.costs = bar, runs, [cost[run.key] for run in runs]
        self.shares = [0.0] * len(runs)  # how much of each run is done

    def at(self, i: int, share: float) -> None:
        """Run `i` is done to `share`, 0 … 1."""
        self.shares[i] = share
        if self.bar.disable:  # then it has no postfix either
            return
        self.bar.postfix[0] = self.in_words()
        self.bar.update(sum(c * s for c, s in zip(self.costs, self.shares, strict=True)) - self.bar.n)

    def in_words(self) -> str:
        """`3 of 8 trained, now VGG (2,2) 45 % and LeNet 80 %,`"""
        under_way = [
            f"{run.architecture.label} {percent(share, 0)}"
            for run, share in zip(self.runs, self.shares, strict=True)
            if 0 < share < 1
        ]
        now = f" now {' and '.join(under_way)}," if under_way else ""
        return f"{sum(share >= 1 for share in self.shares)} of {len(self.runs)} trained,{now}"


def _train_all(
    runs: Sequence[Run], data: FashionMNIST, workers: int, progress: _Progress, report: Callable[[str], None]
) -> Iterator[tuple[Run, Record | Exception]]:
    """Each run with its record, or with the error that ended it, as they finish."""
    train_each = _train_in_processes if data.train.device.type == "cpu" and workers > 1 else _train_here
    for i, record in train_each(runs, data, workers, progress, report):
        progress.at(i, 1.0)
        if isinstance(record, Exception) and not isinstance(record, (TrainingError, WorkerDied)):
            raise record
        yield runs[i], record


def _train_here(
    runs: Sequence[Run], data: FashionMNIST, workers: int, progress: _Progress, report: Callable[[str], None]
) -> Iterator[tuple[int, Record | Exception]]:
    """In this process, one after the other: on a GPU, or with one worker."""
    for i, run in enumerate(runs):
        try:
            record = train_once(run, data, callbacks=[_teller(lambda share, i=i: progress.at(i, share))])
        except TrainingError as error:
            record = error
        if record is None:  # ■ was pressed, and `fit` has said so
            raise KeyboardInterrupt
        yield i, record


def _train_in_processes(
    runs: Sequence[Run], data: FashionMNIST, workers: int, progress: _Progress, report: Callable[[str], None]
) -> Iterator[tuple[int, Record | Exception]]:
    """In processes that share one copy of the images: on two cores, two with a thread each beat one with two."""

    def retried(i: int, why: str) -> None:
        progress.at(i, 0.0)
        run = runs[i]
        report(f"{run.architecture.label}, seed {run.seed}: its process died ({why}); it is tried once more.")

    threads = max(1, cpu_cores() // workers)
    outcomes = run_in_workers(
        _train_in_worker, runs, workers, set_up=_set_up_worker, arguments=(data, threads), told=progress.at,
        retried=retried,
    )  # fmt: skip
    for i, record in outcomes:
        if isinstance(record, WorkerDied):
            record = WorkerDied(
                f"{record}. Most likely memory ran out: close other programs, or take fewer workers (with workers=1 it "
                f"needs the least)"
            )
        yield i, record


def _teller(tell: Tell, every: float = 0.3) -> Callback:
    """A callback that tells every 0.3 s how much of a run is done."""
    last = time.perf_counter()

    def say_how_much(step: Step) -> None:
        nonlocal last
        if time.perf_counter() - last > every:
            last = time.perf_counter()
            tell(min(step.number / step.total, 0.999))  # 1 is kept for what is evaluated too

    return say_how_much


_in_worker: dict[str, Any] = {}  # what a worker process keeps between its runs


def _set_up_worker(data: FashionMNIST, threads: int) -> None:
    torch.set_num_threads(threads)
    _in_worker["data"] = data


def _train_in_worker(run: Run, tell: Tell) -> Record | None:
    return train_once(run, _in_worker["data"], callbacks=[_teller(tell)])


# --- throughput -----------------------------------------------------------------------------------------------------


def _measure_all(
    experiment: Experiment, device: torch.device, file: ResultsFile, progress: bool, report: Callable[[str], None]
) -> dict[str, Record]:
    """Inference throughput by architecture digest: from the file, or measured now, alone and with all threads.

    In rounds, each network once a round: what else the machine does in the meantime slows all of them alike. A network
    for which memory runs out is reported, marked as failed, and left out.
    """
    keys = {a: _speed_key(a, experiment.batch_size, device) for a in experiment.architectures}
    known = file.by_key("throughput")
    nets: dict[Architecture, nn.Module] = {}
    measured: dict[Architecture, list[Throughput]] = {a: [] for a, key in keys.items() if key not in known}
    turns = [a for _ in range(ROUNDS) for a in measured]
    for a in progress_bar(turns, desc="measuring throughput", disable=not progress or not turns):
        if a not in measured:
            continue
        try:
            if a not in nets:
                nets[a] = build(a)
            once = inference_throughput(
                nets[a], a.input_shape, batch_size=experiment.batch_size, device=device, repeats=1
            )
        except OutOfMemory as error:
            del measured[a]
            nets.pop(a, None)
            report(f"{a.label} failed: {error}")
            file.append(_failure(keys[a], a, error))
        else:
            measured[a].append(once)
    for a, rounds in measured.items():
        stamp = {"kind": "throughput", "key": keys[a], "label": a.label, "digest": a.digest}
        known[keys[a]] = stamp | merged(rounds).to_dict()
        file.append(known[keys[a]])
    return {a.digest: known[key] for a, key in keys.items() if key in known}


def _speed_key(architecture: Architecture, batch_size: int, device: torch.device) -> str:
    return _key(
        architecture,
        batch_size=batch_size,
        dtype=dtype_name("auto", device),
        device=device_name(device),
        threads=torch.get_num_threads(),
        versions=versions(),
    )


# --- the reference --------------------------------------------------------------------------------------------------


def reference(experiment: Experiment, data: FashionMNIST) -> list[Point]:
    """The committed points of an experiment, of the first machine that has measured it; none if there is none.

    None either while `data` is the sample: its runs are never drawn beside those on all of the images.
    """
    file = None if data.is_sample else reference_file(experiment)
    return points(table(ResultsFile(file).read())) if file else []


def reference_file(experiment: Experiment) -> Path | None:
    """Where the committed results of an experiment are, of the first machine that has measured it."""
    return next(iter(sorted((RESULTS / "reference").glob(f"*/{experiment.name}.jsonl"))), None)


def reference_folder(device: torch.device | str) -> Path:
    """Where what was measured on this device is kept: results/reference/amd-epyc-2-cores."""
    words = "".join(c if c.isalnum() else " " for c in device_name(device).lower()).split()
    return RESULTS / "reference" / "-".join(words)


def promote(experiment: Experiment, data: FashionMNIST) -> Path:
    """Copy an experiment's finished local records to results/reference/<device>/; the only way they get there."""
    if data.is_sample:
        raise ValueError("a reference needs all of the images, and these are the sample: see load_fashion_mnist")
    file, runs = ResultsFile(local_folder() / f"{experiment.name}.jsonl"), plan(experiment, data)
    done = file.by_key("run")
    if missing := [f"{run.architecture.label}, seed {run.seed}" for run in runs if run.key not in done]:
        raise ValueError(f"{len(missing)} of {len(runs)} runs are missing ({missing[0]}, …): run the experiment first")
    measured, device = file.by_key("throughput"), data.train.device
    keys = {a: _speed_key(a, experiment.batch_size, device) for a in experiment.architectures}
    if missing := [a.label for a, key in keys.items() if key not in measured]:
        raise ValueError(
            f"the throughput of {', '.join(missing)} is missing, as it is measured here and now (batch size "
            f"{experiment.batch_size}, {counted(torch.get_num_threads(), 'thread')}): run the experiment first"
        )
    target = reference_folder(device) / file.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = ResultsFile(target.with_suffix(".part"))
    part.path.unlink(missing_ok=True)
    try:
        for record in [*(measured[key] for key in keys.values()), *(done[run.key] for run in runs)]:
            part.append(record)
        os.replace(part.path, target)
    finally:
        part.path.unlink(missing_ok=True)
    return target
