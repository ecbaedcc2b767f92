"""Axes on a sheet: where values stand in pixels, and the grid and numbers that say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from utils.plots.sheet import SMALLEST_TEXT, Sheet
from utils.plots.style import COLOURS


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` stand from `start` to `end`, in pixels; those outside at the nearer end."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` stands."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Panel:
    """A horizontal and a vertical scale."""

    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point stands, in pixels."""
        return self.x(x), self.y(y)

    def draw_rows(self, sheet: Sheet, ticks: Sequence[float], words: Sequence[str]) -> None:
        """A light line across at each of the vertical scale's ticks, and what stands there to the left."""
        for tick, label in zip(ticks, words, strict=True):
            y = self.y(tick)
            sheet.line([(self.x.start, y), (self.x.end, y)], COLOURS["grid"])
            self._write(sheet, self.x.start - 5, y + 4, label, "end")

    def draw_columns(self, sheet: Sheet, ticks: Sequence[float], words: Sequence[str]) -> None:
        """A stroke below the panel at each of the horizontal scale's ticks, and what stands there."""
        for tick, label in zip(ticks, words, strict=True):
            x = self.x(tick)
            sheet.line([(x, self.y.start), (x, self.y.start + 4)], COLOURS["grey"])
            self._write(sheet, x, self.y.start + 16, label, "middle")

    def _write(self, sheet: Sheet, x: float, y: float, words: str, anchor: str) -> None:
        sheet.text(x, y, words, size=SMALLEST_TEXT, colour=COLOURS["quiet"], anchor=anchor, name="tick")
