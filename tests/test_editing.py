"""Blocks are changed one thing at a time; and what is offered for a network that can't be built can be."""

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.architectures import ALEXNET, ALEXNET_SMALL, LENET, VGG, Architecture, Block, Conv, DoesNotFit, Head, Pool
from utils.catalog import FAMILY
from utils.editing import (
    channels_of,
    fixes_for,
    for_fashion_mnist,
    kernel_size_of,
    with_channels,
    with_kernel_size,
    with_num_blocks,
    with_num_convs,
    with_pooling,
)


def as_fields(architecture, **changes):
    return {f.name: getattr(architecture, f.name) for f in fields(Architecture)} | changes


def test_vgg_a_becomes_b_by_a_convolution_more_in_its_first_blocks():
    assert with_num_convs(with_num_convs(VGG["A"].blocks, 0, 2), 1, 2) == VGG["B"].blocks


def test_vgg_c_becomes_d_by_one_kernel_for_each_of_its_blocks():
    blocks = VGG["C"].blocks
    for block in range(5):
        blocks = with_kernel_size(blocks, block, 3)
    assert blocks == VGG["D"].blocks


def test_further_blocks_double_the_channels_up_to_512_as_vggs_do():
    first_three = VGG["B"].blocks[:3]
    more = with_num_blocks(first_three, 6)
    assert [channels_of(block) for block in more] == [64, 128, 256, 512, 512, 512]
    assert with_num_blocks(more, 3) == first_three
    assert all(len(block.convs) == 2 for block in more)


def test_a_block_wider_than_vggs_is_repeated_as_it_is():
    assert channels_of(with_num_blocks((Block((Conv(700),)),), 2)[1]) == 700


def test_alexnets_stride_stays_in_its_first_convolution():
    more = with_num_convs(ALEXNET.blocks, 0, 3)[0]
    assert [conv.stride for conv in more.convs] == [4, 1, 1]
    assert [conv.size_after(55) for conv in more.convs[1:]] == [55, 55]
    assert all(conv.stride == 1 for conv in with_num_blocks(ALEXNET.blocks[:1], 2)[1].convs)


def test_a_convolution_that_is_added_keeps_the_images_size_also_where_the_one_before_doesnt():
    added = with_num_convs(LENET.blocks, 1, 2)[1].convs
    assert added[0].size_after(14) == 10 and added[1].size_after(10) == 10


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9, 11, 13])
def test_a_kernel_with_padding_keeps_the_size_and_one_without_has_none(kernel_size):
    same, valid = with_kernel_size(LENET.blocks, 0, kernel_size)[0], with_kernel_size(LENET.blocks, 1, kernel_size)[1]
    assert same.convs[0].size_after(28) == 28
    assert valid.convs[0].padding == 0 or LENET.blocks[1].convs[0].kernel_size == 1
    assert kernel_size_of(same) == kernel_size_of(valid) == kernel_size


def test_a_1x1_becomes_a_3x3_that_keeps_the_size():
    (block,) = with_kernel_size((Block((Conv(4, 1),)),), 0, 3)
    assert block.convs[0].size_after(9) == 9


def test_channels_that_groups_dont_divide_drop_the_groups():
    (block,) = with_channels((Block((Conv(6, groups=2), Conv(6, groups=3))),), 0, 4)
    assert [(conv.out_channels, conv.groups) for conv in block.convs] == [(4, 2), (4, 1)]


def test_pooling_comes_and_goes_and_overlapping_pooling_stays_what_it_is():
    blocks = with_pooling(ALEXNET_SMALL.blocks, 2, True)
    assert blocks[2].pool == Pool()
    assert with_pooling(blocks, 0, True)[0].pool == ALEXNET_SMALL.blocks[0].pool
    assert with_pooling(blocks, 0, False)[0].pool is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda blocks: with_num_blocks(blocks, 0),
        lambda blocks: with_num_convs(blocks, 0, 0),
        lambda blocks: with_channels(blocks, 0, 0),
        lambda blocks: with_kernel_size(blocks, 0, 2.5),
        lambda blocks: with_num_convs(blocks, 9, 1),
        lambda blocks: with_pooling(blocks, -1, True),
        lambda blocks: with_num_convs([], 0, 1),
        lambda blocks: with_num_convs("blocks", 0, 1),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_names(edit):
    with pytest.raises(ValueError, match=r"(number|channels|kernel_size|block|blocks) must be"):
        edit(VGG["A"].blocks)


def test_the_small_vggs_are_those_of_the_experiments():
    assert [for_fashion_mnist(VGG[name]).change(norm="batch") for name in "ABCDE"] == list(FAMILY.architectures)
    assert channels_of(for_fashion_mnist(VGG["A"], 1 / 4).blocks[0]) == 16


# --- what can't be built ----------------------------------------------------------------------------------------------


def test_a_network_too_deep_for_its_image_says_where_and_why_without_a_field():
    with pytest.raises(DoesNotFit) as caught:
        VGG["A"].change(image_size=28)
    assert caught.value.block == 4
    assert caught.value.why == "only 1×1 of the 28×28 image is left to pool over 2×2"
    assert "blocks[4].pool" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "block", "why"),
    [
        (lambda: Architecture((Block((Conv(4, 7, padding=0),)),), image_size=5), 0, "kernel is 7×7"),
        (lambda: Architecture((Block((Conv(4),)), Block((Conv(9, groups=3),)))), 1, "3 groups"),
        (lambda: VGG["A"].change(image_size=96), None, "averages the last maps to 7×7, and they are only 3×3"),
    ],
)  # fmt: skip
def test_each_thing_that_doesnt_fit_says_where_and_why(make, block, why):
    with pytest.raises(DoesNotFit) as caught:
        make()
    assert caught.value.block == block and why in caught.value.why
    assert "[" not in caught.value.why


def test_fixes_change_as_little_as_helps():
    small = for_fashion_mnist(VGG["A"])
    fixes = fixes_for(as_fields(small, image_size=28))
    assert [fix.words for fix in fixes] == ["take 4 blocks", "take 32×32 images", "pool no more in block 5"]
    paper = fixes_for(as_fields(VGG["A"], image_size=96))
    assert [fix.words for fix in paper] == ["take 3 blocks", "take 224×224 images", "pool no more in blocks 4 and 5"]
    tiny = fixes_for(as_fields(small, image_size=1))
    assert tiny[-1].words == "pool no more in blocks 1, 2, 3, 4 and 5"


def test_where_the_head_asks_for_too_much_it_and_the_blocks_can_be_changed_together():
    """Of the paper's E on 28 pixels, one obstacle hides the other: without the head's 7×7, four blocks would do."""
    fixes = fixes_for(as_fields(VGG["E"], image_size=28), most=9)
    assert "take 2 blocks" in [fix.words for fix in fixes]
    assert fixes[-1].words == "take 4 blocks and average the last maps to one pixel"
    Architecture(**{**as_fields(VGG["E"], image_size=28), **fixes[-1].changes})


def test_a_head_that_asks_for_too_much_can_be_made_to_average_to_a_pixel():
    wrong = as_fields(LENET, head=Head(pool_size=9), image_size=28)
    assert "average the last maps to one pixel" in [fix.words for fix in fixes_for(wrong, most=4)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 5, 7]), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([28, 32, 64]),
    st.sampled_from([None, 1, 7]),
)
def test_whatever_is_offered_can_be_built(plan, image_size, pool_size):
    blocks = tuple(Block((Conv(4, k),) * n, Pool() if pooled else None) for n, k, pooled in plan)
    wrong = as_fields(LENET, blocks=blocks, head=Head(pool_size=pool_size), image_size=image_size)
    for fix in fixes_for(wrong, most=4):
        Architecture(**{**wrong, **fix.changes})  # raises if it can't
