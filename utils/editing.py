"""Changing a network's blocks, one thing at a time: how many there are, their convolutions, channels, kernels.

Each function takes the blocks and gives changed ones. They need not fit together, as `Architecture` wants it: whoever
turns several knobs passes through networks that can't be built. `Architecture(blocks=…)` says whether they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from utils.architectures import Architecture, Block, Conv, Head, Pool
from utils.checks import some_of, whole
from utils.words import counted, listed

Blocks: TypeAlias = "tuple[Block, ...]"
MOST_CHANNELS = 512  # to which a further block doubles: VGG's Table 1 goes no further


def with_num_blocks(blocks: Sequence[Block], number: int) -> Blocks:
    """The first `number` blocks; further ones are like the last, with twice its channels, up to VGG's 512."""
    blocks = _checked(blocks)
    whole("number", number, least=1)
    while len(blocks) < number:
        last = blocks[-1]
        own = _widest(last)
        wider = max(own, min(2 * own, MOST_CHANNELS))
        further = with_channels((replace(last, convs=tuple(map(_without_stride, last.convs))),), 0, wider)
        blocks = (*blocks, *further)
    return blocks[:number]


def with_num_convs(blocks: Sequence[Block], block: int, number: int) -> Blocks:
    """Block `block` (from 0) with its first `number` convolutions; further ones are like its last."""
    whole("number", number, least=1)

    def change(old: Block) -> Block:
        further = (_without_stride(old.convs[-1]),) * (number - len(old.convs))
        return replace(old, convs=(*old.convs, *further)[:number])

    return _with(blocks, block, change)


def with_channels(blocks: Sequence[Block], block: int, channels: int) -> Blocks:
    """All convolutions of block `block` with `channels` channels out; groups that don't divide them become one."""
    whole("channels", channels, least=1)

    def change(conv: Conv) -> Conv:
        groups = conv.groups if channels % conv.groups == 0 else 1
        return replace(conv, out_channels=channels, groups=groups)

    return _with_convs(blocks, block, change)


def with_kernel_size(blocks: Sequence[Block], block: int, kernel_size: int) -> Blocks:
    """All convolutions of block `block` with this kernel. What had padding is padded by half the kernel, so that an odd
    one with stride 1 keeps the size; what had none has none."""
    whole("kernel_size", kernel_size, least=1)

    def change(conv: Conv) -> Conv:
        is_padded = conv.padding > 0 or conv.kernel_size == 1
        return replace(conv, kernel_size=kernel_size, padding=kernel_size // 2 if is_padded else 0)

    return _with_convs(blocks, block, change)


def with_pooling(blocks: Sequence[Block], block: int, pooled: bool) -> Blocks:
    """Block `block` with its pooling layer, VGG's 2×2 if it had none; or without."""
    return _with(blocks, block, lambda old: replace(old, pool=(old.pool or Pool()) if pooled else None))


def kernel_size_of(block: Block) -> int:
    """The largest kernel in the block."""
    return max(conv.kernel_size for conv in block.convs)


def channels_of(block: Block) -> int:
    """The most channels that a convolution of the block gives."""
    return _widest(block)


def _widest(block: Block) -> int:
    return max(conv.out_channels for conv in block.convs)


def _without_stride(conv: Conv) -> Conv:
    """The same, keeping the image's size: a second convolution with stride 4 is never meant."""
    if conv.kernel_size % 2 == 0:
        return replace(conv, stride=1)
    return replace(conv, stride=1, padding="same")


def _with_convs(blocks: Sequence[Block], block: int, change: Callable[[Conv], Conv]) -> Blocks:
    return _with(blocks, block, lambda old: replace(old, convs=tuple(map(change, old.convs))))


def _with(blocks: Sequence[Block], block: int, change: Callable[[Block], Block]) -> Blocks:
    blocks = _checked(blocks)
    whole("block", block, least=0)
    if block >= len(blocks):
        raise ValueError(f"block must be a block's number, from 0 to {len(blocks) - 1}, got {block}")
    return (*blocks[:block], change(blocks[block]), *blocks[block + 1 :])


def _checked(blocks: Sequence[Block]) -> Blocks:
    return some_of("blocks", blocks, "Block((Conv(16),))", Block)


# --- what can't be built, and what would help -------------------------------------------------------------------------

LARGER = (32, 48, 64, 96, 128, 224)  # image sizes that are offered


def for_fashion_mnist(architecture: Architecture, fraction: float = 1 / 8) -> Architecture:
    """A network of VGG's Table 1 with a fraction of its channels, for 32×32 grey images and ten classes."""
    head = Head(hidden=(128, 128))
    small = architecture.change(head=head, in_channels=1, image_size=32, num_classes=10)
    return small.scaled(fraction).change(head=head)


@dataclass(frozen=True)
class Fix:
    """A change after which the network can be built: what it is, in words, and the fields that it changes."""

    words: str
    changes: Mapping[str, Any]


def fixes_for(fields: Mapping[str, Any], most: int = 3) -> list[Fix]:
    """What would make `Architecture(**fields)`, which can't be built, one that can: at most `most` ways, each tried."""
    blocks, head, size = fields["blocks"], fields["head"], fields["image_size"]
    kinds = (  # of each the first that helps, which changes the least
        [Fix(f"take {counted(n, 'block')}", {"blocks": blocks[:n]}) for n in reversed(range(1, len(blocks)))],
        [Fix(f"take {larger}×{larger} images", {"image_size": larger}) for larger in LARGER if larger > size],
        [*_without_last_poolings(blocks)],
        [Fix("average the last maps to one pixel", {"head": replace(head, pool_size=1)})],
        [*_with_averaging_head(blocks, head)],
    )
    found = (next((fix for fix in kind if _can_be_built({**fields, **fix.changes})), None) for kind in kinds)
    return [fix for fix in found if fix is not None][:most]


def _can_be_built(fields: Mapping[str, Any]) -> bool:
    try:
        Architecture(**fields)
    except ValueError:
        return False
    return True


def _with_averaging_head(blocks: Blocks, head: Head) -> Iterator[Fix]:
    """With fewer blocks, and a head that takes maps of any size, where it asked for a size that may be too large."""
    averaging = replace(head, pool_size=1)
    for number in reversed(range(1, len(blocks))) if (head.pool_size or 1) > 1 else ():
        words = f"take {counted(number, 'block')} and average the last maps to one pixel"
        yield Fix(words, {"blocks": blocks[:number], "head": averaging})


def _without_last_poolings(blocks: Blocks) -> Iterator[Fix]:
    """Without the pooling of the last block that has one, of the last two, …"""
    pooled = [i for i, block in enumerate(blocks) if block.pool is not None]
    for left in reversed(range(len(pooled))):
        dropped = pooled[left:]
        changed = tuple(replace(b, pool=None) if i in dropped else b for i, b in enumerate(blocks))
        names = listed([f"{i + 1}" for i in dropped])
        yield Fix(f"pool no more in block{'s' * (len(dropped) > 1)} {names}", {"blocks": changed})
