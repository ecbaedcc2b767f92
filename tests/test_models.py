"""utils/blocks.py and utils/models.py: torchvision's networks are the reference for what torchvision has, the papers,
written out here, for what it lacks."""

import contextlib
import errno
import inspect
import io
import math
import re
import sys
from email.message import Message
from functools import cache
from http.client import IncompleteRead
from urllib.error import HTTPError, URLError

import pytest
import torch
import torchvision.models as theirs
from torch import nn
from torch.nn import functional as F

from utils import models
from utils.architectures import (
    ALEXNET,
    ALEXNET_SMALL,
    LENET,
    LENET_BOOK,
    PRESETS,
    VGG,
    Architecture,
    Block,
    Conv,
    Head,
    Pool,
    vgg_like,
)
from utils.blocks import activation_layer, conv_layer, dense_head, pool_layer, pooled_head, vgg_block
from utils.models import build

pytestmark = pytest.mark.torch

NAMES = ["alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]


def ours_and_theirs(name, **options):
    """A network of ours and torchvision's, without weights: they have shapes, and take no time or memory."""
    with torch.device("meta"):
        return getattr(models, name)(**options), theirs.get_model(name, **options)


def layers_of(net):
    """Name and settings of each layer, but Flatten, which torchvision has as a function."""
    layers = [(name, repr(m)) for name, m in net.named_modules() if not list(m.children())]
    squared = re.compile(r"output_size=\((\d+), \1\)")  # of average pooling: one number means the same
    return [(name, squared.sub(r"output_size=\1", layer)) for name, layer in layers if "Flatten" not in layer]


def shapes_of(net):
    return [(key, tensor.shape, tensor.dtype) for key, tensor in net.state_dict().items()]


def num_params(net):
    return sum(p.numel() for p in net.parameters())


def kinds(layers):
    return [type(layer).__name__ for layer in layers]


@cache
def noise():
    return torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))


def some_weights(net):
    """A state dict in which no two tensors are alike and the signal gets through (to draw them all takes seconds)."""
    state = {}
    for i, (key, tensor) in enumerate(net.state_dict().items()):
        if not tensor.is_floating_point():
            state[key] = torch.tensor(i)
            continue
        n = tensor.numel()
        values = noise().roll(1009 * i).repeat(n // len(noise()) + 1)[:n].view(tensor.shape)
        if tensor.dim() > 1:
            values *= (2 / tensor[0].numel()) ** 0.5
        elif "var" in key or "weight" in key:  # of batch norm: about 1
            values.abs_().add_(0.5)
        else:
            values *= 0.3
        state[key] = values
    return state


def loaded(net, state):
    """`net` (on meta) with these very tensors; every key must be there, and none beside."""
    net.load_state_dict(state, strict=True, assign=True)
    return net.eval()


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- torchvision is the reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_network_layer_by_layer(name):
    ours, reference = ours_and_theirs(name)
    assert layers_of(ours) == layers_of(reference)
    assert shapes_of(ours) == shapes_of(reference)
    assert [(key, p.shape) for key, p in ours.named_parameters()] == [
        (key, p.shape) for key, p in reference.named_parameters()
    ]
    assert num_params(ours) == theirs.get_model_weights(name).DEFAULT.meta["num_params"], "as torchvision publishes"


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 224), ("alexnet", 100), ("vgg11", 224), *((name, 64) for name in NAMES[1:6])]
)
@torch.no_grad()
def test_torchvisions_weights_go_both_ways_and_give_the_same_output(name, size):
    ours, reference = ours_and_theirs(name)
    state, x = some_weights(reference), images(2, 3, size, size)
    expected = loaded(reference, state)(x)
    assert torch.equal(loaded(ours, reference.state_dict())(x), expected)
    _, back = ours_and_theirs(name)
    assert torch.equal(loaded(back, ours.state_dict())(x), expected)
    assert expected.shape == (2, 1000) and expected.isfinite().all()
    assert (expected[0] - expected[1]).std() > 0.1 * expected.std(), "the output depends on the image"


@torch.no_grad()
def test_weights_are_copied_as_they_are_usually_loaded():
    reference, ours = theirs.alexnet().eval(), models.alexnet().eval()
    x = images(2, 3, 224, 224)
    assert not torch.allclose(ours(x), reference(x), atol=1e-3), "each has drawn its own"
    ours.load_state_dict(reference.state_dict(), strict=True)
    assert torch.equal(ours(x), reference(x))
    models.initialise(ours, "he")
    assert not torch.equal(ours(x), reference(x)), "a copy, not the same memory"
    reference.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours(x), reference(x))


@pytest.mark.parametrize("name", NAMES)
def test_thin_names_have_torchvisions_signature(name):
    ours = inspect.signature(getattr(models, name)).parameters
    reference = inspect.signature(getattr(theirs, name)).parameters
    assert list(ours) == ["weights", "progress", "num_classes"]
    for option in ("weights", "progress"):
        assert ours[option].kind == reference[option].kind == inspect.Parameter.KEYWORD_ONLY
        assert ours[option].default == reference[option].default
    assert ours["num_classes"].kind == inspect.Parameter.KEYWORD_ONLY and ours["num_classes"].default == 1000
    for num_classes in (10, 1):
        net, theirs_ = ours_and_theirs(name, num_classes=num_classes)
        assert shapes_of(net) == shapes_of(theirs_)


def test_a_wrong_number_of_classes_is_refused():
    for name in ("lenet", "alexnet", "vgg11"):
        for wrong in (0, 10.0, "10", True, None):
            with pytest.raises(ValueError, match=f"num_classes must be a whole number of at least 1, got {wrong!r}"):
                getattr(models, name)(num_classes=wrong)
    with pytest.raises(TypeError):
        models.vgg11(10)


# --- the papers -------------------------------------------------------------------------------------------------------


def paper_alexnet(groups):
    """Krizhevsky, Sutskever & Hinton 2012, section 3.5; padding 2 makes up for 224 pixels where 227 are needed."""
    pool = Pool("max", 3, 2)
    return ALEXNET.change(
        blocks=(
            Block((Conv(96, 11, stride=4, padding=2, norm="lrn"),), pool),
            Block((Conv(256, 5, groups=groups, norm="lrn"),), pool),
            Block((Conv(384), Conv(384, groups=groups), Conv(256, groups=groups)), pool),
        ),
        head=Head((4096, 4096), dropout=0.5),
    )


PARAMETERS = {
    "LeNet (book)": (LENET_BOOK, 61_706),
    "LeNet": (LENET, 61_706),
    "AlexNet": (ALEXNET, 61_100_840),
    "AlexNet, two GPUs": (paper_alexnet(groups=2), 60_965_224),
    "AlexNet, one GPU": (paper_alexnet(groups=1), 62_378_344),
    "A": (VGG["A"], 132_863_336),
    "A-LRN": (VGG["A-LRN"], 132_863_336),
    "B": (VGG["B"], 133_047_848),
    "C": (VGG["C"], 133_638_952),
    "D": (VGG["D"], 138_357_544),
    "E": (VGG["E"], 143_667_240),
}


@pytest.mark.parametrize(("architecture", "parameters"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameter_counts(architecture, parameters):
    net = build(architecture, device="meta")
    assert num_params(net) == parameters
    assert all(p.is_meta for p in net.parameters())


def test_the_vgg_head_is_the_same_in_all():
    for architecture in VGG.values():
        assert num_params(build(architecture, device="meta").classifier) == 123_642_856


# Simonyan & Zisserman, Table 1, column by column: width, or (width, kernel); M is max-pooling.
TABLE_1 = {
    "A": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "A-LRN": [64, "LRN", "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "B": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "C": [64, 64, "M", 128, 128, "M", 256, 256, (256, 1), "M", 512, 512, (512, 1), "M", 512, 512, (512, 1), "M"],
    "D": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "E": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}


@pytest.mark.parametrize(("name", "column"), TABLE_1.items(), ids=TABLE_1)
def test_vgg_is_the_papers_table(name, column):
    with torch.device("meta"):
        features, channels = [], 3
        for entry in column:
            if entry == "M":
                features.append(nn.MaxPool2d(2, 2))
            elif entry == "LRN":
                features.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2))
            else:
                width, kernel = entry if isinstance(entry, tuple) else (entry, 3)
                features += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
                channels = width
        dense = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        dense += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4096, 1000)]
    net = build(VGG[name], device="meta")
    assert list(map(repr, net.features)) == list(map(repr, features))
    assert list(map(repr, net.classifier)) == list(map(repr, dense))


@torch.no_grad()
def test_lenet_is_the_textbooks():
    by_hand = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2, stride=2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2, stride=2), nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10),
    )  # fmt: skip
    net = models.lenet()
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), net.state_dict().values(), strict=True)))
    x = images(5, 1, 28, 28)
    assert torch.equal(net(x), by_hand(x))
    assert models.lenet(num_classes=3)(x).shape == (5, 3)


def test_lrn_is_the_papers_formula():
    n, k, alpha, beta = 5, 2, 1e-4, 0.75  # section 3.3 of AlexNet's paper: b = a / (k + α Σ a²)^β over n neighbours
    a = images(2, 9, 3, 4) * 300
    expected = torch.empty_like(a)
    for i in range(9):
        first, last = max(0, i - n // 2), min(8, i + n // 2)
        total = sum(a[:, j] ** 2 for j in range(first, last + 1))
        expected[:, i] = a[:, i] / (k + alpha * total) ** beta
    lrn = conv_layer(9, 9, norm="lrn")[-1]
    torch.testing.assert_close(lrn(a), expected)
    assert not torch.allclose(lrn(a), a / k**beta, rtol=0.1), "at this scale, the neighbours matter"


# --- published weights ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache for torch's downloads, and small networks under the names. Gives the folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(models, "ALEXNET", ALEXNET.scaled(1 / 16))
    monkeypatch.setitem(models.VGG, "A", VGG["A"].scaled(1 / 16))

    def never(*args, **kwargs):
        raise AssertionError("no test fetches anything")

    monkeypatch.setattr(torch.hub, "urlopen", never)
    return tmp_path / "checkpoints"


@pytest.fixture
def published(hub, monkeypatch):
    """State dicts in the place of torchvision's files, and a list of the downloads as they happen."""
    states = {
        "alexnet": build(models.ALEXNET).state_dict(),
        "vgg11_bn": some_weights(build(models.VGG["A"].change(norm="batch"), device="meta")),
    }
    calls = []

    def download(url, dst, hash_prefix=None, progress=True):
        calls.append((url, hash_prefix, progress))
        torch.save(states[url.rpartition("/")[2].partition("-")[0]], dst)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return states, calls


def test_weights_by_name_or_member(hub, published):
    states, calls = published
    weights = theirs.AlexNet_Weights
    for given in ("DEFAULT", "IMAGENET1K_V1", "AlexNet_Weights.IMAGENET1K_V1", weights.DEFAULT, weights.IMAGENET1K_V1):
        before = torch.get_rng_state()
        net = models.alexnet(weights=given, progress=False)
        assert torch.equal(before, torch.get_rng_state()), "nothing is drawn"
        assert list(net.state_dict()) == list(states["alexnet"])
        assert all(torch.equal(tensor, states["alexnet"][key]) for key, tensor in net.state_dict().items())
        assert all(p.requires_grad and p.is_leaf and not p.is_meta for p in net.parameters()) and net.training
    assert calls == [(weights.DEFAULT.url, "7be5be79", False)], "fetched once, with the hash in its name to check"
    net.train()(images(2, 3, 224, 224)).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_weights_with_batch_norm(hub, published):
    states, calls = published
    expected = dict(states["vgg11_bn"])
    net = models.vgg11_bn(weights="DEFAULT")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in net.state_dict().items())
    assert calls == [(theirs.VGG11_BN_Weights.DEFAULT.url, "6002323d", True)]
    # Files from before torch 0.4.1 have no counters: they start at 0 then, as torch's do.
    states["vgg11_bn"] = {key: tensor for key, tensor in expected.items() if "num_batches" not in key}
    (hub / "vgg11_bn-6002323d.pth").unlink()
    counters = [b for key, b in models.vgg11_bn(weights="DEFAULT").named_buffers() if "num_batches" in key]
    assert len(counters) == 8 and all(b == 0 and b.dtype == torch.int64 for b in counters)


def test_weights_give_what_torchvision_gives_with_them(monkeypatch):
    state = some_weights(ours_and_theirs("alexnet")[1])
    calls = []

    def load(url, **options):
        calls.append((url, options))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.alexnet(weights="DEFAULT", progress=False).eval()(x)
        assert torch.equal(models.alexnet(weights="DEFAULT", progress=False).eval()(x), expected)
    assert calls == [(theirs.AlexNet_Weights.DEFAULT.url, {"progress": False, "check_hash": True})] * 2


def test_weights_go_to_the_default_device(hub, published):
    with torch.device("meta"):
        assert all(p.is_meta for p in models.alexnet(weights="DEFAULT").parameters())
    assert all(p.device.type == "cpu" for p in models.alexnet(weights="DEFAULT").parameters())


@pytest.mark.parametrize(
    "wrong", ["IMAGENET1K_V2", "default", "", "VGG16_Weights.DEFAULT", True, 1, theirs.VGG16_Weights.DEFAULT], ids=repr
)
def test_wrong_weights_are_refused_with_the_right_names(hub, wrong):
    with pytest.raises(ValueError) as caught:
        models.alexnet(weights=wrong)
    assert str(caught.value) == (
        f"weights for alexnet must be None, a member of torchvision's AlexNet_Weights or its name (IMAGENET1K_V1, "
        f"DEFAULT), got {wrong!r}"
    )
    with pytest.raises(ValueError, match=r"VGG16_Weights or its name \(IMAGENET1K_V1, IMAGENET1K_FEATURES, DEFAULT\)"):
        models.vgg16(weights="V1")


def test_weights_come_with_their_thousand_classes(hub, published):
    _, calls = published
    with pytest.raises(ValueError) as caught:
        models.alexnet(weights="DEFAULT", num_classes=10)
    assert str(caught.value) == (
        "num_classes must be 1000 with weights=AlexNet_Weights.IMAGENET1K_V1, got 10: load the weights first, then "
        "replace the last layer, net.classifier[-1]"
    )
    assert not calls, "refused before anything is fetched"
    net = models.alexnet(weights="DEFAULT")
    net.classifier[-1] = nn.Linear(net.classifier[-1].in_features, 10)
    assert net(images(1, 3, 224, 224)).shape == (1, 10), "as advised"


class Answer(io.BytesIO):
    """What urlopen gives: the content's beginning, then perhaps an error."""

    def __init__(self, content, error=None):
        super().__init__(content)
        self.error = error

    def info(self):
        return Message()

    def read(self, size=-1):
        found = super().read(size)
        if not found and self.error:
            raise self.error
        return found


URL = theirs.AlexNet_Weights.DEFAULT.url
# What comes, and then which error (or, without one, the end); what the message must say.
FAILURES = {
    "offline": (None, URLError(OSError(errno.ENETUNREACH, "Network is unreachable")), "Network is unreachable"),
    "not there": (None, HTTPError(URL, 404, "Not Found", Message(), None), "HTTP Error 404: Not Found"),
    "too slow": (None, TimeoutError("timed out"), "timed out"),
    "cut off": (b"half", ConnectionResetError("reset by peer"), "reset by peer"),
    "cut short": (b"half", IncompleteRead(b"half", 4), "4 bytes read, 4 more expected"),
    "another file": (b"<html>Please log in</html>", None, 'invalid hash value (expected "7be5be79"'),
    "disk full": (b"half", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
}


@pytest.mark.parametrize(("content", "error", "found"), FAILURES.values(), ids=FAILURES)
def test_a_failed_download_says_what_was_tried_and_leaves_nothing(hub, monkeypatch, content, error, found):
    def urlopen(request):
        asked.append(request.full_url)
        if content is None:
            raise error
        return Answer(content, error)

    asked = []
    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    with pytest.raises(ConnectionError) as caught:
        models.alexnet(weights="DEFAULT", progress=False)
    message = str(caught.value)
    assert message.startswith("The weights AlexNet_Weights.IMAGENET1K_V1 are not on this machine, and fetching them")
    assert f"tried: {hub} (torch's cache), then {URL}\n" in message
    assert found in message.partition("found: ")[2].partition("\n")[0]
    assert f"to do: connect and run again; or fetch {URL} elsewhere and put the file" in message
    assert message.endswith(f"into {hub}")
    assert asked == [URL] and not list(hub.iterdir())


def test_torchs_notice_with_the_path_of_its_cache_is_not_printed(hub, published, capsys):
    """It would stand in a notebook that is published. Other lines are: the stream is torch's for that long."""
    models.alexnet(weights="DEFAULT", progress=False)
    assert str(hub) not in (printed := "".join(capsys.readouterr())) and "Downloading" not in printed
    with contextlib.redirect_stdout(models._WithoutNotice(sys.stdout)):
        print("something else")
    assert capsys.readouterr().out == "something else\n"


def test_an_interrupted_download_leaves_nothing(hub, monkeypatch):
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: Answer(b"half", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        models.alexnet(weights="DEFAULT", progress=False)
    assert not list(hub.iterdir())


@pytest.mark.parametrize("broken", ["empty", "half", "text", "folder"])
def test_a_broken_file_in_the_cache_is_named(hub, broken):
    hub.mkdir()
    file = hub / "alexnet-owt-7be5be79.pth"
    torch.save(build(models.ALEXNET).state_dict(), file)
    content = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "half": content[: len(content) // 2], "text": b"<html></html>", "folder": b""}[broken]
    )
    if broken == "folder":
        file.unlink()
        file.mkdir()
    with pytest.raises(RuntimeError) as caught:
        models.alexnet(weights="DEFAULT")
    assert str(caught.value).startswith(f"The weights AlexNet_Weights.IMAGENET1K_V1 cannot be read from {file}.\n")
    assert "to do: delete it and run again" in str(caught.value)


def test_a_file_put_into_the_cache_by_hand_is_used(hub):
    hub.mkdir()
    net = build(models.ALEXNET)
    torch.save(net.state_dict(), hub / "alexnet-owt-7be5be79.pth")
    found = models.alexnet(weights="DEFAULT")
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), net.parameters(), strict=True))


def test_weights_of_another_network_are_refused(hub):
    hub.mkdir()
    torch.save(build(VGG["A"]).state_dict(), hub / "alexnet-owt-7be5be79.pth")
    with pytest.raises(RuntimeError, match=r"size mismatch for features\.0\.weight"):
        models.alexnet(weights="DEFAULT")


# --- initialisation ---------------------------------------------------------------------------------------------------

# Wide enough for statistics: the smallest layer has 4,608 weights, the largest 589,824.
WIDE = Architecture(
    (Block((Conv(256, 3, groups=2), Conv(256))),), Head((288,), pool_size=3), in_channels=4, image_size=8
)
# (fan_in, fan_out) of each layer: inputs (outputs) that one output (input) is connected to, as Glorot & Bengio count
FANS = [(2 * 9, 256 * 9), (256 * 9, 256 * 9), (256 * 9, 288), (288, 10)]


def weight_layers(net):
    return [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def initialised(init, **others):
    torch.manual_seed(0)
    layers = weight_layers(build(WIDE.change(init=init, **others)))
    assert [layer.weight[0].numel() for layer in layers] == [fan_in for fan_in, _ in FANS]
    return layers


def assert_drawn(weight, std, *, kurtosis):
    """Mean 0, this standard deviation, and the shape of a normal (kurtosis 3) or a uniform (1.8) distribution."""
    n = weight.numel()
    w = weight.detach().double().flatten() / std
    assert abs(w.mean()) < 5 / n**0.5
    assert abs(w.std() - 1) < 5 / n**0.5
    assert abs((w**4).mean() / w.var() ** 2 - kurtosis) < 5 * (24 / n) ** 0.5


def test_he():
    *layers, last = initialised("he")
    for layer, (fan_in, _) in zip(layers, FANS, strict=False):
        assert_drawn(layer.weight, (2 / fan_in) ** 0.5, kurtosis=3)
    assert_drawn(last.weight, (1 / FANS[-1][0]) ** 0.5, kurtosis=3)
    assert all((layer.bias == 0).all() for layer in (*layers, last))


def test_xavier():
    for layer, (fan_in, fan_out) in zip(initialised("xavier"), FANS, strict=True):
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert_drawn(layer.weight, bound / 3**0.5, kurtosis=1.8)
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


@pytest.mark.parametrize("std", [0.1, 0.01])
def test_normal(std):
    for layer in initialised("normal", init_std=std):
        assert_drawn(layer.weight, std, kurtosis=3)
        assert (layer.bias == 0).all()


def test_default_is_torchs_own():
    layers = initialised("default")
    torch.manual_seed(0)
    fresh = [
        nn.Conv2d(4, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.Linear(2304, 288),
        nn.Linear(288, 10),
    ]
    for layer, expected in zip(layers, fresh, strict=True):
        assert torch.equal(layer.weight, expected.weight) and torch.equal(layer.bias, expected.bias)
        assert (layer.bias != 0).any()


def test_he_keeps_the_scale_through_thirty_layers_where_the_default_loses_it():
    deep = vgg_like((30,), (64,), head=Head(), image_size=16)
    scale = {}
    for init in ("he", "default"):
        torch.manual_seed(0)
        net = build(deep.change(init=init))
        for layer in weight_layers(net):
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            scale[init] = net.features(images(4, 1, 16, 16)).square().mean().sqrt().item()
    assert 0.1 < scale["he"] < 10 and scale["default"] < 1e-6, scale


def test_batch_norm_starts_as_the_identity():
    net = build(vgg_like((2,), (8,), norm="batch"))
    for layer in net.features:
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
            assert (layer.running_mean == 0).all() and (layer.running_var == 1).all()


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(ValueError, match="init must be 'default', 'he', 'xavier' or 'normal', got 'kaiming'"):
        models.initialise(nn.Linear(2, 2), "kaiming")


@pytest.mark.parametrize("init", ["default", "he", "xavier", "normal"])
def test_the_seed_decides_the_weights(init):
    architecture = LENET.change(init=init, init_std=0.1 if init == "normal" else None)

    def state(seed):
        torch.manual_seed(seed)
        return torch.cat([tensor.flatten() for tensor in build(architecture).state_dict().values()])

    first = state(1)
    assert torch.equal(first, state(1)) and not torch.equal(first, state(2))
    second = torch.cat([tensor.flatten() for tensor in build(architecture).state_dict().values()])
    assert not torch.equal(second, state(1)), "without a new seed, new weights"


def test_asking_for_shapes_draws_no_random_numbers():
    before = torch.get_rng_state()
    for architecture in (LENET, LENET_BOOK, ALEXNET_SMALL):
        assert all(t.is_meta for t in build(architecture, device="meta").state_dict().values())
    assert torch.equal(before, torch.get_rng_state())


def test_the_default_device_is_used():
    with torch.device("meta"):
        assert all(p.is_meta for p in build(LENET).parameters())
        assert all(p.device.type == "cpu" for p in build(LENET, device="cpu").parameters())
    assert all(p.device.type == "cpu" for p in build(LENET).parameters())


# --- the options do what they say -------------------------------------------------------------------------------------

FORMULAS = {
    "relu": lambda x: (x + x.abs()) / 2,
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "identity": lambda x: x,
}


@pytest.mark.parametrize(("name", "formula"), FORMULAS.items(), ids=FORMULAS)
@torch.no_grad()
def test_activations(name, formula):
    x = images(1000).double()
    torch.testing.assert_close(nn.Sequential(*activation_layer(name))(x.clone()), formula(x))

    by_hand = images(3, 2, 6, 6)
    net = build(vgg_like((1,), (4,), head=Head((5,)), activation=name, in_channels=2, image_size=6))
    conv, dense, last = weight_layers(net)
    scores = formula(F.conv2d(by_hand, conv.weight, conv.bias, padding=1))
    scores = formula(F.linear(F.max_pool2d(scores, 2).flatten(1), dense.weight, dense.bias))
    torch.testing.assert_close(net(by_hand), F.linear(scores, last.weight, last.bias))


@torch.no_grad()
def test_without_activation_and_with_average_pooling_a_network_is_linear():
    net = build(
        Architecture(
            (Block((Conv(4), Conv(4, 5)), Pool("avg")), Block((Conv(8),), Pool("avg", 3, 2))),
            Head((16,), pool_size=2),
            activation="identity",
        )
    ).double()
    a, b = images(3, 1, 28, 28).double(), images(3, 1, 28, 28, seed=1).double()
    torch.testing.assert_close(net(0.3 * a + 0.7 * b), 0.3 * net(a) + 0.7 * net(b))
    net.features[2] = nn.MaxPool2d(2, 2)
    assert not torch.allclose(net(0.3 * a + 0.7 * b), 0.3 * net(a) + 0.7 * net(b)), "max-pooling isn't"


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (2, 1), (3, 3)])
def test_pooling(kernel, stride):
    x = images(2, 3, 7, 7)
    rows = range(0, 7 - kernel + 1, stride)
    for kind, summary in (("max", torch.amax), ("avg", torch.mean)):
        expected = torch.stack(
            [
                torch.stack([summary(x[:, :, i : i + kernel, j : j + kernel], dim=(2, 3)) for j in rows], dim=-1)
                for i in rows
            ],
            dim=-2,
        )
        (pool,) = pool_layer(kind, kernel, stride)
        torch.testing.assert_close(pool(x), expected)
        net = build(Architecture((Block((Conv(3),), Pool(kind, kernel, stride)),), image_size=7))
        assert repr(net.features[-1]) == repr(pool)


def test_norms_stand_where_the_papers_put_them():
    order = {"none": [], "batch": ["BatchNorm2d"], "lrn": []}
    after = {"none": [], "batch": [], "lrn": ["LocalResponseNorm"]}
    for norm in order:
        expected = ["Conv2d", *order[norm], "Tanh", *after[norm]]
        assert kinds(conv_layer(3, 8, norm=norm, activation="tanh")) == expected
        net = build(vgg_like((2, 1), (4, 8), norm=norm, activation="tanh"))
        assert kinds(net.features) == [*expected * 2, "MaxPool2d", *expected, "MaxPool2d"]
        assert kinds(net.classifier) == ["Linear", "Tanh", "Linear"]


def test_a_convolution_may_differ_from_the_rest():
    blocks = (
        Block((Conv(8, norm="lrn", activation="identity"), Conv(8, norm="none")), None),
        Block((Conv(8, activation="gelu"),), None),
    )
    net = build(Architecture(blocks, norm="batch", activation="tanh"))
    assert kinds(net.features) == ["Conv2d", "LocalResponseNorm", "Conv2d", "Tanh", "Conv2d", "BatchNorm2d", "GELU"]


@torch.no_grad()
def test_groups_keep_channels_apart():
    (conv,) = conv_layer(4, 6, groups=2, activation="identity")
    x = images(1, 4, 5, 5)
    before = conv(x)
    x[:, 2:] += 1
    after = conv(x)
    assert torch.equal(before[:, :3], after[:, :3]) and (before[:, 3:] != after[:, 3:]).all()


def test_a_stride_without_a_padding_is_refused():
    with pytest.raises(ValueError, match=r"^padding must be given with a stride of 2: no padding would keep"):
        conv_layer(1, 1, 3, stride=2)


def test_layers_without_a_bias_are_initialised_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 64, 5, bias=False), nn.ReLU(), nn.Linear(100, 64, bias=False))
    models.initialise(net, "he")
    assert net[0].weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.05)
    assert net[2].weight.std().item() == pytest.approx((1 / 100) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 1, 0), (5, 2, 2), (4, 3, 0), (1, 1, 0)])
def test_conv_layer_gives_the_shape_it_says(kernel, stride, padding):
    layers = nn.Sequential(*conv_layer(2, 5, kernel, stride=stride, padding=padding))
    side = (17 + 2 * padding - kernel) // stride + 1
    assert layers(images(3, 2, 17, 17)).shape == (3, 5, side, side)
    assert nn.Sequential(*conv_layer(2, 5, 7))(images(3, 2, 17, 17)).shape == (3, 5, 17, 17)


@pytest.mark.parametrize("wrong", ["VGG", PRESETS[0], None])
def test_only_an_architecture_is_built(wrong):
    with pytest.raises(ValueError, match=r"^architecture must be an Architecture, such as LENET, .* got "):
        build(wrong)


@pytest.mark.parametrize("make", [lambda: conv_layer(2, 5, 4), lambda: vgg_block(1, 2, 5, kernel_size=4)])
def test_an_even_kernel_cannot_keep_the_size(make):
    with pytest.raises(ValueError, match=r"kernel_size must be odd .* got 4: take 3 or 5"):
        make()


def test_heads():
    assert [repr(layer) for layer in dense_head(10, 3, hidden=(8, 4), dropout=0.2, activation="sigmoid")] == [
        repr(layer)
        for layer in (
            nn.Linear(10, 8), nn.Sigmoid(), nn.Dropout(0.2),
            nn.Linear(8, 4), nn.Sigmoid(), nn.Dropout(0.2), nn.Linear(4, 3),
        )
    ]  # fmt: skip
    assert [repr(layer) for layer in dense_head(10, 3, hidden=(8, 4), dropout=0.2, dropout_first=True)] == [
        repr(layer)
        for layer in (
            nn.Dropout(0.2), nn.Linear(10, 8), nn.ReLU(True),
            nn.Dropout(0.2), nn.Linear(8, 4), nn.ReLU(True), nn.Linear(4, 3),
        )
    ]  # fmt: skip
    assert kinds(dense_head(10, 3, hidden=())) == ["Linear"]
    assert kinds(dense_head(10, 3, hidden=(8,))) == ["Linear", "ReLU", "Linear"], "no dropout, no layer for it"


@torch.no_grad()
def test_global_average_pooling():
    x = images(4, 1, 28, 28)
    net = build(vgg_like((1, 1), (4, 8), head=Head(pool_size=1)))
    means = net.features(x).mean(dim=(2, 3))
    torch.testing.assert_close(net(x), means @ net.classifier[0].weight.T + net.classifier[0].bias)
    head = nn.Sequential(*pooled_head(8, 10))
    head[-1].load_state_dict(net.classifier[0].state_dict())
    torch.testing.assert_close(head(net.features(x)), net(x))
    assert net(images(4, 1, 56, 56)).shape == (4, 10), "any size of image will do"


@pytest.mark.parametrize("norm", ["none", "batch", "lrn"])
def test_the_block_and_the_architecture_make_the_same_layers(norm):
    options = {"norm": norm, "activation": "gelu", "kernel_size": 5}
    layers = [*vgg_block(2, 1, 8, **options), *vgg_block(3, 8, 16, **options)]
    net = build(vgg_like((2, 3), (8, 16), **options))
    assert list(map(repr, net.features)) == list(map(repr, layers))


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="norm must be 'none', 'batch' or 'lrn', got 'bn'"):
        conv_layer(1, 8, norm="bn")
    with pytest.raises(ValueError, match="activation must be 'relu', 'tanh', 'sigmoid', 'gelu' or 'identity', got 'x'"):
        conv_layer(1, 8, activation="x")
    with pytest.raises(ValueError, match="kind must be 'max' or 'avg', got 'mean'"):
        pool_layer("mean")


# --- they can learn ---------------------------------------------------------------------------------------------------


def narrow(architecture):
    """The same plan with layers narrow enough for a test."""
    return architecture.scaled(1 / 16) if max(architecture.head.hidden) > 256 else architecture


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_gradient_reaches_every_parameter(preset):
    torch.manual_seed(0)
    architecture = narrow(preset.architecture)
    net = build(architecture).train()
    scores = net(images(4, *architecture.input_shape))
    F.cross_entropy(scores, torch.arange(4)).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@pytest.mark.parametrize("architecture", [ALEXNET, VGG["A"]], ids=["AlexNet", "VGG-11"])
@torch.no_grad()
def test_dropout_is_off_in_eval_and_on_in_training(architecture):
    torch.manual_seed(0)
    architecture = narrow(architecture)
    net, x = build(architecture), images(2, *architecture.input_shape)
    assert sum(isinstance(layer, nn.Dropout) for layer in net.modules()) == 2
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
    without = build(architecture.change(head=Head(architecture.head.hidden, pool_size=architecture.head.pool_size)))
    assert not any(isinstance(layer, nn.Dropout) for layer in without.modules())
    for ours, other in zip(weight_layers(without), weight_layers(net), strict=True):
        ours.load_state_dict(other.state_dict())
    assert torch.equal(without(x), net(x)), "dropout changes nothing in eval, in either mode without it"


@torch.no_grad()
def test_dropout_drops_its_share():
    for dropout in (0.2, 0.5):
        net = build(vgg_like((1,), (4,), head=Head((2000,), dropout=dropout), activation="sigmoid")).train()
        hidden = net.classifier[:-1](net.flatten(net.features(images(5, 1, 28, 28))))
        assert abs((hidden == 0).double().mean() - dropout) < 0.03  # 10,000 of them, ± six standard deviations


@pytest.mark.parametrize("name", ["A", "C", "E"])
def test_convolutions_are_found_block_by_block(name):
    found = models.convs_by_block(build(VGG[name], device="meta"))
    assert [[(conv.out_channels, conv.kernel_size[0]) for conv in block] for block in found] == [
        [(conv.out_channels, conv.kernel_size) for conv in block.convs] for block in VGG[name].blocks
    ]


def test_a_last_block_without_pooling_is_a_block_too():
    found = models.convs_by_block(build(ALEXNET_SMALL, device="meta"))
    assert [len(block) for block in found] == [len(block.convs) for block in ALEXNET_SMALL.blocks] == [1, 1, 3]
