"""Networks that a student has trained in an explorer, kept: they are there again after the kernel is restarted.

A file of results like any other (`utils.results`): one line a trial. To name or to remove one adds a line.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from utils.architectures import Architecture
from utils.checks import is_number, of_kind, with_tilde
from utils.experiments import local_folder
from utils.results import Point, Record, ResultsFile
from utils.training import Recipe

FILE = "explorer.jsonl"
NEEDED = {
    "name", "architecture", "parameters", "recipe", "seed", "of_images", "steps", "data", "stopped", "evaluate_on",
    "is_sample", "accuracy", "losses", "steps_per_loss", "looks", "throughput",
}  # fmt: skip
LONGEST_NAME = 40  # characters, that has room on a plot


class NotKept(Exception):
    """Nothing could be written; the message says why, and what to do."""


class Kept:
    """The trials in `folder`/explorer.jsonl, or in `local_folder()`'s. Two notebooks may use it at a time."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.file = ResultsFile(Path(folder or local_folder()).expanduser() / FILE)

    def trials(self) -> list[Record]:
        """What is kept, the oldest first, under the names that they have now; see `read` for what isn't whole."""
        return self.read()[0]

    def read(self) -> tuple[list[Record], int]:
        """What is kept, as `trials` gives it; and how many records are left out, because they aren't whole: another
        version of this course has written them, or somebody's editor. ValueError for a line that is no record at all,
        OSError for a file that can't be read.
        """
        kept: dict[str, Record] = {}
        for record in self.file.read():
            key = record["key"]
            match record["kind"]:
                case "trial":
                    kept[key] = record
                case "name" if key in kept and isinstance(record.get("name"), str):
                    kept[key] = kept[key] | {"name": record["name"]}
                case "removed":
                    kept.pop(key, None)
        whole = [trial for trial in kept.values() if is_whole(trial)]
        return whole, len(kept) - len(whole)

    def add(self, trial: Record) -> Record:
        """Keep a `Trial`'s record; as it is kept: of two with one name, the second has a number behind it.

        The same trial again (network, images, steps, seed, device) takes the first one's place, and its name. Raises
        NotKept where the file can't be written (a full disk, a folder that is read-only), or isn't whole.
        """
        try:
            names = {other["key"]: other["name"] for other in self._beside(trial)}
        except (OSError, ValueError) as error:
            raise NotKept(f"{error}".replace(str(self.file.path), with_tilde(self.file.path))) from error
        name = names.pop(trial["key"], None) or free_name(trial["name"], names.values())
        trial = trial | {"name": name}
        self._write(trial)
        return trial

    def _write(self, record: Record) -> None:
        try:
            self.file.append(record)
        except OSError as error:
            path, why = with_tilde(self.file.path), getattr(error.__cause__, "strerror", None) or error
            raise NotKept(
                f"{path} can't be written ({why}). Make room or see to its permissions, or name another folder in "
                f"BIGGER_AND_DEEPER_RESULTS, restart the kernel and open this explorer again"
            ) from error

    def rename(self, key: str, name: str) -> None:
        """Call a trial `name`. ValueError if another is called so, or nothing is left of it; NotKept as in `add`."""
        of_kind("name", name, str, "'five blocks'")
        words = " ".join(name.split())
        if not 1 <= len(words) <= LONGEST_NAME:
            raise ValueError(
                f"a network's name must have 1 to {LONGEST_NAME} characters, got {len(words)}: take a "
                f"{'shorter' if words else 'longer'} one"
            )
        trial = self._known(key)
        if any(other["name"] == words and other["key"] != key for other in self._beside(trial)):
            raise ValueError(f"a network's name must be its own, and another one is called {words!r}: take another")
        self._write({"kind": "name", "key": key, "name": words})

    def remove(self, key: str) -> None:
        """Forget a trial. ValueError if it is gone already; NotKept as in `add`."""
        self._known(key)
        self._write({"kind": "removed", "key": key})

    def _known(self, key: str) -> Record:
        for trial in self.trials():
            if trial["key"] == key:
                return trial
        raise ValueError("this network is gone already: it was removed here, or in another notebook")

    def _beside(self, trial: Record) -> list[Record]:
        """Those that stand on one plot with it: of the same images and device."""
        return [other for other in self.trials() if is_beside(trial, other)]


def is_beside(trial: Record, other: Record) -> bool:
    """Were they trained on the same images, and timed on the same device?"""
    return trial["data"] == other["data"] and trial["throughput"]["device"] == other["throughput"]["device"]


def is_whole(trial: Record) -> bool:
    """Does it hold what an explorer shows of it?"""
    if not NEEDED <= trial.keys() or not isinstance(trial["name"], str) or trial["evaluate_on"] != "validation":
        return False
    try:
        point, speed = point_of(trial), trial["throughput"]
        recipe, losses = trial["recipe"], trial["losses"]
        Recipe(**recipe)
        if not (isinstance(losses, list) and losses and isinstance(trial["is_sample"], bool)):
            return False
        looks = [look[name] for look in trial["looks"] for name in ("step", "loss", "accuracy")]
        positive = [point.images_per_s, speed["low"], speed["high"], point.parameters, trial["of_images"]]
        positive += [trial["steps"], trial["steps_per_loss"], recipe["batch_size"], recipe["lr"]]
        are_numbers = all(map(is_number, (point.accuracy, *positive, *losses, *looks)))
        return are_numbers and 0 <= point.accuracy <= 1 and min(positive) > 0
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """`name`, cut in the middle to what has room: what differs between two networks is often the end."""
    if len(name) <= longest:
        return name
    end = name[-(longest // 2) :].lstrip()
    return f"{name[: longest - 1 - len(end)].rstrip()}…{end}"


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, cut to what has room; with a number behind it, if it is taken."""
    number, free = 1, short_name(name)
    while free in taken:
        number += 1
        free = short_name(name, LONGEST_NAME - len(f" ({number})")) + f" ({number})"
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
