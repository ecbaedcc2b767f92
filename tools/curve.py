"""The main job without a screen: train the small networks, print their table, write results and plot: `make curve`.

Writes results/local/curve.jsonl (every run, at once), curve.svg and curve.png. Ctrl-C stops it; the next call goes on
from there. --promote copies the finished records and the plot to results/reference/<device>/.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from utils import plots
from utils.data import DataError, load_fashion_mnist
from utils.device import describe, device_name, pick_device
from utils.experiments import CURVE, RESULTS, promote, sweep
from utils.results import pareto_front, points, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds for each network (default: 1)")
    parser.add_argument("--epochs", type=int, help="default: what each network's recipe says")
    parser.add_argument("--workers", type=int, help="processes that train side by side (default: one a core)")
    parser.add_argument("--promote", action="store_true", help="make this the device's committed reference")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")

    device = pick_device()
    print(describe(device))
    try:
        data = load_fashion_mnist(device=device)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    experiment = replace(CURVE, seeds=tuple(range(options.seeds)))
    if options.epochs is not None:
        experiment = experiment.change(epochs=options.epochs)
    try:
        records = sweep(experiment, data, workers=options.workers)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the next `make curve` goes on from there.", file=sys.stderr)
        return 130
    networks = table(records)
    print(in_words(networks))
    figure = plots.throughput_accuracy(
        points(networks), device=device_name(device), batch_size=experiment.batch_size, dtype=records[0]["dtype"]
    )
    folder = promote(experiment, data).parent if options.promote else RESULTS / "local"
    for file in plots.save(figure, folder / experiment.name):
        print(f"written: {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
    missing = len(experiment.arms) - len(networks)
    return int(missing > 0)


def in_words(networks: pd.DataFrame) -> str:
    """The table for a terminal; a star marks what is on the Pareto front."""
    front = {point.label for point in pareto_front(points(networks))}
    spread = (networks.accuracy_high - networks.accuracy_low).where(networks.seeds > 1)
    return (
        pd.DataFrame(
            {
                "": ["*" if label in front else "" for label in networks.label],
                "network": networks.label,
                "parameters": networks.parameters.map("{:,}".format),
                "test accuracy": networks.accuracy.map("{:.2%}".format),
                "spread": spread.map(lambda s: "one seed" if pd.isna(s) else f"{100 * s:.2f} points"),
                "images/s": networks.images_per_s.map("{:,.0f}".format),
                "training images/s": networks.train_images_per_s.map("{:,.0f}".format),
            }
        ).to_string(index=False)
        + "\n* on the Pareto front: nothing here is both faster and better"
    )


if __name__ == "__main__":
    sys.exit(main())
