"""What looks at a network leaves each of its layers in the mode in which it was."""

import pytest
import torch

from utils.architectures import vgg_like
from utils.models import build
from utils.modes import keeping_modes
from utils.receptive import effective_field
from utils.roofline import layer_times
from utils.throughput import inference_throughput
from utils.training import evaluate
from utils.vitals import vital_signs

SHORT = {"repeats": 1, "seconds": 0}
LOOKS = {
    "evaluate": lambda net, data: evaluate(net, data.test),
    "inference_throughput": lambda net, data: inference_throughput(net, (1, 28, 28), batch_size=2, **SHORT),
    "layer_times": lambda net, data: layer_times(net, batch_size=2, **SHORT),
    "vital_signs": lambda net, data: vital_signs(net, *data.test.batch(slice(4))),
    "effective_field": lambda net, data: effective_field(net.features, data.test.batch(slice(4))[0]),
}


def partly_frozen():
    """In training mode, but for its first batch norm."""
    net = build(vgg_like((1, 1), (4, 4), norm="batch")).train()
    net.features[1].eval()
    return net


def modes_of(net):
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_layer_that_is_frozen_stays_so_and_the_others_don_t(look, tiny):
    net = partly_frozen()
    before = modes_of(net)
    assert len(set(before)) == 2
    look(net, tiny)
    assert modes_of(net) == before


def test_the_modes_are_put_back_after_an_error():
    net = partly_frozen()
    before = modes_of(net)
    with pytest.raises(KeyError), keeping_modes(net):
        net.eval()
        raise KeyError
    assert modes_of(net) == before


@pytest.mark.parametrize(
    ("layers", "images", "options", "message"),
    [
        (None, torch.zeros(1, 1, 8, 8), {}, "layers must be a Module, such as net.features"),
        (torch.nn.Conv2d(1, 1, 3, device="meta"), torch.zeros(1, 1, 8, 8), {}, "shapes but no numbers"),
        (torch.nn.Conv2d(1, 1, 3), torch.zeros(0, 1, 8, 8), {}, "images must be at least one, got none"),
        (torch.nn.Conv2d(1, 1, 3), torch.full((1, 1, 8, 8), torch.nan), {}, "images must be finite numbers"),
        (torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8), {"seed": "a"}, "seed must be a whole number"),
    ],
)
def test_an_effective_field_that_would_be_rubbish_is_refused(layers, images, options, message):
    with pytest.raises(ValueError, match=message):
        effective_field(layers, images, **options)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8), None])
def test_an_effective_field_of_no_images_says_what_was_expected(images):
    with pytest.raises(ValueError, match="images must be"):
        effective_field(torch.nn.Conv2d(1, 1, 3), images)
