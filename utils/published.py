"""What torchvision says of the weights that it publishes: accuracy on ImageNet, parameters, multiply-accumulates.

It stands in the package itself (`Weights.meta`): nothing is downloaded, and nothing here is measured by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torchvision.models import get_model_weights

from utils.checks import tuple_of

# AlexNet, VGG, and what followed, until 2019.
STORY = {
    "alexnet": "AlexNet", "vgg11": "VGG-11", "vgg13": "VGG-13", "vgg16": "VGG-16", "vgg19": "VGG-19",
    "vgg16_bn": "VGG-16 + BN", "googlenet": "GoogLeNet", "squeezenet1_1": "SqueezeNet 1.1", "resnet18": "ResNet-18",
    "resnet50": "ResNet-50", "mobilenet_v2": "MobileNetV2", "efficientnet_b0": "EfficientNet-B0",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A network with published weights. accuracy: top-1 on ImageNet's validation images, centre crop, a share."""

    label: str
    family: str  # "AlexNet", "VGG" or "other"
    accuracy: float
    parameters: int
    macs: float  # an image


def published(names: Sequence[str] = tuple(STORY)) -> list[Published]:
    """What torchvision's first weights of each network (IMAGENET1K_V1) are published with; names as torchvision's.

    Raises ValueError for a name that torchvision doesn't have.
    """
    found = []
    for name in tuple_of("names", names, str):
        try:
            meta = get_model_weights(name).IMAGENET1K_V1.meta
            accuracy, ops = meta["_metrics"]["ImageNet-1K"]["acc@1"], meta["_ops"]
        except (ValueError, AttributeError, KeyError):
            near = get_close_matches(name.lower(), STORY, cutoff=0.5) or list(STORY)
            raise ValueError(
                f"names must be networks that torchvision has weights of, trained on ImageNet, got {name!r}: take "
                f"{' or '.join(map(repr, near[:3]))}, or another of torchvision.models.list_models()"
            ) from None
        family = next(
            (kind for kind, begin in (("AlexNet", "alex"), ("VGG", "vgg")) if name.lower().startswith(begin)), "other"
        )
        found.append(Published(STORY.get(name, name), family, accuracy / 100, meta["num_params"], 1e9 * ops))
    return found
