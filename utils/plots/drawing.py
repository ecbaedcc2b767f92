"""Architectures drawn as blocks, to scale: what a feature map measures, how many channels it has, where blocks end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from utils.architectures import Architecture, Block
from utils.checks import of_kind
from utils.plots.style import COLOURS, WIDTH, LessonFigure, counted, listed, style, text_size

# All lengths are inches, and the axes' units are inches as well: what is measured here is what is on the page.
MARGIN = 0.15
GAP = 0.035  # between two layers
BETWEEN_BLOCKS = 0.22
LINE = 0.2  # of 12 pt text
WIDEST, NARROWEST = 0.3, 0.03  # of a layer
DENSE = 0.11  # how wide a dense layer is drawn, whatever its size
TALL, LOW = 1.1, 0.62  # the highest layer: of one network alone, of several
NOTE = (
    "Height: the side of the feature map; of a dense layer, its units. Width: channels. All by their square\n"
    "roots, on one scale. Above: channels or units. Below: convolutions and their kernels, then the map’s\n"
    "side in pixels. Light blue: pooling."
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
    """Layers under one bracket, with what stands below it, and the runs of layers that share a label above them."""

    layers: tuple[_Layer, ...]
    below: tuple[str, ...]
    above: tuple[tuple[str, int], ...]  # (label, how many layers it stands over)


@style()
def architecture_blocks(
    architectures: Mapping[str, Architecture] | Sequence[Architecture], *, title: str = "Architectures"
) -> LessonFigure:
    """Each network as a row of layers: its feature maps' sides and channels to one scale, its blocks in brackets.

    architectures: by the name to be written, or a list, whose labels are then written. Blue is a convolution, light
    blue pooling, orange a dense layer; grey is the image. Parameters are counted from the description.
    """
    networks = _named(architectures)
    groups = {name: list(_groups(architecture)) for name, architecture in networks.items()}
    labels = _label_widths(groups)
    scale = _Scale.for_all(groups, labels)
    tall = TALL if len(networks) == 1 else LOW
    row = tall + 5.6 * LINE
    figure = LessonFigure(scale.width, height=len(networks) * row + 3.8 * LINE + MARGIN)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for i, (name, architecture) in enumerate(networks.items()):
        baseline = height - MARGIN - i * row - tall - 2.75 * LINE
        _write_heading(axes, name, architecture, baseline + tall + 1.75 * LINE)
        _draw_row(axes, groups[name], baseline, tall, scale, labels, name)
    axes.text(MARGIN, MARGIN, NOTE, color=COLOURS["quiet"], va="bottom", gid="note")
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
    if isinstance(architectures, Architecture):
        raise ValueError("architectures must be a list or a dict of them: take [LENET] for one alone")
    named = dict(architectures if isinstance(architectures, Mapping) else {a.label: a for a in architectures})
    if not named:
        raise ValueError("architectures must hold at least one to draw, got none")
    for name, architecture in named.items():
        of_kind(f"architectures[{name!r}]", architecture, Architecture, "LENET or VGG['A']")
    return named


def _groups(architecture: Architecture) -> Iterator[_Group]:
    """The image, each block, and the head."""
    side, channels = architecture.image_size, architecture.in_channels
    yield _Group((_Layer("image", "image", side, channels),), ("image", f"{side}²"), ((f"{channels}", 1),))
    for b, block in enumerate(architecture.blocks, start=1):
        layers = []
        for c, conv in enumerate(block.convs, start=1):
            side, channels = conv.size_after(side), conv.out_channels
            layers.append(_Layer("conv", f"conv {b}.{c}", side, channels))
        sides = [f"{layer.size}²" for layer in layers]
        if block.pool is not None:
            side = block.pool.size_after(side)
            layers.append(_Layer("pool", f"pool {b}", side, channels))
        runs = [(f"{width}", len(list(same))) for width, same in groupby(conv.out_channels for conv in block.convs)]
        above = (*runs, ("", 1)) if block.pool else tuple(runs)
        yield _Group(tuple(layers), (_kernels(block), listed(list(dict.fromkeys(sides)))), above)
    yield _head(architecture, side)


def _head(architecture: Architecture, side: int) -> _Group:
    pool_size, layers = architecture.head.pool_size, []
    if pool_size not in (None, side):
        layers.append(_Layer("pool", "average pool", pool_size, architecture.convs[-1].out_channels))
    units = (*architecture.head.hidden, architecture.num_classes)
    layers += [_Layer("dense", f"dense {i}", n, 1) for i, n in enumerate(units, start=1)]
    above = (("", 1),) * (len(layers) - len(units)) + tuple((f"{n}", 1) for n in units)
    return _Group(
        tuple(layers), ("dense" if len(layers) == len(units) else f"average to {pool_size}², dense", ""), above
    )


def _kernels(block: Block) -> str:
    """`2 × 3×3`, or `2 × 3×3, 1×1`."""
    runs = [(size, len(list(same))) for size, same in groupby(conv.kernel_size for conv in block.convs)]
    return ", ".join(f"{number} × {size}×{size}" if number > 1 else f"{size}×{size}" for size, number in runs)


# --- to scale ---------------------------------------------------------------------------------------------------------


def _label_widths(groups: Mapping[str, Sequence[_Group]]) -> dict[str, float]:
    """Inches that each label takes."""
    scratch = LessonFigure().text(0, 0, "")
    words = {word for row in groups.values() for g in row for word in (*g.below, *(label for label, _ in g.above))}
    found = {}
    for word in words:
        scratch.set_text(word)
        found[word] = text_size(scratch)[0] if word else 0.0
    return found


@dataclass(frozen=True)
class _Scale:
    """How channels, sides and units become inches: by their square roots, the largest of each as large as may be."""

    channels: int  # the most that there are
    side: int
    units: int
    widest: float
    width: float = WIDTH  # of the figure

    @classmethod
    def for_all(cls, groups: Mapping[str, Sequence[_Group]], labels: Mapping[str, float]) -> _Scale:
        """The widest layers for which the longest row fits on the page; a wider page if even the narrowest don't."""
        layers = [layer for row in groups.values() for group in row for layer in group.layers]
        maps = [layer for layer in layers if layer.kind != "dense"]
        most = cls(
            channels=max(layer.channels for layer in maps),
            side=max(layer.size for layer in maps),
            units=max(layer.size for layer in layers if layer.kind == "dense"),
            widest=WIDEST,
        )
        for widest in (WIDEST * 0.9**n for n in range(24)):
            scale = cls(most.channels, most.side, most.units, max(widest, NARROWEST))
            longest = max(scale.row_width(row, labels) for row in groups.values())
            if longest <= WIDTH:
                return scale
        return cls(most.channels, most.side, most.units, NARROWEST, width=longest)

    def layer_width(self, layer: _Layer) -> float:
        if layer.kind == "dense":
            return DENSE
        return max(self.widest * math.sqrt(layer.channels / self.channels), NARROWEST)

    def layer_height(self, layer: _Layer, tall: float) -> float:
        return tall * math.sqrt(layer.size / (self.units if layer.kind == "dense" else self.side))

    def runs(self, group: _Group, labels: Mapping[str, float]) -> Iterator[tuple[str, Sequence[_Layer], float]]:
        """(label, the layers that it stands over, the width that both have): a label may be wider than they are."""
        start = 0
        for label, number in group.above:
            layers = group.layers[start : start + number]
            start += number
            own = sum(map(self.layer_width, layers)) + GAP * (number - 1)
            yield label, layers, max(own, labels[label] + 0.06 if label else 0.0)

    def group_width(self, group: _Group, labels: Mapping[str, float]) -> float:
        runs = list(self.runs(group, labels))
        drawn = sum(width for *_, width in runs) + GAP * (len(runs) - 1)
        return max(drawn, *(labels[line] for line in group.below))

    def row_width(self, row: Sequence[_Group], labels: Mapping[str, float]) -> float:
        return 2 * MARGIN + sum(self.group_width(g, labels) for g in row) + BETWEEN_BLOCKS * (len(row) - 1)


# --- drawing ----------------------------------------------------------------------------------------------------------

LOOKS = {
    "image": COLOURS["grid"],
    "conv": COLOURS["convolution"],
    "pool": COLOURS["pooling"],
    "dense": COLOURS["dense"],
}


def _write_heading(axes: Axes, name: str, architecture: Architecture, y: float) -> None:
    heading = axes.text(MARGIN, y, name, weight="bold", size=13, va="bottom", gid=f"name: {name}")
    words = f"{counted(architecture.weight_layers, 'weight layer')}, {parameters_of(architecture):,} parameters"
    x = MARGIN + text_size(heading)[0] + 0.2
    axes.text(x, y, words, color=COLOURS["quiet"], va="bottom", gid=f"size: {name}")


def _draw_row(
    axes: Axes,
    row: Sequence[_Group],
    baseline: float,
    tall: float,
    scale: _Scale,
    labels: Mapping[str, float],
    name: str,
) -> None:
    left = MARGIN
    for group in row:
        width = scale.group_width(group, labels)
        runs = list(scale.runs(group, labels))
        drawn = sum(run for *_, run in runs) + GAP * (len(runs) - 1)
        x = left + (width - drawn) / 2
        for label, layers, run in runs:
            _draw_run(axes, layers, label, (x, baseline), run, tall, scale, name)
            x += run + GAP
        axes.plot(
            [left, left + width], [baseline - 0.06] * 2, color=COLOURS["grey"], linewidth=1, gid=f"{name}: bracket"
        )
        for line, words in enumerate(group.below):
            colour = COLOURS["ink" if line == 0 else "quiet"]
            axes.text(
                left + width / 2, baseline - 0.1 - line * LINE, words, color=colour, ha="center", va="top",
                gid=f"{name}: below",
            )  # fmt: skip
        left += width + BETWEEN_BLOCKS


def _draw_run(
    axes: Axes,
    layers: Sequence[_Layer],
    label: str,
    corner: tuple[float, float],
    run: float,
    tall: float,
    scale: _Scale,
    name: str,
) -> None:
    """Layers of as many channels, in the middle of the width that their label may need, and the label above them."""
    left, baseline = corner
    x = left + (run - sum(map(scale.layer_width, layers)) - GAP * (len(layers) - 1)) / 2
    for layer in layers:
        width, height = scale.layer_width(layer), scale.layer_height(layer, tall)
        axes.add_patch(
            Rectangle((x, baseline), width, height, color=LOOKS[layer.kind], linewidth=0, gid=f"{name}: {layer.name}")
        )
        x += width + GAP
    top = baseline + max(scale.layer_height(layer, tall) for layer in layers)
    if label:
        axes.text(left + run / 2, top + 0.03, label, ha="center", va="bottom", gid=f"{name}: above")


# --- words ------------------------------------------------------------------------------------------------------------


def _in_words(name: str, architecture: Architecture) -> str:
    _, *blocks, head = _groups(architecture)
    parts = []
    for block, group in zip(architecture.blocks, blocks, strict=True):
        convs = [layer for layer in group.layers if layer.kind == "conv"]
        channels = list(dict.fromkeys(layer.channels for layer in convs))
        pooled = f", pooled to {group.layers[-1].size}²" if block.pool else ""
        parts.append(f"{group.below[0]} with {listed(list(map(str, channels)))} channels on {group.below[1]}{pooled}")
    units = [layer.size for layer in head.layers if layer.kind == "dense"]
    side = architecture.image_size
    return (
        f"{name}: {counted(architecture.weight_layers, 'weight layer')}, {parameters_of(architecture):,} parameters. "
        f"{side}×{side} image; {'; '.join(parts)}; {head.below[0]} {listed([f'{n:,}' for n in units])}."
    )
