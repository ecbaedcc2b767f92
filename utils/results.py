"""Results as plain data: lines of JSON in a file, a table of them, and the points that a plot draws.

One measurement is one line, written at once. A last line that a crash tore is not a result: it is left out when the
file is read, and cut off when the next line is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from utils.architectures import Architecture

Record = dict[str, Any]


class ResultsFile:
    """A file of records, one JSON object a line. `kind` says what a record is, `key` which one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> list[Record]:
        """All whole records. Raises ValueError, with the line's number, for what is neither whole nor the last line."""
        if not self.path.exists():
            return []
        *lines, _torn = self.path.read_bytes().split(b"\n")  # behind the last newline: nothing, or a torn line
        records = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():  # an editor's doing
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"it is a {type(record).__name__}")
                if missing := {"kind", "key"} - record.keys():
                    raise ValueError(f"it has no {min(missing)!r}")
                if not isinstance(record["key"], str):
                    raise ValueError(f"its key is a {type(record['key']).__name__}")
            except ValueError as error:
                raise ValueError(
                    f"{self.path}, line {number}: a result must be a JSON object, got {line[:60]!r} ({error}). Delete "
                    f"that line, or the file, and run again"
                ) from None
            records.append(record)
        return records

    def append(self, record: Record) -> None:
        """Write one record, whole and to the disk, behind the last whole one; or, where that fails, nothing.

        Raises OSError, with what to do, if it can't be written: the disk is full, the folder is read-only.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # "a": behind whatever another process has written meanwhile; no buffer, which would be written at the end.
            with open(self.path, "a+b", buffering=0) as file:
                file.seek(0)
                content = file.read()
                if not content.endswith(b"\n"):
                    file.truncate(content.rfind(b"\n") + 1)
                _write_whole(file, line)
        except OSError as error:
            raise self._refused(
                error, "this result could not be kept. What was finished before is whole in the file"
            ) from error

    @contextmanager
    def for_one_alone(self, report: Callable[[str], None] = print) -> Iterator[None]:
        """While this lasts, no other process writes results into this file: it waits here, and says so.

        The system gives the lock back when a process ends, however it ends.
        """
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            report(f"Something else is at work on {self.path.name} in this folder: waiting until it has ended …")
            lock.acquire(poll_interval=0.2)
        except OSError as error:
            raise self._refused(error, "results can't be kept there") from error
        try:
            yield
        finally:
            lock.release()

    def _refused(self, error: OSError, what: str) -> OSError:
        return OSError(
            error.errno,
            f"{error.strerror or error}: {what}. Make room, or name another folder in BIGGER_AND_DEEPER_RESULTS, and "
            f"run this again: it goes on from there",
            str(self.path),
        )

    def by_key(self, kind: str) -> dict[str, Record]:
        """The records of one kind by their key; of two with one key, the later."""
        return {record["key"]: record for record in self.read() if record["kind"] == kind}


def _write_whole(file: RawIOBase, line: bytes) -> None:
    """All of the line, to the disk, or nothing of it."""
    written = 0
    try:
        while written < len(line):  # a disk that is nearly full takes a part
            written += file.write(line[written:])
        os.fsync(file.fileno())
    except OSError:
        if written:
            file.truncate(file.tell() - written)
        raise


@dataclass(frozen=True)
class Point:
    """A network on the throughput–accuracy plot. Accuracies are shares; low and high are over the seeds, if several.

    epochs: of its training; None if that isn't known. evaluated_on: which images the accuracy is of, "test" or
    "validation". measured_on: what the throughput was measured under, "AMD EPYC, 2 cores, batch 256, float32".
    """

    label: str
    family: str
    images_per_s: float
    accuracy: float
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    parameters: int = 0
    seeds: int = 1
    epochs: int | None = None
    evaluated_on: str = "test"
    measured_on: str = ""
    yours: bool = False
    is_sample: bool = False  # trained on the shipped sample alone


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats, from the slowest to the fastest.

    To beat one is to be at least as fast and as accurate, and more in one of the two: equal points don't.
    """

    def place(point: Point) -> tuple[float, float]:
        return point.images_per_s, point.accuracy

    front: list[Point] = []
    for point in sorted(points, key=place, reverse=True):
        if not front or point.accuracy > front[-1].accuracy or place(point) == place(front[-1]):
            front.append(point)
    return front[::-1]


COLUMNS = (
    "label", "family", "parameters", "epochs", "seeds", "evaluated_on", "accuracy", "accuracy_low", "accuracy_high",
    "images_per_s", "images_per_s_low", "images_per_s_high", "measured_on", "train_images_per_s", "is_sample",
    "digest", "architecture", "recipe",
)  # fmt: skip
CONDITIONS = ("device", "threads", "dtype", "batch_size", "versions")  # of a throughput
ALL_BUT_SEED = ("digest", "recipe", "evaluate_on", "data", "dtype", "device", "versions")  # what decides a run's result


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One row a network and recipe, the fastest first: accuracy over its seeds, beside its throughput.

    Columns: label, family, parameters, epochs, seeds, evaluated_on ("test" or "validation"), accuracy (the mean over
    seeds), accuracy_low, accuracy_high, images_per_s (the median of the timings, in inference), images_per_s_low,
    images_per_s_high, measured_on, train_images_per_s, is_sample, digest, architecture (an Architecture), recipe (a
    dict: Recipe(**it)). Accuracies are shares. Networks that lack a run or a throughput are left out; of two records
    with one key, the later counts. Runs are averaged if they differ in the seed alone.

    Raises ValueError for throughputs that can't be compared: measured under different conditions.
    """
    latest = {(record["kind"], record["key"]): record for record in records}.values()
    speeds = [record for record in latest if record["kind"] == "throughput"]
    _check_comparable(speeds)
    speed = {record["digest"]: record for record in speeds}
    runs: dict[str, list[Record]] = {}
    for record in latest:
        if record["kind"] == "run" and record["digest"] in speed:
            runs.setdefault(json.dumps([record[name] for name in ALL_BUT_SEED], sort_keys=True), []).append(record)
    rows = [_row(same, speed[same[0]["digest"]]) for same in runs.values()]
    networks = pd.DataFrame(rows, columns=COLUMNS)
    return networks.sort_values("images_per_s", ascending=False, kind="stable", ignore_index=True)


def _check_comparable(speeds: Sequence[Record]) -> None:
    for name in CONDITIONS:
        for record in speeds:
            if record[name] != speeds[0][name]:
                raise ValueError(
                    f"throughputs in one table must share their {name}, got {speeds[0][name]!r} for "
                    f"{speeds[0]['label']} and {record[name]!r} for {record['label']}: give the records of one sweep"
                )


def _row(runs: Sequence[Record], speed: Record) -> dict[str, Any]:
    architecture = Architecture.from_dict(runs[0]["architecture"])
    accuracies = [run["accuracy"] for run in runs]
    return {
        "label": architecture.label,
        "family": architecture.family,
        "parameters": runs[0]["parameters"],
        "epochs": runs[0]["recipe"]["epochs"],
        "seeds": len(runs),
        "evaluated_on": runs[0]["evaluate_on"],
        "accuracy": sum(accuracies) / len(runs),
        "accuracy_low": min(accuracies),
        "accuracy_high": max(accuracies),
        "images_per_s": speed["images_per_s"],
        "images_per_s_low": speed["low"],
        "images_per_s_high": speed["high"],
        "measured_on": f"{speed['device']}, batch {speed['batch_size']}, {speed['dtype']}",
        "train_images_per_s": sum(run["train_images_per_s"] for run in runs) / len(runs),
        "is_sample": any(run["is_sample"] for run in runs),
        "digest": runs[0]["digest"],
        "architecture": architecture,
        "recipe": runs[0]["recipe"],
    }


def points(networks: pd.DataFrame) -> list[Point]:
    """The rows of `table` as points to draw."""
    return [
        Point(
            row.label,
            row.family,
            row.images_per_s,
            row.accuracy,
            row.accuracy_low if row.seeds > 1 else None,
            row.accuracy_high if row.seeds > 1 else None,
            row.parameters,
            row.seeds,
            row.epochs,
            row.evaluated_on,
            row.measured_on,
            is_sample=bool(row.is_sample),
        )
        for row in networks.itertuples()
    ]


def in_words(networks: pd.DataFrame) -> pd.DataFrame:
    """The table for people: the numbers as text, a star for what is on the Pareto front (of one network there is none).

    Raises ValueError for accuracies on test images beside some on validation images.
    """
    drawn = points(networks)
    if len(images := sorted(set(networks.evaluated_on))) > 1:
        raise ValueError(
            f"accuracies in one table must be on the same images, got some on {' and some on '.join(images)}: give the "
            f"records of one sweep"
        )
    front = pareto_front(drawn)
    spread = (networks.accuracy_high - networks.accuracy_low).where(networks.seeds > 1)
    rows = {
        "network": networks.label,
        "parameters": networks.parameters.map("{:,}".format),
        " ".join([*images, "accuracy"]): networks.accuracy.map("{:.2%}".format),
        "spread": spread.map(lambda s: "one seed" if pd.isna(s) else f"{100 * s:.2f} points"),
        "images/s": networks.images_per_s.map("{:,.0f}".format),
        "lowest to highest": [
            f"{low:,.0f} to {high:,.0f}"
            for low, high in zip(networks.images_per_s_low, networks.images_per_s_high, strict=True)
        ],
        "training images/s": networks.train_images_per_s.map("{:,.0f}".format),
        "front": ["*" if point in front else "" for point in drawn],
    }
    if len(drawn) == 1:  # compared with itself alone it would have a star, and might still be beaten
        del rows["front"]
    return pd.DataFrame(rows).set_index("network")
