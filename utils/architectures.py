"""A convolutional network as plain data: blocks of convolutions, then a head.

`Architecture` is a frozen dataclass. Widgets edit one, the VGG table is six of them, a sweep is a list of them,
and results are filed under their digest. Nothing here needs torch: `utils.models.build` turns one into a network.

An architecture that cannot be built is refused when it is made, with a `ValueError` that names the field, what it
got and what would work.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import groupby
from typing import Any

from utils.checks import changed, is_number, one_of, share, truth, tuple_of, whole

NORMS = ("none", "batch", "lrn")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "identity")
INITS = ("default", "he", "xavier", "normal")
POOLS = ("max", "avg")


class DoesNotFit(ValueError):
    """An architecture's layers don't fit together.

    The message is for who writes code. For who turns knobs: `why`, in words without fields; `block`, the number (from
    0) of the block where it shows, None for the head.
    """

    def __init__(self, message: str, *, why: str, block: int | None) -> None:
        super().__init__(message)
        self.why = why
        self.block = block


# --- the parts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    """One convolution, with what follows it.

    padding="same" keeps the image's size (an odd kernel and stride 1 are needed) and is stored as the number it
    stands for. `norm` and `activation` default to the architecture's; naming one here overrides it for this layer,
    as A-LRN does for its first convolution. groups=2 splits the channels as the two GPUs of AlexNet's paper did.
    """

    out_channels: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | str = "same"
    groups: int = 1
    norm: str | None = None
    activation: str | None = None

    def __post_init__(self) -> None:
        for name in ("out_channels", "kernel_size", "stride", "groups"):
            whole(name, getattr(self, name), least=1)
        if self.padding == "same":
            if self.kernel_size % 2 == 0 or self.stride != 1:
                raise ValueError(
                    f"padding='same' needs an odd kernel_size and stride 1, got kernel_size={self.kernel_size} and "
                    f"stride={self.stride}: take an odd kernel such as {self.kernel_size | 1} with stride 1, or give "
                    f"padding as a number"
                )
            object.__setattr__(self, "padding", self.kernel_size // 2)
        if isinstance(self.padding, str):
            raise ValueError(f"padding must be 'same' or a whole number of at least 0, got {self.padding!r}")
        whole("padding", self.padding, least=0)
        if self.out_channels % self.groups:
            raise ValueError(f"groups must divide out_channels={self.out_channels}, got {self.groups}")
        if self.norm is not None:
            one_of("norm", self.norm, NORMS)
        if self.activation is not None:
            one_of("activation", self.activation, ACTIVATIONS)

    def size_after(self, size: int) -> int:
        """Side of the output for an image of `size` pixels a side: ⌊(size + 2·padding − kernel) / stride⌋ + 1."""
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1


@dataclass(frozen=True)
class Pool:
    """Max- or average-pooling. The default, 2×2 with stride 2, halves the image, as VGG does."""

    kind: str = "max"
    kernel_size: int = 2
    stride: int = 2

    def __post_init__(self) -> None:
        one_of("kind", self.kind, POOLS)
        whole("kernel_size", self.kernel_size, least=1)
        whole("stride", self.stride, least=1)

    def size_after(self, size: int) -> int:
        """Side of the output for an image of `size` pixels a side: ⌊(size − kernel) / stride⌋ + 1."""
        return (size - self.kernel_size) // self.stride + 1


@dataclass(frozen=True)
class Block:
    """Convolutions, one after the other, then (maybe) pooling: VGG's repeated part."""

    convs: tuple[Conv, ...]
    pool: Pool | None = Pool()

    def __post_init__(self) -> None:
        object.__setattr__(self, "convs", tuple_of("convs", self.convs, Conv))
        if not self.convs:
            raise ValueError("convs must hold at least one Conv, got none")
        if self.pool is not None and not isinstance(self.pool, Pool):
            raise ValueError(f"pool must be a Pool or None, got {self.pool!r}")


@dataclass(frozen=True)
class Head:
    """What turns the last feature map into class scores.

    Adaptive average pooling to `pool_size` × `pool_size` (None: none), flatten, the `hidden` dense layers, and the
    dense layer that gives the scores. `Head(hidden=(), pool_size=1)` is global average pooling. Dropout goes with
    each hidden layer: after it, or (dropout_first) before it, as torchvision's AlexNet has it.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    dropout_first: bool = False
    pool_size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple_of("hidden", self.hidden))
        for i, width in enumerate(self.hidden):
            whole(f"hidden[{i}]", width, least=1)
        share("dropout", self.dropout)
        object.__setattr__(self, "dropout", float(self.dropout))  # 0 and 0.0 are one digest
        truth("dropout_first", self.dropout_first)
        if self.pool_size is not None:
            whole("pool_size", self.pool_size, least=1)


# --- the whole ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """A convolutional network: `blocks` of convolutions on a square image, then a `head` of dense layers.

    norm        "none"; "batch": batch norm between convolution and activation; "lrn": AlexNet's local response
                normalisation after the activation
    activation  after every convolution and every hidden dense layer
    init        "default": torch's own; "he": N(0, 2/fan_in), for ReLU (and N(0, 1/fan_in) in the last layer); "xavier":
                Glorot's uniform; "normal": N(0, init_std²). All but the default set biases to 0.
    """

    blocks: tuple[Block, ...]
    head: Head = Head()
    norm: str = "none"
    activation: str = "relu"
    init: str = "default"
    init_std: float | None = None
    in_channels: int = 1
    image_size: int = 28
    num_classes: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple_of("blocks", self.blocks, Block))
        if not self.blocks:
            raise ValueError("blocks must hold at least one Block, got none")
        if not isinstance(self.head, Head):
            raise ValueError(f"head must be a Head, got {self.head!r}")
        one_of("norm", self.norm, NORMS)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("init", self.init, INITS)
        for name in ("in_channels", "image_size", "num_classes"):
            whole(name, getattr(self, name), least=1)
        self._check_init_std()
        self._check_groups()
        self._check_shapes()

    def _check_init_std(self) -> None:
        if self.init != "normal":
            if self.init_std is not None:
                raise ValueError(f"init_std goes with init='normal' alone, got {self.init_std!r} with {self.init!r}")
        elif not is_number(self.init_std) or self.init_std <= 0:
            raise ValueError(f"init_std must be a number above 0 for init='normal', got {self.init_std!r}")
        else:
            object.__setattr__(self, "init_std", float(self.init_std))

    def _check_groups(self) -> None:
        channels = self.in_channels
        for b, block in enumerate(self.blocks):
            for c, conv in enumerate(block.convs):
                if channels % conv.groups:
                    come_in = "one channel that comes in" if channels == 1 else f"{channels} channels that come in"
                    raise DoesNotFit(
                        f"blocks[{b}].convs[{c}].groups must divide the {come_in}, got {conv.groups}",
                        why=f"its {conv.groups} groups can't share the {come_in}",
                        block=b,
                    )
                channels = conv.out_channels

    def _check_shapes(self) -> None:
        size = self.image_size
        pooled = 0
        for b, block in enumerate(self.blocks):
            for c, conv in enumerate(block.convs):
                after = conv.size_after(size)
                if after < 1:
                    left = (
                        f"only {size}×{size} pixels (with padding {conv.padding}) are left of the "
                        f"{self.image_size}×{self.image_size} image"
                    )
                    raise DoesNotFit(
                        f"blocks[{b}].convs[{c}].kernel_size is {conv.kernel_size}, but {left}: take a smaller kernel, "
                        f"more padding or a larger image_size",
                        why=f"its kernel is {conv.kernel_size}×{conv.kernel_size}, but {left}",
                        block=b,
                    )
                size = after
            if block.pool is not None:
                after = block.pool.size_after(size)
                if after < 1:
                    why = (
                        f"only {size}×{size} of the {self.image_size}×{self.image_size} image is left to pool over "
                        f"{block.pool.kernel_size}×{block.pool.kernel_size}"
                    )
                    raise DoesNotFit(
                        f"blocks[{b}].pool: {why}: take at most {pooled} pooled block{'s' * (pooled != 1)}, pool=None "
                        f"here, or a larger image_size",
                        why=why,
                        block=b,
                    )
                size = after
                pooled += 1
        if self.head.pool_size is not None and self.head.pool_size > size:
            raise DoesNotFit(
                f"head.pool_size is {self.head.pool_size}, but the last feature map is only {size}×{size}: take "
                f"pool_size={size} or less, fewer pooled blocks, or a larger image_size than {self.image_size}",
                why=(
                    f"it averages the last maps to {self.head.pool_size}×{self.head.pool_size}, and they are only "
                    f"{size}×{size}"
                ),
                block=None,
            )

    # --- what follows from the fields ---------------------------------------------------------------------------------

    @property
    def convs(self) -> tuple[Conv, ...]:
        """All convolutions, in order."""
        return tuple(conv for block in self.blocks for conv in block.convs)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the last feature map, before the head."""
        size = self.image_size
        for block in self.blocks:
            for conv in block.convs:
                size = conv.size_after(size)
            if block.pool is not None:
                size = block.pool.size_after(size)
        return self.convs[-1].out_channels, size, size

    @property
    def head_in_features(self) -> int:
        """How many numbers the first dense layer gets: the `512 * 7 * 7` of VGG."""
        channels, size, _ = self.feature_shape
        return channels * (self.head.pool_size or size) ** 2

    @property
    def weight_layers(self) -> int:
        """Convolutions and dense layers: the 11 … 19 of VGG's names."""
        return len(self.convs) + len(self.head.hidden) + 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.in_channels, self.image_size, self.image_size

    @property
    def label(self) -> str:
        """A short readable name: the preset's if this is one, else made from the fields."""
        preset = _nearest_preset(self)
        return ", ".join([preset.name, *_differences(self, preset.architecture)]) if preset else _describe(self)

    @property
    def family(self) -> str:
        """`LeNet`, `AlexNet` or `VGG` for the presets and for what is made like a VGG; `other` for the rest."""
        preset = _nearest_preset(self)
        return preset.family if preset else "VGG" if _is_vgg_like(self) else "other"

    def change(self, **changes: Any) -> Architecture:
        """A copy with some fields changed: `VGG["A"].change(norm="batch", num_classes=10)`."""
        if "init" in changes and "init_std" not in changes and changes["init"] != "normal":
            changes["init_std"] = None
        return changed(self, changes)

    def scaled(self, factor: float) -> Architecture:
        """A copy with every layer's width (but the classes) multiplied by `factor`: `VGG["A"].scaled(1 / 8)`."""
        if not is_number(factor) or factor <= 0:
            raise ValueError(f"factor must be a number above 0, got {factor!r}")

        def width(channels: int, multiple_of: int = 1) -> int:
            return max(1, round(channels * factor / multiple_of)) * multiple_of

        # A layer's channels are split by its own groups, then by those of the layer that they go into.
        groups = [conv.groups for conv in self.convs]
        multiples = iter(map(math.lcm, groups, [*groups[1:], 1]))
        blocks = tuple(
            replace(b, convs=tuple(replace(c, out_channels=width(c.out_channels, next(multiples))) for c in b.convs))
            for b in self.blocks
        )
        return replace(self, blocks=blocks, head=replace(self.head, hidden=tuple(map(width, self.head.hidden))))

    # --- JSON and digest ----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain dicts, lists, strings and numbers."""
        return _plain(self)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, defaults left out (so that a new field changes no old digest)."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_dict(cls, data: Any) -> Architecture:
        """The architecture that `to_dict` describes; ValueError names what doesn't fit."""
        return _revive(cls, data, "architecture")

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """The architecture that `to_json` wrote; ValueError names what doesn't fit."""
        try:
            data = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            found = repr(text)[:60]
            raise ValueError(f"architecture must be JSON as to_json() writes it, got {found}: {error}") from None
        return cls.from_dict(data)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits: equal for equal architectures, on every machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _default(f: Any) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (Architecture, Block, Conv, Pool, Head)):
        kept = ((f.name, getattr(value, f.name), _default(f)) for f in fields(value))
        # Conv's padding is stored as a number: it is left out where it is what "same" would give.
        return {
            name: _plain(v)
            for name, v, default in kept
            if v != default and not (isinstance(value, Conv) and name == "padding" and _is_same_padding(value))
        }
    return value


def _is_same_padding(conv: Conv) -> bool:
    return conv.kernel_size % 2 == 1 and conv.stride == 1 and conv.padding == conv.kernel_size // 2


def _revive(kind: type, data: Any, where: str) -> Any:
    """A `kind` from its dict, its parts first; errors say where in the JSON the fault is."""
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object with the fields of {kind.__name__}, got {data!r}")
    known = {f.name: f for f in fields(kind)}
    for name in data:
        if name not in known:
            raise ValueError(f"{where}.{name} is not a field of {kind.__name__}: it has {', '.join(known)}")
    for name, f in known.items():
        if name not in data and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}.{name} is missing: {kind.__name__} needs it, got {data!r}")
    values = dict(data)
    for name, part in (("blocks", Block), ("convs", Conv)):
        if name in values and name in known:
            items = tuple_of(f"{where}.{name}", values[name])
            values[name] = tuple(_revive(part, item, f"{where}.{name}[{i}]") for i, item in enumerate(items))
    for name, part in (("head", Head), ("pool", Pool)):
        if name in values and name in known and not (part is Pool and values[name] is None):
            values[name] = _revive(part, values[name], f"{where}.{name}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


# --- the shorthand --------------------------------------------------------------------------------------------------


def vgg_like(
    num_convs: Sequence[int],
    channels: Sequence[int],
    *,
    kernel_size: int | Sequence[int] = 3,
    head: Head | None = None,
    **others: Any,
) -> Architecture:
    """A network made as VGG is: in block i, `num_convs[i]` convolutions with `channels[i]` channels, then 2×2 pooling.

    kernel_size is one for all blocks or one a block; `others` are Architecture's fields. The head is one hidden dense
    layer of 128 unless you give another. Raises ValueError if the sequences differ in length or nothing can be built.
    """
    num_convs, channels = tuple_of("num_convs", num_convs), tuple_of("channels", channels)
    one_a_block = isinstance(kernel_size, Sequence) and not isinstance(kernel_size, str)
    kernels = tuple(kernel_size) if one_a_block else (kernel_size,) * len(num_convs)
    if not len(num_convs) == len(channels) == len(kernels):
        raise ValueError(
            f"num_convs, channels and kernel_size need one entry a block, got {len(num_convs)}, {len(channels)} and "
            f"{len(kernels)} of them"
        )
    for i, (n, c) in enumerate(zip(num_convs, channels, strict=True)):
        whole(f"num_convs[{i}]", n, least=1)
        whole(f"channels[{i}]", c, least=1)
    blocks = tuple(Block((Conv(c, k),) * n) for n, c, k in zip(num_convs, channels, kernels, strict=True))
    return Architecture(blocks, Head(hidden=(128,)) if head is None else head, **{"init": "he", **others})


# --- the presets ----------------------------------------------------------------------------------------------------

# LeNet as the book has it (d2l, section 7.6): LeCun et al. 1998 with a dense C3, average pooling, sigmoid.
# 61,706 parameters.
LENET_BOOK = Architecture(
    blocks=(
        Block((Conv(6, 5, padding=2),), Pool("avg")),
        Block((Conv(16, 5, padding=0),), Pool("avg")),
    ),
    head=Head(hidden=(120, 84)),
    activation="sigmoid",
    init="xavier",
)

# The same layers as one would build them today: ReLU, max-pooling, He initialisation.
LENET = Architecture(
    blocks=(Block((Conv(6, 5, padding=2),)), Block((Conv(16, 5, padding=0),))),
    head=Head(hidden=(120, 84)),
    init="he",
)

# torchvision's AlexNet: Krizhevsky, "One weird trick" (arXiv 1404.5997), 64 channels first. 61,100,840 parameters.
ALEXNET = Architecture(
    blocks=(
        Block((Conv(64, 11, stride=4, padding=2),), Pool("max", 3, 2)),
        Block((Conv(192, 5),), Pool("max", 3, 2)),
        Block((Conv(384), Conv(256), Conv(256)), Pool("max", 3, 2)),
    ),
    head=Head(hidden=(4096, 4096), dropout=0.5, dropout_first=True, pool_size=6),
    in_channels=3,
    image_size=224,
    num_classes=1000,
)

# AlexNet's plan for an image of 28 to 32 pixels: a 5×5 with stride 2 stands for the 11×11 with stride 4 on 224 pixels.
ALEXNET_SMALL = Architecture(
    blocks=(
        Block((Conv(24, 5, stride=2, padding=2),), Pool("max", 3, 2)),
        Block((Conv(64, 5),), Pool("max", 3, 2)),
        Block((Conv(96), Conv(96), Conv(96)), pool=None),
    ),
    head=Head(hidden=(256, 256), dropout=0.5, dropout_first=True, pool_size=2),
    init="he",
)


def _paper_vgg(num_convs: Sequence[int]) -> Architecture:
    """A network of VGG's Table 1 in which every convolution is 3×3."""
    return vgg_like(
        num_convs,
        (64, 128, 256, 512, 512),
        head=Head(hidden=(4096, 4096), dropout=0.5, pool_size=7),
        in_channels=3,
        image_size=224,
        num_classes=1000,
    )


def _with_conv(architecture: Architecture, block: int, index: int, conv: Conv) -> Architecture:
    """A copy in which convolution `index` of `block` is another one."""
    blocks, convs = list(architecture.blocks), list(architecture.blocks[block].convs)
    convs[index] = conv
    blocks[block] = replace(blocks[block], convs=tuple(convs))
    return architecture.change(blocks=tuple(blocks))


def _vgg_c() -> Architecture:
    """D with the last convolution of blocks 3, 4 and 5 made 1×1."""
    architecture = _paper_vgg((2, 2, 3, 3, 3))
    for block in (2, 3, 4):
        width = architecture.blocks[block].convs[-1].out_channels
        architecture = _with_conv(architecture, block, 2, Conv(width, kernel_size=1))
    return architecture


class Named(dict[str, Architecture]):
    """Architectures by name; who asks for one that isn't there is told those that are."""

    def __missing__(self, name: object) -> Architecture:
        raise KeyError(f"there is no {name!r} here: take one of {', '.join(map(repr, self))}")


# Simonyan & Zisserman, arXiv 1409.1556v6, Table 1. Initialised by He's rule; the paper drew from N(0, 0.1²) at first.
VGG = Named(
    {
        "A": _paper_vgg((1, 1, 2, 2, 2)),
        "A-LRN": _with_conv(_paper_vgg((1, 1, 2, 2, 2)), 0, 0, Conv(64, norm="lrn")),
        "B": _paper_vgg((2, 2, 2, 2, 2)),
        "C": _vgg_c(),
        "D": _paper_vgg((2, 2, 3, 3, 3)),
        "E": _paper_vgg((2, 2, 4, 4, 4)),
    }
)

# VGGs for Fashion-MNIST: they train in a minute on two cores.
VGG_SMALL = Named(
    {
        "VGG (1,1)": vgg_like((1, 1), (16, 32)),
        "VGG (1,1,1)": vgg_like((1, 1, 1), (16, 32, 64)),
        "VGG (2,2)": vgg_like((2, 2), (16, 32)),
        "VGG (2,2,2) + BN": vgg_like((2, 2, 2), (16, 32, 64), norm="batch"),
        "VGG-11 ⅛ + BN": vgg_like(
            (1, 1, 2, 2, 2), (8, 16, 32, 64, 64), head=Head(hidden=(128, 128)), norm="batch", image_size=32
        ),
    }
)


@dataclass(frozen=True)
class Preset:
    """A named architecture and the family that it is drawn with."""

    name: str
    family: str
    architecture: Architecture


PRESETS: tuple[Preset, ...] = (
    Preset("LeNet (book)", "LeNet", LENET_BOOK),
    Preset("LeNet", "LeNet", LENET),
    Preset("AlexNet", "AlexNet", ALEXNET),
    Preset("AlexNet small", "AlexNet", ALEXNET_SMALL),
    *(Preset(f"VGG-{a.weight_layers} ({name})", "VGG", a) for name, a in VGG.items()),
    *(Preset(name, "VGG", a) for name, a in VGG_SMALL.items()),
)


# What a label made from the fields doesn't mention: these fields, but for the blocks and the head.
PLAIN = Architecture((Block((Conv(1),)),), init="he")


# --- labels ---------------------------------------------------------------------------------------------------------


def _nearest_preset(architecture: Architecture) -> Preset | None:
    """The preset with the same blocks and head, if there is one, with as few other differences as can be."""
    blocks, head = architecture.blocks, architecture.head
    same = [p for p in PRESETS if p.architecture.blocks == blocks and p.architecture.head == head]
    return min(same, key=lambda p: len(_differences(architecture, p.architecture)), default=None)


def _differences(architecture: Architecture, other: Architecture) -> list[str]:
    """In words, how an architecture differs from another one, but for the blocks and the head."""
    words = {
        "norm": {"none": "no norm", "batch": "BN", "lrn": "LRN"}.get(architecture.norm),
        "activation": architecture.activation,
        "init": f"init {architecture.init}",
        "init_std": f"std {architecture.init_std}",
        "in_channels": f"{architecture.in_channels} channel{'s' * (architecture.in_channels != 1)} in",
        "image_size": f"{architecture.image_size}²",
        "num_classes": f"{architecture.num_classes} class{'es' * (architecture.num_classes != 1)}",
    }
    differ = [word for name, word in words.items() if getattr(architecture, name) != getattr(other, name)]
    return [word for word in differ if word != "std None"]


def _is_vgg_like(architecture: Architecture) -> bool:
    """Is each block convolutions of one width that keep the image's size, then the pooling that halves it?"""
    return all(
        len({conv.out_channels for conv in block.convs}) == 1
        and all(_is_same_padding(conv) and conv.groups == 1 for conv in block.convs)
        and block.pool == Pool()
        for block in architecture.blocks
    )


def _fits_shorthand(architecture: Architecture) -> bool:
    """Could `vgg_like` have made the blocks? VGG's C and A-LRN it could not: their layers differ within a block."""
    return _is_vgg_like(architecture) and all(
        set(block.convs) == {Conv(block.convs[0].out_channels, block.convs[0].kernel_size)}
        for block in architecture.blocks
    )


def _describe_conv(conv: Conv) -> str:
    kernel = f"k{conv.kernel_size}" if conv.kernel_size != 3 else ""
    stride = f"s{conv.stride}" if conv.stride != 1 else ""
    padding = f"p{conv.padding}" if conv.padding != conv.kernel_size // 2 else ""
    groups = f"g{conv.groups}" if conv.groups != 1 else ""
    own = "".join(f"+{word}" for word in (conv.norm, conv.activation) if word)
    return f"{conv.out_channels}{kernel}{stride}{padding}{groups}{own}"


MANY = 4  # convolutions alike, from which on their number is said


def _describe_block(block: Block) -> str:
    words = []
    for conv, alike in groupby(map(_describe_conv, block.convs)):
        number = len(list(alike))
        words += [f"{number}×{conv}"] if number >= MANY else [conv] * number
    if block.pool is None:
        words.append("unpooled")
    elif block.pool != Pool():
        kernel, stride = block.pool.kernel_size, block.pool.stride
        words.append(block.pool.kind + (f"{kernel}s{stride}" if (kernel, stride) != (2, 2) else ""))
    return " ".join(words)


def _describe_pooling(architecture: Architecture) -> str:
    """The head's average pooling, where it does anything."""
    pool_size = architecture.head.pool_size
    if pool_size in (None, architecture.feature_shape[1]):
        return ""
    return "pooled" if pool_size == 1 else f"pooled {pool_size}²"


def _describe(architecture: Architecture) -> str:
    """A label made from the fields: `VGG (2,2) 8-16 k5, BN`, or layer by layer `32k5s2 max3s2 | 64 64 → 256-10`."""
    blocks, head = architecture.blocks, architecture.head
    pooling = _describe_pooling(architecture)
    if _fits_shorthand(architecture):
        kernels = [block.convs[0].kernel_size for block in blocks]
        num_convs = ",".join(str(len(block.convs)) for block in blocks)
        label = f"VGG ({num_convs}) {'-'.join(str(block.convs[0].out_channels) for block in blocks)}"
        if set(kernels) != {3}:
            label += " k" + ("-".join(map(str, kernels)) if len(set(kernels)) > 1 else str(kernels[0]))
        dense = "-".join(map(str, head.hidden)) if head.hidden != (128,) or pooling else ""
        if not head.hidden and not pooling:
            dense = "no hidden"
    else:
        label = " | ".join(map(_describe_block, blocks))
        dense = "-".join(map(str, (*head.hidden, architecture.num_classes)))
    if pooling or dense:
        label += f" → {' '.join(filter(None, (pooling, dense)))}"
    if head.dropout:
        label += f", dropout {head.dropout:g}" + " first" * head.dropout_first
    return ", ".join([label, *_differences(architecture, PLAIN)])
