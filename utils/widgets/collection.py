"""The networks that were trained: on the throughput–accuracy plot, in a list, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from ipywidgets import HTML, HBox, Layout, Text, VBox

from utils.architectures import Architecture
from utils.catalog import CURVE_TO_CHOOSE_BY
from utils.checks import with_tilde
from utils.comparing import side_by_side
from utils.data import FashionMNIST
from utils.device import device_name
from utils.experiments import reference
from utils.kept import Kept, NotKept, free_name, is_beside, point_of
from utils.plots import learning_curves, save, throughput_accuracy
from utils.plots.columns import short
from utils.plots.curves import Curve
from utils.plots.style import undrawable
from utils.results import Record
from utils.widgets.parts import Drawing, Steady, button, guarded, heading, label, row, said, tick
from utils.words import counted, percent

MOST_COMPARED = 5  # curves in one plot
PLOT_WIDTH = 7.0  # inches: an explorer has less room than a page
MOST_DRAWN = 24  # of them, however many are ticked
MOST_SHOWN = 6  # points of yours, the latest; and those that are ticked


class TrialRow(Steady):
    """One trained network: a line in the list."""

    def __init__(self, owner: Collection, trial: Record, *, is_compared: bool, is_kept: bool) -> None:
        self.key = trial["key"]
        self.compared = tick(is_compared, "", width="24px")
        self.name = Text(value=trial["name"], continuous_update=False, layout=Layout(width="280px"))
        self.set_button = button("set", lambda _: owner.set_network(trial))
        self.remove_button = button("remove", lambda _: owner.remove(self.key))
        self.compared.observe(owner.compare_ticked, names="value")
        self.name.observe(lambda change: owner.rename(self.key, change["new"]), names="value")
        controls = HBox(
            (self.compared, self.name, self.set_button, self.remove_button), layout=Layout(align_items="center")
        )
        self.words = label(_in_words(trial) + ("" if is_kept else " · not kept"), quiet=True)
        self.box = VBox((controls, self.words))

    def close(self) -> None:
        """ipywidgets keeps what isn't closed, for ever."""
        for widget in (self.compared, self.name, self.set_button, self.remove_button, self.words, self.box):
            widget.close()


def _in_words(trial: Record) -> str:
    stopped = ", stopped" if trial["stopped"] else ""
    images = short(trial["steps"] * trial["recipe"]["batch_size"])
    speed = trial["throughput"]
    return (
        f"{percent(trial['accuracy'], 1)} · {speed['images_per_s']:,.0f} images/s "
        f"({speed['low']:,.0f} to {speed['high']:,.0f}) · {short(trial['parameters'])} parameters · "
        f"rate {trial['recipe']['lr']:g}, saw {images} images{stopped}"
    )


class Collection(Steady, VBox):
    """What is kept of trained networks, on this device and these images: drawn, listed, compared.

    set_network is called with a trial's architecture when its button is pressed.
    """

    latest: ClassVar[Collection | None] = None

    def __init__(
        self,
        data: FashionMNIST,
        set_network: Callable[[Architecture], None],
        say_error: Callable[[BaseException], None],
        *,
        kept: Kept | None = None,
    ) -> None:
        self.data, self.kept = data, kept or Kept()
        self._set_network, self.say_error = set_network, say_error
        self.plot, self.comparison, self.message = Drawing(), Drawing(), HTML()
        self.table = HTML()
        self.rows: list[TrialRow] = []
        self.trials: list[Record] = []  # those that can be compared; `renew` reads them
        self._unkept: list[Record] = []  # what couldn't be written is shown all the same
        self.list = VBox()
        self.save_button = button("save the plot", lambda _: self.save())
        self.reference = reference(CURVE_TO_CHOOSE_BY, data)
        super().__init__(
            (
                self.plot,
                heading("Your networks"),
                self.message,
                self.list,
                row(self.save_button),
                self.comparison,
                self.table,
            ),
            layout=Layout(width="100%"),
        )
        Collection.latest = self
        self.renew()

    # --- what is there ------------------------------------------------------------------------------------------------

    def add(self, trial: Record) -> None:
        """Keep a trial's record and show it; also in the explorer that took this one's place, if its cell was run again
        in the meantime. NotKept if it can't be written; it is shown all the same, as long as this explorer is."""
        self._unkept = [other for other in self._unkept if other["key"] != trial["key"]]
        try:
            self.kept.add(trial)
        except NotKept:
            taken = [other["name"] for other in self.trials]
            self._unkept.append(trial | {"name": free_name(trial["name"], taken)})
            raise
        finally:
            self.renew()
            if Collection.latest is not self:
                Collection.latest.renew()

    def renew(self) -> None:
        """Read what is kept, and show that."""
        words, is_wrong = self._read()
        old, unkept = self.rows, {trial["key"] for trial in self._unkept}
        ticked = {own.key for own in old if own.compared.value}
        self.rows = [
            TrialRow(self, trial, is_compared=trial["key"] in ticked, is_kept=trial["key"] not in unkept)
            for trial in reversed(self.trials)  # the latest on top
        ]
        self.list.children = tuple(own.box for own in self.rows)
        for own in old:
            own.close()
        self.message.value = said(words, is_wrong=is_wrong)
        self._drawn_keys = None
        self.compare_ticked()

    def _read(self) -> tuple[str, bool]:
        """Of what is kept, and what couldn't be, `trials`: on these images, with throughputs that were measured as the
        latest one's was. What there is to say of them, and whether something is wrong."""
        try:
            kept, spoilt = self.kept.read()
        except (ValueError, OSError) as error:  # a line that somebody's editor has spoilt, a folder that can't be read
            self.trials = list(self._unkept)
            path = self.kept.file.path
            return f"What was kept can’t be read: {error}.".replace(str(path), with_tilde(path)), True
        device = device_name(self.data.train.device)
        here = {"data": self.data.digest, "throughput": {"device": device}}
        unkept = {trial["key"] for trial in self._unkept}
        everyone = [*(trial for trial in kept if trial["key"] not in unkept), *self._unkept]
        alike = [trial for trial in everyone if is_beside(trial, here)]
        self.trials = [t for t in alike if point_of(t).measured_on == point_of(alike[-1]).measured_on]
        return self._what_is_there(others=len(everyone) - len(self.trials), spoilt=spoilt)

    def _what_is_there(self, *, others: int, spoilt: int) -> tuple[str, bool]:
        number = len(self.trials)
        words = [] if number else ["None yet: train one, and it stands here, also when the kernel was restarted."]
        if number > 1:
            words.append("Tick two or more to compare them.")
        if number > MOST_SHOWN:
            more = MOST_DRAWN - MOST_SHOWN
            words.append(f"The plot has the latest {MOST_SHOWN}, and up to {more} more that you tick.")
        if others:
            words.append(
                f"{others} more can’t be compared with these: another device, dtype or batch, or other images."
            )
        if spoilt:
            file = with_tilde(self.kept.file.path)
            words.append(f"Left out: {counted(spoilt, 'record')} in {file}, not whole.")
        return " ".join(words), bool(spoilt)

    def _draw(self) -> None:
        """The plot; what is on it already isn't drawn again."""
        ticked = {own.key for own in self.rows if own.compared.value}
        shown = [t for i, t in enumerate(self.trials) if t["key"] in ticked or i >= len(self.trials) - MOST_SHOWN]
        if (keys := [trial["key"] for trial in shown[-MOST_DRAWN:]]) == self._drawn_keys:
            return
        points = [point_of(trial) for trial in shown[-MOST_DRAWN:]]
        if points or self.reference:
            self.plot.draw(throughput_accuracy(points, reference=self.reference, width=PLOT_WIDTH))
        else:  # the sample: there is no reference to it
            self.plot.write("What accuracy costs: train a network, and its point appears here.")
        self._drawn_keys = keys

    _drawn_keys: list[str] | None = None

    # --- a button was pressed -----------------------------------------------------------------------------------------

    @guarded
    def set_network(self, trial: Record) -> None:
        self._set_network(Architecture.from_dict(trial["architecture"]))

    @guarded
    def remove(self, key: str) -> None:
        if any(trial["key"] == key for trial in self._unkept):
            self._unkept = [trial for trial in self._unkept if trial["key"] != key]
            self.renew()
        else:
            self._do(self.kept.remove, key)

    @guarded
    def rename(self, key: str, name: str) -> None:
        if any(trial["key"] == key for trial in self._unkept):
            self.renew()
            self._complain("What couldn’t be kept can’t be named: train it again when there is room.")
        elif letter := undrawable(name):
            self.renew()
            self._complain(f"No plot can show “{letter}”: take letters, digits and usual signs.")
        else:
            self._do(self.kept.rename, key, name)

    def _complain(self, words: str) -> None:
        self.message.value = said(words, is_wrong=True)

    def _do(self, what: Callable[..., None], *arguments: Any) -> None:
        try:
            what(*arguments)
        except (ValueError, OSError, NotKept) as error:
            self.renew()  # the list says again what is kept
            self._complain(f"{error}.")
        else:
            self.renew()

    @guarded
    def compare_ticked(self, _: Any = None) -> None:
        """The ticked networks side by side, and their learning curves in one plot; nothing while there are fewer."""
        self._draw()
        keys = {own.key for own in self.rows if own.compared.value}
        trials = [trial for trial in self.trials if trial["key"] in keys]
        if len(trials) < 2:
            self.comparison.write("")
            self.table.value = ""
        else:
            self._put_side_by_side(trials[-MOST_COMPARED:], is_all=len(trials) <= MOST_COMPARED)

    def _put_side_by_side(self, trials: list[Record], *, is_all: bool) -> None:
        curves = {trial["name"]: curve_of_trial(trial) for trial in trials}
        self.comparison.draw(learning_curves(curves, title="Loss, while they learnt", width=PLOT_WIDTH))
        table = side_by_side({t["name"]: Architecture.from_dict(t["architecture"]) for t in trials})
        table.loc["validation accuracy"] = [percent(trial["accuracy"], 1) for trial in trials]
        table.loc["images/s in inference"] = [f"{trial['throughput']['images_per_s']:,.0f}" for trial in trials]
        table.loc["learning rate"] = [f"{trial['recipe']['lr']:g}" for trial in trials]
        words = "" if is_all else said(f"At most {MOST_COMPARED} are compared: the latest of those that are ticked.")
        self.table.value = words + (f'<div style="overflow-x:auto;font-size:12px">{table.to_html()}</div>')

    @guarded
    def save(self) -> None:
        """The plot as SVG and PNG, beside the results."""
        if self.plot.drawn is None:
            self._complain("There is nothing to save yet: train a network first.")
            return
        try:
            files = save(self.plot.drawn, self.kept.file.path.with_name("explorer"))
        except OSError as error:
            self._complain(f"It could not be saved: {error}.")
            return
        self.message.value = said(f"Saved: {' and '.join(with_tilde(file) for file in files)}.")


def curve_of_trial(trial: Record) -> Curve:
    """Its losses and what was seen of validation images, as `plots.learning_curves` draws them. Times are in rounds
    over all training images, whatever part of them it was trained on: so trials can be held against each other."""
    per_round = trial["of_images"] / trial["recipe"]["batch_size"]  # steps
    losses, looks = trial["losses"], trial["looks"]
    ends = np.minimum(np.arange(1, len(losses) + 1) * trial["steps_per_loss"], trial["steps"])
    return Curve(
        times=ends / per_round,
        losses=np.array(losses, float),
        window=max(1, len(losses) // 25),
        validated=np.array([look["step"] for look in looks]) / per_round,
        validation_losses=np.array([look["loss"] for look in looks], float),
        accuracies=100 * np.array([look["accuracy"] for look in looks], float),
    )
