"""Which patches of the images excite a channel of a convolution most: where its largest numbers are, what they see.

    layer = conv_layers(net, (1, 28, 28))[0]
    found = excitations(net, layer.after, (data.train.batch(part)[0] for part in parts_of(2_000, 100)))
    for peak in found.top(channel=3, number=9):                    # in nine images, the largest first
        window = layer.field.window(peak.row, peak.column)         # the pixels that this number depends on

So Zeiler & Fergus looked into a network (arXiv 1311.2901, figure 2: the nine patches that excite a channel most).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from utils.checks import of_kind, whole
from utils.faults import TOO_LARGE, check_numbers, layers_named, memory_named, not_finite_in
from utils.modes import keeping_modes
from utils.profiling import profile

MOST_IMAGES, LEAST_IMAGES = 2_000, 9
LOOKED_AT = 500_000  # numbers, in which each change shows …
SAMPLED = 1_000  # … and of a larger network's other tensors, so many of each
BATCH_BYTES = 64e6  # of a layer's output, about: several of them are there at a time
# About what two cores do in a second and a half, and what a GPU of 2018 does: then the search ends.
MACS_ON_A_CPU, MACS_ON_A_GPU = 50e9, 2e12


# --- what a number sees -----------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A rectangle of pixels. It may reach over the image's edge: there the layers see padding."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Field:
    """The pixels that the numbers of a layer depend on, (along the height, along the width) each.

    The number in row i depends on `size` rows of the image, from row `start` + i·`stride` on.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    start: tuple[int, int] = (0, 0)

    def window(self, row: int, column: int) -> Window:
        """What the number at (row, column) sees."""
        tops = (first + place * step for first, place, step in zip(self.start, (row, column), self.stride, strict=True))
        return Window(*tops, *self.size)

    def through(self, layer: nn.Module) -> Field:
        """The field behind one more layer; one without a window leaves it as it is.

        r ← r + (k − 1)·d·j, start ← start − p·j, j ← j·s with kernel k, dilation d, padding p and stride s: Araujo,
        Norris & Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
        """
        if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            return self
        dilation = _both(getattr(layer, "dilation", 1))
        kernel, step, before = _both(layer.kernel_size), _both(layer.stride), _padding_before(layer)
        return Field(
            size=tuple(
                r + (k - 1) * d * j for r, k, d, j in zip(self.size, kernel, dilation, self.stride, strict=True)
            ),
            stride=tuple(j * s for j, s in zip(self.stride, step, strict=True)),
            start=tuple(first - p * j for first, p, j in zip(self.start, before, self.stride, strict=True)),
        )


def _both(value: Any) -> tuple[int, int]:
    """(3, 3) for 3: torch takes one number for height and width."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _padding_before(layer: nn.Module) -> tuple[int, int]:
    """Rows above and columns to the left."""
    match layer.padding:
        case "valid":
            return 0, 0
        case "same":  # an odd pixel of it goes to the other side
            kernel, dilation = _both(layer.kernel_size), _both(layer.dilation)
            return tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    return _both(layer.padding)


# --- the layers -------------------------------------------------------------------------------------------------------


class Tap(NamedTuple):
    """Where numbers are read: behind module `name` when it is called for the `call`-th time, from 0."""

    name: str
    call: int
    shape: tuple[int, int, int]  # (channels, height, width)


@dataclass(frozen=True)
class ConvLayer:
    """A convolution of a network, and what follows it.

    name: as in the state dict, `features.0`. words: `5×5, 1 → 6`.
    before: behind its norm, where one follows directly, or else behind itself.
    after: behind its activation; the same as `before` where no layer for it follows. activation: its class, or None.
    field: what a number sees; None where that isn't known, as behind a residual block's sum.
    macs, largest_output: multiply-accumulates up to here, and the bytes of the largest output, for one image.
    """

    name: str
    words: str
    before: Tap
    after: Tap
    activation: str | None
    field: Field | None
    macs: int
    largest_output: int

    @property
    def channels(self) -> int:
        """How many channels it gives."""
        return self.after.shape[0]

    def conv(self, net: nn.Module) -> nn.Conv2d:
        """The convolution itself."""
        return _modules(net)[self.name]


def conv_layers(net: nn.Module, input_shape: Sequence[int] | None = None) -> tuple[ConvLayer, ...]:
    """The convolutions of `net` in the order in which they run; one that runs twice counts once.

    input_shape: one image's (channels, height, width); None: what `build` made the network for. The network stays as
    it is. Raises ValueError, as `profile` does, if it can't take such an image.
    """
    rows = list(profile(net, input_shape).layers.itertuples(index=False))
    modules, calls, taps = _modules(net), {}, []
    for row in rows:
        taps.append(Tap(row.name, calls.get(row.name, 0), row.output_shape))
        calls[row.name] = taps[-1].call + 1
    found, field = [], Field()
    for i, row in enumerate(rows):
        module = modules.get(row.name)
        field = None if field is None or pd.isna(row.receptive_field) else field.through(module)
        if isinstance(module, nn.Conv2d) and row.output_shape is not None and taps[i].call == 0:
            norm, activation = _followers(rows, i)
            found.append(
                ConvLayer(
                    name=row.name,
                    words=row.layer,
                    before=taps[norm],
                    after=taps[activation],
                    activation=type(modules[rows[activation].name]).__name__ if activation != norm else None,
                    field=field if field and max(field.size) == row.receptive_field and _is_flat(module) else None,
                    macs=sum(r.macs for r in rows[: i + 1]),
                    largest_output=max(4 * torch.Size(r.output_shape).numel() for r in rows[: i + 1] if r.output_shape),
                )
            )
    return tuple(found)


def _modules(net: nn.Module) -> dict[str, nn.Module]:
    """By the names that `profile` gives them: the network itself goes by its class."""
    return {name or type(net).__name__: module for name, module in net.named_modules()}


def _is_flat(conv: nn.Conv2d) -> bool:
    """Does it see one rectangle? With circular padding it sees the opposite edge as well."""
    return conv.padding_mode != "circular"


def _followers(rows: Sequence[Any], conv: int) -> tuple[int, int]:
    """The numbers of the rows behind which to read before, and after, the activation of the convolution in row `conv`.

    What runs next belongs to it only where its input is this one's output: where `profile` knows the field.
    """
    place = conv
    ends = []
    for kind in ("norm", "activation"):
        following = rows[place + 1] if place + 1 < len(rows) else None
        place += following is not None and following.kind == kind and not pd.isna(following.receptive_field)
        ends.append(place)
    return ends[0], ends[1]


# --- to run them ------------------------------------------------------------------------------------------------------


class _Reached(Exception):
    """Ends a run at the layer that was asked for: nothing after it is computed, and nothing overwrites its output."""

    def __init__(self, output: Tensor) -> None:
        super().__init__("a layer has been reached")
        self.output = output


@torch.inference_mode()
def maps_of(net: nn.Module, tap: Tap, images: Tensor) -> Tensor:
    """What the layer at `tap` makes of `images` (N, C, H, W): (N, channels, height, width) float32, where the net is.

    The network runs in evaluation mode, as far as that layer; the images go to its device and dtype. Raises ValueError
    if it can't take them, or gives numbers that are none.
    """
    of_kind("net", net, nn.Module, "build(LENET)")
    module, calls = _modules(net)[tap.name], 0

    def stop(module: nn.Module, args: tuple, output: Tensor) -> None:
        nonlocal calls
        if calls == tap.call:
            raise _Reached(output)
        calls += 1

    hook = module.register_forward_hook(stop)
    try:
        _run(net, images)
    except _Reached as reached:
        return _checked(net, tap.name, reached.output.float())
    finally:
        hook.remove()
    raise ValueError(f"the network has not run {tap.name} this time: its forward does other things with other images")


@torch.inference_mode()
def probabilities(net: nn.Module, images: Tensor) -> Tensor | None:
    """How likely `net` finds each class for each of `images` (N, C, H, W): (N, classes), on the CPU.

    The softmax of its scores; if it ends in a softmax itself, what it gives. None if it gives something else.
    """
    scores = _run(net, images)
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.shape[1] < 2:
        return None
    scores = _checked(net, "its last layer", scores).cpu().double()
    is_share = bool((scores >= 0).all()) and torch.allclose(scores.sum(dim=1), torch.ones_like(scores[:, 0]), atol=1e-3)
    return scores if is_share else scores.softmax(dim=1)


def _run(net: nn.Module, images: Tensor) -> Any:
    like = next((p for p in net.parameters() if p.is_floating_point()), images)
    with keeping_modes(net), layers_named(net), memory_named("while images went through the network", TOO_LARGE):
        net.eval()
        return net(images.to(like.device, like.dtype))


def _checked(net: nn.Module, name: str, numbers: Tensor) -> Tensor:
    if not bool(numbers.isfinite().all()):
        cause = not_finite_in(net) or "they grow too large on the way"
        raise ValueError(f"{name} must give finite numbers, and some are not ({cause}): build and train it anew")
    return numbers


def version_of(net: nn.Module) -> tuple[tuple[int, int, int], ...]:
    """Something that is another once the weights have been changed; what was computed before is old then.

    torch counts how often a tensor is changed, but for what is written through its `.data`. So the first half a million
    numbers are looked at as well, which is all of a small network, and of each tensor behind them a thousand: whoever
    writes a whole one is noticed there, too. It takes a millisecond or two, for VGG-16 as well.
    """
    left, found = LOOKED_AT, []
    for tensor in (*net.parameters(), *net.buffers()):
        version = 0 if tensor.is_inference() else tensor._version
        found.append((id(tensor), version, _digest(tensor, left)))
        left = max(0, left - tensor.numel())
    return tuple(found)


def _digest(tensor: Tensor, most: int) -> int:
    """Of the numbers, as they lie in memory; of more than `most`, of so many, and of some from first to last."""
    # Sorted so that nothing is copied: of channels_last, reshape alone would copy all.
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    numbers = tensor.detach().permute(order).reshape(-1)
    if len(numbers) > most:
        numbers = torch.cat([numbers[:most], numbers[:: max(1, len(numbers) // SAMPLED)]])
    numbers = numbers.cpu().contiguous()
    return zlib.crc32(numbers.view(torch.uint8).numpy()) if len(numbers) else 0


# --- to search --------------------------------------------------------------------------------------------------------


class Peak(NamedTuple):
    """The largest number of a channel in one image, and where in the map it stands."""

    image: int
    value: float
    row: int
    column: int


@dataclass(frozen=True)
class Excitations:
    """The largest number in each channel for each of the images that were searched.

    values (N, channels) float32; places (N, channels): row · width + column in the map, the first of equal ones on a
    CPU; lowest (channels,): the least number of all; width: of the map. All on the CPU.
    """

    values: Tensor
    places: Tensor
    lowest: Tensor
    width: int

    def __len__(self) -> int:
        """How many images were searched."""
        return len(self.values)

    def top(self, channel: int, number: int = 9) -> tuple[Peak, ...]:
        """The `number` images that excite `channel` most, the most exciting first; of equal ones the earlier.

        Fewer if fewer do: an image whose largest number is the least that the channel gives at all, such as the 0 of a
        ReLU, doesn't excite it.
        """
        whole("channel", channel, least=0)
        whole("number", number, least=1)
        if channel >= self.values.shape[1]:
            raise ValueError(f"channel must be at most {self.values.shape[1] - 1}, the last one, got {channel}")
        values, order = self.values[:, channel].sort(descending=True, stable=True)
        best = order[:number][values[:number] > self.lowest[channel]].tolist()
        return tuple(
            Peak(i, float(self.values[i, channel]), *divmod(int(self.places[i, channel]), self.width)) for i in best
        )


def excitations(net: nn.Module, tap: Tap, batches: Iterable[Tensor]) -> Excitations:
    """The largest number of each channel at `tap` for each image in `batches` of (n, C, H, W), in one pass.

    Memory: a batch's maps, and 12 bytes an image and channel. Raises ValueError for no images, or what the network
    can't take.
    """
    check_numbers(net)
    values, places, lowest = [], [], []
    for images in batches:
        maps = maps_of(net, tap, images).flatten(2)  # (n, channels, height · width)
        largest, place = maps.max(dim=2)
        values.append(largest.cpu())
        places.append(place.cpu())
        lowest.append(maps.amin(dim=(0, 2)).cpu())
    if not values:
        raise ValueError("batches must hold at least one image to search, got none")
    return Excitations(torch.cat(values), torch.cat(places), torch.stack(lowest).amin(dim=0), tap.shape[2])


def images_to_search(layer: ConvLayer, device: torch.device | str) -> int:
    """How many images are searched in a second or two on `device`: 2,000, or fewer where `layer` is dear."""
    macs = MACS_ON_A_CPU if torch.device(device).type == "cpu" else MACS_ON_A_GPU
    return max(LEAST_IMAGES, min(MOST_IMAGES, int(macs / max(layer.macs, 1))))


def parts_of(number: int, size: int) -> Iterator[slice]:
    """Slices of `size`, the last one maybe shorter, that make up `number`."""
    return (slice(start, min(start + size, number)) for start in range(0, number, size))


def batch_size(layer: ConvLayer) -> int:
    """Images that go through at a time, up to `layer`, without taking much memory."""
    return max(1, min(128, int(BATCH_BYTES / layer.largest_output)))


# --- a filter ---------------------------------------------------------------------------------------------------------


def strongest_slices(kernel: Tensor, number: int) -> list[int]:
    """Which of a kernel's slices (channels in, k, k) have the largest weights, by the root of their squares' sum, the
    strongest first."""
    return kernel.flatten(1).norm(dim=1).sort(descending=True, stable=True).indices[:number].tolist()


def input_channels(conv: nn.Conv2d, channel: int) -> range:
    """The channels that output `channel` of a convolution sees: all, or those of its group."""
    size = conv.in_channels // conv.groups
    group = channel // (conv.out_channels // conv.groups)
    return range(group * size, (group + 1) * size)
