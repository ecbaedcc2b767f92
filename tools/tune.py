"""Which learning rate suits each arm of an experiment: chosen on the validation images, as the catalog's were.

    python tools/tune.py curve --rates 0.02 0.05 0.1 0.2 --only "VGG (2,2)"

Trains each arm with each rate on 55,000 images and prints the accuracy on the other 5,000; the test images are never
looked at. Resumes from results/local/tune.jsonl. --keep writes what was tried, of all experiments, to
results/reference/<device>/rates.csv.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, median_low

import pandas as pd

from utils.catalog import EXPERIMENTS
from utils.comparing import by_arm, steps_to
from utils.data import DataError, load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import Arm, Experiment, local_folder, reference_folder, sweep
from utils.results import Record, ResultsFile
from utils.words import speak_anywhere

NAME = "tune"
COLUMNS = ["experiment", "arm", "epochs", "rate", "seeds", "accuracy"]


def tried(records: Sequence[Record]) -> pd.DataFrame:
    """Of all arms of the catalog, in its order: which rates were tried, with how many epochs and seeds, to which
    accuracy on validation (percent, the mean over the seeds). An arm in two experiments stands there twice."""
    runs = [r for r in records if r["kind"] == "run" and r["evaluate_on"] == "validation" and not r["is_sample"]]
    rows = []
    for experiment, arm in [(one, arm) for one in EXPERIMENTS.values() for arm in one.arms]:
        found = defaultdict(dict)
        for run in runs:
            recipe = run["recipe"]
            if run["digest"] == arm.architecture.digest and _but_the_rate(recipe) == _but_the_rate(asdict(arm.recipe)):
                found[recipe["epochs"], recipe["lr"]][run["seed"]] = 100 * run["accuracy"]
        rows += [
            {"experiment": experiment.name, "arm": arm.label, "epochs": epochs, "rate": rate,
             "seeds": len(accuracies), "accuracy": round(fmean(accuracies.values()), 2)}
            for (epochs, rate), accuracies in sorted(found.items())
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _but_the_rate(recipe: Record) -> Record:
    return {name: value for name, value in recipe.items() if name not in ("lr", "epochs", "dtype")}


def keep() -> Path:
    """Write the table of what was tried on this device, whole or not at all. What stands in it and isn't in
    results/local (that was another checkout) stays."""
    target = reference_folder(pick_device()) / "rates.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    table = tried(ResultsFile(local_folder() / f"{NAME}.jsonl").read())
    if target.exists():
        both = pd.concat([table, pd.read_csv(target)])
        table = both.sort_values("seeds", ascending=False, kind="stable").drop_duplicates(COLUMNS[:4])
    order = {(e.name, arm.label): i for i, (e, arm) in enumerate((e, a) for e in EXPERIMENTS.values() for a in e.arms)}
    table["place"] = [order.get(pair) for pair in zip(table.experiment, table.arm, strict=True)]
    table = table.dropna(subset="place").sort_values(["place", "epochs", "rate"])[COLUMNS]
    part = target.with_suffix(".part")
    table.to_csv(part, index=False, lineterminator="\n")
    os.replace(part, target)
    return target


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("experiment", choices=EXPERIMENTS, nargs="?", default="curve", help="default: curve")
    parser.add_argument("--rates", type=_above_0, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--epochs", type=_count, help="default: what each arm's recipe says")
    parser.add_argument("--seeds", type=_count, default=1, help="how many")
    parser.add_argument("--loss", type=_above_0, help="print after how many steps the training loss was there, too")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="these arms alone")
    parser.add_argument("--keep", action="store_true", help="train nothing; write the table of what was tried")
    options = parser.parse_args()
    if options.keep:
        print(f"kept: {keep().name}")
        return 0
    arms = EXPERIMENTS[options.experiment].arms
    labels = [arm.label for arm in arms]
    if unknown := set(options.only or ()) - set(labels):
        parser.error(f"{options.experiment} has no {', '.join(sorted(unknown))}: it has {'; '.join(labels)}")

    device = pick_device()
    print(describe(device))
    arm_of = {
        Arm(arm.architecture, replace(arm.recipe, lr=rate, epochs=options.epochs or arm.recipe.epochs)): arm.label
        for arm in arms
        if not options.only or arm.label in options.only
        for rate in options.rates
    }
    named = [replace(arm, name=f"{label} at {arm.recipe.lr:g}") for arm, label in arm_of.items()]
    question = "Which learning rate suits each network?"
    experiment = Experiment(NAME, question, tuple(named), tuple(range(options.seeds)), evaluate_on="validation")
    try:
        runs = by_arm(experiment, sweep(experiment, load_fashion_mnist(device=device)))
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    accuracies, steps = defaultdict(dict), defaultdict(dict)
    for arm in named:
        own, row, rate = runs.get(arm.label, []), arm_of[replace(arm, name="")], arm.recipe.lr
        accuracies[row][rate] = fmean([run["accuracy"] for run in own]) if own else None
        if options.loss:
            counts = sorted(steps_to(run, options.loss) or math.inf for run in own)
            steps[row][rate] = median_low(counts) if counts else None
    print("Validation accuracy, mean over the seeds; –: failed.")
    print(_in_words(accuracies, "{:.2%}", max))
    if options.loss:
        print(f"Steps to a training loss of {options.loss:g}, median over the seeds; inf: never; –: failed.")
        print(_in_words(steps, "{:,}", min))
    return 0


def _in_words(values: Mapping[str, Mapping[float, float | None]], form: str, best: Callable[..., float]) -> str:
    """A line an arm, a column a rate, and which rate has the best value."""
    table = pd.DataFrame.from_dict(
        {
            arm: {f"{rate:g}": "–" if value is None else form.format(value) for rate, value in row.items()}
            for arm, row in values.items()
        },
        orient="index",
    )
    found = [{rate: value for rate, value in row.items() if value is not None} for row in values.values()]
    table["best"] = [f"{best(row, key=row.get):g}" if row else "none" for row in found]
    return table.rename_axis("arm").reset_index().to_string(index=False)


if __name__ == "__main__":
    sys.exit(main())
