"""Which learning rate suits each arm of an experiment: chosen on the validation images, as the catalog's were.

    python tools/tune.py curve --rates 0.02 0.05 0.1 0.2 --only "VGG (2,2)"

Trains each arm with each rate on 55,000 images and prints the accuracy on the other 5,000; the test images are never
looked at. Resumes from results/local/tune.jsonl. --keep writes what was tried, of all experiments, to
results/reference/<device>/rates.csv.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pandas as pd

from utils.catalog import EXPERIMENTS
from utils.comparing import by_arm, steps_to
from utils.data import load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import Arm, Experiment, local_folder, reference_folder, sweep
from utils.results import Record, ResultsFile

NAME = "tune"


def tried(records: Sequence[Record]) -> pd.DataFrame:
    """Of all arms of the catalog, in its order: which rates were tried, with how many epochs and seeds, to which
    accuracy on validation (percent, the mean over the seeds). An arm in two experiments stands there twice."""
    runs = [r for r in records if r["kind"] == "run" and r["evaluate_on"] == "validation" and not r["is_sample"]]
    rows = []
    for experiment, arm in [(one, arm) for one in EXPERIMENTS.values() for arm in one.arms]:
        found = defaultdict(list)
        for run in runs:
            recipe = run["recipe"]
            if run["digest"] == arm.architecture.digest and _but_the_rate(recipe) == _but_the_rate(asdict(arm.recipe)):
                found[recipe["epochs"], recipe["lr"]].append(100 * run["accuracy"])
        rows += [
            {"experiment": experiment.name, "arm": arm.label, "epochs": epochs, "rate": rate,
             "seeds": len(accuracies), "accuracy": round(fmean(accuracies), 2)}
            for (epochs, rate), accuracies in sorted(found.items())
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _but_the_rate(recipe: Record) -> Record:
    return {name: value for name, value in recipe.items() if name not in ("lr", "epochs", "dtype")}


def keep() -> Path:
    """Write the table of what was tried on this device, whole or not at all."""
    target = reference_folder(pick_device()) / "rates.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    tried(ResultsFile(local_folder() / f"{NAME}.jsonl").read()).to_csv(part, index=False)
    os.replace(part, target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("experiment", choices=EXPERIMENTS, nargs="?", default="curve", help="default: curve")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--epochs", type=int, help="default: what each arm's recipe says")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--loss", type=float, help="print after how many steps the training loss was there, too")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="these arms alone")
    parser.add_argument("--keep", action="store_true", help="train nothing; write the table of what was tried")
    options = parser.parse_args()
    if options.keep:
        print(f"kept: {keep().name}")
        return
    arms = EXPERIMENTS[options.experiment].arms
    labels = [arm.label for arm in arms]
    if unknown := set(options.only or ()) - set(labels):
        parser.error(f"{options.experiment} has no {', '.join(sorted(unknown))}: it has {'; '.join(labels)}")

    device = pick_device()
    print(describe(device))
    tried = {
        Arm(arm.architecture, replace(arm.recipe, lr=rate, epochs=options.epochs or arm.recipe.epochs)): arm.label
        for arm in arms
        if not options.only or arm.label in options.only
        for rate in options.rates
    }
    named = [replace(arm, name=f"{label} at {arm.recipe.lr:g}") for arm, label in tried.items()]
    question = "Which learning rate suits each network?"
    experiment = Experiment(NAME, question, tuple(named), tuple(range(options.seeds)), evaluate_on="validation")
    runs = by_arm(experiment, sweep(experiment, load_fashion_mnist(device=device)))
    rows = [
        {"arm": tried[replace(arm, name="")], "rate": arm.recipe.lr, "accuracy": run["accuracy"],
         "steps": steps_to(run, options.loss) if options.loss else None}
        for arm in named
        for run in runs.get(arm.label, [])
    ]  # fmt: skip
    found = pd.DataFrame(rows)
    means = found.pivot_table(index="arm", columns="rate", values="accuracy", sort=False)
    print("Validation accuracy, mean over the seeds; –: failed.")
    print(
        means.map("{:.2%}".format, na_action="ignore")
        .fillna("–")
        .assign(best=means.idxmax(axis=1))
        .reset_index()
        .to_string(index=False)
    )
    if options.loss:
        print(
            f"Steps to a training loss of {options.loss:g}, median over the seeds; a rate that isn't there never was."
        )
        steps = found.pivot_table(index="arm", columns="rate", values="steps", aggfunc="median", sort=False)
        print(steps.assign(best=steps.idxmin(axis=1)).reset_index().to_string(index=False))


if __name__ == "__main__":
    main()
