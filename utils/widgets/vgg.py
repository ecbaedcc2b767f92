"""The VGG explorer: change the blocks, see what it costs, train it, watch the curve grow."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

import pandas as pd
from ipywidgets import HTML, Accordion, Box, HBox, Layout

from utils.architectures import PRESETS, VGG_SMALL, Architecture, DoesNotFit
from utils.checks import of_kind, whole
from utils.data import MEAN, STD, FashionMNIST, load_fashion_mnist
from utils.device import pick_device
from utils.editing import Fix
from utils.kept import Kept
from utils.models import build
from utils.plots.columns import fields_over_image, network_columns, totals
from utils.plots.sheet import Sheet, below
from utils.profiling import Profile, profile
from utils.results import Record
from utils.widgets.collection import Collection
from utils.widgets.editor import ArchitectureEditor
from utils.widgets.parts import (
    NARROW,
    NARROW_AND_WIDE,
    Drawing,
    Explorer,
    Setting,
    button,
    column,
    fill,
    guarded,
    heading,
    menu,
    row,
    said,
    slider,
)
from utils.widgets.trainer import Trainer

START = VGG_SMALL["VGG-11 ⅛ + BN"]
REFERENCES = {preset.name: preset.architecture for preset in PRESETS}
# Beside the knobs stands what they change, and below them what trains it. In a narrow window all stands in one column,
# in the order in which one needs it.
LOOKS = f"""
.build-and-train {{ display: grid; grid-template-columns: minmax(0, 1fr); gap: 6px 12px; }}
.build-and-train > * {{ margin: 0; }}
@container (min-width: {NARROW_AND_WIDE}px) {{
  .build-and-train {{
    grid-template: "build costs" auto "train costs" 1fr "train points" auto / {NARROW} minmax(0, 1fr);
  }}
  .the-build {{ grid-area: build; }} .the-costs {{ grid-area: costs; }}
  .the-train {{ grid-area: train; }} .the-points {{ grid-area: points; }}
}}
"""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def vgg_explorer(data: FashionMNIST | None = None, architecture: Architecture = START, *, seed: int = 0) -> VggExplorer:
    """Controls for a network's blocks, and what it costs and sees; a button that trains it. As a cell's last line.

    data None: Fashion-MNIST is loaded. `explorer.architecture = VGG["D"]` sets the network from code.
    """
    return VggExplorer(data, architecture, seed=seed)


class VggExplorer(Explorer):
    """See `vgg_explorer`.

    architecture   the network on display; set it, and all controls move
    reference      against which the costs are held: "LeNet", "VGG-16 (D)", …
    batch_size     for the memory of a training step
    image_number   of the validation images: what one number sees is drawn over it
    editor         the controls; `editor.error` says why what is set can't be built, while the last that could is shown
    trainer        `train()` and `stop()` as the buttons do
    collection     the trained networks
    """

    reference, batch_size, image_number = Setting(), Setting(), Setting()
    looks = LOOKS

    def __init__(
        self, data: FashionMNIST | None = None, architecture: Architecture = START, *, seed: int = 0,
        kept: Kept | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if data is None:
            data = load_fashion_mnist(device=pick_device())
        of_kind("data", data, FashionMNIST, "load_fashion_mnist()")
        whole("seed", seed, least=0)
        self.data = data
        self.drawing, self.field, self.table = Drawing(), Drawing(), HTML()
        self.fixes = HBox(layout=Layout(flex_flow="row wrap"))
        self.controls = {
            "reference": menu(tuple(REFERENCES), "VGG-16 (D)", "against", width="160px"),
            "batch_size": menu(BATCHES, 128, "batches of", width="138px"),
            "image_number": slider(0, 0, min(99, len(data.validation) - 1), "image", width="220px"),
        }
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        self.trainer = Trainer(data, self._to_train, self._change, self._keep, self.say_error, seed=seed)
        self.collection = Collection(data, self._set, self.say_error, kept=kept)
        self.editor = ArchitectureEditor(architecture, self._changed, self.say_error)
        self._lay_out()

    def _lay_out(self) -> None:
        details = Accordion(children=(self.table,), selected_index=None)
        details.set_title(0, "All layers, as a table")
        details.selected_index = None  # in ipywidgets 7 the first is open at the start
        knobs = self.controls
        parts = {
            "build": column(
                heading("Build"), self.editor, self.message, self.fixes, row(knobs["reference"], knobs["batch_size"])
            ),
            "costs": column(
                heading("What it is, what it costs"), self.drawing, details, self.field, row(knobs["image_number"])
            ),
            "train": self.trainer,
            "points": self.collection,
        }
        for name, part in parts.items():
            part.add_class(f"the-{name}")
        all_parts = Box(tuple(parts.values()), layout=Layout(width="100%"))
        all_parts.add_class("build-and-train")
        self.show(all_parts)

    # --- from code ----------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """The network on display. What you set moves all controls."""
        return self.editor.architecture

    @architecture.setter
    def architecture(self, architecture: Architecture) -> None:
        self.editor.architecture = architecture

    def train(self, seconds: float | None = None, *, lr: float | None = None) -> asyncio.Task | None:
        """As the button does: see `Trainer.train`."""
        return self.trainer.train(seconds, lr=lr)

    def stop(self) -> None:
        """As ■ does."""
        self.trainer.stop()

    def sheet(self) -> Sheet:
        """The drawing and the receptive field, one below the other."""
        return below([self.drawing.drawn, self.field.drawn], title=self.drawing.drawn.title)

    # --- a control was moved ------------------------------------------------------------------------------------

    def _changed(self, editor: ArchitectureEditor) -> None:
        self.editor = editor  # it tells for the first time while it is made
        if editor.error is not None:
            self._say_why(editor.error, editor.fixes)
            self.trainer.forget()
            return
        self.say()
        self._offer(())
        self.trainer.follow(editor.architecture)
        self._draw()

    def _say_why(self, error: DoesNotFit, fixes: Sequence[Fix]) -> None:
        """What is in the way, in place, and buttons for what would help; the drawing stays as it was."""
        where = f"Block {error.block + 1}" if error.block is not None else "The head"
        words = f"{where} can’t be built: {error.why}. The last network that could be is still shown."
        self.message.value = said(words + (" What would help:" if fixes else ""), is_wrong=True)
        self._offer(fixes)

    def _offer(self, fixes: Sequence[Fix]) -> None:
        """A button for each."""
        fill(self.fixes, [button(fix.words, lambda _, fix=fix: self._apply(fix)) for fix in fixes])

    @guarded
    def _apply(self, fix: Fix) -> None:
        self.editor.change(**fix.changes)

    @guarded
    def _redraw(self, _: dict[str, Any]) -> None:
        self._draw()

    def _to_train(self) -> Architecture:
        """What is set; raises why, if it can't be built: nobody wants another network trained instead."""
        if self.editor.error is not None:
            raise self.editor.error
        return self.architecture

    def _change(self, **fields: Any) -> None:
        """Of the network on display: what is set may by now be one that can't be built."""
        self.architecture = self.architecture.change(**fields)

    def _set(self, architecture: Architecture) -> None:
        self.architecture = architecture

    def _keep(self, trial: Record) -> None:
        self.collection.add(trial)

    # --- what is shown ------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        architecture = self.architecture
        costs = profile(build(architecture, device="meta"))
        self.table.value = _as_table(costs)
        notes = totals(
            costs,
            weight_layers=architecture.weight_layers,
            batch_size=self.batch_size,
            reference=_profile_of_reference(self.reference),
            of=self.reference,
        )
        self.drawing.draw(network_columns(costs, title=architecture.label, notes=notes))
        self.field.draw(fields_over_image(costs, self._image(architecture.image_size)))

    def _image(self, size: int) -> Any:
        """A validation image as the network sees it: (size, size) uint8, however few pixels it wants."""
        number = self.image_number
        if size < self.data.validation.pixels.shape[-1]:
            return self.data.validation.pixels[number, 0, :size, :size].cpu().numpy()
        images, _ = self.data.validation.batch(slice(number, number + 1), image_size=size)
        return ((images[0, 0] * STD + MEAN) * 255).round().clamp(0, 255).byte().cpu().numpy()


@functools.cache
def _profile_of_reference(name: str) -> Profile:
    return profile(build(REFERENCES[name], device="meta"))


def _as_table(costs: Profile) -> str:
    table: pd.DataFrame = costs.in_words().drop(columns="kind")
    return f'<div style="overflow:auto;max-height:360px;font-size:12px;line-height:1.3">{table.to_html()}</div>'
