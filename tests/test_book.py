"""utils/book.py: the book's Trainer does to our networks what `fit` does, `fit` to the book's what it does to ours."""

import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import nn

from utils import book
from utils.architectures import LENET_BOOK, VGG_SMALL, Head, vgg_like
from utils.book import as_classifier, as_data_module, copy_weights, from_book, import_d2l
from utils.catalog import CURVE
from utils.data import load_fashion_mnist
from utils.models import build, lenet
from utils.profiling import profile
from utils.results import ResultsFile
from utils.training import Recipe, evaluate, fit

ROOT = Path(__file__).resolve().parent.parent
SMALL = vgg_like((1,), (4,), head=Head(hidden=(8,)), norm="batch")
PLAIN = Recipe(epochs=2, batch_size=32, lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", dtype="float32",
               channels_last=False)  # fmt: skip


@pytest.fixture(scope="module")
def d2l():
    return import_d2l()


def net(architecture=SMALL):
    torch.manual_seed(0)
    return build(architecture)


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- ours in the book's Trainer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        replace(PLAIN, momentum=0.9, weight_decay=5e-4, schedule="one-cycle"),
        replace(PLAIN, optimizer="adamw", lr=0.01, schedule="cosine"),
        replace(PLAIN, augment="flip+shift"),
    ],
    ids=["plain SGD", "momentum and one-cycle", "AdamW and cosine", "augmented"],
)
def test_the_books_trainer_gives_the_weights_that_fit_gives(d2l, tiny, recipe, one_thread):
    """Bit by bit: the same batches in the same order, the same steps."""
    ours, theirs = net(), net()
    torch.manual_seed(0)
    fit(ours, tiny.train, recipe, validation=tiny.validation, progress=False)
    module = as_data_module(tiny, batch_size=recipe.batch_size, augment=recipe.augment)
    d2l.Trainer(max_epochs=2).fit(as_classifier(theirs, recipe=recipe, draw=False), module)
    assert same(ours, theirs) and not same(ours, net())


def test_without_a_recipe_it_is_plain_sgd(d2l, tiny, one_thread):
    ours, theirs = net(), net()
    fit(ours, tiny.train, replace(PLAIN, lr=0.05), progress=False)
    d2l.Trainer(max_epochs=2).fit(as_classifier(theirs, lr=0.05, draw=False), as_data_module(tiny, batch_size=32))
    assert same(ours, theirs)


def test_our_network_is_a_classifier_of_the_book(d2l, tiny):
    model = net()
    classifier = as_classifier(model)
    images, labels = tiny.train.batch(slice(0, 8))
    assert isinstance(classifier, d2l.Classifier) and classifier.net is model
    classifier.eval()
    torch.testing.assert_close(classifier(images), model(images), rtol=0, atol=0)
    scores = classifier(images)
    expected = nn.functional.cross_entropy(scores, labels)
    assert torch.equal(classifier.loss(scores, labels), expected)
    assert float(classifier.accuracy(scores, labels)) == float((scores.argmax(1) == labels).float().mean())


def test_the_books_board_gets_loss_and_accuracy_and_draws_only_if_wanted(d2l, tiny, capsys):
    for draw in (False, True):
        classifier = as_classifier(net(), draw=draw)
        d2l.Trainer(max_epochs=2).fit(classifier, as_data_module(tiny, batch_size=32))
        assert set(classifier.board.data) == {"train_loss", "val_loss", "val_acc"}
        assert [point.x for point in classifier.board.data["val_acc"]] == [1, 2]
        assert (classifier.board.fig is not None) is draw


def test_our_data_is_a_data_module_of_the_book(d2l, tiny):
    module = as_data_module(tiny, batch_size=50, image_size=32)
    assert isinstance(module, d2l.DataModule)
    train, validation = module.train_dataloader(), module.val_dataloader()
    assert len(train) == 4 and len(list(train)) == 4, "220 images: the last 20 don't fill a batch"
    assert len(validation) == 1 and [len(labels) for _, labels in validation] == [20]
    images, labels = next(iter(train))
    assert images.shape == (50, 1, 32, 32) and labels.dtype == torch.int64
    assert module.text_labels([0, 9]) == ["T-shirt/top", "Ankle boot"]
    images, labels = next(iter(validation))
    expected = tiny.validation.batch(slice(0, 20), image_size=32)
    assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])


def test_test_images_are_seen_only_by_who_reports(tiny):
    module = as_data_module(tiny)
    assert module.train is tiny.train and module.val is tiny.validation
    module = as_data_module(tiny, to_report=True)
    assert module.train is tiny.all_train and module.val is tiny.test


@pytest.mark.parametrize("recipe", [None, PLAIN])
@pytest.mark.parametrize("gpus", [[], ["the Trainer's"]])
def test_the_network_goes_where_the_images_are(d2l, recipe, gpus):
    """Our data may lie on a GPU, and the book's Trainer moves nothing unless it is told to. Here `meta` is the GPU."""
    model = net(VGG_SMALL["VGG (1,1)"])
    classifier = as_classifier(model, recipe=recipe, draw=False)
    loader = object.__new__(book._Loader)
    loader.images = SimpleNamespace(device=torch.device("meta"))
    classifier.trainer = SimpleNamespace(train_dataloader=loader, gpus=gpus, max_epochs=1, num_train_batches=5)
    optimizer = classifier.configure_optimizers()
    assert {p.device.type for p in model.parameters()} == {"cpu" if gpus else "meta"}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert list(map(id, trained)) == list(map(id, model.parameters())), "and is moved before the optimiser is made"


def test_the_data_module_shows_a_batch_with_its_names(d2l, tiny):
    from matplotlib import pyplot

    pyplot.close("all")
    module = as_data_module(tiny)
    module.visualize(next(iter(module.val_dataloader())), nrows=1, ncols=4)
    titles = [axes.get_title() for axes in pyplot.gcf().axes]
    pyplot.close("all")
    assert titles == [tiny.classes[label] for label in tiny.validation.labels[:4]]


# --- the book's in ours -----------------------------------------------------------------------------------------------


def test_copied_weights_give_equal_scores_either_way(d2l, tiny):
    images, _ = tiny.test.batch(slice(0, 16))
    theirs, ours = from_book(d2l.LeNet()).eval(), lenet().eval()
    assert not torch.equal(theirs(images), ours(images))
    copy_weights(theirs, ours)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)
    other = lenet().eval()
    copy_weights(other, theirs)
    torch.testing.assert_close(theirs(images), other(images), rtol=0, atol=0)


def test_fit_trains_the_books_lenet_as_it_trains_ours(d2l, tiny, one_thread):
    theirs, ours = from_book(d2l.LeNet()), lenet()
    copy_weights(theirs, ours)
    histories = [fit(model, tiny.train, PLAIN, validation=tiny.validation, progress=False) for model in (theirs, ours)]
    assert histories[0].losses == histories[1].losses and histories[0].epochs == histories[1].epochs
    images, _ = tiny.test.batch(slice(0, 16))
    torch.testing.assert_close(theirs(images), ours(images), rtol=0, atol=0)
    assert evaluate(theirs, tiny.test).accuracy == evaluate(ours, tiny.test).accuracy


def test_the_books_lenet_can_be_profiled(d2l):
    assert profile(from_book(d2l.LeNet())).total.parameters == 61_706 == profile(lenet()).total.parameters


def test_from_book_draws_the_weights_as_the_book_does(d2l):
    torch.manual_seed(0)
    drawn = from_book(d2l.LeNet())
    torch.manual_seed(0)
    by_hand = d2l.LeNet()
    by_hand.apply_init([torch.zeros(1, 1, 28, 28)], d2l.init_cnn)
    assert same(drawn, by_hand) and drawn.training


# --- on all of the images, against the reference ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    data = load_fashion_mnist(report=lambda line: None)
    if data.is_sample:
        pytest.skip("NOT TESTED: what the reference says of all images, for only the sample was found here.")
    return data


def interval(architecture):
    """Where one more seed of the reference would lie, with 99 %: mean ± t·s·√(1 + 1/n).

    s, the deviation between seeds, is that of all the reference's networks together: three seeds alone may happen to
    lie next to each other. The images aren't drawn anew, so their number has no part in it.
    """
    (file,) = (ROOT / "results" / "reference" / "amd-epyc-2-cores").glob("curve.jsonl")
    by_network = {}
    for run in ResultsFile(file).by_key("run").values():
        by_network.setdefault(run["digest"], []).append(run["accuracy"])
    deviation = statistics.fmean(map(statistics.variance, by_network.values())) ** 0.5
    degrees = sum(len(accuracies) - 1 for accuracies in by_network.values())
    ours = by_network[architecture.digest]
    half = stats.t.ppf(0.995, degrees) * deviation * (1 + 1 / len(ours)) ** 0.5
    assert len(ours) >= 3 and half < 0.01, "a point at most: else anything would lie in it"
    return statistics.fmean(ours) - half, statistics.fmean(ours) + half


def recipe_of(architecture):
    (recipe,) = (arm.recipe for arm in CURVE.arms if arm.architecture == architecture)
    return recipe


@pytest.mark.once
def test_the_books_trainer_takes_our_vgg_to_the_references_accuracy(d2l, whole):
    architecture = VGG_SMALL["VGG (1,1)"]
    model, recipe = net(architecture), recipe_of(architecture)
    module = as_data_module(whole, batch_size=recipe.batch_size, to_report=True)
    d2l.Trainer(max_epochs=recipe.epochs).fit(as_classifier(model, recipe=recipe, draw=False), module)
    low, high = interval(architecture)
    assert low <= evaluate(model, whole.test).accuracy <= high


@pytest.mark.once
def test_fit_takes_the_books_lenet_to_the_references_accuracy(d2l, whole):
    torch.manual_seed(0)
    model = from_book(d2l.LeNet())
    fit(model, whole.all_train, recipe_of(LENET_BOOK), progress=False)
    low, high = interval(LENET_BOOK)
    assert low <= evaluate(model, whole.test).accuracy <= high


# --- what can go wrong ------------------------------------------------------------------------------------------------

BLOCKED = """
import sys
sys.modules[{name!r}] = None
from utils import book
flat = book.nn.Flatten()
for use in (book.import_d2l, lambda: book.as_classifier(flat), lambda: book.from_book(flat)):
    try:
        use()
    except ImportError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("name", "found"), [("d2l", "it is not installed"), ("scipy.spatial", "it lacks scipy")], ids=["d2l", "scipy"]
)
def test_without_d2l_the_command_that_installs_it_is_named(name, found):
    code = BLOCKED.format(name=name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("to do: pip install --no-deps d2l==1.0.3 && pip install scipy requests") == 3
    assert run.stdout.count(found) == 3


def test_the_command_is_the_one_that_is_documented():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(command in readme for command in book.INSTALL.split(" && "))


def test_nothing_but_the_bridge_imports_d2l_and_that_only_when_it_is_used():
    for file in (ROOT / "utils").rglob("*.py"):
        if file.name != "book.py":
            text = file.read_text(encoding="utf-8")
            assert "import d2l" not in text and "from d2l" not in text, file
    code = (
        "import sys, utils.book, utils.experiments, utils.plots; print([m for m in sys.modules if m.startswith('d2l')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"


def test_lazy_layers_are_refused_with_what_makes_them_ready(d2l, tiny):
    for use in (as_classifier, lambda model: copy_weights(model, lenet()), lambda model: copy_weights(lenet(), model)):
        with pytest.raises(ValueError, match=r"Lazy layers .*net\.0\.weight.*: call utils\.book\.from_book\(model\)"):
            use(d2l.LeNet())
    for use in (fit, evaluate):
        with pytest.raises(ValueError, match=r"Lazy layers .*net\.0\.weight.*: call utils\.book\.from_book\(model\)"):
            use(d2l.LeNet(), tiny.train)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tiny: as_classifier(SMALL), "model must be a Module, such as build"),
        (lambda tiny: as_classifier(net(), lr=0), "lr must be a number above 0, got 0"),
        (lambda tiny: as_classifier(net(), recipe=0.1), "recipe must be a Recipe"),
        (lambda tiny: as_classifier(net(), draw="no"), "draw must be True or False"),
        (lambda tiny: as_data_module(tiny.train), "data must be a FashionMNIST"),
        (lambda tiny: as_data_module(tiny, batch_size=0), "batch_size must be a whole number of at least 1"),
        (lambda tiny: as_data_module(tiny, image_size=16), "image_size must be at least 28"),
        (lambda tiny: as_data_module(tiny, augment="zoom"), "augment must be one of"),
        (lambda tiny: copy_weights(lenet(), net()), r"features.0.weight is \(6, 1, 5, 5\) in the source and .* \(4, 1"),
        (
            lambda tiny: copy_weights(net(), nn.Sequential(net()[0])),
            "the source has 11 tensors of weights and the target 7",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (28, "input_shape must be a sequence such as a tuple or a list, got 28"),
        ((28, 28), r"input_shape must be one image's \(channels, height, width\), got \(28, 28\)"),
        ((1, -28, 28), "input_shape's height must be a whole number of at least 1, got -28"),
        ((1, 4, 4), r"found: net\.3, Conv2d\(6, 16, .*, given \(1, 6, 2, 2\): .* can't be greater"),
    ],
)
def test_from_book_says_which_image_it_takes(d2l, shape, message):
    with pytest.raises(ValueError, match=message):
        from_book(d2l.LeNet(), shape)


def test_nothing_is_copied_where_something_does_not_fit():
    source, target = lenet(), nn.Sequential(lenet()[0], nn.Flatten(), nn.Linear(400, 10))
    before = {name: values.clone() for name, values in target.state_dict().items()}
    with pytest.raises(ValueError, match="same layers in the same order"):
        copy_weights(source, target)
    assert all(torch.equal(values, before[name]) for name, values in target.state_dict().items())
