"""Which learning rate suits each arm of an experiment: chosen on the validation images, as the catalog's were.

    python tools/tune.py curve --rates 0.02 0.05 0.1 0.2 --only "VGG (2,2)"

Trains each arm with each rate on 55,000 images and prints the accuracy on the other 5,000; the test images are never
looked at. Resumes from results/local/tune.jsonl.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd

from utils.catalog import EXPERIMENTS
from utils.data import load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import Arm, Experiment, sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("experiment", choices=EXPERIMENTS, nargs="?", default="curve", help="default: curve")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--epochs", type=int, help="default: what each arm's recipe says")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="these networks alone")
    options = parser.parse_args()
    arms = EXPERIMENTS[options.experiment].arms
    labels = list(dict.fromkeys(arm.architecture.label for arm in arms))
    if unknown := set(options.only or ()) - set(labels):
        parser.error(f"{options.experiment} has no {', '.join(sorted(unknown))}: it has {'; '.join(labels)}")

    device = pick_device()
    print(describe(device))
    tried = [
        Arm(arm.architecture, replace(arm.recipe, lr=rate, epochs=options.epochs or arm.recipe.epochs))
        for arm in arms
        if not options.only or arm.architecture.label in options.only
        for rate in options.rates
    ]
    question = "Which learning rate suits each network?"
    seeds = tuple(range(options.seeds))
    experiment = Experiment("tune", question, tuple(dict.fromkeys(tried)), seeds, evaluate_on="validation")
    records = sweep(experiment, load_fashion_mnist(device=device))
    runs = [record for record in records if record["kind"] == "run"]
    rows = [
        {"network": run["label"], "augment": run["recipe"]["augment"], "rate": run["recipe"]["lr"],
         "accuracy": run["accuracy"]}
        for run in runs
    ]  # fmt: skip
    means = pd.DataFrame(rows).pivot_table(index=["network", "augment"], columns="rate", values="accuracy", sort=False)
    print("Validation accuracy, mean over the seeds; a rate that isn't there failed.")
    print(means.map("{:.2%}".format).assign(best=means.idxmax(axis=1)).reset_index().to_string(index=False))


if __name__ == "__main__":
    main()
