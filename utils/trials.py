"""Train a network within a time: as many steps as fit in, a look at validation images now and then, its throughput.

A `Trial` goes on while someone iterates over it, in pieces of a fraction of a second: an explorer does something else
in between. What is trained is what `fit` trains with the same images, recipe and seed: the time decides how many images
and epochs there are, before the first step.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from utils.architectures import Architecture
from utils.checks import is_number, of_kind, whole
from utils.data import FashionMNIST, Images
from utils.device import dtype_name, fast_format, resolve_dtype, synchronize, versions
from utils.experiments import check_fits, now
from utils.faults import OutOfMemory, TrainingError
from utils.models import build
from utils.profiling import profile
from utils.randomness import undisturbed
from utils.results import Record
from utils.throughput import Throughput, inference_throughput, merged, time_repeats
from utils.training import Evaluation, Fitting, History, Recipe, Step, StopTraining, evaluate, train
from utils.words import duration

BATCH = 128  # images a step
BATCH_OF_THROUGHPUT = 256  # as the reference's was measured
ROUNDS = 5  # of a throughput …
MEASURED_FOR = 5.0  # … of fewer, if they would take more seconds than that
BEATEN = 1.5  # times as slow: so many threads aren’t tried any more
LOOKS = 12  # at validation images while it trains
SEEN_AT_A_LOOK = 1000  # of them
PIECE = 250  # images evaluated at a time: a fraction of a second
SHARE_OF_LOOKS = 0.15  # the most of the time that they may take
SLOWEST_STEP = 0.5  # seconds: a stop has to wait for a step
FEWEST_STEPS = 20  # in fewer nothing is learnt that could be seen
SURELY = 4  # times too long, by its multiplications alone: then it isn't even tried
SMALLER = "fewer channels, fewer layers or a smaller image"
OVERTIME = 1.0  # seconds, and a tenth of what it was given: then it is ended
PLANNED = 0.8  # of the time: steps aren’t all alike, and what shows them on the screen takes its share


class TooSlow(ValueError):
    """The network can't be trained in the time that there is, on this device."""


def suggested_rate(architecture: Architecture) -> float:
    """A learning rate to begin with: what was chosen on validation images for networks alike (see `utils.catalog`).

    1.0 for sigmoids without batch norm, 0.2 with batch norm; without, 0.1, and less for what is deep or has dropout.
    """
    if architecture.norm == "batch":
        return 0.2
    if architecture.activation == "sigmoid":
        return 1.0
    if architecture.weight_layers > 10:
        return 0.01
    return 0.05 if architecture.weight_layers > 7 or architecture.head.dropout else 0.1


@dataclass(frozen=True)
class Look:
    """What was seen of the validation images after `step` steps. accuracy: a share."""

    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Plan:
    """What fits into the time: `epochs` rounds over `num_images` images, and how often it is looked at."""

    num_images: int
    epochs: int
    looks: int

    @property
    def steps(self) -> int:
        return self.epochs * max(1, self.num_images // BATCH)


def plan_for(seconds: float, step_seconds: float, look_seconds: float, num_images: int) -> Plan:
    """As many steps as `seconds` have room for, over at most `num_images` images.

    Less than one round: fewer images, each seen once. More: all, or nearly all of them, in rounds of one length.
    Raises TooSlow if there is room for fewer than 20 steps.
    """
    looks = max(2, min(LOOKS, int(SHARE_OF_LOOKS * seconds / max(look_seconds, 1e-6))))
    steps = int((seconds - looks * look_seconds) / step_seconds)
    if steps < FEWEST_STEPS:
        raise TooSlow(
            f"a step of {BATCH} images takes about {duration(step_seconds)} here, and in the time there is room for "
            f"{max(steps, 0)} of them, too few to learn anything. Give it more time, or take {SMALLER}"
        )
    in_all = max(1, num_images // BATCH)  # steps of a round over all images
    epochs = math.ceil(steps / in_all)
    return Plan(min(num_images, max(BATCH, steps // epochs * BATCH)), epochs, looks)


class Trial:
    """One network, trained for about `seconds` on `data.train`, judged on `data.validation`. Iterate over it.

    The seconds hold training, the looks at validation images, and judging it in the end. Finding out how fast it is
    comes before, its throughput after; both take a second or two.

    phase      "getting ready", "training", "evaluating", "measuring its throughput" or "done"
    losses     of the steps so far; `looks`: what was seen of validation images on the way
    share      of the steps that are done; `seconds_left` of training
    threads    of torch, on which it works: all, or one where that is faster
    record     in the end: the run as a sweep files it, with its throughput

    lr None: `suggested_rate`. Raises ValueError for what can't be trained on these images, TooSlow (which is one) for
    what can't be trained in the time; while it runs what `fit` raises: TrainingError, OutOfMemory.
    """

    def __init__(
        self,
        architecture: Architecture,
        data: FashionMNIST,
        *,
        seconds: float = 10.0,
        lr: float | None = None,
        seed: int = 0,
    ) -> None:
        of_kind("architecture", architecture, Architecture, "VGG_SMALL['VGG (2,2)']")
        of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
        if not is_number(seconds) or seconds <= 0:
            raise ValueError(f"seconds must be a number above 0, got {seconds!r}")
        whole("seed", seed, least=0)
        check_fits(architecture, data)
        self.architecture, self.data, self.seconds, self.seed = architecture, data, seconds, seed
        self.recipe = Recipe(epochs=1, batch_size=BATCH, lr=suggested_rate(architecture) if lr is None else lr)
        self.device = data.train.device
        self.threads = self._all_threads = torch.get_num_threads()
        self.phase = "getting ready"
        self.looks: list[Look] = []
        self.plan: Plan | None = None
        self.net: nn.Module | None = None
        self.record: Record | None = None
        self._fitting: Fitting | None = None
        self._stopped_by = ""
        self._spent = 0.0  # seconds of work; what is done between two pieces of it doesn't count
        self._begun_at: float | None = None  # how many of them there were when training began

    def stop(self, reason: str = "you stopped it") -> None:
        """Train no further: what has been learnt so far is judged."""
        self._stopped_by = self._stopped_by or reason

    @property
    def losses(self) -> list[float]:
        return self._fitting.losses_so_far() if self._fitting else []

    @property
    def share(self) -> float:
        return self._fitting.done / self.plan.steps if self._fitting else 0.0

    @property
    def seconds_left(self) -> float:
        """Of training: what is planned, until the pace shows."""
        if self._begun_at is None:
            return self.seconds
        done = self._fitting.done
        pace = (self._spent - self._begun_at) / done if done else self.step_seconds
        return pace * (self.plan.steps - done)

    def __iter__(self) -> Iterator[str]:
        """Each item is the phase after another piece of work. torch's global random numbers stay as they were, and so
        does how many threads it uses."""
        work = undisturbed(self._work(), seed=self.seed, device=self.device)
        while True:
            before, begun = torch.get_num_threads(), time.perf_counter()
            torch.set_num_threads(self.threads)
            try:
                phase = next(work, None)
            finally:
                torch.set_num_threads(before)
                self._spent += time.perf_counter() - begun
            if phase is None:
                return
            yield phase

    def _work(self) -> Iterator[str]:
        yield from self._get_ready()
        if self._stopped_by:
            self.phase = "done"  # before the first step: there is nothing to judge
            return
        yield from self._train()
        history = self._fitting.history
        self.phase = "evaluating"
        spent = self._spent
        evaluation = yield from self._judged(self.data.validation)
        images_per_s = len(self.data.validation) / max(self._spent - spent, 1e-6)
        done = self._fitting.done  # the last look is the one at all of them
        self.looks = [look for look in self.looks if look.step < done]
        self.looks.append(Look(done, evaluation.loss, evaluation.accuracy))
        self.phase = "measuring its throughput"
        throughput = yield from self._measure(BATCH_OF_THROUGHPUT / images_per_s)
        self.record = self._record(history, evaluation, throughput)
        self.phase = "done"
        yield self.phase

    # --- how fast is it -----------------------------------------------------------------------------------------------

    def _get_ready(self) -> Iterator[str]:
        """Time a few steps of a twin of the network, small batches first, and decide how many fit into the time."""
        yield self.phase
        dtype_name("auto", self.device)  # times which dtype is faster, the first time
        yield self.phase
        too_long = min(SLOWEST_STEP, self.seconds / FEWEST_STEPS)
        if (foretold := self._foretold(2)) > SURELY * too_long:
            raise self._too_slow(2, foretold)
        yield self.phase
        twin = build(self.architecture)
        # A few images first: if a step of them takes too long, one of all would hold up everything, even a stop.
        tried = {self._all_threads, 1} if self.device.type == "cpu" else {self._all_threads}
        for batch in (2, 16, BATCH):
            seconds = yield from self._time_on(tried, twin, batch, too_long)
            self.step_seconds = min(seconds.values())
            if batch > 2:  # so few images say little about how threads share the work
                tried = {threads for threads in tried if seconds[threads] < BEATEN * self.step_seconds}
            if self.step_seconds > too_long:
                raise self._too_slow(batch, self.step_seconds)
            if self._stopped_by:
                return
        some = _first(self.data.validation, SEEN_AT_A_LOOK)
        start = time.perf_counter()
        yield from evaluated_in_pieces(twin, some, "auto")
        look_seconds = time.perf_counter() - start
        to_judge = look_seconds * len(self.data.validation) / len(some)
        num_images = len(self.data.train)
        self.plan = plan_for(PLANNED * self.seconds - to_judge, self.step_seconds, look_seconds, num_images)
        self.recipe = replace(self.recipe, epochs=self.plan.epochs)

    def _foretold(self, batch: int) -> float:
        """Seconds of a step of `batch` images, if its multiplications were all that it takes: before the first one is
        tried, which nothing could stop any more."""
        macs = int(profile(build(self.architecture, device="meta")).total.macs)
        tried = {self._all_threads, 1} if self.device.type == "cpu" else {self._all_threads}
        return 3 * batch * macs / max(_macs_per_s(self.device, threads) for threads in tried)

    def _too_slow(self, batch: int, seconds: float) -> TooSlow:
        takes = f"a step of {batch} images takes about {duration(seconds)} here"
        if seconds > SLOWEST_STEP:
            most = duration(SLOWEST_STEP)
            return TooSlow(f"{takes}, and while one lasts no stop is heard: {most} is the most. Take {SMALLER}")
        time = duration(self.seconds)
        return TooSlow(f"{takes}, too long to learn anything in {time}. Give it more time, or take {SMALLER}")

    def _time_on(
        self, tried: Collection[int], twin: nn.Module, batch: int, too_long: float
    ) -> Generator[str, None, dict[int, float]]:
        """Seconds of a step of `batch` images by the number of threads; then the best of them is what it works on.

        Where something else wants the cores (a browser, on a laptop of two), threads that wait for each other after
        every layer can be many times slower than a single one.
        """
        seconds = {}
        for threads in sorted(tried, reverse=True):
            self.threads = threads
            yield self.phase  # the number is set before a piece of work
            seconds[threads] = yield from self._time_steps(twin, batch, too_long)
        self.threads = min(seconds, key=seconds.get)
        yield self.phase
        return seconds

    def _time_steps(self, twin: nn.Module, batch: int, too_long: float) -> Generator[str, None, float]:
        """Seconds of a step of `batch` images: the median of a few, the first not counted, unless it takes too long."""
        recipe = replace(self.recipe, batch_size=batch, epochs=12, lr=1e-9)  # it isn't to go astray on so few images
        steps = train(twin, _first(self.data.train, batch), recipe)
        seconds: list[float] = []
        while len(seconds) < 12:
            synchronize(self.device)
            start = time.perf_counter()
            next(steps)
            synchronize(self.device)
            seconds.append(time.perf_counter() - start)
            yield self.phase
            if seconds[-1] > 2 * too_long or (len(seconds) >= 3 and sum(seconds) > 0.15):
                break
        return statistics.median(seconds[1:] or seconds)

    # --- training -----------------------------------------------------------------------------------------------------

    @property
    def images(self) -> Images:
        """Those that it is trained on."""
        return self.data.train.take(self.plan.num_images)

    def _train(self) -> Iterator[str]:
        self.phase = "training"
        torch.manual_seed(self.seed)
        self.net = build(self.architecture)
        self._fitting = Fitting(self.net, self.images, self.recipe, seed=self.seed, callbacks=[self._stop_if_asked])
        some = _first(self.data.validation, SEEN_AT_A_LOOK)
        total = self.plan.steps
        due = {round(total * i / self.plan.looks) for i in range(1, self.plan.looks + 1)}
        self._begun_at, self._trained_on = self._spent, self.threads
        for step in self._fitting:
            yield self.phase
            if step.number in due or (step.number == 1 and total > 1):
                yield from self._look(step, some)

    def _look(self, step: Step, some: Images) -> Iterator[str]:
        """At some validation images, after a step."""
        self._fitting.check()
        seen = yield from self._judged(some, is_stopped=lambda: bool(self._stopped_by))
        if seen is not None:
            self.looks.append(Look(step.number, seen.loss, seen.accuracy))
        yield self.phase

    def _judged(self, images: Images, **options: Any) -> Generator[str, None, Evaluation | None]:
        """As `evaluated_in_pieces`; what the rate has broken is laid on the rate."""
        fitting = self._fitting
        try:
            return (yield from evaluated_in_pieces(self.net, images, fitting.history.dtype, **options))
        except OutOfMemory:
            raise
        except TrainingError as error:
            where = f"after step {fitting.done} of {self.plan.steps}, at a learning rate of lr={self.recipe.lr}"
            raise TrainingError(f"{where}: {error}") from error

    def _stop_if_asked(self, step: Step) -> None:
        if self._spent - self._begun_at > 1.1 * self.seconds + OVERTIME:
            self.stop("the time was up")
        if self._stopped_by and step.number < step.total:
            raise StopTraining(self._stopped_by)

    # --- its throughput -----------------------------------------------------------------------------------------------

    def _measure(self, batch_seconds: float) -> Generator[str, None, Throughput]:
        """batch_seconds: what a batch takes, as far as is known."""
        self.threads = self._all_threads  # as the reference's was measured
        yield self.phase
        rounds = []
        for _ in range(max(1, min(ROUNDS, int(MEASURED_FOR / (5 * batch_seconds))))):  # 5 batches a round, at least
            rounds.append(
                inference_throughput(
                    self.net, self.architecture.input_shape, batch_size=BATCH_OF_THROUGHPUT, device=self.device,
                    repeats=1, seconds=0.1,
                )
            )  # fmt: skip
            yield self.phase
        return merged(rounds)

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _record(self, history: History, evaluation: Evaluation, throughput: Throughput) -> Record:
        every = max(1, math.ceil(len(history.losses) / 200))  # 200 points draw a curve as well as all
        recipe = asdict(replace(self.recipe, dtype=history.dtype))
        conditions = {
            "digest": self.architecture.digest,
            "recipe": recipe,
            "seed": self.seed,
            "threads": self._trained_on,
            "num_images": self.plan.num_images,
            "of_images": len(self.data.train),
            "steps": len(history.losses),
            "data": self.data.digest,
            "device": history.device,
            "versions": versions(),
        }
        return {
            "kind": "trial",
            "key": hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest(),
            "name": self.architecture.label,
            "architecture": self.architecture.to_dict(),
            "parameters": sum(p.numel() for p in self.net.parameters()),
            **conditions,
            "total_steps": history.total_steps,
            "stopped": history.stopped,
            "warning": history.warning,
            "evaluate_on": "validation",
            "is_sample": self.data.is_sample,
            "accuracy": evaluation.accuracy,
            "loss": evaluation.loss,
            "losses": [round(statistics.fmean(part), 4) for part in _parts(history.losses, every)],
            "steps_per_loss": every,
            "steps_per_epoch": history.steps_per_epoch,
            "looks": [asdict(look) for look in self.looks],
            "seconds": round(history.seconds, 3),
            "asked_seconds": self.seconds,
            "throughput": throughput.to_dict(),
            "time": now(),
        }


def evaluated_in_pieces(
    model: nn.Module, data: Images, dtype: str, *, is_stopped: Callable[[], bool] = lambda: False
) -> Generator[str, None, Evaluation | None]:
    """As `evaluate`, with a pause after each 250 images; what the generator returns is the Evaluation, or None if it
    was stopped."""
    pieces = []
    for start in range(0, len(data), PIECE):
        part = Images(data.pixels[start : start + PIECE], data.labels[start : start + PIECE])
        pieces.append((len(part), evaluate(model, part, dtype=dtype, batch_size=PIECE)))
        yield "evaluating"
        if is_stopped():
            return None
    return Evaluation(
        loss=sum(n * piece.loss for n, piece in pieces) / len(data),
        accuracy=sum(round(n * piece.accuracy) for n, piece in pieces) / len(data),
        predictions=torch.cat([piece.predictions for _, piece in pieces]),
    )


def _macs_per_s(device: torch.device, threads: int) -> float:
    """Multiply-accumulates of a convolution that suits the device, the best of a few tries. Sets so many threads of
    torch, which a Trial sets back."""
    torch.set_num_threads(threads)
    dtype, order = resolve_dtype("auto", device), fast_format(device)
    conv = nn.Conv2d(64, 64, 3, padding=1, device=device, dtype=dtype).to(memory_format=order)
    images = torch.ones(8, 64, 32, 32, device=device, dtype=dtype).to(memory_format=order)
    with torch.inference_mode():
        seconds = min(time_repeats(lambda: conv(images), device, repeats=3, seconds=0.01))
    return len(images) * 32**2 * conv.weight.numel() / seconds


def _first(images: Images, number: int) -> Images:
    return Images(images.pixels[:number], images.labels[:number])


def _parts(values: list[float], length: int) -> Iterator[list[float]]:
    iterator = iter(values)
    while part := list(itertools.islice(iterator, length)):
        yield part
