"""The clinic: what vital signs and first losses say, how they are drawn, and the widget, against torch by hand."""

import asyncio
import itertools
import math
import statistics
from html import unescape

import numpy as np
import pandas as pd
import pytest
import torch
from for_sheets import assert_readable

from utils.architectures import ACTIVATIONS, VGG, VGG_SMALL
from utils.catalog import STUCK
from utils.comparing import reference_runs
from utils.editing import for_fashion_mnist
from utils.models import build
from utils.plots.clinic import first_losses_sheet, vital_signs_sheet
from utils.plots.panel import Panel, Scale
from utils.plots.sheet import Box, Stroke, Words
from utils.training import Recipe, train
from utils.vitals import DIED, FADED, VANISHED, VitalSigns, diagnosis, first_losses, vital_signs
from utils.widgets import TrainingClinic, clinic, trainer, training_clinic
from utils.widgets.parts import INIT_WORDS

pytestmark = pytest.mark.usefixtures("one_thread")
CHANCE = math.log(10)
SICK = STUCK.arms[0].architecture  # lesson 04's patient 1


def signs(activation=(1.0, 1.0, 1.0), gradient=(1.0, 1.0, 1.0), dead=(0.0, 0.0, math.nan), loss=CHANCE):
    names = [f"layer.{i}" for i in range(len(activation))]
    kinds = ["conv"] * (len(names) - 1) + ["dense"]
    table = {"layer": names, "kind": kinds, "activation": activation, "gradient": gradient, "dead": dead}
    return VitalSigns(loss, num_classes=10, num_images=64, layers=pd.DataFrame(table))


# --- what vital signs say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("healthy", signs()),
        ("healthy", signs(activation=(1.0, 0.5, 1.01 * FADED))),
        ("fading", signs(activation=(1.0, 0.1, 0.99 * FADED))),
        ("fading", signs(gradient=(0.99 * FADED, 0.1, 1.0))),
        ("fading", signs(gradient=(1.01 * VANISHED, 0.1, 1.0))),
        ("vanishing", signs(gradient=(0.99 * VANISHED, 0.1, 1.0))),
        ("vanishing", signs(activation=(1.0, 0.1, 0.99 * VANISHED))),
        ("vanishing", signs(activation=(1.0, 0.0, 0.0), gradient=(0.0, 0.0, 1.0))),
        ("vanishing", signs(activation=(0.0, 0.0, 0.0), gradient=(0.0, 0.0, 0.0))),
        ("exploding", signs(activation=(1.0, 30.0, 501.0))),
        ("exploding", signs(gradient=(501.0, 30.0, 1.0), loss=1e6)),
        ("healthy", signs(activation=(1.0, 30.0, 499.0))),
        ("loud", signs(loss=2.01 * CHANCE)),
        ("healthy", signs(loss=1.99 * CHANCE)),
        ("healthy", signs(dead=(0.4, 0.5, math.nan))),
    ],
)
def test_how_far_a_line_falls_or_rises_decides(kind, found):
    assert diagnosis(found).kind == kind


def test_the_words_hold_the_numbers_that_were_found():
    both = diagnosis(signs(activation=(2.0, 1.0, 1e-4), gradient=(3e-8, 1.0, 1.0))).words
    assert "is 20,000 times weaker after the last layer than after the first" in both
    assert "the gradient is 10⁸ times weaker at the first layer than at the last" in both
    only_forward = diagnosis(signs(activation=(1.0, 0.1, 0.0))).words
    assert "what tells one image from another is gone after the last layer" in only_forward
    assert "gradient" not in only_forward
    assert "the loss is 12, where a network that knows nothing has ln 10 = 2.303" in diagnosis(signs(loss=12.0)).words
    healthy = diagnosis(signs(gradient=(0.125, 0.5, 1.0), dead=(0.1, 0.3, math.nan))).words
    assert "what tells images apart stays about as strong" in healthy
    assert "gets 8 times weaker. Dead: 20 % of a layer's channels on average, most in layer.1." in healthy
    assert "No ReLU is there to die" in diagnosis(signs(dead=(math.nan,) * 3)).words


def test_dying_is_told_in_comparison_and_only_where_the_signal_had_been_there():
    alive, dead = signs(dead=(0.0, 0.1, math.nan)), signs(activation=(1, 0.1, 1e-6), dead=(0.3, 0.6, math.nan))
    assert diagnosis(dead).kind == "vanishing"
    found = diagnosis(dead, alive)
    assert found.kind == "dying", "though the lines fall as well"
    assert "45 % of a layer's channels are 0 for every image, on average; before training it was 5 %" in found.words
    vanished = signs(gradient=(1e-6, 1e-3, 1.0), dead=(0.0, 0.1, math.nan))
    assert diagnosis(dead, vanished).kind == "vanishing"
    few = signs(dead=(DIED - 0.01, DIED + 0.09, math.nan))
    assert diagnosis(few, alive).kind == "healthy"
    assert diagnosis(signs(loss=9.0), alive).kind == "healthy", "after training a large loss has other causes"


@pytest.fixture(scope="module")
def ward(tiny):
    """The vital signs of lesson 04's patients before their training, by arm."""
    torch.set_num_threads(1)
    batch = tiny.train.batch(slice(0, 24), image_size=32)
    found = {}
    for arm in STUCK.arms:
        torch.manual_seed(0)
        found[arm.label] = vital_signs(build(arm.architecture), *batch)
    return found


def test_in_lesson_04_the_signal_vanishes_just_where_no_seed_of_the_reference_learnt(ward):
    stuck = {name: [run["accuracy"] < 0.15 for run in runs] for name, runs in reference_runs(STUCK).items()}
    assert sum(all(own) for own in stuck.values()) == 3 and len(stuck) == 8
    for name, own in stuck.items():
        kind = diagnosis(ward[name]).kind
        assert (kind == "vanishing") == all(own), f"{name}: {kind}"
        assert kind in ("vanishing", "healthy")


def test_a_network_whose_relus_were_killed_is_told(tiny):
    torch.manual_seed(0)
    net, batch = build(STUCK.arms[4].architecture), tiny.train.batch(slice(0, 24), image_size=32)
    before = vital_signs(net, *batch)
    with torch.no_grad():
        for layer in net.features[10:]:
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias[: len(layer.bias) // 3] = -1e6
    after = vital_signs(net, *batch)
    assert diagnosis(after, before).kind == "dying" and diagnosis(before).kind == "healthy"


# --- what the first losses say ----------------------------------------------------------------------------------------

NOISE = [0.004, -0.003, 0.001, -0.004, 0.002] * 4
FALLING = [2.4 - 0.05 * step for step in range(20)]


@pytest.mark.parametrize(
    ("kind", "losses"),
    [
        ("at chance", [CHANCE + noise for noise in NOISE]),
        ("at chance", [1.04 * CHANCE + noise for noise in NOISE]),
        ("left", FALLING),
        ("left", [CHANCE + noise - 0.03 for noise in NOISE]),
        ("leaving", [CHANCE + noise - 0.012 for noise in NOISE]),
        ("at chance", [CHANCE + 10 * noise - 0.012 for noise in NOISE]),
        ("at chance", [CHANCE + 20 * noise - 0.03 for noise in NOISE]),
        ("at chance", [CHANCE - 0.003] * 20),
        ("thrown back", FALLING[:10] + [CHANCE + noise for noise in NOISE[:10]]),
        ("above", [1.06 * CHANCE + noise for noise in NOISE]),
        ("few", FALLING[:9]),
        ("few", []),
        ("left", FALLING[:10]),
        ("no number", [2.3, 400.0, math.nan]),
        ("no number", [2.3] * 19 + [math.inf]),
    ],
)
def test_the_last_losses_are_held_against_chance_and_their_own_spread(kind, losses):
    assert first_losses(losses).kind == kind


def test_the_verdict_holds_the_mean_and_its_standard_error():
    last = FALLING[-5:]
    error = statistics.stdev(last) / 5**0.5
    assert f"a loss of {np.mean(last):.3f} ± {error:.3f}; chance, ln(10), is 2.303" in first_losses(FALLING).words
    assert first_losses([math.log(4)] * 20, num_classes=4).kind == "at chance"
    back = first_losses(FALLING[:10] + [CHANCE + noise for noise in NOISE[:10]]).words
    assert f"({np.mean(FALLING[5:10]):.3f} in steps 6 to 10)" in back
    assert "At step 3 the loss is nan" in first_losses([2.3, 400.0, math.nan]).words


# --- the drawings -----------------------------------------------------------------------------------------------------


def test_values_stand_where_the_scale_has_them():
    scale = Scale(1e-6, 1e2, 200, 40, is_log=True)
    assert [scale(v) for v in (1e-6, 1e-2, 1e2)] == pytest.approx([200, 120, 40])
    assert (scale(1e-9), scale(1e9)) == (200, 40), "what is beyond lies on the edge"
    assert Panel(Scale(0, 10, 0, 100), scale).at(2.5, 1e2) == pytest.approx((25, 40))


def squares(sheet, name):
    return [mark for mark in sheet.named(name) if isinstance(mark, Box)]


def middle(mark):
    return mark.x + mark.width / 2, mark.y + mark.height / 2


def tick_heights(sheet, panel=0):
    """Where each number left of the axes stands, by what it says; of vital signs' three panels one."""
    room = sheet.width / 3
    own = [m for m in sheet.named("tick") if m.anchor == "end" and panel * room <= m.x < (panel + 1) * room]
    return {mark.words: mark.y - 4 for mark in own}


def test_each_layer_is_a_square_at_its_values_height():
    found = signs(activation=(1.0, 1e-2, 1e-4), gradient=(1e-4, 1e-2, 1.0), dead=(0.0, 0.5, math.nan))
    sheet = vital_signs_sheet(found, title="a network", words="what is seen")
    values = {"activation": ("1", "10⁻²", "10⁻⁴"), "gradient": ("10⁻⁴", "10⁻²", "1"), "dead": ("0", "50")}
    for number, (panel, own) in enumerate(values.items()):
        ticks = tick_heights(sheet, number)
        heights = [middle(mark)[1] for mark in squares(sheet, f"{panel}: before training")]
        assert heights == pytest.approx([ticks[value] for value in own], abs=0.01)
    assert {mark.fill for mark in squares(sheet, "activation: ")} == {"#0072B2"}
    assert "conv 1–2, dense 3" in sheet.named("axis")[0].words
    assert "what is seen" in sheet.words() and sheet.alt.startswith("what is seen before training, 3 layers")


def test_after_training_the_squares_are_hollow_and_both_lines_are_named():
    sheet = vital_signs_sheet(
        signs(), signs(activation=(1.0, 0.0, 0.0)), title="", after_what="after 7 steps", words=""
    )
    after = squares(sheet, "activation: after 7 steps")
    assert [mark.fill for mark in after] == ["white"] and after[0].stroke == "#D55E00"
    zeros = [middle(mark)[1] for mark in squares(sheet, "activation zero: after 7 steps")]
    assert len(zeros) == 2 and set(zeros) == {max(middle(m)[1] for m in squares(sheet, "activation"))}
    zero_ticks = [mark for mark in sheet.named("tick") if mark.words == "0" and abs(mark.y - 4 - zeros[0]) < 1]
    tick = min(zero_ticks, key=lambda mark: mark.x)  # in the panel of the activations
    ticks = [mark.y for mark in sheet.named("tick") if mark.anchor == "end" and mark.x == tick.x]
    assert all(abs(a - b) > 11 for a, b in itertools.combinations(ticks, 2)), "none stands on another"
    assert [mark.words for mark in sheet.named("key")] == ["after 7 steps", "before training"]
    assert not vital_signs_sheet(signs(), title="", words="").named("key")


def test_without_a_relu_the_third_panel_says_so():
    sheet = vital_signs_sheet(signs(dead=(math.nan,) * 3), title="", words="")
    assert "no ReLU" in sheet.words() and not squares(sheet, "dead")


def draw_losses(losses, **options):
    return first_losses_sheet(losses, num_steps=20, num_classes=10, title="", **options)


def test_losses_stand_above_and_below_the_dotted_line_as_they_are():
    sheet = draw_losses([2.5, 2.303, 2.0])
    ticks = tick_heights(sheet)
    heights = [middle(mark)[1] for mark in squares(sheet, "loss")]
    (line,) = [mark for mark in sheet.named("chance") if isinstance(mark, Stroke)]
    assert heights == pytest.approx([ticks["2.5"], line.points[0][1], ticks["2.0"]], abs=0.1)
    assert line.dash and "ln 10 = 2.303" in sheet.words()
    assert "Loss by step, 3 of 20: 2.5, 2.3, 2." in sheet.alt


def test_losses_beyond_the_axes_are_told_and_one_that_is_no_number_ends_the_line():
    sheet = draw_losses([2.4, 700.0, math.nan, 2.0])
    assert len(squares(sheet, "loss")) == 2
    assert [mark.words for mark in sheet.named("beyond")] == ["up to 700"]
    higher = draw_losses([2.4, 123_456.0])
    assert [mark.words for mark in higher.named("beyond")] == ["up to 123,000"] and higher.alt.endswith("2.4, 123,000.")
    assert min(middle(mark)[1] for mark in squares(sheet, "loss")) >= 30
    assert not draw_losses([2.4, 2.2]).named("beyond")


def test_an_earlier_training_is_grey_and_named_clear_of_the_name_of_chance():
    for last in (2.31, 2.29, 1.7, 2.9):
        sheet = draw_losses([2.3], earlier=[2.4, last], earlier_title="earlier: E, He, ReLU, rate 0.1")
        assert {mark.fill for mark in squares(sheet, "earlier")} == {"#8A9099"}
        names = [mark.y for mark in sheet.named("earlier's")]
        (chance,) = [mark.y for mark in sheet.named("chance") if isinstance(mark, Words)]
        assert all(abs(y - chance) >= 11 for y in names), last


def test_an_earlier_trainings_name_ends_above_the_steps():
    title = "earlier: E, torch’s default, no activation, batch norm, rate 0.1"
    for losses, last in (([3.0], 1.62), ([4.6], 2.303), ([4.6], 1.7)):
        sheet = draw_losses(losses, earlier=[last], earlier_title=title)
        (steps,) = [mark.y for mark in sheet.named("tick") if mark.words == "20"]
        names = [mark.y for mark in sheet.named("earlier's")]
        (chance,) = [mark.y for mark in sheet.named("chance") if isinstance(mark, Words)]
        assert max(names) < steps - 11 and all(abs(y - chance) >= 11 for y in names), (losses, last)


NARROW_ROOM = 460  # pixels of a window: on what is wider, the smallest letters would shrink under 11


def test_a_long_title_takes_two_lines_and_all_else_stands_lower():
    title = "VGG (2,2,4,4,4), torch’s default, no activation, batch norm"
    short, long = (vital_signs_sheet(signs(), title=words, words="what is seen") for words in ("VGG", title))
    assert_readable(long, widest=NARROW_ROOM)
    lines = long.named("title")
    assert " ".join(mark.words for mark in lines) == title and len(lines) == 2 and lines[1].y > lines[0].y + 14
    lower = long.height - short.height
    assert lower == lines[1].y - lines[0].y
    for here, there in zip(squares(short, "activation"), squares(long, "activation"), strict=True):
        assert there.y == pytest.approx(here.y + lower)


@pytest.mark.parametrize("name", clinic.NETWORKS)
def test_nothing_is_cut_off_in_a_narrow_room_whatever_the_patient_is_called(small, name):
    small.network, small.num_blocks = name, 5
    for init, activation, batch_norm in itertools.product(INIT_WORDS, ACTIVATIONS, (False, True)):
        with small._settling():
            small.init, small.activation, small.batch_norm, small.init_std = init, activation, batch_norm, 0.001
        assert_readable(vital_signs_sheet(signs(), title=small._patient(), words=""), widest=NARROW_ROOM)


# --- the widget -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tiny, monkeypatch):
    """A clinic whose patient is small and healthy, and whose trainings take ten steps."""
    monkeypatch.setattr(clinic, "NUM_STEPS", 10)
    monkeypatch.setattr(clinic, "NUM_IMAGES", 16)
    monkeypatch.setattr(TrainingClinic, "at_work", None)  # whatever a test that failed has left
    made = TrainingClinic(tiny)
    made.architecture = for_fashion_mnist(VGG["A"]).change(blocks=for_fashion_mnist(VGG["A"]).blocks[:2])
    return made


def text(html):
    return unescape(html.value)


def drawn(explorer, name):
    """The squares with this name in what is shown now."""
    return squares(explorer.sheet(), name)


def by_hand(explorer, seed):
    torch.manual_seed(seed)
    return vital_signs(build(explorer.architecture), *explorer.data.train.batch(slice(0, 16), image_size=32))


def test_it_begins_with_lesson_04s_first_patient_and_says_what_is_wrong(tiny):
    explorer = training_clinic(tiny)
    assert explorer.architecture == SICK and explorer.lr == 0.1
    assert explorer.diagnosis.kind == "vanishing" and explorer.before.num_images == 64
    shown = explorer.sheet()
    assert "The signal vanishes" in " ".join(shown.words()) and len(squares(shown, "activation: before")) == 19
    assert "on 64 images, seed 0" in " ".join(shown.words()) and not explorer.losses
    assert_readable(shown, widest=NARROW_ROOM)
    figure = explorer.picture()
    assert "The signal vanishes" in figure.alt and figure.title == "VGG (2,2,4,4,4), torch’s default, ReLU"
    assert explorer.children[1].layout.flex_flow == "row wrap", "side by side, where there is room"
    assert sum(patch.get_gid() == "gradient: before training" for patch in figure.axes[0].patches) == 19


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("network", "B", {"blocks": for_fashion_mnist(VGG["B"]).blocks[:2]}),
        ("num_blocks", 3, {"blocks": for_fashion_mnist(VGG["A"]).blocks[:3]}),
        ("init", "xavier", {"init": "xavier"}),
        ("init", "default", {"init": "default"}),
        ("init", "normal", {"init": "normal", "init_std": 0.01}),
        ("activation", "tanh", {"activation": "tanh"}),
        ("activation", "identity", {"activation": "identity"}),
        ("batch_norm", True, {"norm": "batch"}),
        ("seed", 3, {}),
    ],
)
@pytest.mark.parametrize("by", ["hand", "code"])
def test_every_knob_changes_the_patient_and_its_vital_signs_are_torchs(small, name, value, changes, by):
    before = small.architecture
    random = torch.get_rng_state()
    if by == "hand":
        small.controls[name].value = value
    else:
        setattr(small, name, value)
    assert torch.equal(torch.get_rng_state(), random)
    assert small.architecture == before.change(**changes)
    assert getattr(small, name) == small.controls[name].value == value
    assert small.before.layers.equals(by_hand(small, seed=small.seed).layers)
    assert len(drawn(small, "activation: before training")) == len(small.before.layers)
    assert f"= {small.architecture.weight_layers} weight layers" in text(small._depth)


def test_sigma_counts_only_where_weights_are_drawn_from_it(small):
    assert small.controls["init_std"].disabled
    small.init, small.init_std = "normal", 0.1
    assert small.architecture.init_std == 0.1 and not small.controls["init_std"].disabled
    assert "N(0, 0.1²)" in small.sheet().title
    small.init = "he"
    assert small.architecture.init_std is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("network", "C", "network must be one of 'A', 'B', 'D', 'E', got 'C'"),
        ("num_blocks", 6, "num_blocks must be a whole number from 1 to 5, got 6"),
        ("init", "glorot", "init must be one of 'default', 'he', 'xavier', 'normal', got 'glorot'"),
        ("init_std", 0.04, "init_std must be one of 0.001"),
        ("init_std", np.float32(0.5), "init_std must be one of"),
        ("activation", "swish", "activation must be one of 'relu'"),
        ("batch_norm", 1, "batch_norm must be True or False, got 1"),
        ("seed", -1, "seed must be a whole number of at least 0, got -1"),
        ("lr", 0.3, "lr must be one of 0.001"),
        ("architecture", VGG_SMALL["VGG (1,1)"], "architecture must be VGG's A, B, D or E at an eighth"),
        ("architecture", SICK.change(init="normal", init_std=0.04), "init_std must be one of"),
        ("architecture", SICK.change(norm="lrn"), "architecture must be VGG's A, B, D or E"),
        ("architecture", "E", "architecture must be an Architecture"),
    ],
)
def test_what_it_cannot_show_is_refused_in_words_and_nothing_changes(small, name, value, said):
    architecture, shown = small.architecture, small.sheet()
    with pytest.raises(ValueError) as caught:
        setattr(small, name, value)
    assert str(caught.value).startswith(said)
    assert "np." not in str(caught.value), "numbers of numpy's are written as numbers"
    assert small.architecture == architecture and small.sheet() == shown


def test_each_patient_of_the_lesson_can_be_set_from_code(small):
    for arm in STUCK.arms:
        small.architecture = arm.architecture
        assert small.architecture == arm.architecture
        assert (small.init, small.batch_norm) == (arm.architecture.init, arm.architecture.norm == "batch")


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match="data must be a FashionMNIST"):
        training_clinic(None)


# --- twenty steps -----------------------------------------------------------------------------------------------------


def losses_by_hand(architecture, data, seed, lr, steps):
    torch.manual_seed(seed)
    net = build(architecture)
    recipe = Recipe(epochs=steps, lr=lr, schedule="constant", dtype="float32")
    return net, [float(step.loss) for step in itertools.islice(train(net, data.train, recipe, seed=seed), steps)]


def test_the_steps_are_those_of_the_loop_and_leave_your_random_numbers_alone(small):
    small.seed, small.lr = 2, 0.02
    random = torch.get_rng_state()
    small.train_button.click()
    assert torch.equal(torch.get_rng_state(), random)
    net, expected = losses_by_hand(small.architecture, small.data, seed=2, lr=0.02, steps=10)
    assert small.losses == expected and len(expected) == 10
    assert len(drawn(small, "loss")) == 10 and small.verdict == first_losses(expected)
    assert small.verdict.words in " ".join(small._losses.drawn.words())
    after = vital_signs(net, *small.images)
    assert small.after.layers.equals(after.layers) and small.diagnosis == diagnosis(after, small.before)
    assert len(drawn(small, "gradient: after 10 steps")) == len(after.layers)
    assert not small.train_button.disabled and small.stop_button.disabled
    small.train_button.click()
    assert small.losses == expected, "the same seed, the same losses"
    assert_readable(small.sheet(), widest=NARROW_ROOM)


def test_a_tick_takes_away_and_brings_back_the_vital_signs_after_training(small):
    assert small.controls["with_after"].disabled
    small.train()
    assert not small.controls["with_after"].disabled and drawn(small, "activation: after")
    small.with_after = False
    assert not drawn(small, "activation: after") and small.diagnosis == diagnosis(small.before)
    small.with_after = True
    assert drawn(small, "activation: after")


def test_another_rate_puts_the_losses_behind_in_grey(small):
    small.train()
    first = small.losses
    before = small.before
    small.lr = 0.01
    assert small.losses == [] and small.after is None and small.verdict is None
    assert small.before is before, "before the first step the rate makes no difference"
    assert len(drawn(small, "earlier")) == 10 and not drawn(small, "loss")
    assert "earlier: A, He, ReLU, rate 0.1" in " ".join(mark.words for mark in small.sheet().named("earlier's"))
    small.train()
    assert len(drawn(small, "earlier")) == len(drawn(small, "loss")) == 10 and small.losses != first


def test_a_loss_that_is_no_number_is_said_and_the_clinic_stays_usable(small):
    small.init, small.init_std, small.lr = "normal", 1.0, 2.0
    small.train()
    assert not math.isfinite(small.losses[-1]) and len(small.losses) < 10
    assert "The loss became" in text(small.message) and 'role="alert"' in text(small.message)
    assert small.verdict.kind == "no number" and small.verdict.words in " ".join(small.sheet().words())
    assert small.after is None and not small.train_button.disabled
    small.init, small.lr = "he", 0.01
    assert text(small.message) == ""
    small.train()
    assert len(small.losses) == 10 and all(map(math.isfinite, small.losses)) and small.after is not None


def in_a_notebook(explorer, meanwhile):
    """Press train where a loop runs, as in a notebook; `meanwhile(explorer)` is called when two steps are done."""

    async def cell():
        task = explorer.train()
        assert explorer.is_training and explorer.train_button.disabled and not explorer.stop_button.disabled
        while len(explorer.losses) < 2:
            await asyncio.sleep(0)
        meanwhile(explorer)
        await task
        return task

    return asyncio.run(cell())


def test_the_stop_button_ends_it_and_what_was_learnt_is_looked_at(small):
    in_a_notebook(small, lambda explorer: explorer.stop_button.click())
    steps = len(small.losses)
    assert 2 <= steps < 10 and small.verdict.kind == "few"
    assert len(drawn(small, f"activation: after {steps} steps")) == len(small.before.layers)
    assert not small.is_training and small.stop_button.disabled and not small.train_button.disabled


def test_other_cells_may_draw_random_numbers_meanwhile_and_the_losses_are_the_same(small):
    small.train()
    alone = small.losses

    def other_cell(explorer):
        torch.manual_seed(99)
        torch.rand(1000)

    torch.manual_seed(99)
    torch.rand(1000)
    theirs = torch.get_rng_state()
    in_a_notebook(small, other_cell)
    assert small.losses == alone and torch.equal(torch.get_rng_state(), theirs)


def test_a_second_press_is_answered_with_a_word_and_changes_nothing(small):
    small.train()
    alone, answers = small.losses, []

    def press(explorer):
        answers.append(explorer.train())
        answers.append(text(explorer.message))

    in_a_notebook(small, press)
    assert answers[0] is None and "It is being trained already" in answers[1]
    assert small.losses == alone and text(small.message) == "", "there is nothing to wait for any more"


def test_a_knob_turned_while_it_trains_stops_it_and_says_so(small):
    runs = []

    def turn(explorer):
        runs.append(explorer._run)
        explorer.init = "xavier"
        assert not explorer.is_training and not explorer.train_button.disabled
        assert "that training is stopped" in text(explorer.message)

    in_a_notebook(small, turn)
    assert len(runs[0].losses) < 10, "it takes no further step"
    assert small.losses == [] and small.after is None and small.verdict is None, "nothing of it is written late"
    assert "that training is stopped" in text(small.message)
    assert small.before.layers.equals(by_hand(small, seed=0).layers)
    small.train()
    assert small.losses == losses_by_hand(small.architecture, small.data, seed=0, lr=0.1, steps=10)[1]


def test_sigma_set_while_weights_are_not_drawn_from_it_lets_the_training_go_on(small):
    def turn(explorer):
        explorer.init_std = 0.3
        assert explorer.is_training and text(explorer.message) == ""

    in_a_notebook(small, turn)
    assert len(small.losses) == 10 and small.after is not None and small._earlier is None
    small.init_std = 0.5
    assert len(small.losses) == 10, "nor does it put what was learnt behind"


def test_cancelled_before_its_first_step_it_can_be_trained_again(small):
    async def cell():
        task = small.train()
        assert TrainingClinic.at_work is small
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cell())
    assert not small.is_training and TrainingClinic.at_work is None and small.losses == []
    assert not small.train_button.disabled and small.stop_button.disabled
    assert "Interrupted: press the button to begin anew." in text(small.message)
    small.train()
    assert len(small.losses) == 10 and text(small.message) == ""


def test_the_notebooks_own_stop_while_a_cell_awaits_the_training_is_said(small):
    async def cell():
        await small.train()

    async def notebook():
        task = asyncio.ensure_future(cell())
        while len(small.losses) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(notebook())
    assert 2 <= len(small.losses) < 10 and not small.is_training and not small.train_button.disabled
    assert "Interrupted: press the button to begin anew." in text(small.message)
    assert small.verdict.kind == "few", "what was learnt till then is on display"


@pytest.mark.parametrize("drawing", ["first_losses_sheet", "vital_signs_sheet"])
def test_an_error_in_a_drawing_is_not_shown_as_yours(small, monkeypatch, drawing):
    def fails(*args, **kwargs):
        raise ValueError("no ink")

    with monkeypatch.context() as patch:
        patch.setattr(clinic, drawing, fails)
        with pytest.raises(ValueError, match="no ink"):
            small.train()
    assert "fault in the explorer, not yours" in text(small.message)
    assert not small.is_training and not small.train_button.disabled


def test_while_another_explorer_trains_it_waits(small, tiny, monkeypatch):
    other, answers = TrainingClinic(tiny), []

    def press(explorer):
        assert TrainingClinic.at_work is explorer
        answers.append(other.train())

    in_a_notebook(small, press)
    monkeypatch.setattr(trainer.Trainer, "at_work", object())
    answers.append(small.train())
    assert answers == [None, None] and TrainingClinic.at_work is None
    for explorer in (small, other):
        assert "A network is being trained in another explorer: wait until it is done" in text(explorer.message)
        assert not explorer.is_training and not explorer.train_button.disabled
    assert other.losses == [] and len(small.losses) == 10
    monkeypatch.setattr(trainer.Trainer, "at_work", None)
    small.train()
    assert text(small.message) == "" and small.after is not None


def test_vital_signs_that_cannot_be_taken_are_said_and_the_last_picture_stays(small, monkeypatch):
    shown = small._vitals.drawn

    def fails(*args):
        raise ValueError("the network's numbers must be finite")

    with monkeypatch.context() as patch:
        patch.setattr(clinic, "vital_signs", fails)
        small.init = "xavier"
        assert "Its vital signs can’t be taken: the network's numbers must be finite" in text(small.message)
        assert small._vitals.drawn is shown
    small.init = "he"
    assert text(small.message) == "" and small._vitals.drawn is not shown and small._vitals.drawn == shown


def test_an_error_that_nobody_foresaw_is_shown_and_raised(small, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(clinic, "train", fails)
        with pytest.raises(OSError, match="the disk is full"):
            small.train()
        assert "the disk is full" in text(small.message) and "Traceback" in text(small.message)
        small.say()
        small.train_button.click()
    assert "the disk is full" in text(small.message) and "Exception in callback" in caplog.text
    caplog.clear()
    assert not small.is_training and not small.train_button.disabled
    small.train()
    assert len(small.losses) == 10
    with monkeypatch.context() as patch:
        patch.setattr(clinic, "vital_signs", fails)
        with pytest.raises(OSError, match="the disk is full"):
            small.controls["seed"].value = 1
    assert "the disk is full" in text(small.message)
