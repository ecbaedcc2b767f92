"""Where labels stand: beside their points, in no one's way. Plain geometry, in pixels; nothing here draws.

`place_labels` tries positions round each marker at growing distance and gives each a cost: overlaps cost most, then
what would mislead (a label nearer to another marker than to its own), then what is only ugly, and distance. It places
the most crowded labels first, then goes round until none can be bettered. Nothing is random: the same points give the
same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Gaps between a marker and its label, in pixels at 100 an inch. A label further off than NEAR gets a leader line.
GAPS = (3, 7, 14, 22, 32, 44, 58, 75, 95, 120, 150, 190, 240, 300, 380, 480)
NEAR = 10
MARGIN = 2  # free pixels that a label keeps round itself
PASSES = 8

OVERLAP = 1e4  # a label on a marker, an interval, another label, or outside: only where there is no room at all
MISLEADING = 40
LEADER = 20
CROSSING = 8  # a sample of a line under the label, or of the leader on something else

Boxes = np.ndarray  # (N, 4) float: left, bottom, right, top


@dataclass(frozen=True)
class Placement:
    """The centre of a label, and its leader line from the marker's rim to the label, if it needs one."""

    x: float
    y: float
    leader: tuple[tuple[float, float], tuple[float, float]] | None


def boxes_round(centres: np.ndarray, sizes: np.ndarray) -> Boxes:
    """Boxes (N, 4) from centres (N, 2) and sizes (N, 2): width, height."""
    centres, half = np.broadcast_arrays(np.asarray(centres, float), np.asarray(sizes, float) / 2)
    return np.concatenate([centres - half, centres + half], axis=-1)


def overlaps(a: Boxes, b: Boxes) -> np.ndarray:
    """(N, M): the area that each of `a` (N, 4) shares with each of `b` (M, 4)."""
    left, bottom, right, top = a.T[..., None]
    widths = np.minimum(right, b[:, 2]) - np.maximum(left, b[:, 0])
    heights = np.minimum(top, b[:, 3]) - np.maximum(bottom, b[:, 1])
    return np.clip(widths, 0, None) * np.clip(heights, 0, None)


def holds(boxes: Boxes, dots: np.ndarray) -> np.ndarray:
    """(N, M) bool: which boxes (N, 4) hold which dots (M, 2)."""
    left, bottom, right, top = boxes.T[..., None]
    x, y = dots.T
    return (left <= x) & (x <= right) & (bottom <= y) & (y <= top)


def samples(starts: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """(N, count, 2): dots along the lines from `starts` to `ends`, both (N, 2)."""
    along = np.linspace(0, 1, count)[None, :, None]
    return starts[:, None] * (1 - along) + ends[:, None] * along


def place_labels(
    anchors: np.ndarray,
    radii: np.ndarray,
    sizes: np.ndarray,
    *,
    within: Sequence[float],
    obstacles: Boxes,
    lines: np.ndarray,
) -> list[Placement]:
    """One placement a label.

    anchors (N, 2): the markers' centres; radii (N,); sizes (N, 2): the labels' width and height.
    within: left, bottom, right, top. obstacles (M, 4): what no label may cover beside the markers themselves.
    lines (S, 2): dots on lines that labels had better not cover.
    """
    markers = boxes_round(anchors, 2 * radii[:, None])
    obstacles = np.concatenate([markers, np.asarray(obstacles, float).reshape(-1, 4)])
    searches = [
        _Search(i, anchors, radii, sizes[i], np.asarray(within, float), obstacles, lines) for i in range(len(anchors))
    ]
    chosen: dict[int, int] = {}  # label → its candidate
    for _ in range(PASSES):
        before = dict(chosen)
        for search in sorted(searches, key=lambda s: s.freedom):
            others = [searches[i].choice(candidate) for i, candidate in chosen.items() if i != search.index]
            chosen[search.index] = search.best(others)
        if chosen == before:
            break
    return [search.placement(chosen[search.index]) for search in searches]


class _Search:
    """The candidate positions of one label, and what each costs before other labels are known."""

    def __init__(
        self,
        index: int,
        anchors: np.ndarray,
        radii: np.ndarray,
        size: np.ndarray,
        within: np.ndarray,
        obstacles: Boxes,
        lines: np.ndarray,
    ) -> None:
        self.index = index
        anchor, radius = anchors[index], radii[index]
        self.centres, gaps, taste = _candidates(anchor, radius, size)
        self.boxes = boxes_round(self.centres, size + 2 * MARGIN)
        self.starts, self.ends = _leaders(anchor, radius, boxes_round(self.centres, size))
        self.has_leader = gaps > NEAR
        self.dots = samples(self.starts, self.ends, 8)  # (K, 8, 2)

        hidden = overlaps(self.boxes, obstacles).sum(axis=1)
        outside = np.prod(size + 2 * MARGIN) - overlaps(self.boxes, within[None])[:, 0]
        blocked = (hidden > 0) | (outside > 1e-6)
        self.cost = gaps + taste + LEADER * self.has_leader
        self.cost += blocked * OVERLAP + 10 * (hidden + outside)
        self.cost += CROSSING * holds(self.boxes, lines).sum(axis=1)
        self.cost += MISLEADING * self._is_nearer_to_another(anchors, radii, gaps)
        others = np.delete(obstacles, index, axis=0)
        self.cost += CROSSING * self._hits(others)
        self.freedom = int((~blocked & (gaps < 60)).sum())

    def _is_nearer_to_another(self, anchors: np.ndarray, radii: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """(K,) bool: does the label stand nearer to another's marker than to its own?"""
        others = np.delete(anchors, self.index, axis=0)
        if not len(others):
            return np.zeros(len(gaps), bool)
        nearest = np.clip(others[None], self.boxes[:, None, :2], self.boxes[:, None, 2:])  # (K, N - 1, 2)
        away = np.linalg.norm(nearest - others[None], axis=-1) - np.delete(radii, self.index)
        return (away.min(axis=1) <= gaps) & (away.min(axis=1) < 40)

    def _hits(self, boxes: Boxes) -> np.ndarray:
        """(K,): how many dots of each candidate's leader lie on any of `boxes`."""
        inside = holds(boxes, self.dots.reshape(-1, 2)).any(axis=0).reshape(len(self.cost), -1)
        return inside.sum(axis=1) * self.has_leader

    def choice(self, candidate: int) -> tuple[Boxes, np.ndarray]:
        """A candidate's box (4,) and the dots of its leader (8, 2), or (0, 2) if it has none."""
        return self.boxes[candidate], self.dots[candidate][: 8 * bool(self.has_leader[candidate])]

    def best(self, others: list[tuple[Boxes, np.ndarray]]) -> int:
        """The cheapest candidate, given the other labels as they stand now."""
        cost = self.cost
        if others:
            labels = np.array([box for box, _ in others])
            leaders = np.concatenate([dots for _, dots in others])
            shared = overlaps(self.boxes, labels).sum(axis=1)
            cost = cost + (shared > 0) * OVERLAP + 10 * shared
            cost = cost + CROSSING * (self._hits(labels) + 2 * holds(self.boxes, leaders).sum(axis=1))
        return int(np.argmin(cost))

    def placement(self, candidate: int) -> Placement:
        leader = None
        if self.has_leader[candidate]:
            leader = tuple(map(tuple, (self.starts[candidate].tolist(), self.ends[candidate].tolist())))
        return Placement(*self.centres[candidate].tolist(), leader)


def _candidates(anchor: np.ndarray, radius: float, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (K, 2), gaps (K,) and taste (K,): right of the marker is best, then above, below, left, the corners."""
    steps = np.linspace(-1, 1, 9)
    u, v = (grid.ravel() for grid in np.meshgrid(steps, steps))
    rim = np.maximum(abs(u), abs(v)) == 1  # (32,): round the edge of a square
    u, v = u[rim], v[rim]
    sideways = np.where(u == 1, 0, 3) + 5 * abs(v)
    upright = np.where(v == 1, 2, 3) + 5 * abs(u)
    taste = np.where(abs(u) == 1, sideways, upright)
    gaps = np.repeat(np.asarray(GAPS, float), len(u))
    u, v, taste = (np.tile(values, len(GAPS)) for values in (u, v, taste))
    reach = radius + gaps[:, None] + MARGIN + size / 2  # (K, 2)
    return anchor + np.stack([u, v], axis=1) * reach, gaps, taste


def _leaders(anchor: np.ndarray, radius: float, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (K, 2) of lines from a marker's rim to the nearest point of each box."""
    ends = np.clip(anchor[None], boxes[:, :2], boxes[:, 2:])
    ways = ends - anchor
    lengths = np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
    return anchor + ways / lengths * np.minimum(radius + 1, lengths), ends
