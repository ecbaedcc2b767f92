"""Architectures × seeds × a recipe → results: trained in parallel, filed one by one, resumed where they stopped.

A run is known by its key (architecture, recipe, seed, data, device, dtype, versions): what is in the file already
isn't trained again, and what was trained under other conditions doesn't count as the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from tqdm import tqdm

from utils.architectures import ALEXNET_SMALL, LENET, LENET_BOOK, VGG_SMALL, Architecture
from utils.checks import of_kind, one_of, tuple_of, whole
from utils.cores import cpu_cores
from utils.data import FashionMNIST
from utils.device import device_name, dtype_name, versions
from utils.models import build
from utils.progress import progress_bar
from utils.results import Point, Record, ResultsFile, points, table
from utils.throughput import Throughput, inference_throughput, merged
from utils.training import Callback, Recipe, Step, TrainingError, evaluate, fit

RESULTS = Path(__file__).resolve().parent.parent / "results"
ROUNDS = 5  # in which throughputs are measured


def local_folder() -> Path:
    """Where your own runs are filed: the folder that BIGGER_AND_DEEPER_RESULTS names (one of your Drive, in Colab), or
    results/local."""
    return Path(os.environ.get("BIGGER_AND_DEEPER_RESULTS") or RESULTS / "local")


# --- what is run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """One of the things that an experiment compares: a network, and how it is trained."""

    architecture: Architecture
    recipe: Recipe

    def __post_init__(self) -> None:
        of_kind("architecture", self.architecture, Architecture, "VGG['A'] or vgg_like((1, 2), (8, 16))")
        of_kind("recipe", self.recipe, Recipe, "Recipe(epochs=2, lr=0.05)")


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
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a word, the results file's name, got {self.name!r}")
        object.__setattr__(self, "arms", tuple_of("arms", self.arms, Arm))
        object.__setattr__(self, "seeds", tuple_of("seeds", self.seeds))
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
        return replace(self, arms=tuple(Arm(arm.architecture, replace(arm.recipe, **recipe)) for arm in self.arms))


# The learning rates were chosen on the validation images, each network's for itself (tools/tune.py).
CURVE = Experiment(
    name="curve",
    question="What does accuracy cost in throughput, from LeNet to small VGGs?",
    arms=(
        Arm(LENET_BOOK, Recipe(epochs=2, lr=0.5)),
        Arm(LENET, Recipe(epochs=2, lr=0.05)),
        Arm(ALEXNET_SMALL, Recipe(epochs=2, lr=0.05)),
        Arm(VGG_SMALL["VGG (1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (1,1,1)"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG (2,2)"], Recipe(epochs=2, lr=0.05)),
        Arm(VGG_SMALL["VGG (2,2,2) + BN"], Recipe(epochs=2, lr=0.1)),
        Arm(VGG_SMALL["VGG-11 ⅛ + BN"], Recipe(epochs=2, lr=0.1)),
    ),
)
# The same, for whoever chooses one of them.
CURVE_TO_CHOOSE_BY = replace(CURVE, name="curve_validation", evaluate_on="validation")


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

    Raises ValueError if there is none, or one twice, or a network that doesn't fit the data.
    """
    for arm in experiment.arms:
        _check_fits(arm.architecture, data)
    device = data.train.device
    size = len(data.all_train if experiment.evaluate_on == "test" else data.train)
    runs = [
        Run(arm.architecture, _resolved(arm.recipe, device), seed, experiment.evaluate_on, data.digest, size,
            dtype_name("auto", device), device_name(device), versions())
        for seed in experiment.seeds
        for arm in experiment.arms
    ]  # fmt: skip
    if not runs:
        raise ValueError("an experiment needs at least one arm and one seed, got none")
    if len({run.key for run in runs}) < len(runs):
        raise ValueError("an experiment's arms and seeds must differ from each other, got one of them twice")
    return runs


def _check_fits(architecture: Architecture, data: FashionMNIST) -> None:
    """ValueError unless the network takes the images and tells their classes apart."""
    channels, classes = data.train.pixels.shape[1], len(data.classes)
    if architecture.in_channels != channels:
        raise ValueError(
            f"{architecture.label}: in_channels must be {channels}, as many as the images have, got "
            f"{architecture.in_channels}: take architecture.change(in_channels={channels})"
        )
    if architecture.num_classes < classes:
        raise ValueError(
            f"{architecture.label}: num_classes must be at least {classes}, as many as the data has, got "
            f"{architecture.num_classes}: take architecture.change(num_classes={classes})"
        )


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
    result = evaluate(net, held_out, dtype=run.dtype)
    if not math.isfinite(result.loss):
        raise TrainingError(
            f"after the last of {history.total_steps} steps the loss on images not seen in training is {result.loss}: "
            f"the learning rate lr={run.recipe.lr} is too high, try a third of it"
        )
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
        "losses": [round(sum(part) / len(part), 4) for part in _pieces(history.losses, every)],
        "steps_per_loss": every,
        "steps_per_epoch": history.steps_per_epoch,
        "seconds": round(history.seconds, 3),
        "train_images_per_s": round(history.images_per_s, 1),
        "threads": torch.get_num_threads(),
        "device": run.device,
        "versions": run.versions,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


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
    that fails (TrainingError) is reported and left out, the rest goes on. ■ or Ctrl-C ends the workers; what is
    finished is kept, and the next call goes on from there.

    In a script of yours call it under `if __name__ == "__main__":`, because the processes import the script.
    """
    if workers is not None:
        whole("workers", workers, least=1)
    file = ResultsFile(Path(folder or local_folder()) / f"{experiment.name}.jsonl")
    runs = plan(experiment, data)
    speeds = _measure_all(experiment, data.train.device, file, progress)
    done = file.by_key("run")
    todo = [run for run in runs if run.key not in done]
    if len(todo) < len(runs):
        report(f"{len(runs) - len(todo)} of {len(runs)} runs are in {_short(file.path)} already; they aren't repeated.")
    # The longest first: then no core is left alone with a long one at the end.
    speed = {digest: record["images_per_s"] for digest, record in speeds.items()}
    cost = {run.key: run.data_size * run.recipe.epochs / speed[run.architecture.digest] for run in todo}
    todo.sort(key=lambda run: cost[run.key], reverse=True)
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
        for run, record in _train_all(todo, data, workers, _Progress(bar, todo, cost)):
            if isinstance(record, TrainingError):
                report(f"{run.architecture.label}, seed {run.seed}, failed: {record}")
            else:
                file.append(record)
    finished = file.by_key("run")
    return [*speeds.values(), *(finished[run.key] for run in runs if run.key in finished)]


def _short(path: Path) -> str:
    """The path as the student knows it: from the project's folder on, if it is in there."""
    return str(path.relative_to(RESULTS.parent)) if path.is_relative_to(RESULTS.parent) else str(path)


class _Progress:
    """One bar for all workers. Its unit is a run's expected cost, so that the time left is worth something."""

    def __init__(self, bar: tqdm, runs: Sequence[Run], cost: dict[str, float]) -> None:
        self.bar, self.costs, self.finished = bar, [cost[run.key] for run in runs], 0

    def show(self, shares: Sequence[float]) -> None:
        """`shares`: how much of each run is done, 0 … 1."""
        if self.bar.disable:  # then it has no postfix either
            return
        self.finished = sum(share >= 1 for share in shares)
        self.bar.postfix[0] = f"{self.finished} of {len(self.costs)} trained,"
        self.bar.update(sum(c * s for c, s in zip(self.costs, shares, strict=True)) - self.bar.n)


def _train_all(
    runs: Sequence[Run], data: FashionMNIST, workers: int, progress: _Progress
) -> Iterator[tuple[Run, Record | TrainingError]]:
    """Each run with its record, or with the error that ended it, as they finish."""
    if not runs:
        return
    if data.train.device.type == "cpu" and workers > 1:
        yield from _train_in_processes(runs, data, workers, progress)
        return
    shares = [0.0] * len(runs)
    for i, run in enumerate(runs):
        try:
            record = train_once(run, data, callbacks=[_teller(shares, i, lambda: progress.show(shares))])
        except TrainingError as error:
            record = error
        shares[i] = 1.0
        progress.show(shares)
        if record is not None:
            yield run, record
        if record is None:  # ■ was pressed, and `fit` has said so
            raise KeyboardInterrupt


def _teller(shares: Any, i: int, show: Callable[[], object], every: float = 0.3) -> Callback:
    """A callback that notes every 0.3 s how much of run i is done."""
    last = time.perf_counter()

    def tell(step: Step) -> None:
        nonlocal last
        if time.perf_counter() - last > every:
            last = time.perf_counter()
            shares[i] = min(step.number / step.total, 0.999)  # 1 is kept for what is evaluated too
            show()

    return tell


def _train_in_processes(
    runs: Sequence[Run], data: FashionMNIST, workers: int, progress: _Progress
) -> Iterator[tuple[Run, Record | TrainingError]]:
    """Spawned processes, each kept for many runs: on two cores, two with a thread each beat one with two threads.

    They share one copy of the images in memory, and note their progress in a shared array.
    """
    context = torch.multiprocessing.get_context("spawn")
    shares, threads = context.Array("d", len(runs), lock=False), max(1, cpu_cores() // workers)
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(data, shares, threads))
    others = set(multiprocessing.active_children())
    pending: set[Future] = set()
    try:
        with _interrupts_held():
            futures = {pool.submit(_train_in_worker, run, i): i for i, run in enumerate(runs)}
            pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.3, return_when=FIRST_COMPLETED)
            for future in finished:
                shares[futures[future]] = 1.0
                yield runs[futures[future]], future.exception() if _failed(future) else future.result()
            progress.show(shares)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A training process died; the finished runs are kept. Most likely memory ran out: close other programs, "
            "then run this again (with workers=1 it needs the least). Or, in a script of yours, the call doesn't stand "
            'under `if __name__ == "__main__":`, where it must, because the processes import the script.'
        ) from error
    finally:
        if pending:  # ended early: what the workers are at is of no use any more, and may take long
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, and what is started here never hears it: else each worker, while it still imports, would die of it
    with a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():  # only that one hears it
        yield
        return
    heard: list[tuple[Any, ...]] = []  # blocking it isn't enough: another thread of this process may take it
    handler = signal.signal(signal.SIGINT, lambda *details: heard.append(details))
    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_block else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if heard and callable(handler):
            handler(*heard[0])


def _failed(future: Future) -> bool:
    """Did the training itself fail? Any other exception is raised where the result is asked for."""
    return isinstance(future.exception(), TrainingError)


_worker: dict[str, Any] = {}  # what a worker process keeps between its runs


def _start_worker(data: FashionMNIST, shares: Any, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the first one ends the others
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a worker that is ended leaves behind
    _worker.update(data=data, shares=shares)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, a worker whose parent was killed would wait for its next run forever."""
    torch.multiprocessing.parent_process().join()
    os._exit(1)


def _train_in_worker(run: Run, i: int) -> Record | None:
    return train_once(run, _worker["data"], callbacks=[_teller(_worker["shares"], i, lambda: None)])


# --- throughput -----------------------------------------------------------------------------------------------------


def _measure_all(experiment: Experiment, device: torch.device, file: ResultsFile, progress: bool) -> dict[str, Record]:
    """Inference throughput by architecture digest: from the file, or measured now, alone and with all threads.

    In rounds, each network once a round: what else the machine does in the meantime slows all of them alike.
    """
    keys = {a: _speed_key(a, experiment.batch_size, device) for a in experiment.architectures}
    known = file.by_key("throughput")
    nets = {a: build(a) for a, key in keys.items() if key not in known}
    measured: dict[Architecture, list[Throughput]] = {a: [] for a in nets}
    turns = [a for _ in range(ROUNDS) for a in nets]
    for a in progress_bar(turns, desc="measuring throughput", disable=not progress or not turns):
        once = inference_throughput(nets[a], a.input_shape, batch_size=experiment.batch_size, device=device, repeats=1)
        measured[a].append(once)
    for a, rounds in measured.items():
        stamp = {"kind": "throughput", "key": keys[a], "label": a.label, "digest": a.digest}
        known[keys[a]] = stamp | merged(rounds).to_dict()
        file.append(known[keys[a]])
    return {a.digest: known[key] for a, key in keys.items()}


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
    files = sorted((RESULTS / "reference").glob(f"*/{experiment.name}.jsonl"))
    return points(table(ResultsFile(files[0]).read())) if files and not data.is_sample else []


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
            f"{experiment.batch_size}, {torch.get_num_threads()} threads): run the experiment first"
        )
    folder = "".join(c if c.isalnum() else "-" for c in device_name(device).lower())
    target = RESULTS / "reference" / "-".join(filter(None, folder.split("-"))) / file.path.name
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
