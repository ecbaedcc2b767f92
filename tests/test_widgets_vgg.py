"""The VGG explorer without a front end: every control moved, every button pressed, under ipywidgets 7 and 8."""

import asyncio
import json

import ipywidgets
import pytest

from utils import trials
from utils.architectures import ALEXNET, ALEXNET_SMALL, LENET, LENET_BOOK, VGG, VGG_SMALL, Head, vgg_like
from utils.data import FashionMNIST
from utils.editing import for_fashion_mnist
from utils.faults import TrainingError
from utils.kept import Kept, NotKept
from utils.models import build
from utils.plots import LessonFigure
from utils.plots.columns import columns_of, short
from utils.profiling import profile
from utils.widgets import vgg_explorer
from utils.widgets.trainer import TIMES, Trainer
from utils.widgets.vgg import START, VggExplorer

SMALL = vgg_like((1,), (4,), norm="batch")


pytestmark = pytest.mark.usefixtures("one_thread", "quick_trials")


@pytest.fixture
def explorer(tiny, tmp_path):
    return VggExplorer(tiny, kept=Kept(tmp_path))


@pytest.fixture(scope="module")
def one_for_all(tiny, tmp_path_factory):
    return VggExplorer(tiny, kept=Kept(tmp_path_factory.mktemp("kept")))


@pytest.fixture
def knobs(one_for_all):
    """An explorer whose controls stand as at the start; nothing is trained in it."""
    one_for_all.editor.all_alike.value, one_for_all.editor.size.value = False, "small"
    one_for_all.reference, one_for_all.batch_size, one_for_all.image_number = "VGG-16 (D)", 128, 0
    one_for_all.architecture = START
    return one_for_all


def drawn_blocks(explorer):
    """What the drawing says of each block: (convolutions, channels)."""
    columns = [column for column in columns_of(profile(build(explorer.architecture, device="meta")))]
    boxes = explorer.drawing.drawn.named("layer")
    assert len(boxes) == len(columns)  # the drawing is of this network
    return boxes


def rows_of_the_table(explorer):
    return explorer.table.value.count("<tr>") - 2  # the head, the total


def pressed(box, words):
    """Press the button with these words in a box of buttons."""
    (button,) = [child for child in box.children if child.description == words]
    button.click()


# --- every control ----------------------------------------------------------------------------------------------------


def test_it_is_one_call_and_starts_with_a_network_that_can_be_trained(tiny):
    explorer = vgg_explorer(tiny)
    assert explorer.architecture == START
    assert explorer.drawing.drawn.title == "VGG-11 ⅛ + BN" and explorer.message.value == ""
    assert explorer.editor.family.value == "VGG-11 ⅛ + BN"
    assert explorer.trainer.rate.value == 0.2


@pytest.mark.parametrize(
    "architecture", [LENET, LENET_BOOK, ALEXNET, ALEXNET_SMALL, *VGG.values(), *VGG_SMALL.values()]
)
def test_every_preset_can_be_set_from_code_and_all_controls_move_to_it(knobs, architecture):
    knobs.architecture = architecture
    editor = knobs.editor
    assert knobs.architecture == architecture and editor.error is None
    assert editor.num_blocks.value == len(architecture.blocks) == len(editor.rows)
    for own, block in zip(editor.rows, architecture.blocks, strict=True):
        assert own.num_convs.value == len(block.convs)
        assert own.channels.value == max(conv.out_channels for conv in block.convs)
        assert own.kernel_size.value == max(conv.kernel_size for conv in block.convs)
        assert own.pooled.value == (block.pool is not None)
    assert editor.norm.value == (architecture.norm == "batch")
    assert editor.activation.value == architecture.activation and editor.init.value == architecture.init
    assert editor.head.value == "dense" and editor.image_size.value == architecture.image_size
    assert knobs.drawing.drawn.title == architecture.label
    drawn_blocks(knobs)


@pytest.mark.parametrize(
    ("size", "name", "architecture"),
    [
        ("small", "LeNet", LENET),
        ("small", "AlexNet", ALEXNET_SMALL),
        *(("small", name, for_fashion_mnist(VGG[name])) for name in "ABCDE"),
        ("published", "LeNet", LENET_BOOK),
        ("published", "AlexNet", ALEXNET),
        *(("published", name, VGG[name]) for name in "ABCDE"),
    ],
)
def test_every_preset_button_sets_its_network(knobs, size, name, architecture):
    knobs.editor.size.value = size
    knobs.editor.preset.value = name
    assert knobs.architecture == architecture


def test_small_and_published_change_the_network_that_was_chosen(knobs):
    knobs.editor.preset.value = "D"
    knobs.editor.size.value = "published"
    assert knobs.architecture == VGG["D"]
    assert knobs.editor.preset.value == "D"


def test_the_small_family_can_be_chosen(knobs):
    for name, architecture in VGG_SMALL.items():
        knobs.editor.family.value = name
        assert knobs.architecture == architecture


def test_a_network_that_is_no_preset_presses_no_preset_button(knobs):
    knobs.architecture = VGG["A"]
    assert (knobs.editor.preset.value, knobs.editor.size.value) == ("A", "published")
    knobs.editor.rows[0].num_convs.value = 3
    assert knobs.editor.preset.value is None and knobs.editor.family.value == "–"


@pytest.mark.parametrize(
    ("move", "read", "expected"),
    [
        (lambda e: e.rows[0].num_convs, lambda a: len(a.blocks[0].convs), 3),
        (lambda e: e.rows[2].channels, lambda a: a.blocks[2].convs[1].out_channels, 128),
        (lambda e: e.rows[1].kernel_size, lambda a: a.blocks[1].convs[0].kernel_size, 7),
        (lambda e: e.rows[4].pooled, lambda a: a.blocks[4].pool is not None, False),
        (lambda e: e.num_blocks, lambda a: len(a.blocks), 3),
        (lambda e: e.norm, lambda a: a.norm == "batch", False),
        (lambda e: e.activation, lambda a: a.activation, "tanh"),
        (lambda e: e.init, lambda a: a.init, "xavier"),
        (lambda e: e.head, lambda a: "dense" if a.head.hidden else "pooled", "pooled"),
        (lambda e: e.image_size, lambda a: a.image_size, 64),
    ],
)
def test_every_control_changes_its_field_and_what_is_drawn(knobs, move, read, expected):
    before = knobs.drawing.value, knobs.table.value
    move(knobs.editor).value = expected
    assert read(knobs.architecture) == expected
    assert knobs.drawing.drawn.title == knobs.architecture.label
    assert knobs.drawing.value != before[0]
    assert rows_of_the_table(knobs) == len(profile(build(knobs.architecture, device="meta")).layers)
    drawn_blocks(knobs)


def test_normal_initialisation_brings_its_deviation_and_leaves_with_it(knobs):
    knobs.editor.init.value = "normal"
    assert knobs.architecture.init_std == 0.01
    knobs.editor.init.value = "he"
    assert knobs.architecture.init_std is None
    knobs.architecture = START.change(init="normal", init_std=0.1)
    knobs.editor.num_blocks.value = 4
    assert knobs.architecture.init_std == 0.1


def test_all_blocks_alike_links_the_rows(knobs):
    knobs.editor.all_alike.value = True
    knobs.editor.rows[2].kernel_size.value = 5
    knobs.editor.rows[0].num_convs.value = 2
    knobs.editor.rows[4].channels.value = 24
    for own, block in zip(knobs.editor.rows, knobs.architecture.blocks, strict=True):
        assert own.kernel_size.value == 5 and own.num_convs.value == 2 and own.channels.value == 24
        assert [(conv.out_channels, conv.kernel_size) for conv in block.convs] == [(24, 5)] * 2
    knobs.editor.all_alike.value = False
    knobs.editor.rows[0].kernel_size.value = 3
    assert knobs.architecture.blocks[1].convs[0].kernel_size == 5


def test_the_dense_head_comes_back_as_it_was(knobs):
    knobs.editor.head.value = "pooled"
    assert knobs.architecture.head == Head(hidden=(), pool_size=1)
    knobs.editor.head.value = "dense"
    assert knobs.architecture == START


def test_a_width_that_isnt_on_the_slider_is_added_to_it_and_stays(knobs):
    knobs.architecture = LENET
    assert 6 in knobs.editor.rows[0].channels.options
    knobs.editor.rows[0].channels.value = 8
    assert 6 in knobs.editor.rows[0].channels.options  # or the slider's places would move under the hand


def test_the_reference_the_batch_and_the_image_change_what_is_said(knobs):
    before = knobs.drawing.drawn.words()
    knobs.reference = "LeNet"
    assert any(words.startswith("Against LeNet: 2.8 × the parameters") for words in knobs.drawing.drawn.words())
    knobs.controls["batch_size"].value = 8
    costs = profile(build(START, device="meta"))
    assert f"{short(costs.training_memory(8).total)}B to train a batch of 8" in " ".join(knobs.drawing.drawn.words())
    assert before != knobs.drawing.drawn.words()
    pixels = knobs.field.drawn.named("image")[0].pixels
    knobs.image_number = 7
    other = knobs.field.drawn.named("image")[0].pixels
    assert other.shape == (32, 32) and (other != pixels).any()
    assert other[2:30, 2:30].tolist() == knobs.data.validation.pixels[7, 0].tolist()  # framed, not changed


def test_the_table_is_the_profiles(knobs):
    costs = profile(build(START, device="meta"))
    for row in costs.layers.itertuples():
        assert row.name in knobs.table.value
    assert f"{costs.total.parameters:,}" in knobs.table.value


# --- what can't be built ----------------------------------------------------------------------------------------------


def test_a_network_too_deep_for_28_pixels_says_why_in_place_and_the_last_one_stays(knobs):
    before = knobs.drawing.value
    knobs.editor.image_size.value = 28
    assert "Block 5 can’t be built: only 1×1 of the 28×28 image is left to pool over 2×2" in knobs.message.value
    assert 'role="alert"' in knobs.message.value
    assert knobs.architecture == START and knobs.drawing.value == before
    assert knobs.editor.image_size.value == 28  # what the student set stays set
    assert "→ 5" in knobs.editor.rows[4].name.value and "→" not in knobs.editor.rows[3].name.value


@pytest.mark.parametrize(
    ("words", "blocks", "size"),
    [("take 4 blocks", 4, 28), ("take 32×32 images", 5, 32), ("pool no more in block 5", 5, 28)],
)
def test_a_button_does_what_would_help(knobs, words, blocks, size):
    knobs.editor.image_size.value = 28
    pressed(knobs.fixes, words)
    assert (len(knobs.architecture.blocks), knobs.architecture.image_size) == (blocks, size)
    assert knobs.message.value == "" and knobs.fixes.children == ()
    assert all("→" not in own.name.value for own in knobs.editor.rows)
    assert knobs.editor.num_blocks.value == blocks and knobs.editor.image_size.value == size


def test_one_can_go_on_from_what_cant_be_built_by_hand_too(knobs):
    knobs.editor.image_size.value = 28
    knobs.editor.rows[0].num_convs.value = 2  # still wrong
    assert knobs.editor.error is not None
    knobs.editor.num_blocks.value = 4
    assert knobs.editor.error is None and knobs.architecture.image_size == 28
    assert len(knobs.architecture.blocks[0].convs) == 2  # what was set meanwhile counts


def test_a_head_that_asks_for_too_much_is_named(knobs):
    knobs.architecture = VGG["A"]
    knobs.editor.image_size.value = 96
    assert "The head can’t be built: it averages the last maps to 7×7" in knobs.message.value


@pytest.mark.parametrize("wrong", ["A", None, build(SMALL), SMALL.to_dict()])
def test_what_is_no_architecture_is_refused_from_code(knobs, wrong):
    with pytest.raises(ValueError, match="architecture must be an Architecture, such as"):
        knobs.architecture = wrong
    assert knobs.architecture == START


@pytest.mark.parametrize("arguments", [{"data": "MNIST"}, {"seed": -1}])
def test_arguments_that_make_no_sense_are_refused(tiny, arguments):
    with pytest.raises(ValueError, match="must be"):
        VggExplorer(**{"data": tiny, **arguments})


def test_an_error_in_a_callback_is_shown_and_raised(explorer, monkeypatch):
    monkeypatch.setattr("utils.widgets.vgg.network_columns", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.editor.num_blocks.value = 3
    assert "ZeroDivisionError" in explorer.message.value and "fault in the explorer" in explorer.message.value
    assert "in _draw" in explorer.message.value


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trainable(explorer, monkeypatch):
    monkeypatch.setitem(TIMES, "10 s", 0.5)
    explorer.architecture = SMALL
    return explorer


def in_a_loop(work):
    """As in a notebook: the explorer's task runs beside `work(explorer)`."""
    return asyncio.run(work)


def test_the_button_trains_and_the_point_appears(trainable):
    trainable.trainer.train_button.click()  # no loop runs here: to its end
    (trial,) = trainable.collection.trials
    assert trial["name"] == SMALL.label
    assert trainable.trainer.curve.drawn.named("validation loss") and trainable.trainer.progress.value == ""
    assert f"{100 * trial['accuracy']:.1f} % of the 20 validation images" in trainable.trainer.message.value
    assert "images/s in inference" in trainable.trainer.message.value
    assert SMALL.label in names_on_the_plot(trainable)
    assert trainable.trainer.stop_button.disabled and not trainable.trainer.train_button.disabled


def test_the_lines_that_it_gives_train_the_same_network(trainable, tiny):
    trainable.train()
    namespace = {"data": tiny}
    trainable.architecture = START  # the lines are of what was trained, not of what is set now
    exec(Trainer.code(trainable.trainer.trial), namespace)
    for name, weights in namespace["net"].state_dict().items():
        assert weights.equal(trainable.trainer.trial.net.state_dict()[name]), name


def test_a_notebook_goes_on_while_it_trains_and_a_stop_ends_it(trainable, monkeypatch):
    monkeypatch.setitem(TIMES, "2 min", 60.0)
    trainable.trainer.time.value = "2 min"

    async def work():
        task = trainable.train()
        cells = 0
        while len(trainable.trainer.trial.losses) < 3:
            await asyncio.sleep(0.01)
            cells += 1
        assert cells > 1 and trainable.trainer.is_training and not trainable.trainer.stop_button.disabled
        assert "left" in trainable.trainer.progress.value
        trainable.trainer.stop_button.click()
        await task

    in_a_loop(work())
    (trial,) = trainable.collection.trials
    assert "you stopped it" in trial["stopped"] and trial["steps"] < trial["total_steps"]
    assert "stopped" in trainable.trainer.message.value
    assert not trainable.trainer.is_training


def test_a_second_press_is_answered_with_a_word_and_changes_nothing(trainable):
    async def work():
        task = trainable.train()
        await asyncio.sleep(0)
        trainable.trainer.train_button.click()
        assert "A network is being trained: wait until it is done, or press ■." in trainable.trainer.message.value
        assert trainable.trainer.task is task
        trainable.stop()
        await task

    in_a_loop(work())
    assert trainable.trainer.trial.phase == "done"


def test_a_second_explorer_stops_what_the_first_one_trains_and_sees_its_point(trainable, tiny):
    async def work():
        task = trainable.train(30)
        while len(trainable.trainer.trial.losses) < 2:
            await asyncio.sleep(0.01)
        again = VggExplorer(tiny, kept=trainable.collection.kept)  # its cell was run again
        again.trainer.train_button.click()
        assert "another explorer" in again.trainer.message.value
        await task
        return again

    again = in_a_loop(work())
    assert "another explorer was opened" in again.collection.trials[0]["stopped"]
    assert len(again.collection.rows) == 1


def test_the_network_can_be_changed_while_another_is_trained(trainable):
    async def work():
        task = trainable.train()
        await asyncio.sleep(0.02)
        trainable.editor.num_blocks.value = 2
        await task

    in_a_loop(work())
    assert trainable.collection.trials[0]["architecture"] == SMALL.to_dict()
    assert len(trainable.architecture.blocks) == 2


def test_a_rate_that_breaks_the_network_is_said_in_words_and_the_explorer_works_on(trainable):
    trainable.architecture = vgg_like((1,), (4,), norm="none")
    trainable.train(lr=1e9)
    assert 'role="alert"' in trainable.trainer.message.value and "loss" in trainable.trainer.message.value
    assert not trainable.trainer.is_training and trainable.collection.trials == []
    trainable.train(lr=0.05)
    assert len(trainable.collection.trials) == 1


def test_an_error_that_nobody_foresaw_is_shown_and_comes_out_of_the_task(trainable, monkeypatch):
    def breaks(self):
        yield "getting ready"
        raise RuntimeError("on purpose")

    monkeypatch.setattr("utils.widgets.trainer.Trial.__iter__", breaks)
    with pytest.raises(RuntimeError, match="on purpose"):
        trainable.train()
    assert "RuntimeError: on purpose" in trainable.message.value
    assert not trainable.trainer.is_training


def test_what_the_system_refuses_is_said(trainable, monkeypatch):
    def full(self, record):
        raise OSError(28, "No space left on device: this result couldn’t be kept")

    with monkeypatch.context() as patch:
        patch.setattr("utils.results.ResultsFile.append", full)
        trainable.train()
    assert "It is shown, and couldn’t be kept" in trainable.trainer.message.value
    assert "No space left on device" in trainable.trainer.message.value
    assert not trainable.trainer.is_training
    collection = trainable.collection
    (own,) = collection.rows
    assert "not kept" in own.words.value and SMALL.label in names_on_the_plot(trainable)
    own.name.value = "mine"
    assert "can’t be named" in collection.message.value and collection.rows[0].name.value == SMALL.label
    trainable.train()  # there is room again
    (own,) = collection.rows
    assert "not kept" not in own.words.value and len(collection.kept.trials()) == 1


def test_what_couldnt_be_kept_can_be_removed(trainable, two_trials, monkeypatch):
    def read_only(self, record):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("utils.results.ResultsFile.append", read_only)
    with pytest.raises(NotKept, match="Read-only"):
        trainable.collection.add(two_trials[0])
    trainable.collection.rows[0].remove_button.click()
    assert trainable.collection.rows == [] and "None yet" in trainable.collection.message.value


@pytest.mark.parametrize(
    ("line", "words", "number"),
    [
        ('{"kind": "trial", "key": "k", "name": "half"}', "Left out: 1 record in ", 2),
        ("what somebody's editor left", "What was kept can’t be read: ", 0),
    ],
)
def test_a_file_that_was_spoilt_is_said_and_the_explorer_opens(with_two, tiny, line, words, number):
    file = with_two.collection.kept.file.path
    file.write_text(f"{file.read_text('utf-8')}{line}\n", encoding="utf-8")
    again = VggExplorer(tiny, kept=Kept(file.parent))
    assert words in again.collection.message.value and 'role="alert"' in again.collection.message.value
    assert len(again.collection.rows) == number
    again.architecture = vgg_like((1,), (5,), norm="batch")
    again.train(0.5)
    assert len(again.collection.rows) == number + 1
    assert ("It is shown, and couldn’t be kept" in again.trainer.message.value) == (number == 0)
    assert "fault" not in again.message.value + again.trainer.message.value


@pytest.mark.parametrize("spoilt", [{"batch_size": 128}, {"dtype": "float64"}])
def test_throughputs_that_were_measured_otherwise_arent_drawn_beside_the_latest(with_two, two_trials, tiny, spoilt):
    record = two_trials[0]
    with_two.collection.kept.file.append(record | {"key": "k", "throughput": record["throughput"] | spoilt})
    again = VggExplorer(tiny, kept=with_two.collection.kept)
    assert len(again.collection.rows) == 1 and "2 more can’t be compared" in again.collection.message.value


def test_an_interruption_ends_it_and_not_the_kernel(trainable, monkeypatch):
    def interrupted(self):
        yield "getting ready"
        raise KeyboardInterrupt

    monkeypatch.setattr("utils.widgets.trainer.Trial.__iter__", interrupted)
    trainable.train()
    assert "Interrupted" in trainable.trainer.message.value and not trainable.trainer.is_training


def test_a_network_for_colour_images_says_what_would_help_and_a_button_does_it(trainable):
    trainable.architecture = SMALL.change(in_channels=3)
    trainable.train()
    assert "takes images of 3 channels, and these have 1" in trainable.trainer.message.value
    (button,) = trainable.trainer.fixes.children
    assert button.description == "input channels 1"
    button.click()
    assert trainable.architecture == SMALL and trainable.trainer.fixes.children == ()
    trainable.train()
    assert len(trainable.collection.trials) == 1


def test_buttons_that_are_offered_no_more_are_closed(trainable):
    trainable.architecture = SMALL.change(in_channels=3)
    offered = []
    for _ in range(3):
        trainable.train()
        offered += trainable.trainer.fixes.children
    assert len(offered) == 3 and [button.comm is None for button in offered] == [True, True, False]


def test_what_is_to_be_pressed_is_no_longer_said_once_nothing_can_be_built(trainable):
    trainable.architecture = SMALL.change(in_channels=3)
    trainable.train()
    trainable.trainer.fixes.children[0].click()
    assert "Now press Train" in trainable.trainer.message.value
    trainable.editor.change(image_size=1)
    assert trainable.editor.error is not None and trainable.trainer.message.value == ""


def test_no_widget_of_ours_takes_a_name_that_ipywidgets_uses_itself():
    """`_compare`, say, with which it compares what is to be sent: whatever it calls then would be ours."""
    made_by_traitlets = vars(type("Plain", (ipywidgets.VBox,), {})).keys()
    ours, left = [], [ipywidgets.Widget]
    while left:
        own = left.pop()
        left += own.__subclasses__()
        ours += [own] * own.__module__.startswith("utils.")
    assert VggExplorer in ours and Trainer in ours
    for own in ours:
        theirs = {
            name
            for base in own.__mro__
            if base.__module__.startswith(("ipywidgets", "traitlets"))
            for name in vars(base)
        }
        taken = {name for name in vars(own) if name in theirs and not name.startswith("__")} - made_by_traitlets
        assert not taken, own


def test_a_network_that_is_too_slow_here_is_said(trainable, monkeypatch):
    monkeypatch.setattr(trials, "SLOWEST_STEP", 1e-9)
    trainable.train()
    assert "a step of 2 images takes about" in trainable.trainer.message.value
    assert trainable.collection.trials == []


def test_the_rate_follows_the_network_until_the_student_sets_it(explorer):
    assert explorer.trainer.rate.value == 0.2
    explorer.architecture = LENET
    assert explorer.trainer.rate.value == 0.1
    assert "suggested" not in explorer.trainer.suggestion.value
    explorer.trainer.rate.value = 0.02
    explorer.architecture = START
    assert explorer.trainer.rate.value == 0.02
    assert "suggested for this network: 0.2" in explorer.trainer.suggestion.value
    explorer.trainer.rate.value = 0.2  # back to it: it follows again
    explorer.architecture = LENET
    assert explorer.trainer.rate.value == 0.1 and "suggested" not in explorer.trainer.suggestion.value


@pytest.mark.parametrize("words", list(TIMES))
def test_each_time_is_the_one_that_is_trained_for(trainable, words, monkeypatch):
    asked = []

    def refuse(*arguments, seconds, **others):
        asked.append(seconds)
        raise ValueError("no")

    monkeypatch.setattr("utils.widgets.trainer.Trial", refuse)
    trainable.trainer.time.value = words
    with pytest.raises(ValueError, match="no"):
        trainable.train()
    assert asked == [TIMES[words]]


def test_lr_from_code_is_checked(trainable):
    with pytest.raises(ValueError, match="lr must be a number above 0, got 0"):
        trainable.train(lr=0)


# --- what was trained -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_trials(tiny):
    records = []
    for architecture in (SMALL, vgg_like((1,), (8,), norm="batch")):
        trial = trials.Trial(architecture, tiny, seconds=0.5)
        for _ in trial:
            pass
        records.append(trial.record)
    return records


@pytest.fixture
def with_two(explorer, two_trials):
    for record in two_trials:
        explorer.collection.add(record)
    return explorer


def names_on_the_plot(explorer):
    return [text.get_text() for axes in explorer.collection.plot.drawn.axes for text in axes.texts]


def test_points_are_there_again_in_a_new_explorer(with_two, tiny):
    again = VggExplorer(tiny, kept=Kept(with_two.collection.kept.file.path.parent))
    assert [own.name.value for own in again.collection.rows] == [own.name.value for own in with_two.collection.rows]
    assert len(again.collection.rows) == 2


def test_a_point_can_be_named(with_two):
    with_two.collection.rows[0].name.value = "eight channels"
    assert "eight channels" in names_on_the_plot(with_two)
    assert with_two.collection.kept.trials()[1]["name"] == "eight channels"


def test_a_name_that_is_taken_is_refused_in_words_and_the_old_one_stands_again(with_two):
    first, second = (own.name.value for own in with_two.collection.rows)
    with_two.collection.rows[0].name.value = second
    assert "must be its own" in with_two.collection.message.value
    assert [own.name.value for own in with_two.collection.rows] == [first, second]


def test_points_can_be_compared(with_two):
    assert with_two.collection.comparison.drawn is None
    for own in with_two.collection.rows:
        own.compared.value = True
    names = {own.name.value for own in with_two.collection.rows}
    figure = with_two.collection.comparison.drawn
    assert {line.get_gid() for line in figure.axes[0].lines if line.get_gid()} >= {f"loss: {name}" for name in names}
    for words in (*names, "validation accuracy", "images/s in inference", "parameters"):
        assert words in with_two.collection.table.value
    with_two.collection.rows[0].compared.value = False
    assert with_two.collection.comparison.drawn is None and with_two.collection.table.value == ""


def test_a_point_can_be_removed_and_is_gone_from_the_plot_and_the_file(with_two):
    gone, stays = (own.name.value for own in with_two.collection.rows)
    with_two.collection.rows[0].remove_button.click()
    assert stays in names_on_the_plot(with_two) and gone not in names_on_the_plot(with_two)
    assert [trial["name"] for trial in with_two.collection.kept.trials()] == [stays]


def test_a_point_that_another_notebook_has_removed_is_said_to_be_gone(with_two):
    own = with_two.collection.rows[0]
    with_two.collection.kept.remove(own.key)
    own.remove_button.click()
    assert "This network is gone already" in with_two.collection.message.value and len(with_two.collection.rows) == 1


def test_a_network_that_was_trained_can_be_set_again(with_two):
    with_two.collection.rows[1].set_button.click()
    assert with_two.architecture == SMALL


def test_the_plot_can_be_saved(with_two):
    with_two.collection.save_button.click()
    folder = with_two.collection.kept.file.path.parent
    assert (folder / "explorer.svg").exists() and (folder / "explorer.png").exists()
    assert "explorer.svg" in with_two.collection.message.value


def test_with_nothing_trained_on_the_sample_there_is_nothing_to_save(explorer):
    explorer.collection.save_button.click()
    assert "nothing to save yet" in explorer.collection.message.value


def test_trials_of_another_device_or_other_images_are_kept_and_not_drawn(with_two, two_trials):
    record = two_trials[0]
    with_two.collection.add(record | {"key": "k1", "data": "others"})
    with_two.collection.add(record | {"key": "k2", "throughput": record["throughput"] | {"device": "an abacus"}})
    assert len(with_two.collection.rows) == 2 and len(with_two.collection.kept.trials()) == 4
    assert (
        "2 more can’t be compared with these: another device, dtype or batch, or other images"
        in with_two.collection.message.value
    )


def test_lenet_alexnet_and_the_small_family_are_there_already(tiny, tmp_path):
    whole = FashionMNIST(tiny.train, tiny.validation, tiny.all_train, tiny.test, "as if all", "e" * 64, is_sample=False)
    explorer = VggExplorer(whole, kept=Kept(tmp_path))
    assert explorer.collection.reference
    for name in ("LeNet", "AlexNet small", *VGG_SMALL):
        assert name in names_on_the_plot(explorer)


# --- the front end's side ---------------------------------------------------------------------------------------------


def widgets_in(box):
    return [w for child in getattr(box, "children", ()) for w in (child, *widgets_in(child))]


def test_options_took_effect_in_this_version_of_ipywidgets(explorer):
    """ipywidgets 7 ignores a keyword that it doesn't know."""
    (accordion,) = [w for w in widgets_in(explorer) if isinstance(w, ipywidgets.Accordion)]
    assert accordion.selected_index is None and accordion.get_title(0) == "All layers, as a table"
    editor = explorer.editor
    assert (editor.num_blocks.min, editor.num_blocks.max) == (1, 6)
    assert editor.preset.style.button_width == "auto" and editor.norm.indent is False
    assert editor.num_blocks.style.description_width == "initial" and editor.num_blocks.continuous_update
    assert explorer.trainer.train_button.button_style == "primary"
    assert not explorer.collection.rows  # none yet


def test_a_name_is_taken_when_it_is_whole_and_not_letter_by_letter(with_two):
    assert with_two.collection.rows[0].name.continuous_update is False


def test_its_state_is_small_and_can_be_sent(explorer):
    for widget in (explorer, *widgets_in(explorer)):
        json.dumps(widget.get_state(), default=str)
    assert len(explorer.drawing.value) < 40_000


def test_its_picture_shows_the_network_as_it_starts(explorer):
    figure = explorer.picture()
    assert figure.title == "VGG-11 ⅛ + BN" and "block 5" in figure.alt
    gids = {artist.get_gid() for axes in figure.axes for artist in axes.patches}
    assert "layer 1: conv" in gids and "field of block 5" in gids
    assert "run this cell to use it" in repr(explorer) and "children" not in repr(explorer)


# --- what went wrong once ---------------------------------------------------------------------------------------------


def test_ticks_cost_one_drawing_however_many_there_are(with_two, two_trials, monkeypatch):
    for number in range(6):
        with_two.collection.add(two_trials[0] | {"key": f"{number}", "name": f"twin {number}"})
    for own in with_two.collection.rows:
        own.compared.value = True
    drawings = []
    monkeypatch.setattr(
        "utils.widgets.collection.learning_curves", lambda curves, **_: drawings.append(list(curves)) or LessonFigure()
    )
    with_two.collection.renew()
    assert len(drawings) == 1 and len(drawings[0]) == 5 and "twin 5" in drawings[0]
    assert "At most 5 are compared" in with_two.collection.table.value


def test_what_was_removed_is_not_saved(with_two):
    while with_two.collection.rows:
        with_two.collection.rows[0].remove_button.click()
    with_two.collection.save_button.click()
    assert "nothing to save yet" in with_two.collection.message.value
    assert with_two.collection.kept.trials() == []


def test_rows_that_are_gone_are_closed(with_two):
    old = with_two.collection.rows[0]
    with_two.collection.renew()
    assert old.box.comm is None and with_two.collection.rows[0].box.comm is not None


def test_a_task_that_is_cancelled_before_it_begins_leaves_the_trainer_free(trainable):
    async def work():
        task = trainable.train()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    in_a_loop(work())
    assert not trainable.trainer.is_training and trainable.trainer.stop_button.disabled
    trainable.train()
    assert len(trainable.collection.trials) == 1


def test_the_notebooks_own_stop_while_a_cell_waits_is_said(trainable):
    async def work():
        task = trainable.train(30)
        while not trainable.trainer.trial.losses:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_a_loop(work())
    (trial,) = trainable.collection.trials  # nothing that was learnt is lost
    assert "you interrupted it" in trial["stopped"] and "you interrupted it" in trainable.trainer.message.value
    assert not trainable.trainer.is_training


def test_a_fault_in_drawing_is_not_laid_on_the_student(trainable, monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("a fault of ours")

    monkeypatch.setattr("utils.widgets.trainer.live_curve", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        trainable.train()
    assert "fault in the explorer" in trainable.message.value


def test_what_would_help_training_is_done_to_the_network_on_display(trainable):
    trainable.architecture = START.change(in_channels=3)
    trainable.train()
    (fix,) = trainable.trainer.fixes.children
    trainable.editor.image_size.value = 28  # meanwhile; it can't be built: the last one that could is on display
    fix.click()
    assert trainable.architecture == START and trainable.editor.error is None
    assert "Now press Train." in trainable.trainer.message.value


def test_what_cant_be_built_isnt_trained_and_no_other_network_instead(trainable):
    trainable.architecture = START
    trainable.editor.image_size.value = 28
    trainable.trainer.train_button.click()
    assert "What is set can’t be built: only 1×1 of the 28×28 image" in trainable.trainer.message.value
    assert trainable.trainer.trial is None and not trainable.trainer.is_training
    trainable.editor.num_blocks.value = 4
    assert trainable.trainer.message.value == "", "what is mended isn't said any more"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"foo": 1}, "foo is not a field of Architecture: it has activation"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"image_size": "28"}, "image_size must be a whole number"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_nothing_is_broken(knobs, changes, message):
    with pytest.raises(ValueError, match=message):
        knobs.editor.change(**changes)
    knobs.editor.num_blocks.value = 4
    assert len(knobs.architecture.blocks) == 4


def test_controls_dont_contradict_the_network(knobs):
    knobs.architecture = vgg_like((1, 1), (4, 8), head=Head(hidden=(), pool_size=None), image_size=224)
    assert knobs.editor.head.value == "dense" and knobs.editor.size.value is None
    knobs.editor.preset.value = "A"
    assert knobs.architecture == for_fashion_mnist(VGG["A"]) and knobs.editor.size.value == "small"


def test_it_waits_for_the_clinic(trainable, monkeypatch):
    from utils.widgets.clinic import TrainingClinic

    monkeypatch.setattr(TrainingClinic, "at_work", object(), raising=False)
    trainable.train()
    assert "in the clinic" in trainable.trainer.message.value and trainable.collection.trials == []


def test_a_row_says_between_which_throughputs_the_timings_lay(with_two):
    speed = with_two.collection.trials[-1]["throughput"]
    assert f"({speed['low']:,.0f} to {speed['high']:,.0f})" in with_two.collection.rows[0].words.value


def test_the_plot_has_the_latest_and_what_is_ticked(with_two, two_trials):
    for number in range(6):
        with_two.collection.add(two_trials[0] | {"key": f"{number}", "name": f"twin {number}"})
    first = with_two.collection.rows[-1]
    assert first.name.value not in names_on_the_plot(with_two) and "twin 0" in names_on_the_plot(with_two)
    assert "The plot has the latest 6" in with_two.collection.message.value
    first.compared.value = True
    assert first.name.value in names_on_the_plot(with_two)
    first.compared.value = False
    assert first.name.value not in names_on_the_plot(with_two)


def test_a_tick_that_changes_nothing_on_the_plot_doesnt_draw_it_anew(with_two):
    drawn = with_two.collection.plot.drawn
    with_two.collection.rows[0].compared.value = True
    assert with_two.collection.plot.drawn is drawn


def test_a_name_with_dollars_is_no_formula(with_two):
    with_two.collection.rows[0].name.value = "$x$ or $y$"
    assert "$x$ or $y$" in names_on_the_plot(with_two)
    texts = [text for axes in with_two.collection.plot.drawn.axes for text in axes.texts]
    assert not any(text.get_parse_math() for text in texts)


def test_rows_stay_where_they_are_when_their_number_changes(knobs):
    """What is built anew on the screen loses the keyboard's focus."""
    boxes = knobs.editor.children
    knobs.editor.num_blocks.value = 6
    rows = knobs.editor.children[3].children
    for number in (2, 6, 1, 4):
        knobs.editor.num_blocks.value = number
        assert knobs.editor.children is boxes and knobs.editor.children[3].children is rows
        assert [own.box.layout.display for own in knobs.editor._rows] == [""] * number + ["none"] * (6 - number)


def test_an_interruption_ends_the_cell_that_waits_also_where_the_trial_then_fails(trainable, monkeypatch):
    async def work():
        task = trainable.train(30)
        while not trainable.trainer.trial.losses:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(trials, "evaluate", lambda *_, **__: broken())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def broken():
        raise TrainingError('in evaluation the loss is nan: try norm="batch"')

    in_a_loop(work())
    assert "the loss is nan: try batch norm" in trainable.trainer.message.value
    assert not trainable.trainer.is_training


def test_a_second_interruption_ends_it_at_once(trainable, monkeypatch):
    async def work():
        task = trainable.train(30)
        while not trainable.trainer.trial.losses:
            await asyncio.sleep(0.01)
        monkeypatch.setattr("utils.widgets.trainer.SLICE", -1)  # a pause after every piece of work
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_a_loop(work())
    assert "Interrupted: press Train" in trainable.trainer.message.value and not trainable.trainer.is_training
    assert trainable.collection.trials == []


def test_what_is_mistyped_from_code_is_refused_with_the_name_that_was_meant(knobs):
    with pytest.raises(AttributeError, match="no 'batchsize' that could be set: did you mean 'batch_size'"):
        knobs.batchsize = 8
    with pytest.raises(
        AttributeError, match="no 'foo' that could be set: it has architecture, batch_size, image_number"
    ):
        knobs.foo = 8
    with pytest.raises(ValueError, match="batch_size must be one of"):
        knobs.batch_size = 7
    knobs.batch_size = 8
    assert knobs.controls["batch_size"].value == 8


def test_training_as_a_cells_last_value_shows_a_word_and_no_task(trainable):
    from IPython.lib.pretty import pretty

    async def work():
        task = trainable.train()
        shown = pretty(task)
        await task
        return shown, pretty(task)

    assert in_a_loop(work()) == ("It goes on in the explorer; await this to wait for it.", "It is over.")


@pytest.mark.parametrize(
    ("part", "name", "to_do"),
    [
        (lambda e: e.editor, "num_blocks", "write num_blocks.value = 3"),
        (lambda e: e.editor.rows[0], "channels", "write channels.value = 3"),
        (lambda e: e.trainer, "rate", "write rate.value = 3"),
        (lambda e: e.trainer, "train_button", r"press it, train_button.click\(\)"),
        (lambda e: e, "trainer", "set what is in it"),
    ],
)
def test_a_control_isnt_replaced_by_what_it_should_be_set_to(knobs, part, name, to_do):
    owner = part(knobs)
    control = getattr(owner, name)
    with pytest.raises(AttributeError, match=rf"{name} is a \w+, and can't be set itself: {to_do}"):
        setattr(owner, name, 3)
    assert getattr(owner, name) is control


def test_a_name_that_no_plot_can_show_is_refused_with_the_letter(with_two):
    before = with_two.collection.rows[0].name.value
    with_two.collection.rows[0].name.value = "fast 🚀"
    assert "No plot can show “🚀”" in with_two.collection.message.value
    assert with_two.collection.rows[0].name.value == before and before in names_on_the_plot(with_two)
    with_two.collection.rows[0].name.value = "größer & tiefer, 5×5 → Ж ⅛"
    assert with_two.collection.rows[0].name.value == "größer & tiefer, 5×5 → Ж ⅛"
