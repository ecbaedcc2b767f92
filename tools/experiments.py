"""The lessons' reference experiments, at full size, as utils/catalog.py declares them: `make experiments NAME=curve`.

Without a name: lists them, and how much of each is done. With names (or lessons: 03), or "all": trains what isn't in
results/local/NAME.jsonl yet. Ctrl-C stops it; the next call goes on from there. --promote copies the finished records
to results/reference/<device>/, and nothing else does; a picture that lies beside them is drawn anew.
"""

from __future__ import annotations

import argparse
import sys

from utils import plots
from utils.catalog import BY_LESSON, EXPERIMENTS
from utils.comparing import by_arm, compared
from utils.data import DataError, FashionMNIST, load_fashion_mnist
from utils.device import describe, pick_device
from utils.experiments import Experiment, local_folder, plan, promote, sweep
from utils.results import ResultsFile, in_words, points, table
from utils.words import speak_anywhere


def chosen(names: list[str]) -> list[Experiment]:
    """The experiments of these names and lessons, each once. Raises ValueError for what there isn't."""
    found: dict[str, Experiment] = {}
    for name in names:
        if name == "all":
            found |= EXPERIMENTS
        elif name in EXPERIMENTS:
            found[name] = EXPERIMENTS[name]
        elif name in BY_LESSON:
            found |= {experiment.name: experiment for experiment in BY_LESSON[name]}
        else:
            raise ValueError(
                f"there is no experiment {name!r}: take one of {', '.join(EXPERIMENTS)}; or a lesson's, "
                f"{', '.join(BY_LESSON)}; or all"
            )
    return list(found.values())


def overview(data: FashionMNIST) -> str:
    """One line an experiment: its lesson, name and question, and how much of it is done on this device."""
    lines = []
    for lesson, experiments in BY_LESSON.items():
        for experiment in experiments:
            runs = plan(experiment, data)
            done = ResultsFile(local_folder() / f"{experiment.name}.jsonl").by_key("run")
            known = sum(run.key in done for run in runs)
            lines.append(f"{lesson}  {experiment.name:20} {known:3} of {len(runs):3} runs   {experiment.question}")
    return "\n".join(lines)


def measure(experiment: Experiment, data: FashionMNIST, workers: int | None, is_to_promote: bool) -> bool:
    """Run one experiment to its end and print its table. False if a run is missing or it could not be promoted."""
    print(f"\n{experiment.name}: {experiment.question}")
    records = sweep(experiment, data, workers=workers)
    networks = table(records)
    if not networks.empty:
        print(in_words(networks).reset_index().to_string(index=False))
        print(f"\n{compared(by_arm(experiment, records)).to_string()}")
    failures = [record for record in records if record["kind"] == "failure"]
    for record in failures:
        print(f"failed: {record['label']}, seed {record['seed']}", file=sys.stderr)
    if is_to_promote:
        try:
            target = promote(experiment, data)
        except ValueError as error:
            print(f"Not promoted: {error}", file=sys.stderr)
            return False
        print(f"promoted: {target.name}")
        if target.with_suffix(".svg").exists():  # drawn from what was there before
            plots.save(plots.throughput_accuracy(points(networks)), target.with_suffix(""))
    return sum(record["kind"] == "run" for record in records) == len(experiment.arms) * len(experiment.seeds)


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "names", nargs="*", help=f"{', '.join(EXPERIMENTS)}; or a lesson, {', '.join(BY_LESSON)}; or all"
    )
    parser.add_argument("--workers", type=int, help="processes that train side by side (default: one a core)")
    parser.add_argument("--promote", action="store_true", help="make this the device's committed reference")
    options = parser.parse_args()
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.promote and not options.names:
        parser.error("--promote needs the experiments' names, as in: make experiments NAME=lenet ARGS=--promote")
    try:
        experiments = chosen(options.names)
    except ValueError as error:
        parser.error(str(error))

    device = pick_device()
    print(describe(device))
    try:
        data = load_fashion_mnist(device=device)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    if not experiments:
        print(overview(data))
        return 0
    try:
        whole = [measure(experiment, data, options.workers, options.promote) for experiment in experiments]
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    return int(not all(whole))


if __name__ == "__main__":
    sys.exit(main())
