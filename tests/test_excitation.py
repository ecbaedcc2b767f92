"""utils/excitation.py: what a number sees is held against gradients, the maps against torch's own hooks, the largest
numbers against a search of one image after the other."""

import utils  # noqa: F401, I001
from collections import Counter

import pytest
import torch
import torchvision
from torch import nn

from utils import excitation
from utils.architectures import ALEXNET_SMALL, LENET, VGG, Head, vgg_like
from utils.excitation import (
    BATCH_BYTES,
    MOST_IMAGES,
    Field,
    Window,
    batch_size,
    conv_layers,
    excitations,
    images_to_search,
    input_channels,
    maps_of,
    parts_of,
    probabilities,
    strongest_slices,
    version_of,
)
from utils.faults import TrainingError
from utils.models import build, vgg11

SMALL = (1, 28, 28)


def net_of(architecture, seed=0):
    torch.manual_seed(seed)
    return build(architecture).eval()


def grey(number, size=28, seed=0, channels=1):
    return torch.randn(number, channels, size, size, generator=torch.Generator().manual_seed(seed))


def box_of(mask):
    """Top, left, height and width of all that is True in (H, W)."""
    rows, columns = mask.any(dim=1).nonzero().squeeze(1), mask.any(dim=0).nonzero().squeeze(1)
    top, left = int(rows[0]), int(columns[0])
    return Window(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)


def inside(window, height, width):
    """What of a window lies in the image, as a box."""
    top, left = max(0, window.top), max(0, window.left)
    bottom, right = min(height, window.top + window.height), min(width, window.left + window.width)
    return Window(top, left, bottom - top, right - left)


def box_and(one, other):
    """What two boxes share."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.height, other.top + other.height)
    return Window(top, left, bottom - top, min(one.left + one.width, other.left + other.width) - left)


# --- what a number sees: against gradients ----------------------------------------------------------------------------

STACKS = {
    "LeNet": [nn.Conv2d(1, 2, 5, padding=2), nn.AvgPool2d(2), nn.Conv2d(2, 2, 5), nn.AvgPool2d(2)],
    "AlexNet": [
        *(nn.Conv2d(1, 2, 11, stride=4, padding=2), nn.AvgPool2d(3, 2), nn.Conv2d(2, 2, 5, padding=2)),
        *(nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(2, 2, 3, padding=1)),
    ],
    "oblong": [nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(0, 1)), nn.Conv2d(2, 2, (5, 1), padding=(2, 0))],
    "dilated": [nn.Conv2d(1, 2, 3, dilation=2, padding=1), nn.Conv2d(2, 2, 3, dilation=(1, 3))],
    "same, valid": [nn.Conv2d(1, 2, 4, padding="same"), nn.Conv2d(2, 2, 3, padding="valid"), nn.AvgPool2d(2)],
    "even kernel": [nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, 2, stride=2, padding=1), nn.Conv2d(2, 2, 4, padding=1)],
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", STACKS)
def test_the_field_is_what_the_gradient_reaches(name):
    """With positive weights and average pooling no pixel is hidden: the box is the field. At the edges a number sees
    less than that, where a layer's padding stands for what would have seen pixels."""
    net = nn.Sequential(*STACKS[name]).double()
    for parameter in net.parameters():
        parameter.data.uniform_(0.5, 1)
    field = Field()
    for layer in net:
        field = field.through(layer)
    pixels = torch.rand(1, 1, 235, 221, dtype=torch.float64, requires_grad=True)
    maps = net(pixels)
    rows, columns = maps.shape[2:]
    inner = 0
    for row, column in [(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2), (rows // 3, columns // 2)]:
        (gradient,) = torch.autograd.grad(maps[0, :, row, column].sum(), pixels, retain_graph=True)
        reached, window = box_of(gradient[0, 0] != 0), field.window(row, column)
        if inside(window, 235, 221) == window:
            inner += 1
            assert reached == window, (row, column)
        else:
            assert box_and(reached, inside(window, 235, 221)) == reached, (row, column)
    assert inner


def test_layers_without_a_window_leave_the_field():
    field = Field((5, 5), (2, 2), (-2, -2))
    for layer in (nn.ReLU(), nn.BatchNorm2d(3), nn.LocalResponseNorm(5), nn.Dropout(), nn.Identity()):
        assert field.through(layer) is field


NETS = {
    "LeNet": LENET,
    "AlexNet small": ALEXNET_SMALL,
    "VGG (2,2) + BN": vgg_like((2, 2), (6, 8), norm="batch"),
    "A-LRN": VGG["A-LRN"].scaled(1 / 32).change(in_channels=1, image_size=32, head=Head()),
    "C": VGG["C"].scaled(1 / 32).change(in_channels=1, image_size=40, head=Head()),
}


@pytest.mark.parametrize("name", NETS)
def test_a_peak_depends_on_no_pixel_outside_of_its_window(name):
    net = net_of(NETS[name])
    size = NETS[name].image_size
    images = grey(3, size)
    for layer in conv_layers(net):
        found = excitations(net, layer.after, [images])
        for channel in range(0, layer.channels, 1 + layer.channels // 4):
            for peak in found.top(channel, 2):
                window = inside(layer.field.window(peak.row, peak.column), size, size)
                rows, columns = slice(window.top, window.top + window.height), slice(window.left, None)
                changed = 9 * torch.randn(1, 1, size, size)
                kept = images[peak.image, :, rows, columns][..., : window.width]
                changed[0, :, rows, window.left : window.left + window.width] = kept
                again = maps_of(net, layer.after, changed)[0, channel, peak.row, peak.column]
                assert again == pytest.approx(peak.value, rel=1e-4, abs=1e-5)


# --- the layers -------------------------------------------------------------------------------------------------------


def test_before_and_after_are_where_a_reader_would_look():
    net = net_of(vgg_like((1, 1), (4, 8), norm="batch"))
    layers = conv_layers(net)
    assert [layer.name for layer in layers] == ["features.0", "features.4"]
    assert [layer.before.name for layer in layers] == ["features.1", "features.5"], "behind the norm"
    assert [layer.after.name for layer in layers] == ["features.2", "features.6"]
    assert [layer.after.shape for layer in layers] == [(4, 28, 28), (8, 14, 14)]
    assert [layer.words for layer in layers] == ["3×3, 1 → 4", "3×3, 4 → 8"]
    assert [layer.activation for layer in layers] == ["ReLU", "ReLU"] and layers[1].channels == 8
    assert layers[1].conv(net) is net.features[4]

    lrn = conv_layers(net_of(NETS["A-LRN"]))[0]
    assert (lrn.before.name, lrn.after.name) == ("features.0", "features.1"), "before the LRN, which comes after both"
    bare = conv_layers(net_of(LENET.change(activation="identity")))[0]
    assert bare.before == bare.after and bare.activation is None


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg13_bn", "vgg16", "vgg19_bn"])
def test_torchvisions_networks_have_their_convolutions(name):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
    layers = conv_layers(net, (3, 224, 224))
    modules = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert [layer.name for layer in layers] == list(modules)
    assert [layer.channels for layer in layers] == [m.out_channels for m in modules.values()]
    assert all(layer.field and layer.activation == "ReLU" for layer in layers)
    if name == "alexnet":  # by hand: 11; 11 + 2·4, at a stride of 8 from −2 on; 19 + 4·8
        assert layers[0].field == Field((11, 11), (4, 4), (-2, -2))
        assert layers[1].field == Field((51, 51), (8, 8), (-2 - 2 * 8,) * 2)


class Shared(nn.Module):
    """One ReLU that is called twice, a sum, and a convolution that is called twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3)
        self.relu, self.never = nn.ReLU(), nn.Conv2d(1, 1, 1)

    def forward(self, x):
        a = self.relu(self.one(x))
        b = self.relu(self.two(a))
        return self.three(self.two(a + b)).relu()


def test_layers_that_run_twice_and_sums():
    torch.manual_seed(0)
    net, x = Shared().eval(), grey(2)
    one, two, three = conv_layers(net, SMALL)
    assert (one.after.name, one.after.call, two.after.name, two.after.call) == ("relu", 0, "relu", 1)
    assert one.field.size == (3, 3) and two.field.size == (5, 5)
    assert three.field is None and three.activation is None, "behind a sum nothing is known"
    with torch.no_grad():
        a = net.one(x).relu()
        b = net.two(a).relu()
        assert torch.equal(maps_of(net, one.after, x), a) and torch.equal(maps_of(net, two.after, x), b)
        assert torch.equal(maps_of(net, two.before, x), net.two(a))
        assert torch.equal(maps_of(net, three.after, x), net.three(net.two(a + b)))


def test_what_one_number_sees_is_not_claimed_where_it_is_not_known():
    circular = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"))
    uneven = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(7), nn.Conv2d(2, 2, 3))
    assert [layer.field for layer in conv_layers(circular, SMALL)] == [None]
    first, second = conv_layers(uneven, SMALL)
    assert first.field and second.field is None
    even = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(7), nn.Conv2d(2, 2, 3))
    assert conv_layers(even, SMALL)[1].field is None, "it could be known; what must not be is a wrong one"


def test_a_convolution_alone_and_none_at_all():
    alone = nn.Conv2d(1, 2, 3)
    (layer,) = conv_layers(alone, SMALL)
    assert layer.conv(alone) is alone
    assert torch.equal(maps_of(alone, layer.after, grey(1)), alone(grey(1)).detach())
    assert conv_layers(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), SMALL) == ()


def test_a_network_that_can_not_take_the_image_is_refused_with_the_layers_name():
    with pytest.raises(ValueError, match=r"features\.0"):
        conv_layers(net_of(LENET), (3, 28, 28))


# --- maps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_maps_are_what_torchs_own_hooks_see(name):
    net, images = net_of(NETS[name]), grey(3, NETS[name].image_size)
    seen = {}
    for module_name, module in net.named_modules():
        module.register_forward_hook(lambda m, args, out, n=module_name: seen.setdefault(n, out.clone()))
    with torch.no_grad():
        net(images)
    for layer in conv_layers(net):
        assert torch.equal(maps_of(net, layer.before, images), seen[layer.before.name]), "not yet overwritten in place"
        assert torch.equal(maps_of(net, layer.after, images), seen[layer.after.name])
        if layer.activation == "ReLU":
            assert torch.equal(seen[layer.after.name], seen[layer.before.name].relu())


def test_the_network_is_left_as_it_was():
    net = net_of(vgg_like((1,), (4,), norm="batch")).train()
    net.features[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer = conv_layers(net)[0]
    maps = maps_of(net, layer.after, grey(4))
    assert net.training and not net.features[0].training and net.features[1].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.equal(maps, maps_of(net.eval(), layer.after, grey(4))), "evaluation mode"
    with pytest.raises(ValueError, match=r"features\.0, Conv2d"):
        maps_of(net, layer.after, grey(1, channels=3))
    assert not any(module._forward_hooks for module in net.modules()), "after an error as well"


def test_images_go_to_the_networks_dtype():
    net = net_of(LENET).double()
    assert maps_of(net, conv_layers(net)[0].after, grey(1)).dtype == torch.float32
    half = net_of(LENET).to(torch.bfloat16)
    assert probabilities(half, grey(1)).sum() == pytest.approx(1)


def test_probabilities_are_the_softmax_of_the_scores_and_not_twice():
    net = net_of(LENET)
    with torch.no_grad():
        expected = net(grey(3)).double().softmax(dim=1)
    assert torch.allclose(probabilities(net, grey(3)), expected)
    assert torch.allclose(probabilities(nn.Sequential(net, nn.Softmax(dim=1)), grey(3)), expected, atol=1e-6)
    assert torch.allclose(probabilities(nn.Sequential(net, nn.LogSoftmax(dim=1)), grey(3)), expected, atol=1e-6)
    assert probabilities(net.features, grey(3)) is None, "maps are no scores"


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_after", [True, False])
def test_the_top_is_what_a_search_of_one_image_after_the_other_finds(is_after):
    net, images = net_of(LENET, seed=3), grey(57, seed=5)
    layer = conv_layers(net)[1]
    found = excitations(net, layer.after if is_after else layer.before, images.split(10))
    assert len(found) == 57
    with torch.no_grad():
        maps = [net.features[: 5 if is_after else 4](image[None].clone())[0] for image in images]
    number = 0
    for channel in range(16):
        largest = sorted(
            ((float(m[channel].max()), i) for i, m in enumerate(maps)), key=lambda pair: (-pair[0], pair[1])
        )
        least = min(float(m[channel].min()) for m in maps)
        expected = [(value, i) for value, i in largest[:9] if value > least]
        peaks = found.top(channel)
        number += len(peaks)
        assert [peak.image for peak in peaks] == [i for _, i in expected]
        assert [peak.value for peak in peaks] == pytest.approx([value for value, _ in expected], abs=1e-6)
        for peak in peaks:
            assert maps[peak.image][channel, peak.row, peak.column] == maps[peak.image][channel].max()
    assert number > 9 * 8, "few channels are dead"


def test_how_the_images_are_split_makes_no_difference():
    net, images = net_of(ALEXNET_SMALL), grey(23)
    layer = conv_layers(net)[2]
    at_once = excitations(net, layer.after, [images])
    for size in (1, 7, 22):
        in_parts = excitations(net, layer.after, (images[part] for part in parts_of(23, size)))
        assert torch.allclose(in_parts.values, at_once.values, atol=1e-5)
        assert (in_parts.places == at_once.places).float().mean() > 0.99, "but for ties and rounding"


def constant_net(weights):
    """A 1×1 convolution with these weights, and a ReLU."""
    net = nn.Sequential(nn.Conv2d(1, len(weights), 1, bias=False), nn.ReLU())
    net[0].weight.data = torch.tensor(weights)[:, None, None, None]
    return net


def test_of_equal_ones_the_earlier_comes_first_and_what_is_not_excited_is_left_out():
    images = torch.zeros(6, 1, 4, 5)
    for image, value, place in [(1, 2.0, (3, 4)), (2, 5.0, (0, 2)), (4, 2.0, (1, 1)), (5, -1.0, (0, 0))]:
        images[image, 0][place] = value
    net = constant_net([1.0, 0.0, -2.0])
    (layer,) = conv_layers(net, (1, 4, 5))
    found = excitations(net, layer.after, [images])
    assert found.top(0) == ((2, 5.0, 0, 2), (1, 2.0, 3, 4), (4, 2.0, 1, 1)), "three of six"
    assert found.top(0, 1) == ((2, 5.0, 0, 2),)
    assert found.top(1) == (), "a dead channel"
    assert found.top(2) == ((5, 2.0, 0, 0),)
    before = excitations(net, layer.before, [images])
    assert [peak.image for peak in before.top(2)] == [5, 0, 1, 2, 3, 4], "before a ReLU 0 is more than −10"
    assert before.lowest.tolist() == [-1.0, 0.0, -10.0]


def test_what_can_not_be_searched_is_refused_in_words():
    net = net_of(LENET)
    layer = conv_layers(net)[0]
    found = excitations(net, layer.after, [grey(2)])
    for channel, number in ((6, 1), (-1, 1), (0, 0), (True, 1)):
        with pytest.raises(ValueError, match=r"^(channel|number) must be "):
            found.top(channel, number)
    with pytest.raises(ValueError, match="at least one image to search, got none"):
        excitations(net, layer.after, [])
    net.features[0].bias.data[2] = torch.nan
    with pytest.raises(ValueError, match=r"features\.0\.bias holds nan"):
        excitations(net, layer.after, [grey(2)])
    net.features[0].bias.data[2] = 3e38
    net.features[0].weight.data[2] = 3e38
    with pytest.raises(ValueError, match=r"features\.1 must give finite numbers, .* grow too large on the way"):
        excitations(net, layer.after, [grey(2)])
    with pytest.raises((ValueError, TrainingError)):
        maps_of(net, layer.after, grey(1, channels=2))


def test_dear_layers_are_searched_in_fewer_images():
    cheap = conv_layers(net_of(vgg_like((2, 2), (16, 32))))
    assert [images_to_search(layer, "cpu") for layer in cheap] == [MOST_IMAGES] * 4
    with torch.device("meta"):
        dear = conv_layers(vgg11())
    numbers = [images_to_search(layer, "cpu") for layer in dear]
    assert numbers == sorted(numbers, reverse=True) and numbers[0] < MOST_IMAGES and numbers[-1] == 9
    assert images_to_search(dear[-1], "cuda") > 200
    channels, sides = (3, 64, 128, 256, 256, 512, 512, 512, 512), (224, 112, 56, 56, 28, 28, 14, 14)
    by_hand = zip(channels[:-1], channels[1:], sides, strict=True)
    assert dear[-1].macs == sum(9 * before * after * side**2 for before, after, side in by_hand)


def test_a_batch_takes_no_more_memory_than_it_may():
    with torch.device("meta"):
        dear = conv_layers(vgg11())
    for layer in dear:
        assert 1 <= batch_size(layer) <= BATCH_BYTES / (4 * 64 * 224 * 224) + 1, "64 maps of 224×224 are the largest"
    assert batch_size(conv_layers(net_of(LENET))[0]) == 128


@pytest.mark.parametrize(("number", "size"), [(1, 1), (10, 3), (9, 3), (2, 5)])
def test_the_parts_are_all_of_it(number, size):
    assert [i for part in parts_of(number, size) for i in range(number)[part]] == list(range(number))


def test_the_version_is_another_once_the_weights_are():
    net = net_of(vgg_like((1,), (4,), norm="batch"))
    layer = conv_layers(net)[0]
    seen = [version_of(net)]

    def is_new():
        seen.append(version_of(net))
        return seen[-1] != seen[-2]

    excitations(net, layer.after, [grey(3)])
    probabilities(net, grey(1))
    assert not is_new(), "looking changes nothing"
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.train()(grey(4)).square().sum().backward()
    assert is_new(), "batch norm's running mean"
    optimizer.step()
    assert is_new()
    net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()})
    assert is_new()
    net.features[0] = nn.Conv2d(1, 4, 3, padding=1)
    assert is_new()


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_version_is_another_once_a_tensor_was_written_through_its_data_however_far_back(monkeypatch, memory):
    monkeypatch.setattr(excitation, "LOOKED_AT", 100)
    monkeypatch.setattr(excitation, "SAMPLED", 50)
    net = net_of(vgg_like((1, 1), (8, 8))).to(memory_format=memory)
    assert sum(p.numel() for p in net.parameters()) > 1000
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        before, versions = version_of(net), [t._version for t in net.parameters()]
        assert before == version_of(net), "looking changes nothing"
        tensor.data += 1
        assert versions == [t._version for t in net.parameters()], "torch hasn't counted that"
        assert before != version_of(net), name


# --- filters ----------------------------------------------------------------------------------------------------------


def test_the_strongest_slices_are_those_with_the_largest_weights():
    kernel = torch.zeros(5, 3, 3)
    kernel[1, 0, 0], kernel[3], kernel[4, 1] = -4, 1, torch.tensor([2.0, 2.0, 2.0])
    assert strongest_slices(kernel, 3) == [1, 4, 3]  # roots of 16, 12 and 9
    assert strongest_slices(kernel, 9) == [1, 4, 3, 0, 2]


def test_a_grouped_convolutions_slices_look_at_their_group():
    conv = nn.Conv2d(6, 8, 3, groups=2)
    x = torch.ones(1, 6, 3, 3, requires_grad=True)
    y = conv(x)
    for channel in range(8):
        (gradient,) = torch.autograd.grad(y[0, channel, 0, 0], x, retain_graph=True)
        reached = gradient[0].abs().sum(dim=(1, 2)).nonzero().squeeze(1).tolist()
        assert list(input_channels(conv, channel)) == reached
    assert Counter(len(input_channels(nn.Conv2d(6, 4, 1), c)) for c in range(4)) == {6: 4}
