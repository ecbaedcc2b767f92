"""Which learning rate suits each of the curve's networks: chosen on the validation images, as CURVE's were.

    python tools/tune.py --rates 0.02 0.05 0.1 0.2 --only "VGG (2,2)"

Trains each network with each rate on 55,000 images and prints the accuracy on the other 5,000; the test images are
never looked at. Resumes from results/local/tune.jsonl.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd

from utils.data import load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import CURVE, Arm, Experiment, sweep


def main() -> None:
    labels = [architecture.label for architecture in CURVE.architectures]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--only", nargs="+", choices=labels, default=labels, metavar="LABEL", help=", ".join(labels))
    options = parser.parse_args()

    device = pick_device()
    print(describe(device))
    arms = [
        Arm(arm.architecture, replace(arm.recipe, lr=rate, epochs=options.epochs))
        for arm in CURVE.arms
        if arm.architecture.label in options.only
        for rate in options.rates
    ]
    question = "Which learning rate suits each network?"
    experiment = Experiment("tune", question, tuple(arms), tuple(range(options.seeds)), evaluate_on="validation")
    records = sweep(experiment, load_fashion_mnist(device=device))
    runs = [record for record in records if record["kind"] == "run"]
    rows = [{"network": run["label"], "rate": run["recipe"]["lr"], "accuracy": run["accuracy"]} for run in runs]
    means = pd.DataFrame(rows).pivot_table(index="network", columns="rate", values="accuracy", sort=False)
    print("Validation accuracy, mean over the seeds; a rate that isn't there failed.")
    print(means.map("{:.2%}".format).assign(best=means.idxmax(axis=1)))


if __name__ == "__main__":
    main()
