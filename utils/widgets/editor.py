"""The controls that describe a network: presets, blocks, convolutions, channels, kernels, head, image.

They edit plain data, the fields of an `Architecture`. What they describe may not fit together: then `error` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

from ipywidgets import HBox, Layout, VBox

from utils.architectures import (
    ALEXNET,
    ALEXNET_SMALL,
    LENET,
    LENET_BOOK,
    VGG,
    VGG_SMALL,
    Architecture,
    Block,
    DoesNotFit,
    Head,
)
from utils.checks import of_kind
from utils.editing import (
    Blocks,
    Fix,
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
from utils.widgets.parts import (
    ACTIVATION_WORDS,
    INIT_WORDS,
    Settling,
    Steady,
    by_words,
    choice_buttons,
    choice_slider,
    column,
    guarded,
    hinted,
    label,
    menu,
    named,
    row,
    slider,
    tick,
)

MOST_BLOCKS, MOST_CONVS = 6, 6
CHANNELS = (4, 6, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
KERNELS = (1, 3, 5, 7, 9, 11, 13)
IMAGES = (28, 32, 64, 96, 224)
INIT_STD = 0.01  # of N(0, σ²), where none was given: what AlexNet's paper drew from

# Presets by the word on the button: for Fashion-MNIST, and as they were published.
SMALL = {"LeNet": LENET, "AlexNet": ALEXNET_SMALL} | {name: for_fashion_mnist(VGG[name]) for name in "ABCDE"}
PUBLISHED = {"LeNet": LENET_BOOK, "AlexNet": ALEXNET} | {name: VGG[name] for name in "ABCDE"}
SIZES = {"small": SMALL, "published": PUBLISHED}  # small: for Fashion-MNIST
NOT_A_PRESET = "–"
POOLED = Head(hidden=(), pool_size=1)  # global average pooling


# The width of a row's parts, in pixels: they stand beside a drawing in a window of 1280.
PARTS = {"block": 38, "convolutions": 96, "channels": 96, "kernel": 78, "pool": 28}


WHAT = {
    "num_convs": "how many convolutions",
    "channels": "channels that each of them gives",
    "kernel_size": "side of their kernels, in pixels",
    "pooled": "does a pooling layer follow?",
}


class BlockRow(Steady):
    """The controls of one block: a line in the editor."""

    def __init__(self, number: int, answer: Callable[[int, str, Any], None]) -> None:
        self.number = number
        self.name = label(f"{number + 1}", width=f"{PARTS['block']}px")
        self.num_convs = slider(1, 1, MOST_CONVS, width=f"{PARTS['convolutions']}px")
        self.channels = choice_slider(CHANNELS, CHANNELS[0], width=f"{PARTS['channels']}px")
        self.kernel_size = choice_slider(KERNELS, 3, width=f"{PARTS['kernel']}px")
        self.pooled = tick(True, "", width=f"{PARTS['pool']}px")
        for what, words in WHAT.items():
            hinted(getattr(self, what), f"block {number + 1}: {words}")
        self.box = HBox(
            (self.name, self.num_convs, self.channels, self.kernel_size, self.pooled),
            layout=Layout(align_items="center"),
        )
        self.box.layout.display = "none"
        for what in WHAT:
            getattr(self, what).observe(lambda change, what=what: answer(number, what, change["new"]), names="value")

    def show(self, block: Block) -> None:
        """Move the controls to where the block is; their ranges grow if it lies outside."""
        self.num_convs.max = max(MOST_CONVS, len(block.convs))
        self.num_convs.value = len(block.convs)
        _choose(self.channels, channels_of(block))
        _choose(self.kernel_size, kernel_size_of(block))
        self.pooled.value = block.pool is not None

    def mark(self, is_wrong: bool) -> None:
        """An arrow beside the block that is in the way."""
        words = f"→ {self.number + 1}" if is_wrong else f"{self.number + 1}"
        self.name.value = label(words, is_wrong=is_wrong).value


def _choose(control: Any, value: Any) -> None:
    """Set a control over choices, to which `value` is added if it isn't among them. None is ever taken away: the
    slider may be in the student's hand, and its places would move."""
    if value not in control.options:
        control.options = tuple(sorted({*control.options, value}))
    control.value = value


class ArchitectureEditor(Settling, VBox):
    """Controls for every field of an `Architecture`. `architecture`: the last one that could be built.

    on_change is called with the editor after each change; `error` is then None, or says why what is set can't be built.
    say_error is called with what nobody foresaw, before it is raised.
    """

    def __init__(
        self,
        architecture: Architecture,
        on_change: Callable[[ArchitectureEditor], None],
        say_error: Callable[[BaseException], None],
    ) -> None:
        self.error: DoesNotFit | None = None
        self._on_change, self.say_error = on_change, say_error
        self._rows: list[BlockRow] = []
        self._make_controls()
        super().__init__(layout=Layout(width="100%"))
        self._lay_out()
        self.architecture = architecture

    # --- from code ------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """The network that is set; if what is set can't be built, the last one that could."""
        return self._architecture

    @architecture.setter
    def architecture(self, architecture: Architecture) -> None:
        of_kind("architecture", architecture, Architecture, "VGG['A'] or vgg_like((1, 2), (8, 16))")
        self._draft = {f.name: getattr(architecture, f.name) for f in fields(Architecture)}
        self._settle()

    @property
    def fixes(self) -> list[Fix]:
        """Changes that would make what is set a network that can be built; none where it can."""
        return fixes_for(self._draft) if self.error else []

    def change(self, **changes: Any) -> None:
        """Set fields of the architecture, as a control does: what doesn't fit together shows in `error`. ValueError for
        what is no field, and for a value that it can't have in any network; then nothing is changed."""
        if unknown := changes.keys() - self._draft.keys():
            fields_there = ", ".join(sorted(self._draft))
            raise ValueError(f"{min(unknown)} is not a field of Architecture: it has {fields_there}")
        draft = {**self._draft, **changes}
        with suppress(DoesNotFit):  # which `_settle` says
            Architecture(**draft)
        self._draft = draft
        self._settle()

    # --- the controls ---------------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        self.preset = choice_buttons(tuple(SMALL), None)
        self.size = choice_buttons(tuple(SIZES), next(iter(SIZES)))
        self.family = menu((NOT_A_PRESET, *VGG_SMALL), NOT_A_PRESET, "or", width="190px")
        self.num_blocks = slider(1, 1, MOST_BLOCKS, "blocks", width="180px")
        self.all_alike = tick(False, "all blocks alike")
        self.norm = tick(False, "batch norm")
        self.activation = menu(by_words(ACTIVATION_WORDS), "relu", "activation", width="160px")
        self.init = menu(by_words(INIT_WORDS), "he", "initialisation", width="220px")
        self.head = choice_buttons(("dense", "pooled"), "dense")
        self.image_size = choice_buttons(IMAGES, 28)
        self.preset.observe(self._take_preset, names="value")
        self.size.observe(self._take_preset, names="value")
        self.family.observe(self._take_from_family, names="value")
        self.num_blocks.observe(self._answer(lambda n: {"blocks": with_num_blocks(self.blocks, n)}), names="value")
        self.norm.observe(self._answer(lambda on: {"norm": "batch" if on else "none"}), names="value")
        self.activation.observe(self._answer(lambda name: {"activation": name}), names="value")
        self.init.observe(self._answer(self._init_changes), names="value")
        self.head.observe(self._answer(self._head_changes), names="value")
        self.image_size.observe(self._answer(lambda size: {"image_size": size}), names="value")

    def _lay_out(self) -> None:
        header = HBox([label(name, width=f"{width}px", quiet=True) for name, width in PARTS.items()])
        self._list = column(header)
        self.children = (
            named("from", self.preset),
            row(named("as", self.size), self.family),
            row(self.num_blocks, self.all_alike),
            self._list,
            row(self.norm, self.activation),
            self.init,
            row(named("head", self.head), named("image", self.image_size)),
        )

    @property
    def blocks(self) -> Blocks:
        """Those that are set, whether they fit together or not."""
        return self._draft["blocks"]

    @property
    def rows(self) -> list[BlockRow]:
        """The controls of each block that is set."""
        return self._rows[: len(self.blocks)]

    # --- a control was moved ----------------------------------------------------------------------------------------

    def _answer(self, changes: Callable[[Any], dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
        return lambda change: self._take(changes, change["new"])

    @guarded
    def _take(self, changes: Callable[[Any], dict[str, Any]], value: Any) -> None:
        if not self._is_settling:
            self.change(**changes(value))

    @guarded
    def _answer_row(self, number: int, what: str, value: Any) -> None:
        if self._is_settling:
            return
        edit = {
            "num_convs": with_num_convs,
            "channels": with_channels,
            "kernel_size": with_kernel_size,
            "pooled": with_pooling,
        }[what]
        blocks = self.blocks
        for i in range(len(blocks)) if self.all_alike.value else [number]:
            blocks = edit(blocks, i, value)
        self.change(blocks=blocks)

    @guarded
    def _take_preset(self, _: dict[str, Any]) -> None:
        if not self._is_settling and self.preset.value is not None:
            self.architecture = SIZES[self.size.value or next(iter(SIZES))][self.preset.value]

    @guarded
    def _take_from_family(self, change: dict[str, Any]) -> None:
        if not self._is_settling and change["new"] != NOT_A_PRESET:
            self.architecture = VGG_SMALL[change["new"]]

    def _init_changes(self, name: str) -> dict[str, Any]:
        std = (self._draft["init_std"] or INIT_STD) if name == "normal" else None
        return {"init": name, "init_std": std}

    def _head_changes(self, kind: str) -> dict[str, Any]:
        return {"head": POOLED if kind == "pooled" else self._dense_head}

    # --- what follows -------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Build what is set, move all controls to it, and tell."""
        try:
            self._architecture = Architecture(**self._draft)
            self.error = None
        except DoesNotFit as error:
            self.error = error
        self._show_draft()
        self._on_change(self)

    def _show_draft(self) -> None:
        draft, blocks = self._draft, self.blocks
        with self._settling():
            self._lay_out_rows(len(blocks))
            for own, block in zip(self._rows, blocks, strict=False):
                own.show(block)
                own.mark(self.error is not None and self.error.block == own.number)
            self.num_blocks.max = max(MOST_BLOCKS, len(blocks))
            self.num_blocks.value = len(blocks)
            self.norm.value = draft["norm"] == "batch"
            self.activation.value, self.init.value = draft["activation"], draft["init"]
            self.head.value = self._kind_of_head(draft["head"])
            _choose(self.image_size, draft["image_size"])
            self._show_preset()

    def _lay_out_rows(self, number: int) -> None:
        """So many are seen. None is ever taken away, only hidden: whoever works with the keyboard would lose the place
        where they are, each time that what stands on the screen is built anew."""
        while len(self._rows) < number:
            self._rows.append(BlockRow(len(self._rows), self._answer_row))
            self._list.children = (*self._list.children, self._rows[-1].box)
        for own in self._rows:
            own.box.layout.display = "" if own.number < number else "none"

    def _kind_of_head(self, head: Head) -> str:
        if head == POOLED:
            return "pooled"
        self._dense_head = head  # to which one comes back
        return "dense"

    _dense_head = Head(hidden=(128,))

    def _show_preset(self) -> None:
        """Which button the network belongs to, if to any."""
        draft = self._draft
        found = [
            (size, name)
            for size, presets in SIZES.items()
            for name, preset in presets.items()
            if all(getattr(preset, field) == value for field, value in draft.items())
        ]
        self.size.value, self.preset.value = found[0] if found else (None, None)
        small = [n for n, a in VGG_SMALL.items() if all(getattr(a, f) == v for f, v in draft.items())]
        self.family.value = small[0] if small else NOT_A_PRESET
