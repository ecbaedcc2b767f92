"""utils/published.py and its plot: torchvision's own figures, in the units that they have here."""

import pytest
import torch
from matplotlib.text import Text
from torch.utils.flop_counter import FlopCounterMode

from utils import plots
from utils.architectures import ALEXNET, VGG
from utils.models import build
from utils.published import STORY, published

pytestmark = pytest.mark.filterwarnings("error")


def by_label():
    return {network.label: network for network in published()}


@pytest.mark.parametrize(
    ("label", "accuracy", "millions", "gmacs"),
    [
        ("AlexNet", 56.52, 61.10, 0.714), ("VGG-11", 69.02, 132.86, 7.609), ("VGG-16", 71.59, 138.36, 15.47),
        ("VGG-19", 72.38, 143.67, 19.63), ("GoogLeNet", 69.78, 6.62, 1.50), ("ResNet-18", 69.76, 11.69, 1.81),
        ("ResNet-50", 76.13, 25.56, 4.09), ("MobileNetV2", 71.88, 3.50, 0.30), ("EfficientNet-B0", 77.69, 5.29, 0.39),
    ],
)  # fmt: skip
def test_the_figures_are_those_of_torchvisions_documentation(label, accuracy, millions, gmacs):
    found = by_label()[label]
    assert 100 * found.accuracy == pytest.approx(accuracy, abs=0.005)
    assert found.parameters / 1e6 == pytest.approx(millions, abs=0.005)
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=0.006)


@pytest.mark.parametrize(("label", "architecture"), [("AlexNet", ALEXNET), ("VGG-11", VGG["A"]), ("VGG-19", VGG["E"])])
def test_our_own_networks_have_the_published_costs(label, architecture):
    net = build(architecture, device="meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, *architecture.input_shape, device="meta"))
    assert by_label()[label].parameters == sum(p.numel() for p in net.parameters())
    assert by_label()[label].macs == pytest.approx(counter.get_total_flops() / 2, rel=0.001)


def test_families_are_told_apart():
    families = {network.label: network.family for network in published()}
    assert families["AlexNet"] == "AlexNet" and families["ResNet-18"] == "other"
    assert [label for label, family in families.items() if family == "VGG"] == [
        STORY[name] for name in STORY if name.startswith("vgg")
    ]


@pytest.mark.parametrize("name", ["lenet", "VGG", "raft_large", "maskrcnn_resnet50_fpn"])
def test_what_torchvision_has_no_imagenet_weights_of_is_refused(name):
    with pytest.raises(ValueError, match=rf"names must be networks .*got '{name}': take '"):
        published([name])


@pytest.mark.parametrize(("name", "near"), [("vgg61", "vgg16"), ("ResNet-18", "resnet18"), ("googlenett", "googlenet")])
def test_a_name_that_is_nearly_right_is_put_right(name, near):
    with pytest.raises(ValueError, match=rf"got '{name}': take .*'{near}'"):
        published([name])


def test_each_network_is_drawn_and_named_once():
    figure = plots.published(published())
    (axes,) = figure.axes
    drawn = {a.get_gid(): a.get_offsets()[0] for a in axes.collections}
    assert list(drawn) == list(STORY.values())
    for network in published():
        assert drawn[network.label].tolist() == pytest.approx([network.macs / 1e9, 100 * network.accuracy])
    written = [t.get_text() for t in figure.findobj(Text)]
    assert all(written.count(label) == 1 for label in drawn)
    assert "VGG-16 71.6% with 15.47 GMAC and 138.4 million parameters" in figure.alt
    with pytest.raises(ValueError, match="at least one to draw"):
        plots.published([])
