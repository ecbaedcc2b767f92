"""Networks that a student has trained in an explorer, kept: they are there again after the kernel is restarted.

A file of results like any other (`utils.results`): one line a trial. To name or to remove one adds a line.
"""

from __future__ import annotations

import os
from pathlib import Path

from utils.architectures import Architecture
from utils.checks import of_kind
from utils.experiments import local_folder
from utils.results import Point, Record, ResultsFile

FILE = "explorer.jsonl"
LONGEST_NAME = 40  # characters, that has room on a plot


class Kept:
    """The trials in `folder`/explorer.jsonl, or in `local_folder()`'s. Two notebooks may use it at a time."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.file = ResultsFile(Path(folder or local_folder()).expanduser() / FILE)

    def trials(self) -> list[Record]:
        """What is kept, the oldest first, under the names that they have now."""
        kept: dict[str, Record] = {}
        for record in self.file.read():
            key = record["key"]
            match record["kind"]:
                case "trial":
                    kept[key] = record
                case "name" if key in kept:
                    kept[key] = kept[key] | {"name": record["name"]}
                case "removed":
                    kept.pop(key, None)
        return list(kept.values())

    def add(self, trial: Record) -> Record:
        """Keep a `Trial`'s record; as it is kept: of two with one name, the second has a number behind it.

        The same trial again (network, images, steps, seed, device) takes the first one's place, and its name.
        """
        names = {other["key"]: other["name"] for other in self.trials()}
        name = names.pop(trial["key"], None) or _free(trial["name"], set(names.values()))
        trial = trial | {"name": name}
        self.file.append(trial)
        return trial

    def rename(self, key: str, name: str) -> None:
        """Call a trial `name`. ValueError if another one is called so, or nothing is left of it."""
        of_kind("name", name, str, "'five blocks'")
        words = " ".join(name.split())
        if not 1 <= len(words) <= LONGEST_NAME:
            raise ValueError(
                f"a network's name must have 1 to {LONGEST_NAME} characters, got {len(words)}: take a "
                f"{'shorter' if words else 'longer'} one"
            )
        if any(other["name"] == words and other["key"] != key for other in self.trials()):
            raise ValueError(f"a network's name must be its own, and another one is called {words!r}: take another")
        self.file.append({"kind": "name", "key": self._known(key), "name": words})

    def remove(self, key: str) -> None:
        """Forget a trial."""
        self.file.append({"kind": "removed", "key": self._known(key)})

    def _known(self, key: str) -> str:
        if key not in {trial["key"] for trial in self.trials()}:
            raise ValueError(f"there is no trial {key[:12]!r} here: it has been removed")
        return key


def _free(name: str, taken: set[str]) -> str:
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def point_of(trial: Record) -> Point:
    """A trial as a point on the throughput–accuracy plot, yours."""
    speed = trial["throughput"]
    return Point(
        label=trial["name"],
        family=Architecture.from_dict(trial["architecture"]).family,
        images_per_s=speed["images_per_s"],
        accuracy=trial["accuracy"],
        parameters=trial["parameters"],
        epochs=None,  # of whatever part of the images: the number would say nothing
        evaluated_on=trial["evaluate_on"],
        measured_on=f"{speed['device']}, batch {speed['batch_size']}, {speed['dtype']}",
        yours=True,
        is_sample=trial["is_sample"],
    )
