"""A trial trains what `fit` trains, within a time, and leaves the student's random numbers alone."""

import itertools
import math
import time

import pytest
import torch

from utils import trials
from utils.architectures import ALEXNET, LENET, VGG, Head, vgg_like
from utils.catalog import CURVE
from utils.experiments import UnfitForData
from utils.faults import TrainingError
from utils.kept import Kept, point_of, short_name
from utils.models import build
from utils.plots import learning_curves
from utils.randomness import undisturbed
from utils.results import ResultsFile
from utils.training import Recipe, evaluate, fit
from utils.trials import TooSlow, Trial, evaluated_in_pieces, plan_for, suggested_rate

SMALL = vgg_like((1,), (4,), head=None, norm="batch")
WITH_DROPOUT = SMALL.change(head=ALEXNET.head.__class__(hidden=(16,), dropout=0.5))


def run_to_its_end(trial):
    return [phase for phase, _ in itertools.groupby(trial)]


pytestmark = pytest.mark.usefixtures("one_thread", "quick_trials")


# --- how much fits in -------------------------------------------------------------------------------------------------


def test_less_than_a_round_takes_fewer_images_each_once():
    plan = plan_for(10, step_seconds=0.1, look_seconds=0.1, num_images=55_000)
    assert (plan.looks, plan.epochs) == (12, 1)
    assert plan.steps == 88 and plan.num_images == 88 * 128


def test_more_than_a_round_takes_nearly_all_images_in_rounds_of_one_length():
    plan = plan_for(10, step_seconds=0.005, look_seconds=0.01, num_images=55_000)
    assert plan.epochs == 5
    assert 0.75 * 55_000 < plan.num_images <= 55_000
    assert 0.95 * 9.88 < plan.steps * 0.005 <= 9.88


def test_looks_take_a_small_part_of_the_time_however_slow_they_are():
    slow = plan_for(10, step_seconds=0.1, look_seconds=0.5, num_images=55_000)
    assert slow.looks == 3


def test_too_few_steps_to_learn_anything_are_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(trials, "FEWEST_STEPS", 20)
    with pytest.raises(TooSlow, match=r"a step of 128 images takes about 0.8 s here.* room for 1 of"):
        plan_for(3, step_seconds=0.8, look_seconds=1, num_images=55_000)


def test_the_suggested_rate_is_near_the_one_that_was_chosen_on_validation_images():
    for arm in CURVE.arms:
        assert 0.5 <= suggested_rate(arm.architecture) / arm.recipe.lr <= 2, arm.label


# --- it is what fit trains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [SMALL, WITH_DROPOUT], ids=["plain", "dropout"])
def test_fit_with_the_same_images_recipe_and_seed_gives_the_same_weights(tiny, architecture):
    trial = Trial(architecture, tiny, seconds=1.0, seed=3)
    for _ in trial:
        torch.manual_seed(99)  # other cells draw random numbers meanwhile
        torch.rand(5)
    torch.manual_seed(3)
    net = build(architecture)
    history = fit(net, tiny.train.take(trial.plan.num_images), trial.recipe, seed=3, progress=False)
    assert len(history.losses) == trial.plan.steps == trial.record["steps"]
    for name, weights in net.state_dict().items():
        assert weights.equal(trial.net.state_dict()[name]), name
    assert trial.record["accuracy"] == evaluate(net, tiny.validation, dtype=history.dtype).accuracy


@pytest.mark.parametrize("faster", [1, 2])
def test_it_trains_on_one_thread_where_all_are_slower_and_puts_their_number_back(tiny, monkeypatch, faster):
    torch.set_num_threads(2)
    step, seen = trials.train, []

    def slow_on_others(*arguments, **options):
        for one in step(*arguments, **options):
            if torch.get_num_threads() != faster:
                time.sleep(0.3)
            yield one

    monkeypatch.setattr(trials, "train", slow_on_others)
    trial = Trial(SMALL, tiny, seconds=1.0)
    for phase in trial:
        assert torch.get_num_threads() == 2, "what the student's cells see"
        if phase == "training":
            seen.append(trial.threads)
    assert set(seen) == {faster} and trial.record["threads"] == faster
    assert trial.record["throughput"]["threads"] == 2


def test_the_students_random_numbers_are_left_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_to_its_end(Trial(WITH_DROPOUT, tiny, seconds=1.0))
    assert torch.rand(3).equal(expected)


def test_an_error_leaves_the_students_random_numbers_alone_too():
    def fails():
        torch.rand(3)
        yield 1
        torch.rand(3)
        raise ValueError("on purpose")

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="on purpose"):
        list(undisturbed(fails(), seed=0, device="cpu"))
    assert torch.rand(3).equal(expected)


def test_steps_that_are_disturbed_draw_what_they_would_have_drawn_alone():
    def draws():
        for _ in range(4):
            yield float(torch.rand(()))

    torch.manual_seed(7)
    alone = list(draws())
    disturbed = []
    for value in undisturbed(draws(), seed=7, device="cpu"):
        disturbed.append(value)
        torch.manual_seed(0)
    assert disturbed == alone


# --- on its way -------------------------------------------------------------------------------------------------------


def test_it_goes_through_its_phases_and_looks_at_validation_images(tiny):
    trial = Trial(SMALL, tiny, seconds=1.5)
    seen = run_to_its_end(trial)
    last, of_all = trial.looks[-1], evaluate(trial.net, tiny.validation, dtype=trial.record["recipe"]["dtype"])
    assert last.accuracy == of_all.accuracy == trial.record["accuracy"], "the curve ends where the point stands"
    assert last.step == trial.record["steps"] and trial.record["looks"][-1]["accuracy"] == last.accuracy
    steps = [look.step for look in trial.looks]
    assert next(phase for phase in seen if phase != "evaluating") == "getting ready" and seen[-1] == "done"
    assert {"training", "measuring its throughput"} <= set(seen)
    assert steps == sorted(set(steps)) and steps[0] == 1 and steps[-1] == trial.plan.steps
    assert len(trial.losses) == trial.plan.steps and trial.share == 1
    record = trial.record
    assert record["throughput"]["images_per_s"] > 0 and record["throughput"]["batch_size"] == 256
    assert record["stopped"] is None and record["parameters"] == sum(p.numel() for p in build(SMALL).parameters())


def test_looks_are_of_the_network_as_it_is_then_and_change_nothing(tiny):
    trial = Trial(SMALL, tiny, seconds=1.0)
    last = None
    for _ in trial:
        if trial.looks and trial.looks[-1] is not last:
            last = trial.looks[-1]
            seen = evaluate(trial.net, tiny.validation, dtype="auto")
            assert seen.accuracy == last.accuracy
    assert last is not None


def test_a_stop_ends_training_and_what_was_learnt_is_judged(tiny):
    trial = Trial(SMALL, tiny, seconds=60)
    for phase in trial:
        if phase == "training" and len(trial.losses) == 3:
            trial.stop("enough")
    assert trial.record["steps"] == 4
    assert "enough" in trial.record["stopped"]
    torch.manual_seed(0)
    net = build(SMALL)
    fit_steps = itertools.islice(trials.train(net, trial.images, trial.recipe, seed=0), 4)
    assert len(list(fit_steps)) == 4
    for name, weights in net.state_dict().items():
        assert weights.equal(trial.net.state_dict()[name]), name


def test_a_stop_before_the_first_step_leaves_nothing_to_judge(tiny):
    trial = Trial(SMALL, tiny, seconds=5)
    trial.stop()
    assert run_to_its_end(trial)[-1] == "getting ready"
    assert trial.phase == "done" and trial.record is None and trial.share == 0


def test_time_that_others_take_between_two_steps_is_not_counted(tiny, monkeypatch):
    clock, late = time.perf_counter, 0.0
    monkeypatch.setattr(trials.time, "perf_counter", lambda: clock() + late)
    trial = Trial(SMALL, tiny, seconds=1.0)
    for phase in trial:
        if phase == "training":
            late += 100.0  # a cell that the student runs meanwhile
            assert trial.seconds_left < 10
    assert trial.record["stopped"] is None


def test_a_stop_ends_a_look_as_well(tiny, monkeypatch):
    monkeypatch.setattr(trials, "PIECE", 2)
    trial = Trial(SMALL, tiny, seconds=30)
    for phase in trial:
        if phase == "evaluating" and trial.plan is not None and trial.looks == []:
            trial.stop()
    assert [look.step for look in trial.looks] == [2] and trial.record["steps"] == 2, "the judgement alone"


def test_threads_that_are_beaten_are_not_timed_on_all_images(tiny, monkeypatch):
    torch.set_num_threads(2)
    step, seen = trials.train, []

    def slow_on_one(net, data, recipe, **options):
        for one in step(net, data, recipe, **options):
            if torch.get_num_threads() == 1:
                time.sleep(0.3)
            seen.append((torch.get_num_threads(), recipe.batch_size))
            yield one

    monkeypatch.setattr(trials, "train", slow_on_one)
    run_to_its_end(Trial(SMALL, tiny, seconds=1.0))
    assert (1, 16) in seen and (2, 128) in seen and (1, 128) not in seen


def test_a_slow_network_is_measured_in_fewer_rounds(tiny, monkeypatch):
    monkeypatch.setattr(trials, "ROUNDS", 3)
    trial = Trial(SMALL, tiny, seconds=0.5)
    run_to_its_end(trial)
    for batch_seconds, rounds in ((0.01, 3), (0.5, 2), (60.0, 1)):
        assert len(list(trial._measure(batch_seconds))) == 1 + rounds


def test_time_that_is_up_ends_it(tiny, monkeypatch):
    monkeypatch.setattr(trials, "OVERTIME", 1.0)
    trial = Trial(SMALL, tiny, seconds=5)
    for phase in trial:
        if phase == "training":
            trial.seconds = -1  # as if all steps had been slower than planned
    assert "the time was up" in trial.record["stopped"]
    assert 1 <= trial.record["steps"] < trial.plan.steps


def test_a_rate_that_breaks_the_network_is_blamed_and_not_a_training_before(tiny, monkeypatch):
    monkeypatch.setattr(trials, "BATCH", 16)
    monkeypatch.setattr(trials, "plan_for", lambda *_: trials.Plan(208, 1, 12))  # 13 steps, looked at after each
    monkeypatch.setattr(trials.Fitting, "SHOW_EVERY", 1e9)  # nobody else fetches the losses
    with pytest.raises(TrainingError, match="try a third of it") as caught:
        run_to_its_end(Trial(LENET, tiny, seconds=1.0, lr=100.0))
    assert "lr=100.0" in str(caught.value) and "failed before" not in str(caught.value)


def test_the_time_that_is_left_falls_to_nothing(tiny):
    trial = Trial(SMALL, tiny, seconds=1.0)
    left = [trial.seconds_left for phase in trial if phase == "training"]
    assert left[0] > left[-1] and left[-1] == pytest.approx(0, abs=0.1)


def test_evaluating_in_pieces_gives_what_evaluating_gives(tiny, monkeypatch):
    monkeypatch.setattr(trials, "PIECE", 33)
    net = build(LENET)
    steps = evaluated_in_pieces(net, tiny.all_train, "float32")
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
    whole = evaluate(net, tiny.all_train)
    assert found.accuracy == whole.accuracy and found.predictions.equal(whole.predictions)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)


# --- what can't be trained --------------------------------------------------------------------------------------------


def test_a_network_for_other_images_is_refused_with_what_would_help(tiny):
    with pytest.raises(UnfitForData, match=r"in_channels must be 1") as caught:
        Trial(VGG["A"], tiny)
    assert caught.value.changes == {"in_channels": 1}
    assert caught.value.why == "it takes images of 3 channels, and these have 1"


def test_a_network_that_is_too_slow_is_refused_before_a_step_of_all_images(tiny, monkeypatch):
    batches = []
    train = trials.train
    monkeypatch.setattr(
        trials, "train", lambda net, data, recipe: batches.append(recipe.batch_size) or train(net, data, recipe)
    )
    monkeypatch.setattr(trials, "SURELY", math.inf)
    monkeypatch.setattr(trials, "FEWEST_STEPS", 1e9)
    more_time = r"a step of 2 images takes about .* too long to learn anything in 3,600 s\. Give it more time, or take"
    with pytest.raises(TooSlow, match=more_time):
        run_to_its_end(Trial(SMALL, tiny, seconds=3600))
    monkeypatch.setattr(trials, "FEWEST_STEPS", 1)
    monkeypatch.setattr(trials, "SLOWEST_STEP", 1e-9)
    not_more_time = r"a step of 2 images takes about .* no stop is heard: .* is the most\. Take fewer channels"
    with pytest.raises(TooSlow, match=not_more_time):
        run_to_its_end(Trial(SMALL, tiny, seconds=3600))
    assert batches == [2, 2]


def test_a_network_that_is_far_too_slow_is_refused_before_it_is_built(tiny, monkeypatch):
    """By its multiplications: 36 convolutions of 384 channels and 13×13 kernels at 224² are minutes a step."""
    monkeypatch.setattr(trials, "train", lambda *_: pytest.fail("it was tried"))
    monkeypatch.setattr(trials, "SLOWEST_STEP", 0.5)
    huge = vgg_like((6,) * 6, (384,) * 6, kernel_size=13, image_size=224)
    threads = torch.get_num_threads()
    with pytest.raises(TooSlow, match=r"a step of 2 images takes about [\d,]+ s here"):
        run_to_its_end(Trial(huge, tiny, seconds=10))
    assert torch.get_num_threads() == threads


def test_what_is_foretold_of_a_step_is_less_than_it_takes(tiny):
    """Only what is surely too slow may be refused by it."""
    trial = Trial(vgg_like((2, 2), (64, 64)), tiny, seconds=10)
    foretold, threads = trial._foretold(128), torch.get_num_threads()
    steps = iter(trial)
    while trial.plan is None:
        next(steps)
    assert 0 < foretold < trials.SURELY * trial.step_seconds
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "seconds must be a number above 0, got 0"),
        ({"seconds": "10"}, "seconds must be a number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"lr": -1.0}, "lr must be a number above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        Trial(SMALL, tiny, **arguments)


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(tiny):
    trial = Trial(SMALL, tiny, seconds=1.0)
    run_to_its_end(trial)
    return trial.record


def other(record, **changes):
    return record | {"key": str(changes)} | changes


def test_what_is_kept_is_there_for_who_opens_the_file_anew(record, tmp_path):
    Kept(tmp_path).add(record)
    assert Kept(tmp_path).trials() == [record]


def test_two_trials_of_one_network_have_two_names_and_the_same_again_has_its_own(record, tmp_path):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.add(other(record, seed=1))
    kept.rename(record["key"], "mine")
    kept.add(record | {"accuracy": 0.99})
    named = {trial["name"]: trial["accuracy"] for trial in kept.trials()}
    assert named == {"mine": 0.99, f"{record['name']} (2)": record["accuracy"]}


def test_what_was_removed_stays_away_until_it_is_trained_again(record, tmp_path):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.remove(record["key"])
    assert Kept(tmp_path).trials() == []
    kept.add(record)
    assert len(Kept(tmp_path).trials()) == 1


@pytest.mark.parametrize(
    ("name", "message"), [("  ", "1 to 40 characters, got 0"), ("x" * 41, "got 41"), ("other", "another one is called")]
)
def test_a_name_that_cant_be_is_refused_and_nothing_is_written(record, tmp_path, name, message):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.add(other(record, name="other"))
    before = kept.file.path.read_bytes()
    with pytest.raises(ValueError, match=message):
        kept.rename(record["key"], name)
    assert kept.file.path.read_bytes() == before


def test_what_isnt_there_cant_be_named_or_removed(tmp_path):
    for change in (lambda kept: kept.rename("k", "n"), lambda kept: kept.remove("k")):
        with pytest.raises(ValueError, match="this network is gone already"):
            change(Kept(tmp_path))


def test_a_long_label_is_cut_so_that_it_can_be_read_on_a_plot(record, tmp_path):
    kept = Kept(tmp_path).add(record | {"name": "n" * 60})
    assert len(kept["name"]) == 40 and "…" in kept["name"]
    for size in (32, 96):
        label = vgg_like((2, 2, 4, 4, 4), (8, 16, 32, 64, 64), head=Head((128, 128)), image_size=size).label
        assert len(short_name(label)) <= 40 < len(label) and short_name(label).startswith("VGG (2,2,4,4,4)")
        assert short_name(label).endswith(f", {size}²"), "what differs is still there"


def test_a_trial_is_a_point_on_the_plot_and_a_curve_over_rounds_of_all_images(record, tiny):
    point = point_of(record)
    assert point.yours and point.evaluated_on == "validation" and point.accuracy == record["accuracy"]
    assert point.measured_on.endswith(record["throughput"]["dtype"]) and ", batch 256, " in point.measured_on
    from utils.widgets.collection import curve_of_trial

    curve = curve_of_trial(record)
    rounds = record["steps"] * 128 / len(tiny.train)
    assert curve.times[-1] == pytest.approx(rounds) == curve.validated[-1]
    figure = learning_curves({"it": curve})
    assert "it: training loss" in figure.alt


@pytest.mark.parametrize(
    "spoilt",
    [
        {"throughput": {}},
        {"accuracy": None},
        {"architecture": {"blocks": []}},
        {"recipe": {"optimiser": "?"}},
        {"looks": [{"step": 1}]},
        {"name": None},
        {"throughput": {"device": "d", "dtype": "float32", "batch_size": 256, "images_per_s": 5.0}},
        {"accuracy": 1.5},
        {"evaluate_on": "test"},
        {"parameters": "many"},
        {"steps": None},
        {"of_images": 0},
        {"recipe": {}},
        {"is_sample": None},
        {"is_sample": []},
        {"is_sample": -1},
        {"losses": []},
        {"losses": ""},
        {"losses": {}},
        {"looks": 3},
    ],
)
def test_a_record_that_isnt_whole_is_left_out_and_counted(record, tmp_path, spoilt):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.file.append(other(record, **spoilt))
    assert kept.read() == ([record], 1) and kept.trials() == [record]


@pytest.mark.parametrize("line", ['{"kind": "trial", "key": ["a"]}', '{"kind": "name", "key": {}}'])
def test_a_key_that_is_no_text_is_said_with_its_line(record, tmp_path, line):
    kept = Kept(tmp_path)
    kept.add(record)
    with kept.file.path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"line 2: a result must be a JSON object, .* \(its key is a (list|dict)\)"):
        kept.read()


def test_a_name_that_is_given_is_one_that_may_be_taken(record, tmp_path):
    kept = Kept(tmp_path)
    for key in "abc":
        kept.add(record | {"key": key, "name": "n" * 60})
    names = [trial["name"] for trial in kept.trials()]
    assert len({*names}) == 3 and all(len(name) <= 40 for name in names)
    for trial in kept.trials():
        kept.rename(trial["key"], trial["name"])


def test_a_name_that_isnt_one_is_passed_over(record, tmp_path):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.file.append({"kind": "name", "key": record["key"]})
    assert kept.read() == ([record], 0)


def test_judging_that_fails_is_laid_on_the_rate(tiny, monkeypatch):
    evaluate, calls = trials.evaluate, itertools.count()

    def breaks(net, images, **options):
        if len(images) == len(tiny.validation) and next(calls) == 13:  # after one of its twin and twelve looks
            raise TrainingError("in evaluation the loss is nan")
        return evaluate(net, images, **options)

    monkeypatch.setattr(trials, "evaluate", breaks)
    with pytest.raises(TrainingError, match=r"after step 12 of 12, at a learning rate of lr=0.2: in evaluation"):
        run_to_its_end(Trial(SMALL, tiny, seconds=1.0))


def test_a_name_is_taken_on_one_plot_alone(record, tmp_path):
    kept = Kept(tmp_path)
    kept.add(record)
    assert kept.add(other(record, data="other images"))["name"] == record["name"]
    assert kept.add(other(record, seed=1))["name"] == f"{record['name']} (2)"


def test_the_file_is_one_of_results(record, tmp_path):
    kept = Kept(tmp_path)
    kept.add(record)
    kept.rename(record["key"], "n")
    assert {line["kind"] for line in ResultsFile(kept.file.path).read()} == {"trial", "name"}
    assert Recipe(**record["recipe"]).batch_size == 128
