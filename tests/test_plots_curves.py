"""utils/plots/curves with several seeds and with records: lines, bands and markers against numbers worked out here."""

import io
import itertools
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color, to_rgba
from matplotlib.text import Text

from utils import plots
from utils.plots.curves import Curve
from utils.training import History

pytestmark = pytest.mark.filterwarnings("error")

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


def history(losses, epochs=(), *, per_epoch=2, total=None):
    """A run with these losses; `epochs`: (loss, accuracy) on the validation images, or None where nobody looked."""
    rows = [
        {"epoch": i, "validation_loss": seen and seen[0], "validation_accuracy": seen and seen[1]}
        for i, seen in enumerate(epochs, start=1)
    ]
    return History({}, 0, "a test", "float32", total or len(losses), per_epoch, list(losses), rows)


def long_run(seed, *, end=0.4, steps=300, per_epoch=100):
    r = random.Random(seed)
    shift = r.gauss(0, 0.05)
    losses = [end + shift + 2 * math.exp(-4 * i / steps) + r.gauss(0, 0.05) for i in range(steps)]
    epochs = [(end + shift + 0.5 / e, 0.92 - 0.1 / e - shift) for e in range(1, steps // per_epoch + 1)]
    return history(losses, epochs, per_epoch=per_epoch)


# Two epochs of two steps, three seeds; fewer than 50 steps are not smoothed.
SEEDS = [
    history([2.0, 1.0, 0.75, 0.5], [(1.0, 0.80), (0.6, 0.90)]),
    history([2.5, 1.5, 0.25, 0.25], [(0.7, 0.84), (0.3, 0.86)]),
    history([1.5, 0.5, 0.5, 0.75], [(1.3, 0.76), (0.9, 0.91)]),
]


def record(losses, *, every=1, per_epoch=2, epochs=2, evaluate_on="test", accuracy=0.9, loss=0.3, **more):
    """What a sweep files of a run, as far as it is drawn."""
    return {
        "kind": "run", "losses": losses, "steps_per_loss": every, "steps_per_epoch": per_epoch,
        "recipe": {"epochs": epochs}, "evaluate_on": evaluate_on, "accuracy": accuracy, "loss": loss,
    } | more  # fmt: skip


def artist(axes, gid):
    (found,) = [a for a in (*axes.lines, *axes.collections) if a.get_gid() == gid]
    return found


def band(axes, gid):
    """By time: (lowest, highest) of a band's outline."""
    (path,) = artist(axes, gid).get_paths()
    ends = {}
    for x, y in path.vertices:
        ends.setdefault(round(float(x), 9), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in ends.items()}


def uprights(axes, gid):
    return {float(a[0]): (float(a[1]), float(b[1])) for a, b in artist(axes, gid).get_segments()}


def drawn_gids(figure):
    return {a.get_gid() for axes in figure.axes for a in (*axes.lines, *axes.collections) if a.get_gid()}


def subtitles(figure):
    return [t.get_text() for axes in figure.axes for t in axes.texts if t.get_text().startswith(("line:", "on the"))]


def written(figure):
    """(text, its box in pixels), for all that is really drawn: matplotlib keeps ticks beyond an axis' end as well."""
    found, draw = {}, Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text():
            found[id(self)] = (self, self.get_window_extent(renderer))
        return draw(self, renderer)

    png(figure)  # first, so that it is laid out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.savefig(io.BytesIO(), format="raw", dpi="figure")
    return list(found.values())


def png(figure):
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()


# --- several seeds ----------------------------------------------------------------------------------------------------


def test_a_line_is_the_mean_over_seeds_and_its_band_the_range():
    axes, _ = plots.learning_curves({"LeNet": SEEDS}).axes
    line = artist(axes, "loss: LeNet")
    assert line.get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]
    np.testing.assert_allclose(line.get_ydata(), [2.0, 1.0, 0.5, 0.5])
    expected = {0.5: (1.5, 2.5), 1.0: (0.5, 1.5), 1.5: (0.25, 0.75), 2.0: (0.25, 0.75)}
    assert band(axes, "loss band: LeNet") == expected


def test_markers_are_means_over_seeds_and_upright_lines_their_range():
    loss, accuracy = plots.learning_curves({"LeNet": SEEDS}).axes
    assert artist(loss, "validation loss: LeNet").get_xdata().tolist() == [1, 2]
    np.testing.assert_allclose(artist(loss, "validation loss: LeNet").get_ydata(), [1.0, 0.6])
    assert uprights(loss, "validation loss range: LeNet") == {1: (0.7, 1.3), 2: (0.3, 0.9)}
    line = artist(accuracy, "accuracy: LeNet")
    np.testing.assert_allclose(line.get_ydata(), [80, 89])
    assert line.get_marker() == artist(loss, "validation loss: LeNet").get_marker() != "None"
    for found in (uprights(accuracy, "accuracy range: LeNet"), band(accuracy, "accuracy band: LeNet")):
        assert found == {1: pytest.approx((76, 84)), 2: pytest.approx((86, 91))}


def test_each_seed_is_smoothed_as_it_would_be_alone():
    runs = [long_run(seed) for seed in range(4)]
    axes = plots.learning_curves({"a": runs}).axes[0]
    alone = [artist(plots.learning_curves({"a": run}).axes[0], "loss: a").get_ydata() for run in runs]
    np.testing.assert_allclose(artist(axes, "loss: a").get_ydata(), np.mean(alone, 0), rtol=1e-12)
    found = band(axes, "loss band: a")
    assert len(found) == 300
    expected = zip(np.min(alone, 0), np.max(alone, 0), strict=True)
    for step, ends in enumerate(expected, start=1):
        assert found[round(step / 100, 9)] == pytest.approx(ends)


def test_a_band_has_its_lines_colour_lies_below_and_lets_the_grid_through():
    figure = plots.learning_curves({"a": SEEDS, "b": SEEDS[::-1]})
    for axes, what in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for name in "ab":
            line, shade = artist(axes, f"{what}: {name}"), artist(axes, f"{what} band: {name}")
            (colour,) = shade.get_facecolor()
            assert same_color(colour[:3], to_rgba(line.get_color())[:3]) and 0.1 <= colour[3] <= 0.4
            assert shade.get_zorder() < line.get_zorder()
    colours = [artist(figure.axes[0], f"loss: {name}").get_color() for name in "ab"]
    assert not same_color(*colours)


def test_the_subtitle_says_what_a_band_is():
    words = "mean of 3 seeds, band: lowest to highest"
    assert subtitles(plots.learning_curves({"a": SEEDS})) == [
        f"line: training, marker: validation\n{words}", f"on the validation images\n{words}",
    ]  # fmt: skip
    mixed = plots.learning_curves({"a": SEEDS, "b": SEEDS[:2], "c": SEEDS[0]})
    assert all("mean of 2 to 3 seeds, band" in text for text in subtitles(mixed))
    assert subtitles(plots.learning_curves({"a": [history([1, 1])] * 2})) == [
        "on the training images\nmean of 2 seeds, band: lowest to highest"
    ]
    assert not any("seed" in text for text in subtitles(plots.learning_curves({"a": SEEDS[0]})))


def test_the_alternative_text_says_how_many_seeds_and_their_range():
    assert plots.learning_curves({"LeNet": SEEDS, "one": SEEDS[0]}).alt == (
        "LeNet: training loss from 2.00 to 1.00, validation accuracy 80.0% and 89.0%, in 2 epochs, means of 3 seeds; "
        "the last loss is 0.81 to 1.12, the last accuracy 86.0% to 91.0%. "
        "one: training loss from 2.00 to 1.06, validation accuracy 80.0% and 90.0%, in 2 epochs."
    )
    blind = plots.learning_curves({"a": [history([2, 1], per_epoch=1), history([4, 3], per_epoch=1)]})
    assert (
        blind.alt == "a: training loss from 3.00 to 2.50, in 2 epochs, means of 2 seeds; the last loss is 1.50 to 3.50."
    )


def test_one_seed_in_a_list_is_drawn_like_one_without():
    single, listed = plots.learning_curves({"a": SEEDS[0]}), plots.learning_curves({"a": [SEEDS[0]]})
    assert png(single) == png(listed) and single.alt == listed.alt
    assert not any("band" in gid or "range" in gid for gid in drawn_gids(listed))
    assert any("band" in gid for gid in drawn_gids(plots.learning_curves({"a": tuple(SEEDS)})))


def test_arms_of_different_lengths_and_without_validation_share_a_figure():
    figure = plots.learning_curves({"long": SEEDS, "short": [history([2, 1]), history([3, 2])]})
    loss, accuracy = figure.axes
    assert artist(loss, "loss: short").get_xdata().tolist() == [0.5, 1.0] and loss.get_xlim()[1] >= 2
    assert len(artist(accuracy, "accuracy: short").get_xdata()) == 0
    assert [t.get_text() for t in accuracy.texts if t.get_text() in ("long", "short")] == ["long"]


def test_the_scale_has_room_for_the_highest_seed():
    (axes,) = plots.learning_curves({"a": [history([1.0, 1.0]), history([4.0, 1.0])]}).axes
    assert axes.get_ylim()[0] == 0 and 4 < axes.get_ylim()[1] <= 2 * math.log(10)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (history([1, 2, 3], [(1.0, 0.8), (0.6, 0.9)]), "the same losses, got 4 and 3"),
        (history([1, 2, 3, 4], [(1, 0.8), (1, 0.9)], per_epoch=4), "the same length in epochs, got 2.0 and 1.0"),
        (history([1, 2, 3, 4], [(1.0, 0.8)]), r"the same epochs with validation, got \[1, 2\] and \[1\]"),
        (history([1, 2, 3, 4], [None, (1.0, 0.8)]), r"the same epochs with validation, got \[1, 2\] and \[2\]"),
    ],
)
def test_seeds_that_differ_in_length_are_refused(other, words):
    with pytest.raises(ValueError, match=rf"^VGG: seeds that are drawn as one band must have {words}: was one of them"):
        plots.learning_curves({"LeNet": other, "VGG": [*SEEDS, other]})


def test_no_seeds_no_steps_and_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"^a: there must be at least one history to draw, got an empty list$"):
        plots.learning_curves({"a": []})
    with pytest.raises(ValueError, match=r"^a: its history has no steps; train it before you draw it$"):
        plots.learning_curves({"a": [SEEDS[0], history([])]})
    for losses, validation in (([1, float("nan")], [None]), ([1, 2], [(float("inf"), 0.5)])):
        with pytest.raises(ValueError, match=r"^b: its losses and accuracies must be finite numbers, and some are nan"):
            plots.learning_curves({"a": SEEDS, "b": history(losses, validation)})


LONG_NAME, MEDIUM_NAME = "VGG (2,2,4,4,4) 8-16-32-64-64 → 128-128… (2)", "sigmoid + BN, the rate decays"


@pytest.mark.parametrize("number", [1, 3, 7])
@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize(
    ("longest", "width"), [("VGG (2,2,2) + BN", 9.0), (MEDIUM_NAME, 9.0), (LONG_NAME, 9.0), (LONG_NAME, 7.0)]
)
def test_names_subtitles_and_axes_stand_in_nobodys_way(number, validated, longest, width):
    names = [longest, "AlexNet small", "LeNet (book)", "LeNet", "VGG-11 ⅛ + BN", "a", "VGG (1,1,1)"][:number]
    arms = {name: [long_run(10 * i + s, end=0.4 + 0.05 * i) for s in range(3)] for i, name in enumerate(names)}
    if not validated:
        arms = {name: [replace(run, epochs=[]) for run in runs] for name, runs in arms.items()}
    figure = plots.learning_curves(arms, width=width)
    boxes = written(figure)
    assert figure.get_size_inches()[0] == width
    assert len({text.get_text() for text, _ in boxes} & set(names)) == number
    panels = [axes.get_window_extent().width / figure.bbox.width for axes in figure.axes]
    assert min(panels) > 0.5 / len(panels), "names leave room for the lines"
    is_long = longest == LONG_NAME or (longest == MEDIUM_NAME and validated)  # then there are two panels
    assert bool(figure.legends) == is_long, "at the lines' ends, where there is room"
    for legend in figure.legends:
        assert {bool(line.get_marker() not in ("", "None", None)) for line in legend.get_lines()} == {validated}
    for text, box in boxes:
        assert text.get_fontsize() >= 12
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= -0.5, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not (min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)), (one, other)


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_records_losses_stand_at_the_last_step_that_they_are_of():
    """Seven steps an epoch for two epochs, in pieces of four: the last piece has two."""
    curve = plots.curve_of(record([2.0, 1.5, 1.0, 0.5], every=4, per_epoch=7))
    np.testing.assert_allclose(curve.times, [4 / 7, 8 / 7, 12 / 7, 2])
    assert curve.losses.tolist() == [2.0, 1.5, 1.0, 0.5] and not len(curve.validated)
    (axes,) = plots.learning_curves({"a": record([2.0, 1.5, 1.0, 0.5], every=4, per_epoch=7)}).axes
    np.testing.assert_allclose(artist(axes, "loss: a").get_xdata(), [4 / 7, 8 / 7, 12 / 7, 2])


def test_records_and_histories_give_one_curve():
    """With a loss a step, a record says all that a history does: until the last epoch nobody looked."""
    losses = [2.0 / (i + 1) for i in range(200)]
    filed = record(losses, per_epoch=100, evaluate_on="validation", accuracy=0.9, loss=0.3)
    one, other = plots.curve_of(filed), plots.curve_of(history(losses, [None, (0.3, 0.9)], per_epoch=100))
    for field in ("times", "losses", "validated", "validation_losses", "accuracies"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)
    assert one.window == other.window == 4 and plots.curve_of(one) is one


def test_test_images_are_not_drawn_as_validation_images():
    runs = [record([2.0, 1.0], accuracy=0.8 + i / 10, epochs=1) for i in range(2)]
    assert len(plots.learning_curves({"a": runs}).axes) == 1
    runs = [run | {"evaluate_on": "validation"} for run in runs]
    loss, accuracy = plots.learning_curves({"a": runs}).axes
    np.testing.assert_allclose(artist(accuracy, "accuracy: a").get_ydata(), [85])
    assert uprights(accuracy, "accuracy range: a") == {1: pytest.approx((80, 90))}
    assert artist(loss, "validation loss: a").get_ydata().tolist() == [0.3]


@pytest.mark.parametrize("kind", ["failure", "throughput", None])
def test_a_record_of_something_else_is_refused(kind):
    with pytest.raises(ValueError, match=f"a record to draw must be of kind 'run', got {kind!r}: leave the others out"):
        plots.learning_curves({"a": [record([1.0]), record([1.0], kind=kind)]})


def test_half_a_record_is_refused():
    whole = record([1.0])
    for name in ("recipe", "losses", "steps_per_loss", "steps_per_epoch", "evaluate_on", "loss", "accuracy"):
        half = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(ValueError, match=f"must be one that sweep has filed, got one without '{name}'$"):
            plots.learning_curves({"a": half})


@pytest.mark.parametrize("name", ["curve", "curve_validation"])
def test_the_committed_reference_can_be_drawn(name):
    (file,) = list(REFERENCE.glob(f"*/{name}.jsonl"))[:1]
    runs = [found for found in map(json.loads, file.read_text("utf-8").splitlines()) if found["kind"] == "run"]
    arms = {label: [run for run in runs if run["label"] == label] for label in ("LeNet", "AlexNet small")}
    figure = plots.learning_curves(arms)
    assert len(figure.axes) == (2 if name == "curve_validation" else 1)
    for label, several in arms.items():
        line = artist(figure.axes[0], f"loss: {label}")
        assert line.get_xdata()[-1] == several[0]["recipe"]["epochs"] == 2
        assert line.get_ydata()[0] == pytest.approx(np.mean([run["losses"][0] for run in several]))
        assert re.search(rf"{label}: .* in 2 epochs, means of {len(several)} seeds", figure.alt)
        if name == "curve_validation":
            expected = 100 * np.mean([run["accuracy"] for run in several])
            assert artist(figure.axes[1], f"accuracy: {label}").get_ydata() == pytest.approx([expected])


def test_a_curve_can_be_made_by_hand():
    curve = Curve(np.array([1.0, 2.0]), np.array([2.0, 1.0]), 1, np.array([]), np.array([]), np.array([]))
    (axes,) = plots.learning_curves({"a": curve}).axes
    assert artist(axes, "loss: a").get_ydata().tolist() == [2.0, 1.0]
