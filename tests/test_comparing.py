"""utils/comparing.py: intervals and powers against scipy's functions and simulation; whose runs are whose."""

import math
import random
import statistics
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from utils import comparing, plots
from utils.architectures import LENET, VGG, vgg_like
from utils.catalog import EXPERIMENTS, KERNELS, LENET_STEP_BY_STEP
from utils.comparing import (
    by_arm,
    compared,
    difference,
    interval,
    measured,
    reference_runs,
    seeds_needed,
    side_by_side,
    steps_to,
)  # fmt: skip
from utils.experiments import Arm, Experiment, fit_arms, sweep
from utils.models import build
from utils.profiling import profile
from utils.training import History, Recipe, evaluate

TWO = Experiment(
    "two", "Which?",
    (Arm(LENET, Recipe(epochs=2, lr=0.1), "fast"), Arm(LENET, Recipe(epochs=2, lr=0.01), "slow")),
    seeds=(0, 1, 2),
)  # fmt: skip


def run(accuracy, arm=TWO.arms[0], *, seed=0, losses=(2.0, 1.0), every=100, per_epoch=100, **more):
    """What a sweep files of a run, as far as it is compared."""
    return {
        "kind": "run", "digest": arm.architecture.digest, "recipe": asdict(arm.recipe), "seed": seed,
        "accuracy": accuracy, "evaluate_on": "test", "is_sample": False, "parameters": 61_706,
        "losses": list(losses), "steps_per_loss": every, "steps_per_epoch": per_epoch,
        "architecture": arm.architecture.to_dict(),
    } | more  # fmt: skip


def runs_of(**accuracies):
    return {name: [run(a, seed=i) for i, a in enumerate(values)] for name, values in accuracies.items()}


# --- whose runs -------------------------------------------------------------------------------------------------------


def test_runs_stand_under_their_arm_in_the_experiments_order_and_by_seed():
    records = [run(0.3, TWO.arms[1], seed=0), run(0.2, seed=1), run(0.1, seed=0)]
    records += [{"kind": "throughput", "digest": LENET.digest}, {"kind": "failure", "digest": LENET.digest}]
    found = by_arm(TWO, records)
    assert {name: [r["accuracy"] for r in own] for name, own in found.items()} == {"fast": [0.1, 0.2], "slow": [0.3]}
    assert list(found) == ["fast", "slow"]
    assert by_arm(TWO, records[:1]).keys() == {"slow"}, "an arm without runs is left out"


def test_arms_of_one_network_are_told_apart_by_their_recipe_and_auto_stands_for_any_dtype():
    resolved = run(0.5) | {"recipe": asdict(TWO.arms[0].recipe) | {"dtype": "bfloat16"}}
    assert by_arm(TWO, [resolved]).keys() == {"fast"}
    float32 = replace(TWO, arms=(Arm(LENET, Recipe(epochs=2, lr=0.1, dtype="float32"), "float32"),))
    assert by_arm(float32, [resolved]) == {}
    assert by_arm(TWO.change(epochs=3), [resolved]) == {}


def test_two_arms_of_one_label_are_refused():
    unnamed = replace(TWO, arms=tuple(replace(arm, name="") for arm in TWO.arms))
    with pytest.raises(ValueError, match=r"each arm needs a label of its own, got 'LeNet' twice: give them names"):
        by_arm(unnamed, [])


def test_an_arm_is_called_by_its_name_or_else_by_its_networks_label():
    arm = Arm(vgg_like((1,), (8,)), Recipe())
    assert arm.label == arm.architecture.label and replace(arm, name="mine").label == "mine"
    with pytest.raises(ValueError, match="name must be"):
        Arm(LENET, Recipe(), name=3)


def test_a_sweeps_own_records_are_found(tiny, tmp_path):
    small = vgg_like((1,), (2,))
    mine = Experiment("mine", "?", (Arm(small, Recipe(epochs=1, lr=0.1), "small"),), seeds=(0, 1))
    found = by_arm(mine, sweep(mine, tiny, folder=tmp_path, workers=1, progress=False, report=lambda line: None))
    assert [r["seed"] for r in found["small"]] == [0, 1]
    assert all(0 <= r["training_accuracy"] <= 1 for r in found["small"])


def test_the_committed_runs_of_an_experiment_are_found_by_arm():
    found = reference_runs(LENET_STEP_BY_STEP)
    assert list(found) == [arm.label for arm in LENET_STEP_BY_STEP.arms]
    assert {len(own) for own in found.values()} == {len(LENET_STEP_BY_STEP.seeds)}


def test_an_experiment_that_nobody_has_measured_says_what_to_do():
    with pytest.raises(
        ValueError, match=r"nothing has no committed results: .*make experiments NAME=nothing.*--promote"
    ):
        reference_runs(replace(KERNELS, name="nothing"))


def test_a_reference_of_another_experiment_than_the_declared_one_says_which_run_is_missing():
    first, *others = LENET_STEP_BY_STEP.arms
    longer = replace(first, recipe=replace(first.recipe, epochs=77))
    with pytest.raises(ValueError, match=r"lenet.jsonl has no run of \"the book's\" .* seed 0, 1, 2: .*NAME=lenet"):
        reference_runs(replace(LENET_STEP_BY_STEP, arms=(longer, *others)))
    with pytest.raises(ValueError, match=r"has no run of \"the book's\" .* with seed 8: "):
        reference_runs(replace(LENET_STEP_BY_STEP, seeds=(0, 8)))


def test_what_was_stopped_before_its_first_step_has_no_loss():
    never = History({}, seed=0, device="cpu", dtype="float32", total_steps=100, steps_per_epoch=100)
    assert measured({"net": never}).loc["net"].tolist() == ["0", "–", "–", "–"]


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_each_declared_arm_has_a_label_of_its_own(experiment):
    assert by_arm(experiment, []) == {}


# --- what a student can get wrong -----------------------------------------------------------------------------------

HISTORY = History({}, seed=0, device="cpu", dtype="float32", total_steps=1, steps_per_epoch=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compared({"a": HISTORY}), r"runs\['a'\] must be the record of a run.*measured\(histories\)"),
        (lambda: compared({}), "runs must be of one arm at least, got none.*as it is declared now"),
        (lambda: by_arm(TWO, {"a": [run(0.9)]}), "records must be a sequence"),
        (lambda: by_arm(TWO, None), "records must be a sequence"),
        (lambda: by_arm(TWO, ["a"]), r"records\[0\] must be a record, as sweep\(…\) gives them, got 'a'"),
        (lambda: compared({"a": [HISTORY]}), r"runs\['a'\]\[0\] must be the record of a run.*measured\(histories\)"),
        (lambda: compared({"a": run(0.9)}), r"runs\['a'\] must be a sequence"),
        (lambda: compared({"a": [run(math.nan)]}), "must be the record of a run, with its accuracy"),
        (lambda: difference({"a": 5, "b": 5}, "a", "b"), r"runs\['a'\] must be a sequence"),
        (lambda: measured(HISTORY), "histories must be a dict"),
        (lambda: measured({"a": [run(0.9)]}), r"histories\['a'\] must be a History.*for a sweep's records .*compared"),
        (lambda: measured({}), "histories must be a dict"),
        (lambda: side_by_side(VGG["A"]), "architectures must be a dict"),
        (lambda: side_by_side({"A": "VGG"}), r"architectures\['A'\] must be an Architecture, as in .*; got 'VGG'"),
        (lambda: reference_runs("kernels"), "experiment must be an Experiment, such as KERNELS, got 'kernels'"),
        (lambda: steps_to(HISTORY, 0.3), "run must be the record of a run"),
    ],
)
def test_what_is_no_comparison_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- one arm ----------------------------------------------------------------------------------------------------------


def test_an_interval_is_students():
    values = [90.1, 90.5, 91.2, 90.8]
    expected = stats.t.interval(0.95, 3, loc=statistics.mean(values), scale=statistics.stdev(values) / 2)
    assert interval(values) == pytest.approx(expected)
    assert interval([90.0]) == (-math.inf, math.inf) and interval([90.0, 90.0]) == (90.0, 90.0)


def test_an_interval_of_accuracies_ends_at_nothing_and_all():
    own = runs_of(arm=(0.1, 0.1, 0.84))["arm"]
    assert interval(comparing.accuracies_of(own))[0] < 0 and comparing.accuracy_interval(own)[0] == 0
    assert comparing.accuracy_interval(runs_of(arm=(0.999, 0.9, 0.99))["arm"])[1] == 100
    narrow = runs_of(arm=(0.90, 0.91, 0.92))["arm"]
    assert comparing.accuracy_interval(narrow) == interval([90.0, 91.0, 92.0])


def test_95_of_100_intervals_hold_the_true_mean():
    r = random.Random(0)
    hits = 0
    for _ in range(2000):
        low, high = interval([r.gauss(90, 0.5) for _ in range(3)])
        hits += low <= 90 <= high
    assert 0.935 < hits / 2000 < 0.965


def test_steps_to_a_loss_are_counted_on_a_mean_of_sixty_steps():
    fast = run(0.9, losses=[2.0, 1.0, 0.5, 0.2, 0.6, 0.1], every=30, per_epoch=90)  # two pieces are sixty steps
    means = {60: 1.5, 90: 0.75, 120: 0.35, 150: 0.4, 180: 0.35}
    for loss in (1.5, 0.75, 0.5, 0.36):
        assert steps_to(fast, loss) == min(step for step, mean in means.items() if mean <= loss + 1e-12)
    assert steps_to(fast, 0.3) is None, "0.1 in one piece alone isn't there yet"
    assert steps_to(run(0.9, losses=[2.0, 1.0], every=100, per_epoch=75), 1.0) == 150, "the last piece is shorter"
    for wrong in (0, -1, "0.4", None, math.nan):
        with pytest.raises(ValueError, match="loss must be a number above 0"):
            steps_to(fast, wrong)


def test_the_table_says_mean_interval_gap_and_steps():
    runs = {
        "good": [run(a, seed=i, losses=[2.0, 0.3], training_accuracy=0.95) for i, a in enumerate((0.90, 0.91, 0.92))],
        "bad": [run(a, seed=i, losses=[2.3, 2.3], training_accuracy=0.1) for i, a in enumerate((0.1, 0.1, 0.1))],
    }
    table = compared(runs, loss=0.4)
    good, bad = table.loc["good"], table.loc["bad"]
    assert good["test accuracy"] == "91.00 %" and good["gap, points"] == "4.00" and good["seeds"] == "3"
    assert good["95 % interval"] == f"{91 - 4.302653 / math.sqrt(3):.2f} to {91 + 4.302653 / math.sqrt(3):.2f}"
    assert good["steps to loss 0.4"] == "200" and bad["steps to loss 0.4"] == "never"
    assert "steps to loss 0.4" not in compared(runs)
    single = compared({"one": [run(0.9)]})
    assert single.loc["one", "95 % interval"] == "–" and "gap, points" not in single


def test_steps_to_a_loss_are_left_out_where_something_raises_only_some_arms_loss():
    """With half of its units off a network has a higher loss than it has when it is judged."""
    dropout = Arm(LENET.change(head=replace(LENET.head, dropout=0.5)), TWO.arms[0].recipe)
    augmented, smoothed = (
        Arm(LENET, replace(TWO.arms[0].recipe, **change)) for change in ({"augment": "flip"}, {"label_smoothing": 0.1})
    )
    column = "steps to loss 1.5"
    for arm in (dropout, augmented, smoothed):
        steps = compared({"plain": [run(0.9)], "regularised": [run(0.9, arm)]}, loss=1.5)[column]
        assert steps["plain"] == "200" and steps["regularised"] == "–"
        assert compared({"a": [run(0.9, arm)], "b": [run(0.8, arm)]}, loss=1.5).loc["a", column] == "200", "all alike"


def test_runs_that_other_images_judged_are_none_of_the_experiments():
    assert by_arm(TWO, [run(0.5)]).keys() == {"fast"}
    assert by_arm(replace(TWO, evaluate_on="validation"), [run(0.5)]) == {}


def test_the_steps_are_the_median_seeds():
    halves = [run(0.9, seed=i, losses=losses) for i, losses in enumerate(([2.0, 0.3], [2.0, 2.0], [0.3, 0.3]))]
    assert compared({"arm": halves}, loss=0.4).loc["arm", "steps to loss 0.4"] == "200 (100 to never)"
    assert compared({"arm": halves[:2]}, loss=0.4).loc["arm", "steps to loss 0.4"] == "200 (200 to never)"
    assert compared({"arm": halves[::2]}, loss=0.4).loc["arm", "steps to loss 0.4"] == "100 (100 to 200)"
    assert compared({"arm": halves[1:2]}, loss=0.4).loc["arm", "steps to loss 0.4"] == "never"


# --- two arms ---------------------------------------------------------------------------------------------------------


def test_a_difference_is_welchs():
    one, other = (0.912, 0.915, 0.917), (0.905, 0.899, 0.902, 0.910)
    found = difference(runs_of(one=one, other=other), "one", "other")
    expected = stats.ttest_ind([100 * a for a in one], [100 * a for a in other], equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected)) and found.seeds == (3, 4)
    assert found.points == pytest.approx(100 * (np.mean(one) - np.mean(other)))
    pooled = (2 * np.var(one, ddof=1) + 3 * np.var(other, ddof=1)) / 5
    assert found.deviation == pytest.approx(100 * pooled**0.5)
    back = difference(runs_of(one=one, other=other), "other", "one")
    assert (back.points, back.low, back.high) == pytest.approx((-found.points, -found.high, -found.low))


def test_a_difference_in_words_names_who_is_ahead_or_says_that_it_cannot():
    clear = difference(runs_of(deep=(0.91, 0.912, 0.914), flat=(0.88, 0.882, 0.884)), "deep", "flat")
    assert clear.is_settled and str(clear).endswith("3 seeds each).\n    deep is ahead.")
    assert str(clear).startswith("deep against flat: +3.00 points (95 % interval +2.")
    turned = difference(runs_of(deep=(0.91, 0.912, 0.914), flat=(0.88, 0.882, 0.884)), "flat", "deep")
    assert "-3.00 points" in str(turned) and str(turned).endswith("deep is ahead.")
    even = difference(runs_of(a=(0.90, 0.91, 0.92), b=(0.901, 0.911, 0.921)), "a", "b")
    assert not even.is_settled and "Not told apart" in str(even) and "ahead" not in str(even)
    assert seeds_needed(0.1, 1.0) == 1571 and "roughly 1,600 seeds each" in str(even)
    single = difference(runs_of(a=(0.90,), b=(0.80,)), "a", "b")
    assert (
        not single.is_settled
        and "1 seed each.\n    One seed settles nothing" in str(single)
        and "nan" not in str(single)
    )


def test_a_difference_of_gaps_is_that_of_training_minus_test():
    rows = {"plain": ((0.99, 0.90), (0.98, 0.91)), "cured": ((0.93, 0.90), (0.93, 0.91))}
    runs = {name: [run(a, seed=i, training_accuracy=t) for i, (t, a) in enumerate(own)] for name, own in rows.items()}
    found = difference(runs, "plain", "cured", quantity="gap")
    expected = stats.ttest_ind([9, 7], [3, 2], equal_var=False).confidence_interval()
    assert found.points == pytest.approx(5.5) and (found.low, found.high) == pytest.approx(tuple(expected))
    assert "plain against cured: +5.50 points of gap" in str(found) and "ahead" not in str(found)
    wide = {name: own * 4 for name, own in runs.items()}
    assert str(difference(wide, "cured", "plain", quantity="gap")).endswith("plain has the larger gap.")
    with pytest.raises(ValueError, match="quantity must be one of"):
        difference(runs, "plain", "cured", quantity="loss")
    with pytest.raises(ValueError, match="no accuracy on training images"):
        difference(runs_of(a=(0.9, 0.8), b=(0.9, 0.8)), "a", "b", quantity="gap")


def test_equal_seeds_have_an_interval_of_no_width_and_settle_only_what_differs():
    runs = runs_of(a=(0.9, 0.9), b=(0.1, 0.1), c=(0.9, 0.9))
    apart, same = difference(runs, "a", "b"), difference(runs, "a", "c")
    assert apart.is_settled and (apart.low, apart.high) == pytest.approx((80, 80))
    assert not same.is_settled and "more than 10,000 seeds" in str(same)


def test_the_number_of_seeds_gives_the_power_that_is_asked_for():
    """Against simulated experiments, and against the textbook's 17 an arm for an effect of one deviation."""
    assert seeds_needed(1.0, 1.0) == 17 and seeds_needed(0.5, 1.0) == 64
    r = np.random.default_rng(0)
    for gap, deviation in ((0.5, 0.4), (1.0, 0.5)):
        n = seeds_needed(gap, deviation)
        seen = {m: stats.ttest_ind(r.normal(0, deviation, (m, 4000)), r.normal(gap, deviation, (m, 4000))).pvalue < 0.05
                for m in (n - 1, n)}  # fmt: skip
        assert seen[n].mean() > 0.78 and seen[n - 1].mean() < 0.82


def test_what_no_number_of_seeds_shows_is_said():
    assert seeds_needed(0, 0.3) == seeds_needed(1e-6, 1) == comparing.MOST_SEEDS + 1
    assert seeds_needed(0.1, 0) == 2
    for wrong in (-1, "1", None, math.nan):
        with pytest.raises(ValueError, match="gap must be a number of at least 0"):
            seeds_needed(wrong, 1)


def test_what_cannot_be_compared_is_refused():
    runs = runs_of(a=(0.9, 0.9), b=(0.8, 0.8))
    with pytest.raises(ValueError, match=r"there is no arm 'c' here: take two of 'a', 'b'"):
        difference(runs, "a", "c")
    with pytest.raises(ValueError, match="runs must be a dict of arms"):
        compared([])
    with pytest.raises(ValueError, match="a: there must be at least one run, got none"):
        compared({"a": []})
    for field, other in (("evaluate_on", "validation"), ("is_sample", True)):
        mixed = runs | {"b": [run(0.8) | {field: other}]}
        for refuse in (lambda m: difference(m, "a", "b"), compared, plots.arms):
            with pytest.raises(ValueError, match=f"on the same images alone: b differs .* in {field}"):
                refuse(mixed)


# --- networks and histories, side by side -----------------------------------------------------------------------------


def test_networks_stand_side_by_side_with_what_they_cost():
    found = comparing.side_by_side({"LeNet": LENET, "A": VGG["A"]}, batch_size=32)
    assert found["LeNet"].to_dict() == {
        "image": "1 × 28 × 28", "weight layers": "5", "convolutions": "2", "dense layers": "3", "classes": "10",
        "parameters": "61,706", "MACs": "416,520",
        "activations": found.loc["activations", "LeNet"], "training step, batch 32": "0.00 GB",
    }  # fmt: skip
    assert found.loc["parameters", "A"] == "132,863,336" and found.loc["MACs", "A"] == "7,609,090,048"
    costs = profile(build(VGG["A"], device="meta"))
    assert found.loc["activations", "A"] == f"{costs.layers.activation_bytes.sum() / 1e6:.2f} MB"
    assert found.loc["training step, batch 32", "A"] == f"{costs.training_memory(32).total / 1e9:.2f} GB"
    assert "training step, batch 32" not in comparing.side_by_side({"LeNet": LENET}).index


def test_what_was_seen_in_training_is_a_table(tiny):
    arms = [Arm(vgg_like((1,), (2,)), Recipe(epochs=1, lr=0.1, batch_size=20), name) for name in ("one", "two")]
    nets, histories = fit_arms(arms, tiny.train, validation=tiny.validation, epochs=2, progress=False)
    found = comparing.measured(histories)
    assert list(found.index) == list(nets) == ["one", "two"] and found.loc["one", "epochs"] == "2"
    assert found.loc["one", "validation accuracy"] == f"{histories['one'].epochs[-1]['validation_accuracy']:.1%}"
    assert histories["one"].losses == histories["two"].losses, "the same seed, the same training"
    _, without = fit_arms(arms[:1], tiny.train, progress=False)
    assert comparing.measured(without).loc["one", "validation accuracy"] == "–"


def test_arms_that_are_fitted_begin_and_end_as_in_a_sweep(tiny, tmp_path):
    arm = Arm(vgg_like((1,), (2,)), Recipe(epochs=2, lr=0.1, batch_size=20))
    mine = Experiment("mine", "?", (arm,), seeds=(3,), evaluate_on="validation")
    records = sweep(mine, tiny, folder=tmp_path, workers=1, progress=False, report=lambda line: None)
    nets, _ = fit_arms([arm], tiny.train, seed=3, progress=False)
    (run,) = [record for record in records if record["kind"] == "run"]
    assert run["loss"] == pytest.approx(evaluate(nets[arm.label], tiny.validation, dtype="auto").loss, rel=1e-6)
