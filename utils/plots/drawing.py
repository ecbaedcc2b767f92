"""Architectures drawn as blocks, to scale: what a feature map measures, how many channels it has, where blocks end."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from utils.architectures import Architecture, Block
from utils.checks import of_kind, tuple_of
from utils.plots.style import COLOURS, WIDTH, LessonFigure, style, text_size
from utils.words import counted, listed

# All lengths are inches, and the axes' units are inches as well: what is measured here is what is on the page.
MARGIN = 0.15
LINE = 0.2  # of 12 pt text
TOP, HEADING, BELOW, NOTE = 0.55, 0.55, 0.7, 0.75  # for the title; of a row: over and under the layers; for the note
TALL, LOW = 1.3, 0.66  # the highest layer: of one network alone, of several
GAP = 0.035  # between two layers
AROUND_LABEL = 0.06
BETWEEN_BLOCKS, FURTHEST_APART = 0.22, 0.6
WIDEST = 0.55  # of a layer
DENSE = 0.11  # how wide a dense layer is drawn, whatever its size
HAIRLINE = 0.012  # what is smaller is drawn as large as this

LOOKS = {
    "image": COLOURS["grid"],
    "conv": COLOURS["convolution"],
    "pool": COLOURS["pooling"],
    "dense": COLOURS["dense"],
}
WORDS = (
    "Heights: the square roots of the feature maps’ sides, or of the dense layers’ units (orange).\n"
    "Widths: those of the channels.{scale} Light blue: pooling.{hairline}\n"
    "Above: channels or units. Below: the convolutions’ kernels, then the maps’ sides in pixels."
)


@dataclass(frozen=True)
class _Layer:
    """A layer as it is drawn. `size`: the map's side, a dense layer's units. `name`: of its artist."""

    kind: str  # "image", "conv", "pool" or "dense"
    name: str
    size: int
    channels: int


@dataclass(frozen=True)
class _Group:
    """Layers under one bracket, with the lines below it, and the runs of layers that share a label above them."""

    name: str
    layers: tuple[_Layer, ...]
    below: tuple[str, ...]
    above: tuple[tuple[str, int], ...]  # (label, how many layers it stands over)


@style()
def architecture_blocks(
    architectures: Mapping[str, Architecture] | Sequence[Architecture], *, title: str = "Layer by layer"
) -> LessonFigure:
    """Each network as a row of layers: its feature maps' sides and channels to one scale, its blocks in brackets.

    architectures: by the name to be written, or a list, whose labels are then written. Blue is a convolution, light
    blue pooling, orange a dense layer; grey is the image. Parameters are counted from the description. The page is
    wider than others where a network has more layers than fit.
    """
    networks = _named(architectures)
    rows = {name: list(_groups(architecture)) for name, architecture in networks.items()}
    scale = _Scale.for_all(list(rows.values()))
    row_height = HEADING + scale.tall + BELOW
    figure = LessonFigure(scale.page, height=TOP + len(rows) * row_height + NOTE + MARGIN)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    written = axes.text(MARGIN, height - MARGIN, title, size=15, weight="bold", va="top", gid="title")
    _shorten(written, width - 2 * MARGIN)
    for i, (name, architecture) in enumerate(networks.items()):
        baseline = height - TOP - (i + 1) * row_height + BELOW
        _write_heading(axes, name, architecture, baseline + scale.tall + HEADING - LINE)
        _draw_row(axes, rows[name], baseline, scale, name)
    axes.text(MARGIN, MARGIN, scale.in_words(list(rows.values())), color=COLOURS["quiet"], va="bottom", gid="note")
    figure.title = title
    figure.alt = " ".join(_in_words(name, architecture) for name, architecture in networks.items())
    return figure


def parameters_of(architecture: Architecture) -> int:
    """Weights and biases, counted from the description: convolutions, batch norm's two a channel, dense layers."""
    total, channels = 0, architecture.in_channels
    for conv in architecture.convs:
        total += conv.out_channels * (channels // conv.groups * conv.kernel_size**2 + 1)
        total += 2 * conv.out_channels * ((conv.norm or architecture.norm) == "batch")
        channels = conv.out_channels
    widths = (architecture.head_in_features, *architecture.head.hidden, architecture.num_classes)
    return total + sum((before + 1) * after for before, after in pairwise(widths))


# --- what there is to draw --------------------------------------------------------------------------------------------


def _named(architectures: Mapping[str, Architecture] | Sequence[Architecture]) -> dict[str, Architecture]:
    if isinstance(architectures, Mapping):
        pairs = [(f"{name}", architecture) for name, architecture in architectures.items()]
    else:
        pairs = [(a.label, a) for a in tuple_of("architectures", architectures, Architecture)]
    for name, architecture in pairs:
        of_kind(f"architectures[{name!r}]", architecture, Architecture, "LENET or VGG['A']")
    if not pairs:
        raise ValueError("architectures must hold at least one to draw, got none")
    named = {" ".join(name.split()): architecture for name, architecture in pairs}
    if len(named) < len(pairs):
        raise ValueError(f"architectures must have different names, got {', '.join(repr(name) for name, _ in pairs)}")
    return named


def _groups(architecture: Architecture) -> Iterator[_Group]:
    """The image, each block, and the head."""
    side, channels = architecture.image_size, architecture.in_channels
    image = _Layer("image", "image", side, channels)
    yield _Group("image", (image,), ("image", f"{side}²"), ((f"{channels}", 1),))
    for b, block in enumerate(architecture.blocks, start=1):
        layers = []
        for c, conv in enumerate(block.convs, start=1):
            side = conv.size_after(side)
            layers.append(_Layer("conv", f"conv {b}.{c}", side, conv.out_channels))
        above = [(f"{width}", len(list(same))) for width, same in groupby(layer.channels for layer in layers)]
        below = (_kernels(block), _sides(layers))
        if block.pool is not None:
            side = block.pool.size_after(side)
            layers.append(_Layer("pool", f"pool {b}", side, block.convs[-1].out_channels))
            above.append(("", 1))
        yield _Group(f"block {b}", tuple(layers), below, tuple(above))
    yield _head(architecture, side)


def _head(architecture: Architecture, side: int) -> _Group:
    pool_size = architecture.head.pool_size
    units = (*architecture.head.hidden, architecture.num_classes)
    layers = tuple(_Layer("dense", f"dense {i}", n, 1) for i, n in enumerate(units, start=1))
    above = tuple((f"{n}", 1) for n in units)
    if pool_size in (None, side):
        return _Group("head", layers, ("dense",), above)
    pool = _Layer("pool", "average pool", pool_size, architecture.convs[-1].out_channels)
    return _Group("head", (pool, *layers), ("dense", f"from {pool_size}²"), (("", 1), *above))


def _kernels(block: Block) -> str:
    """`2 × 3×3`, `2 × 3×3, 1×1`; where they change more often than that, `20 × 1×1 to 5×5`."""
    sizes = [conv.kernel_size for conv in block.convs]
    runs = [(size, len(list(same))) for size, same in groupby(sizes)]
    if len(runs) > 3:
        return f"{len(sizes)} × {min(sizes)}×{min(sizes)} to {max(sizes)}×{max(sizes)}"
    return ", ".join(f"{number} × {size}×{size}" if number > 1 else f"{size}×{size}" for size, number in runs)


def _sides(layers: Sequence[_Layer]) -> str:
    """`14²`, `14² and 7²`; where there are more, `28² to 4²`."""
    sides = list(dict.fromkeys(f"{layer.size}²" for layer in layers))
    return listed(sides) if len(sides) < 3 else f"{sides[0]} to {sides[-1]}"


# --- to scale ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How channels, sides and units become inches: by their square roots, the largest of each as large as may be."""

    channels: int  # the most that there are
    side: int
    units: int
    tall: float
    widest: float
    labels: Mapping[str, float]  # inches that each takes
    between: float = BETWEEN_BLOCKS
    page: float = WIDTH

    @classmethod
    def for_all(cls, rows: Sequence[Sequence[_Group]]) -> _Scale:
        """The widest layers for which the longest row fits on the page, or a wider page; then blocks move apart."""
        layers = [layer for row in rows for group in row for layer in group.layers]
        scale = cls(
            channels=max(layer.channels for layer in layers if layer.kind != "dense"),
            side=max(layer.size for layer in layers if layer.kind != "dense"),
            units=max(layer.size for layer in layers if layer.kind == "dense"),
            tall=TALL if len(rows) == 1 else LOW,
            widest=WIDEST,
            labels=_label_widths(rows),
        )
        while scale.longest(rows) > WIDTH and scale.widest > 3 * HAIRLINE:
            scale = replace(scale, widest=0.95 * scale.widest)
        free = WIDTH - scale.longest(rows)
        if free < 0:
            return replace(scale, page=scale.longest(rows))
        gaps = max(map(len, rows)) - 1
        return replace(scale, between=min(BETWEEN_BLOCKS + free / gaps, FURTHEST_APART))

    def layer_width(self, layer: _Layer) -> float:
        return DENSE if layer.kind == "dense" else max(self._exact_width(layer), HAIRLINE)

    def layer_height(self, layer: _Layer) -> float:
        return max(self._exact_height(layer), HAIRLINE)

    def _exact_width(self, layer: _Layer) -> float:
        return self.widest * math.sqrt(layer.channels / self.channels)

    def _exact_height(self, layer: _Layer) -> float:
        return self.tall * math.sqrt(layer.size / (self.units if layer.kind == "dense" else self.side))

    def layers_width(self, layers: Sequence[_Layer]) -> float:
        return sum(map(self.layer_width, layers)) + GAP * (len(layers) - 1)

    def runs(self, group: _Group) -> Iterator[tuple[str, Sequence[_Layer], float]]:
        """(label, the layers that it stands over, the width that both have): a label may be wider than they are."""
        start = 0
        for label, number in group.above:
            layers = group.layers[start : start + number]
            start += number
            room = self.labels[label] + AROUND_LABEL if label else 0.0
            yield label, layers, max(self.layers_width(layers), room)

    def runs_width(self, group: _Group) -> float:
        return sum(width for *_, width in self.runs(group)) + GAP * (len(group.above) - 1)

    def group_width(self, group: _Group) -> float:
        return max(self.runs_width(group), *(self.labels[line] for line in group.below))

    def longest(self, rows: Sequence[Sequence[_Group]]) -> float:
        """The width of the longest row, with the margins."""
        return 2 * MARGIN + max(sum(map(self.group_width, row)) + self.between * (len(row) - 1) for row in rows)

    def in_words(self, rows: Sequence[Sequence[_Group]]) -> str:
        """What stands under the drawing: what heights, widths and numbers are."""
        layers = [layer for row in rows for group in row for layer in group.layers]
        thin = any(layer.kind != "dense" and self._exact_width(layer) < HAIRLINE for layer in layers)
        flat = any(self._exact_height(layer) < HAIRLINE for layer in layers)
        return WORDS.format(
            scale=" One scale for all." if len(rows) > 1 else "",
            hairline=" Hairlines are thinner still." if thin or flat else "",
        )


def _label_widths(rows: Sequence[Sequence[_Group]]) -> dict[str, float]:
    scratch = LessonFigure().text(0, 0, "")
    groups = [group for row in rows for group in row]
    words = {word for group in groups for word in (*group.below, *(label for label, _ in group.above))}
    found = {}
    for word in words:
        scratch.set_text(word)
        found[word] = text_size(scratch)[0]
    return found


# --- drawing ----------------------------------------------------------------------------------------------------------


def _write_heading(axes: Axes, name: str, architecture: Architecture, y: float) -> None:
    """The name, and what the network has; a name that leaves no room for that ends in …"""
    words = f"{counted(architecture.weight_layers, 'weight layer')}, {parameters_of(architecture):,} parameters"
    size = axes.text(0, y, words, color=COLOURS["quiet"], va="baseline", gid=f"size: {name}")
    heading = axes.text(MARGIN, y, name, weight="bold", size=13, va="baseline", gid=f"name: {name}")
    _shorten(heading, axes.get_xlim()[1] - 2 * MARGIN - 0.2 - text_size(size)[0])
    size.set_x(MARGIN + text_size(heading)[0] + 0.2)


def _shorten(text: Text, room: float) -> None:
    """Cut a text that takes more than `room` inches, and end it in …"""
    whole = text.get_text()

    def is_too_wide(length: int) -> bool:
        text.set_text(f"{whole[:length].rstrip()}…")
        return text_size(text)[0] > room

    if text_size(text)[0] > room:
        fitting = bisect(range(1, len(whole)), False, key=is_too_wide)
        text.set_text(f"{whole[:fitting].rstrip()}…")


def _draw_row(axes: Axes, row: Sequence[_Group], baseline: float, scale: _Scale, network: str) -> None:
    left = MARGIN
    for group in row:
        width = scale.group_width(group)
        middle, right = left + width / 2, left + width
        x = middle - scale.runs_width(group) / 2
        for label, layers, run in scale.runs(group):
            _draw_run(axes, layers, label, (x, baseline), run, scale, network)
            x += run + GAP
        bracket = f"{network}: bracket of {group.name}"
        axes.plot([left, right], [baseline - 0.06] * 2, color=COLOURS["grey"], linewidth=1, gid=bracket)
        for line, words in enumerate(group.below):
            axes.text(
                middle, baseline - 0.1 - line * LINE, words, color=COLOURS["quiet" if line else "ink"], ha="center",
                va="top", gid=f"{network}: {group.name}, line {line + 1}",
            )  # fmt: skip
        left = right + scale.between


def _draw_run(
    axes: Axes,
    layers: Sequence[_Layer],
    label: str,
    corner: tuple[float, float],
    run: float,
    scale: _Scale,
    network: str,
) -> None:
    """Layers of as many channels, in the middle of the width that their label may need, and the label above them."""
    left, baseline = corner
    x = left + (run - scale.layers_width(layers)) / 2
    for layer in layers:
        width, height = scale.layer_width(layer), scale.layer_height(layer)
        gid = f"{network}: {layer.name}"
        axes.add_patch(Rectangle((x, baseline), width, height, color=LOOKS[layer.kind], linewidth=0, gid=gid))
        x += width + GAP
    if label:
        top = baseline + max(map(scale.layer_height, layers)) + 0.03
        gid = f"{network}: above {layers[0].name}"
        axes.text(left + run / 2, top, label, ha="center", va="bottom", gid=gid)


# --- words ------------------------------------------------------------------------------------------------------------


def _in_words(name: str, architecture: Architecture) -> str:
    _, *blocks, head = _groups(architecture)
    parts = []
    for block, group in zip(architecture.blocks, blocks, strict=True):
        widths = list(dict.fromkeys(conv.out_channels for conv in block.convs))
        channels = f"{listed([f'{width}' for width in widths])} channel{'s' * (widths != [1])}"
        pooled = f", pooled to {group.layers[-1].size}²" if block.pool else ""
        parts.append(f"{group.below[0]} with {channels} on {group.below[1]}{pooled}")
    pool = [f"average pooling to {layer.size}²" for layer in head.layers if layer.kind == "pool"]
    units = listed([f"{layer.size}" for layer in head.layers if layer.kind == "dense"])
    side = architecture.image_size
    return (
        f"{name}: {counted(architecture.weight_layers, 'weight layer')}, {parameters_of(architecture):,} parameters. "
        f"{side}×{side} image; {'; '.join([*parts, *pool])}; dense {units}."
    )
