"""utils/catalog.py: what the lessons' experiments compare is comparable, and the committed references are of them."""

import dataclasses
from collections import defaultdict
from dataclasses import asdict
from html import escape
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from utils import catalog, plots
from utils.catalog import BY_LESSON, CURVE, CURVE_TO_CHOOSE_BY, EXPERIMENTS
from utils.experiments import Experiment, plan
from utils.models import build
from utils.results import ResultsFile, points, table

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
COMMITTED = sorted(REFERENCE.glob("*/*.jsonl"))


def millions_of_macs(architecture):
    net = build(architecture, device="meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, *architecture.input_shape, device="meta"))
    return counter.get_total_flops() / 2e6


def networks_of(experiment):
    return [arm.architecture for arm in experiment.arms]


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_experiment_is_a_question_with_arms_and_three_seeds_and_can_be_planned(experiment, tiny):
    assert experiment.question.endswith("?") and len(experiment.arms) >= 3 and len(experiment.seeds) >= 3
    assert len(plan(experiment, tiny)) == len(experiment.arms) * len(experiment.seeds)


def test_each_experiment_of_the_file_is_listed_once_under_its_lesson():
    declared = [value for value in vars(catalog).values() if isinstance(value, Experiment)]
    listed = [experiment for experiments in BY_LESSON.values() for experiment in experiments]
    assert sorted(e.name for e in declared) == sorted(e.name for e in listed) == sorted(EXPERIMENTS)
    assert list(BY_LESSON) == ["01", "02", "03", "04", "05"] and all(BY_LESSON.values())


def test_lenet_changes_one_thing_at_a_time():
    """From the book's to today's: the activation, the pooling and the initialisation are all that differs."""
    book, *middle, today = networks_of(catalog.LENET_STEP_BY_STEP)
    for network in middle:
        changed = {f.name for f in dataclasses.fields(book) if getattr(book, f.name) != getattr(network, f.name)}
        assert changed in ({"blocks"}, {"activation"}, {"blocks", "activation"}), changed
    assert today == middle[-1].change(init="he")


def arms_of(experiment):
    return {arm.label: arm.architecture for arm in experiment.arms}


def counted(architecture):
    """Weights of the convolutions, and their MACs, from a network's own."""
    net = build(architecture, device="meta")
    return sum(p.numel() for p in net.features.parameters() if p.ndim == 4), millions_of_macs(architecture)


def test_the_activations_are_compared_without_regularisation_at_a_constant_rate():
    arms = catalog.ALEXNET_ACTIVATION.arms
    assert [arm.architecture.activation for arm in arms] == ["relu", "tanh", "sigmoid"] * 2 + ["sigmoid"]
    for arm in arms:
        same = arm.architecture.change(activation="relu", norm="none", init="he")
        assert same == arms[0].architecture and same.head.dropout == 0
        schedule = "one-cycle" if "the rate decays" in arm.label else "constant"
        assert (arm.recipe.schedule, arm.recipe.weight_decay) == (schedule, 0.0)
        assert arm.architecture.init == ("he" if arm.architecture.activation == "relu" else "xavier")


def test_dropout_and_augmentation_are_crossed():
    found = {arm.label: (arm.architecture.head.dropout, arm.recipe.augment) for arm in catalog.ALEXNET_DROPOUT.arms}
    assert found == {
        "plain": (0.0, "none"), "dropout": (0.5, "none"),
        "augmentation": (0.0, "flip+shift"), "both": (0.5, "flip+shift"),
    }  # fmt: skip


def test_overlapping_pooling_and_lrn_are_all_that_differs():
    overlapping, plain, lrn, *framed = networks_of(catalog.ALEXNET_EXTRAS)
    assert [b.pool and (b.pool.kernel_size, b.pool.stride) for b in overlapping.blocks] == [(3, 2), (3, 2), None]
    assert [b.pool and (b.pool.kernel_size, b.pool.stride) for b in plain.blocks] == [(2, 2), (2, 2), None]
    assert [conv.norm for conv in lrn.convs] == ["lrn", "lrn", None, None, None]
    assert len({counted(a)[0] for a in (overlapping, plain, lrn)}) == 1
    # Of 28×28 pixels the windows leave maps of another size; of 30×30 they don't, so that they alone differ.
    assert counted(overlapping)[1] < counted(plain)[1]
    assert counted(framed[0]) == counted(framed[1])
    assert [b.pool for b in framed[0].blocks] == [b.pool for b in overlapping.blocks]
    assert [b.pool for b in framed[1].blocks] == [b.pool for b in plain.blocks]


def test_the_kernels_that_are_compared_see_the_same():
    arms = arms_of(catalog.KERNELS)
    for large, small in (("one 5×5", "two 3×3"), ("one 7×7", "three 3×3"), ("one 13×13", "six 3×3")):
        for one, other in zip(arms[large].blocks, arms[small].blocks, strict=True):
            fields = [1 + sum(conv.kernel_size - 1 for conv in block.convs) for block in (one, other)]
            assert fields[0] == fields[1] and {conv.kernel_size for conv in other.convs} == {3}
    assert {a.norm for a in arms.values()} == {"batch"} and len({a.head for a in arms.values()}) == 1


def test_the_linear_pairs_differ_from_the_stack_in_what_stands_between():
    arms = arms_of(catalog.KERNELS)
    stack, between = arms["two 3×3"], {"nothing between": [], "BN and no ReLU between": ["BatchNorm2d"]}
    for name, norm in between.items():
        linear = arms[f"two 3×3, {name}"]
        layers = [type(layer).__name__ for layer in build(linear, device="meta").features]
        kept = [layer for layer in layers if layer != "Identity"]
        assert kept == ["Conv2d", *norm, "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"] * 2
        assert counted(linear) == counted(stack)


def test_the_wider_5x5_have_the_weights_or_the_arithmetic_of_two_3x3():
    arms = arms_of(catalog.KERNELS)
    weights, macs = counted(arms["two 3×3"])
    assert counted(arms["one 5×5, weights of two 3×3"])[0] == pytest.approx(weights, rel=0.03)
    assert counted(arms["one 5×5, MACs of two 3×3"])[1] == pytest.approx(macs, rel=0.03)


def test_the_longer_training_is_of_whole_pairs_and_longer_is_all_it_is():
    short = {arm.label: arm for arm in catalog.KERNELS.arms}
    longer = {arm.label: arm for arm in catalog.KERNELS_LONGER.arms}
    pairs = {"one 5×5", "two 3×3", "two 3×3, BN and no ReLU between", "one 7×7", "three 3×3"}
    assert set(longer) == pairs
    for label, arm in longer.items():
        assert arm == dataclasses.replace(
            short[label], recipe=dataclasses.replace(short[label].recipe, epochs=4 * short[label].recipe.epochs)
        )


def test_depth_and_channels_are_compared_at_equal_arithmetic():
    macs = [millions_of_macs(a) for a in networks_of(catalog.DEPTH_OR_CHANNELS)]
    assert [f"{m:.2f}" for m in macs] == ["8.24", "8.31", "8.13"], "as the comment there says"
    assert max(macs) / min(macs) < 1.03


def test_the_family_is_the_papers_at_an_eighth():
    for name, network in zip("ABCDE", networks_of(catalog.FAMILY), strict=True):
        whole = catalog.VGG[name]
        assert [c.out_channels * 8 for c in network.convs] == [c.out_channels for c in whole.convs]
        assert [c.kernel_size for c in network.convs] == [c.kernel_size for c in whole.convs]
        assert network.norm == "batch" and network.weight_layers == whole.weight_layers


def test_who_chooses_by_the_curve_sees_the_same_networks_on_validation_images(tiny):
    assert CURVE_TO_CHOOSE_BY.arms == CURVE.arms and CURVE_TO_CHOOSE_BY.name != CURVE.name
    assert {run.data_size for run in plan(CURVE_TO_CHOOSE_BY, tiny)} == {220}
    assert {run.data_size for run in plan(CURVE, tiny)} == {240}


@pytest.mark.parametrize("experiment", [CURVE, CURVE_TO_CHOOSE_BY], ids=lambda experiment: experiment.name)
def test_the_curve_has_a_committed_reference_and_its_picture_shows_that(experiment):
    files = sorted(REFERENCE.glob(f"*/{experiment.name}.jsonl"))
    assert files
    for file in files:
        alt = plots.throughput_accuracy(points(table(ResultsFile(file).read()))).alt
        assert f"<desc>{escape(alt)}</desc>" in file.with_suffix(".svg").read_text(encoding="utf-8")
        assert alt in Image.open(file.with_suffix(".png")).text["Description"]


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_committed_reference_is_of_the_experiment_as_it_is(file):
    experiment, records = EXPERIMENTS[file.stem], ResultsFile(file)
    runs = records.by_key("run").values()
    found = sorted((r["digest"], str({**r["recipe"], "dtype": "auto"}), r["seed"]) for r in runs)
    arms = [(arm.architecture.digest, str(asdict(arm.recipe))) for arm in experiment.arms]
    assert found == sorted((digest, recipe, seed) for digest, recipe in arms for seed in experiment.seeds)
    assert {r["evaluate_on"] for r in runs} == {experiment.evaluate_on} and not any(r["is_sample"] for r in runs)
    assert {r["data"]["size"] for r in runs} == {60_000 if experiment.evaluate_on == "test" else 55_000}
    networks = table(records.read())
    assert sorted(networks.digest) == sorted(digest for digest, _ in arms)


RATES = sorted(REFERENCE.glob("*/rates.csv"))
# Rates chosen to tell something (both diseases), and those at which a network learns fastest, not best.
NOT_THE_BEST = ("stuck", "alexnet_activation")


@pytest.mark.parametrize("file", RATES, ids=lambda file: file.parent.name)
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in NOT_THE_BEST])
def test_every_rate_is_the_best_that_was_tried_or_a_lower_one_close_to_it(file, name):
    """On the validation images, with as many epochs as in the experiment, or else with the most that were tried."""
    table = pd.read_csv(file)
    for arm in EXPERIMENTS[name].arms:
        tried = table[(table.experiment == name) & (table.arm == arm.label)]
        epochs = arm.recipe.epochs if arm.recipe.epochs in set(tried.epochs) else tried.epochs.max()
        tried = tried[tried.epochs == epochs].set_index("rate").accuracy
        assert len(tried) >= 3 and arm.recipe.lr in tried.index, arm.label
        best = tried[tried == tried.max()]
        assert tried[arm.recipe.lr] >= best.iloc[0] - 0.1001 and arm.recipe.lr <= max(best.index), (arm.label, tried)


@pytest.mark.parametrize("file", RATES, ids=lambda file: file.parent.name)
def test_eight_sigmoids_learnt_nothing_at_any_rate_that_was_tried(file):
    """Lesson 02 says so, and from which to which."""
    table = pd.read_csv(file)
    sigmoid = table[(table.experiment == "alexnet_activation") & (table.arm == "sigmoid")]
    assert (sigmoid.rate.min(), sigmoid.rate.max()) == (0.005, 0.5) and sigmoid.accuracy.max() < 11


def test_there_is_a_table_of_the_rates():
    assert RATES


@pytest.mark.parametrize("folder", sorted({file.parent for file in COMMITTED}), ids=lambda folder: folder.name)
def test_a_network_is_as_fast_in_one_reference_as_in_another(folder):
    """On one machine, under the same conditions: what differs by more was measured while something else ran."""
    speeds = defaultdict(dict)
    for file in folder.glob("*.jsonl"):
        for record in ResultsFile(file).by_key("throughput").values():
            speeds[record["label"], record["key"]][file.stem] = record["images_per_s"]
    for network, found in speeds.items():
        assert max(found.values()) < 1.5 * min(found.values()), (network[0], found)
