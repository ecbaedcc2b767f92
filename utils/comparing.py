"""Is one arm of an experiment better than another, and can so many seeds tell? Means, intervals, and what they allow.

An interval here is over the seeds: other first weights, another order of the images. It says where the mean of very
many seeds would lie. How much the choice of the *test images* moves an accuracy is another matter: √(p(1 − p)/N), and
the same images for all arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median_low, stdev, variance

import pandas as pd
from scipy import stats

from utils.architectures import Architecture
from utils.checks import dict_of, is_number, of_kind, one_of, shown, tuple_of
from utils.experiments import Arm, Experiment, checked_arms, reference_file
from utils.models import build
from utils.profiling import profile
from utils.results import Record, ResultsFile
from utils.training import History
from utils.words import counted

LEVEL = 0.95  # of every interval
POWER = 0.8  # with which a gap is to be seen, where seeds are counted
MOST_SEEDS = 10_000
SMOOTHED = 60  # steps: over so many a loss is averaged before it is held against a threshold

Runs = Mapping[str, Sequence[Record]]  # the runs of each arm, a record a seed


# --- whose runs -----------------------------------------------------------------------------------------------------


def by_arm(experiment: Experiment, records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs among `records` that were judged by the experiment's images, under their arm's label, in its order; an
    arm without runs is left out.

    Raises ValueError if two arms have the same label.
    """
    of_kind("experiment", experiment, Experiment, "KERNELS")
    for i, record in enumerate(tuple_of("records", records)):
        if not isinstance(record, Mapping) or "kind" not in record:
            raise ValueError(f"records[{i}] must be a record, as sweep(…) gives them, got {shown(record)}")
    judged = [r for r in records if r["kind"] == "run" and r["evaluate_on"] == experiment.evaluate_on]
    runs = {
        arm.label: sorted((run for run in judged if _is_of(run, arm)), key=lambda run: run["seed"])
        for arm in checked_arms(experiment.arms)
    }
    return {label: own for label, own in runs.items() if own}


def _is_of(run: Record, arm: Arm) -> bool:
    recipe = asdict(arm.recipe)
    if recipe["dtype"] == "auto":
        recipe["dtype"] = run["recipe"]["dtype"]
    return run["digest"] == arm.architecture.digest and run["recipe"] == recipe


def reference_runs(experiment: Experiment) -> dict[str, list[Record]]:
    """The committed runs of an experiment, by arm, as the first machine that has measured it has them.

    Raises ValueError if none has, or if a run is missing: then the experiment has been changed since.
    """
    of_kind("experiment", experiment, Experiment, "KERNELS")
    name, file = experiment.name, reference_file(experiment)
    way_out = (
        f"results are kept of what utils/catalog.py declares. Write it there, list it in BY_LESSON, measure it with "
        f"`make experiments NAME={name}`, and keep it with ARGS=--promote; or run it here, "
        f"by_arm(experiment, sweep(experiment, data))"
    )
    if file is None:
        raise ValueError(f"{name} has no committed results: {way_out}")
    runs = by_arm(experiment, ResultsFile(file).read())
    for arm in experiment.arms:
        seeds = {run["seed"] for run in runs.get(arm.label, ())}
        if missing := [str(seed) for seed in experiment.seeds if seed not in seeds]:
            raise ValueError(
                f"{file.name} has no run of {arm.label!r} as it is declared now with seed {', '.join(missing)}: "
                f"{way_out}"
            )
    return runs


# --- networks, side by side -----------------------------------------------------------------------------------------


def side_by_side(architectures: Mapping[str, Architecture], *, batch_size: int | None = None) -> pd.DataFrame:
    """A table for people, one column a network: its image, its layers, and what one image costs in float32.

    With batch_size also what a training step with so many images holds in memory, with SGD: see
    `Profile.training_memory`.
    """
    dict_of("architectures", architectures, Architecture, "{'LeNet': LENET, 'VGG-11': VGG['A']}")
    columns = {}
    for name, architecture in architectures.items():
        costs = profile(build(architecture, device="meta"))
        columns[name] = {
            "image": " × ".join(map(str, architecture.input_shape)),
            "weight layers": f"{architecture.weight_layers}",
            "convolutions": f"{len(architecture.convs)}",
            "dense layers": f"{len(architecture.head.hidden) + 1}",
            "classes": f"{architecture.num_classes:,}",
            "parameters": f"{costs.total.parameters:,}",
            "MACs": f"{costs.total.macs:,}",
            "activations": f"{costs.total.activation_bytes / 1e6:.2f} MB",
        }
        if batch_size is not None:
            memory = costs.training_memory(batch_size).total
            columns[name][f"training step, batch {batch_size}"] = f"{memory / 1e9:.2f} GB"
    return pd.DataFrame(columns)


def measured(histories: Mapping[str, History]) -> pd.DataFrame:
    """A table for people of what `fit` saw, one row a network: epochs, loss, validation accuracy, images a second."""
    dict_of("histories", histories, History, "{'LeNet': fit(net, data.train)}; for a sweep's records there is compared")
    rows = {}
    for name, history in histories.items():
        accuracy = history.epochs[-1]["validation_accuracy"] if history.epochs else None
        rows[name] = {
            "epochs": f"{len(history.losses) / history.steps_per_epoch:g}",
            "training loss": f"{fmean(history.losses[-20:]):.2f}" if history.losses else "–",
            "validation accuracy": "–" if accuracy is None else f"{accuracy:.1%}",
            "training images/s": f"{history.images_per_s:,.0f}" if history.losses else "–",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


# --- one arm --------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean of many such values lies, with a confidence of 95 % (Student's t); −∞ to ∞ for a single one."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean, error = fmean(values), stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def accuracy_interval(own: Sequence[Record]) -> tuple[float, float]:
    """`interval` of an arm's accuracies, in percent, as far as there are such: from 0 to 100."""
    low, high = interval(accuracies_of(own))
    return max(low, 0.0), min(high, 100.0)


def steps_to(run: Record, loss: float) -> int | None:
    """After how many steps the training loss, averaged over about 60, is first at `loss` or below; None: never.

    To within the `steps_per_loss` steps that the record keeps one loss of.
    """
    _check_run("run", run)
    if not is_number(loss) or loss <= 0:
        raise ValueError(f"loss must be a number above 0, got {loss!r}")
    every, losses = run["steps_per_loss"], run["losses"]
    window = max(1, SMOOTHED // every)
    for end in range(window, len(losses) + 1):
        if math.fsum(losses[end - window : end]) <= loss * window:
            return min(end * every, run["steps_per_epoch"] * run["recipe"]["epochs"])
    return None


def compared(runs: Runs, *, loss: float | None = None) -> pd.DataFrame:
    """A table for people, one row an arm: accuracy with its interval over the seeds, on the training images too, and
    (with `loss`) after how many steps the training loss was there: the median over the seeds, lowest to highest.

    Dropout, augmentation and label smoothing raise the training loss itself. So where only some arms have them, those
    have a dash for their steps.
    """
    rows = {name: _in_words(own) for name, own in checked(runs).items()}
    if loss is not None:
        alike = {name: {_raising_the_loss(run) for run in own} for name, own in runs.items()}
        are_all_alike = len(set().union(*alike.values())) == 1
        for name, own in runs.items():
            steps = [steps_to(run, loss) for run in own]
            is_fair = are_all_alike or alike[name] == {(0.0, "none", 0.0)}
            rows[name][f"steps to loss {loss:g}"] = _steps_in_words(steps) if is_fair else "–"
    return pd.DataFrame.from_dict(rows, orient="index")


def _raising_the_loss(run: Record) -> tuple[float, str, float]:
    """Dropout, augmentation and label smoothing, as they were in this run: (0, "none", 0) is none of them."""
    head, recipe = Architecture.from_dict(run["architecture"]).head, run["recipe"]
    return head.dropout, recipe["augment"], recipe["label_smoothing"]


def _in_words(own: Sequence[Record]) -> dict[str, str]:
    accuracies = accuracies_of(own)
    row = {
        "parameters": f"{own[0]['parameters']:,}",
        "epochs": str(own[0]["recipe"]["epochs"]),
        "seeds": str(len(own)),
        f"{own[0]['evaluate_on']} accuracy": f"{fmean(accuracies):.2f} %",
        "95 % interval": "–" if len(own) < 2 else "{:.2f} to {:.2f}".format(*accuracy_interval(own)),
    }
    if all("training_accuracy" in run for run in own):
        on_training = fmean([100 * run["training_accuracy"] for run in own])
        row |= {"training accuracy": f"{on_training:.2f} %", "gap, points": f"{fmean(gaps_of(own)):.2f}"}
    return row


def _steps_in_words(steps: Sequence[int | None]) -> str:
    """`484 (396 to 506)`: the median, lowest to highest."""
    counts = [math.inf if count is None else count for count in steps]
    middle, low, high = (
        "never" if count == math.inf else f"{count:,}" for count in (median_low(counts), min(counts), max(counts))
    )
    return middle if low == high else f"{middle} ({low} to {high})"


# --- two arms -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How far `one` lies above `other`, in points of accuracy or of another quantity, with its interval over the seeds.

    `str` says it in two lines.
    """

    one: str
    other: str
    points: float
    low: float
    high: float
    seeds: tuple[int, int]
    deviation: float  # of a single seed, in points: pooled over both arms
    quantity: str = "accuracy"  # one of QUANTITIES

    @property
    def is_settled(self) -> bool:
        """Does the interval leave out 0?"""
        return self.low > 0 or self.high < 0

    @property
    def seeds_needed(self) -> int:
        """How many seeds each arm needs to tell a gap of this size."""
        return seeds_needed(abs(self.points), self.deviation)

    def __str__(self) -> str:
        n, m = self.seeds
        seeds = f"{counted(n, 'seed')} each" if n == m else f"{n} and {m} seeds"
        is_gap = self.quantity == "gap"
        found = f"{self.one} against {self.other}: {self.points:+.2f} points" + " of gap" * is_gap
        if min(n, m) < 2:
            return f"{found}, {seeds}.\n    One seed settles nothing: there is no spread to hold it against."
        found += f" (95 % interval {self.low:+.2f} to {self.high:+.2f}, {seeds})."
        if self.is_settled:
            larger = self.one if self.points > 0 else self.other
            return f"{found}\n    {larger} {'has the larger gap' if is_gap else 'is ahead'}."
        needed = self.seeds_needed
        many = f"more than {MOST_SEEDS:,}" if needed > MOST_SEEDS else f"roughly {_to_two_digits(needed):,}"
        return f"{found}\n    Not told apart; to tell a difference of that size would take {many} seeds each."


def _to_two_digits(count: int) -> int:
    """A few seeds give a deviation only roughly, so its consequences are no more exact: 631 → 630."""
    return int(float(f"{count:.2g}"))


def difference(runs: Runs, one: str, other: str, *, quantity: str = "accuracy") -> Difference:
    """Arm `one` minus arm `other`, with Welch's 95 % interval (unequal spreads are allowed).

    quantity: "accuracy", or "gap": the accuracy on the training images minus that. In points.

    Raises ValueError if there is no such arm or quantity, if they were not judged by the same images, or if their runs
    were not judged by training images.
    """
    runs = checked(runs)
    one_of("quantity", quantity, tuple(QUANTITIES))
    for name in (one, other):
        if name not in runs:
            raise ValueError(f"there is no arm {name!r} here: take two of {', '.join(map(repr, runs))}")
    first, second = (QUANTITIES[quantity](runs[name]) for name in (one, other))
    gap, (n, m) = fmean(first) - fmean(second), (len(first), len(second))
    low, high, deviation = -math.inf, math.inf, math.nan
    if min(n, m) >= 2:
        deviation = math.sqrt(((n - 1) * variance(first) + (m - 1) * variance(second)) / (n + m - 2))
        low = high = gap
        if deviation > 0:
            low, high = map(float, stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL))
    return Difference(one, other, gap, low, high, (n, m), deviation, quantity)


def seeds_needed(gap: float, deviation: float) -> int:
    """How many seeds each of two arms needs, so that a true gap is seen in 80 % of all such experiments.

    gap: between the means; deviation: of one seed, in the same unit. By the t-test at 5 %, both arms alike; 10,001
    stands for all that is more than 10,000.
    """
    for name, value in (("gap", gap), ("deviation", deviation)):
        if not is_number(value) or value < 0:
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    if deviation == 0 or gap == 0:
        return 2 if gap else MOST_SEEDS + 1
    low, high = 1, 2  # too few, and enough
    while high <= MOST_SEEDS and _power(gap / deviation, high) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _power(gap / deviation, middle) < POWER else (low, middle)
    return min(high, MOST_SEEDS + 1)


def _power(effect: float, seeds: int) -> float:
    """Of a two-sided t-test with so many seeds an arm; effect: the gap in deviations."""
    freedom, shift = 2 * seeds - 2, effect * math.sqrt(seeds / 2)
    threshold = stats.t.ppf((1 + LEVEL) / 2, freedom)
    return float(stats.nct.sf(threshold, freedom, shift) + stats.nct.cdf(-threshold, freedom, shift))


# --- numbers --------------------------------------------------------------------------------------------------------


def accuracies_of(own: Sequence[Record]) -> list[float]:
    """Of each run of an arm, in percent."""
    return [100 * run["accuracy"] for run in own]


def gaps_of(own: Sequence[Record]) -> list[float]:
    """Of each run of an arm: its accuracy on training images minus that on the others, in points.

    Raises ValueError if it was not measured on training images.
    """
    if any("training_accuracy" not in run for run in own):
        raise ValueError(
            "these runs hold no accuracy on training images, so there is no gap: they are of an earlier version; "
            "run the experiment again"
        )
    return [100 * (run["training_accuracy"] - run["accuracy"]) for run in own]


QUANTITIES = {"accuracy": accuracies_of, "gap": gaps_of}


def checked(runs: Runs) -> Runs:
    """ValueError unless each arm has runs, and all were judged by the same images."""
    if not isinstance(runs, Mapping):
        raise ValueError(f"runs must be a dict of arms and their records, as by_arm gives it, got {shown(runs)}")
    if not runs:
        raise ValueError(
            "runs must be of one arm at least, got none: either none has finished, or none of the records is of an arm "
            "as it is declared now (network, recipe, and the images that judge it). Run the experiment"
        )
    for name, own in runs.items():
        if isinstance(own, History):
            _check_run(f"runs[{name!r}]", own)
        for i, run in enumerate(tuple_of(f"runs[{name!r}]", own)):
            _check_run(f"runs[{name!r}][{i}]", run)
        if not own:
            raise ValueError(f"{name}: there must be at least one run, got none: has its training failed?")
    everything = [(name, run) for name, own in runs.items() for run in own]
    for (_, run), (name, following) in pairwise(everything):
        for what in ("evaluate_on", "is_sample"):
            if run[what] != following[what]:
                raise ValueError(
                    f"accuracies can be compared on the same images alone: {name} differs from the arms before it in "
                    f"{what}, {following[what]!r} and {run[what]!r}"
                )
    return runs


def _check_run(name: str, run: Record) -> None:
    if not isinstance(run, Mapping) or not is_number(run.get("accuracy")):
        raise ValueError(
            f"{name} must be the record of a run, with its accuracy, as sweep gives it, got {shown(run)}: for what fit "
            f"gives there is measured(histories)"
        )
