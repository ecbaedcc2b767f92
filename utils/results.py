"""Results as plain data: lines of JSON in a file, a table of them, and the points that a plot draws.

One measurement is one line, written at once. A last line that a crash tore is not a result: it is left out when the
file is read, and cut off when the next line is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{self.path}, line {number}: a result must be a JSON object, got {line[:60]!r} ({error}). Delete "
                    f"that line, or the file, and run again"
                ) from None
            records.append(record)
        return records

    def append(self, record: Record) -> None:
        """Write one record, whole and to the disk, behind the last whole one."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "r+b" if self.path.exists() else "w+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(0)
                end = file.read().rfind(b"\n") + 1
            file.seek(end)
            file.truncate()
            file.write(line)
            os.fsync(file.fileno())

    def by_key(self, kind: str) -> dict[str, Record]:
        """The records of one kind by their key; of two with one key, the later."""
        return {record["key"]: record for record in self.read() if record["kind"] == kind}


@dataclass(frozen=True)
class Point:
    """A network on the throughput–accuracy plot. Accuracies are shares; low and high are over the seeds, if several."""

    label: str
    family: str
    images_per_s: float
    accuracy: float
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    parameters: int = 0
    seeds: int = 1
    yours: bool = False
    is_sample: bool = False  # trained on the shipped sample alone


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in both throughput and accuracy, from the slowest to the fastest."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.images_per_s, p.accuracy), reverse=True):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front[::-1]


COLUMNS = (
    "label", "family", "parameters", "seeds", "accuracy", "accuracy_low", "accuracy_high", "images_per_s",
    "train_images_per_s", "is_sample", "digest",
)  # fmt: skip


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One row a network and recipe, the fastest first: accuracy over its seeds, beside its throughput.

    Columns: label, family, parameters, seeds, accuracy (mean), accuracy_low, accuracy_high, images_per_s (inference),
    train_images_per_s, is_sample, digest. Accuracies are shares. Networks that lack a run or a throughput are left out.
    """
    records = list(records)
    speed = {r["digest"]: r["images_per_s"] for r in records if r["kind"] == "throughput"}
    runs: dict[tuple[str, str], list[Record]] = {}  # those that differ in the seed alone
    for record in records:
        if record["kind"] == "run" and record["digest"] in speed:
            runs.setdefault((record["digest"], json.dumps(record["recipe"], sort_keys=True)), []).append(record)
    rows = [_row(same, speed[digest]) for (digest, _), same in runs.items()]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("images_per_s", ascending=False, ignore_index=True)


def _row(runs: Sequence[Record], images_per_s: float) -> dict[str, Any]:
    architecture = Architecture.from_dict(runs[0]["architecture"])
    accuracies = [run["accuracy"] for run in runs]
    return {
        "label": architecture.label,
        "family": architecture.family,
        "parameters": runs[0]["parameters"],
        "seeds": len(runs),
        "accuracy": sum(accuracies) / len(runs),
        "accuracy_low": min(accuracies),
        "accuracy_high": max(accuracies),
        "images_per_s": images_per_s,
        "train_images_per_s": sum(run["train_images_per_s"] for run in runs) / len(runs),
        "is_sample": any(run["is_sample"] for run in runs),
        "digest": runs[0]["digest"],
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
            is_sample=bool(row.is_sample),
        )
        for row in networks.itertuples()
    ]
