"""The main job without a screen: train the small networks, print their table, write results and plot: `make curve`.

Writes results/local/curve.jsonl (every run, at once), curve.svg and curve.png; curve_validation.* with --validation.
Ctrl-C stops it; the next call goes on from there. --promote copies the finished records and the plot to
results/reference/<device>/.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from utils import plots
from utils.catalog import CURVE, CURVE_TO_CHOOSE_BY
from utils.data import DataError, load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import local_folder, promote, sweep
from utils.results import in_words, points, table
from utils.words import speak_anywhere


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds for each network (default: 1)")
    parser.add_argument("--epochs", type=int, help="default: what each network's recipe says")
    parser.add_argument("--workers", type=int, help="processes that train side by side (default: one a core)")
    parser.add_argument("--validation", action="store_true", help="on validation images, for whoever chooses by them")
    parser.add_argument("--promote", action="store_true", help="make this the device's committed reference")
    options = parser.parse_args()
    for name in ("seeds", "epochs", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")

    device = pick_device()
    print(describe(device))
    try:
        data = load_fashion_mnist(device=device)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    experiment = replace(CURVE_TO_CHOOSE_BY if options.validation else CURVE, seeds=tuple(range(options.seeds)))
    if options.epochs is not None:
        experiment = experiment.change(epochs=options.epochs)
    try:
        records = sweep(experiment, data, workers=options.workers)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    networks = table(records)
    missing = sum(record["kind"] == "run" for record in records) < len(experiment.arms) * len(experiment.seeds)
    if networks.empty:
        print("No network could be trained: there is nothing to draw.", file=sys.stderr)
        return 1
    print(in_words(networks).reset_index().to_string(index=False))
    print("* on the Pareto front: nothing here is both faster and better")
    figure = plots.throughput_accuracy(points(networks))
    folder = local_folder()
    if options.promote:
        try:
            folder = promote(experiment, data).parent
        except ValueError as error:
            print(f"Not promoted: {error}", file=sys.stderr)
            missing = True
    for file in plots.save(figure, folder / experiment.name):
        print(f"written: {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
