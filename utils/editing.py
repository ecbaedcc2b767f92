"""Changing a network's blocks, one thing at a time: how many there are, their convolutions, channels, kernels.

Each function takes the blocks and gives changed ones. They need not fit together, as `Architecture` wants it: whoever
turns several knobs passes through networks that can't be built. `Architecture(blocks=…)` says whether they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from utils.architectures import Block, Conv, Pool
from utils.checks import some_of, whole

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
