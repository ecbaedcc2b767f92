"""From an architecture to a network: `build`, and the names under which the field knows the results.

Every network is `nn.Sequential(features, avgpool, flatten, classifier)` with torchvision's names inside, so that
state dicts of torchvision's `alexnet` and `vgg*` load with `strict=True`, and ours load into theirs.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import torch
from torch import nn

from utils.architectures import ALEXNET, LENET_BOOK, VGG, Architecture
from utils.blocks import AdaptiveAvgPool2d, conv_layer, dense_head, pool_layer
from utils.checks import of_kind, with_tilde
from utils.device import device_named
from utils.faults import TOO_LARGE, memory_named

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def build(architecture: Architecture, *, device: torch.device | str | None = None) -> nn.Sequential:
    """The network that `architecture` describes, with fresh weights from torch's global random numbers.

    (N, in_channels, image_size, image_size) → (N, num_classes) scores. On device="meta" it has shapes but no weights.
    Its `input_shape` is one image's (channels, height, width), its `convs_in_blocks` how many convolutions each block
    has. Raises OutOfMemory if its weights don't fit, and ValueError for a device that isn't here.
    """
    of_kind("architecture", architecture, Architecture, "LENET, VGG['A'] or vgg_like((1, 2), (8, 16))")
    with _place(device), memory_named(f"while {architecture.label} was built", TOO_LARGE):
        head = architecture.head
        net = nn.Sequential(
            OrderedDict(
                features=nn.Sequential(*_features(architecture)),
                avgpool=nn.Identity() if head.pool_size is None else AdaptiveAvgPool2d(head.pool_size),
                flatten=nn.Flatten(),
                classifier=nn.Sequential(
                    *dense_head(
                        architecture.head_in_features,
                        architecture.num_classes,
                        hidden=head.hidden,
                        dropout=head.dropout,
                        dropout_first=head.dropout_first,
                        activation=architecture.activation,
                    )
                ),
            )
        )
        initialise(net, architecture.init, std=architecture.init_std)
    net.input_shape = architecture.input_shape
    net.convs_in_blocks = tuple(len(block.convs) for block in architecture.blocks)
    return net


def _place(device: torch.device | str | None) -> torch.device:
    """Where the weights are made: on torch's default device, or on one that has to be here."""
    return torch.get_default_device() if device is None else device_named(device, or_meta=True)


def _features(architecture: Architecture) -> list[nn.Module]:
    layers: list[nn.Module] = []
    in_channels = architecture.in_channels
    for block in architecture.blocks:
        for conv in block.convs:
            layers += conv_layer(
                in_channels,
                conv.out_channels,
                conv.kernel_size,
                stride=conv.stride,
                padding=conv.padding,
                groups=conv.groups,
                norm=conv.norm or architecture.norm,
                activation=conv.activation or architecture.activation,
            )
            in_channels = conv.out_channels
        if block.pool is not None:
            layers += pool_layer(block.pool.kind, block.pool.kernel_size, block.pool.stride)
    return layers


def convs_by_block(net: nn.Sequential) -> list[list[nn.Conv2d]]:
    """The convolutions of a network with flat `features`, block by block; a block ends with its pooling layer."""
    blocks: list[list[nn.Conv2d]] = [[]]
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            blocks[-1].append(layer)
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            blocks.append([])
    return [block for block in blocks if block]


def initialise(net: nn.Module, init: str, *, std: float | None = None) -> None:
    """Draw the weights of every convolution and dense layer anew; all but "default" set biases to 0.

    "he": N(0, 2/fan_in), which keeps the scale through a ReLU (He et al., arXiv 1502.01852, eq. 10); the last dense
    layer, which no ReLU follows, gets N(0, 1/fan_in). "xavier": Glorot & Bengio's uniform (2010, eq. 16).
    "normal": N(0, std²).
    """
    if init == "default":
        return
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        match init:
            case "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is layers[-1] else "relu")
            case "xavier":
                nn.init.xavier_uniform_(layer.weight)
            case "normal":
                nn.init.normal_(layer.weight, std=std)
            case _:
                raise ValueError(f"init must be 'default', 'he', 'xavier' or 'normal', got {init!r}")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# --- the names ------------------------------------------------------------------------------------------------------


def lenet(*, num_classes: int = 10) -> nn.Sequential:
    """LeNet as the book has it: (N, 1, 28, 28) → (N, num_classes). 61,706 parameters for ten classes."""
    return build(LENET_BOOK.change(num_classes=num_classes))


Weights: TypeAlias = "WeightsEnum | str | None"  # torchvision's enum member, or its name


def alexnet(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """torchvision's AlexNet: (N, 3, 224, 224) → (N, num_classes). 61,100,840 parameters."""
    return _named("alexnet", ALEXNET, weights, progress, num_classes)


def vgg11(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """VGG A of Table 1: (N, 3, 224, 224) → (N, num_classes). 132,863,336 parameters."""
    return _named("vgg11", VGG["A"], weights, progress, num_classes)


def vgg13(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """VGG B of Table 1: (N, 3, 224, 224) → (N, num_classes). 133,047,848 parameters."""
    return _named("vgg13", VGG["B"], weights, progress, num_classes)


def vgg16(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """VGG D of Table 1: (N, 3, 224, 224) → (N, num_classes). 138,357,544 parameters."""
    return _named("vgg16", VGG["D"], weights, progress, num_classes)


def vgg19(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """VGG E of Table 1: (N, 3, 224, 224) → (N, num_classes). 143,667,240 parameters."""
    return _named("vgg19", VGG["E"], weights, progress, num_classes)


def vgg11_bn(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """`vgg11` with batch norm after each convolution."""
    return _named("vgg11_bn", VGG["A"].change(norm="batch"), weights, progress, num_classes)


def vgg13_bn(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """`vgg13` with batch norm after each convolution."""
    return _named("vgg13_bn", VGG["B"].change(norm="batch"), weights, progress, num_classes)


def vgg16_bn(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """`vgg16` with batch norm after each convolution."""
    return _named("vgg16_bn", VGG["D"].change(norm="batch"), weights, progress, num_classes)


def vgg19_bn(*, weights: Weights = None, progress: bool = True, num_classes: int = 1000) -> nn.Sequential:
    """`vgg19` with batch norm after each convolution."""
    return _named("vgg19_bn", VGG["E"].change(norm="batch"), weights, progress, num_classes)


def _named(name: str, architecture: Architecture, weights: Weights, progress: bool, num_classes: int) -> nn.Sequential:
    member = _weights_of(name, weights)
    if member is None:
        return build(architecture.change(num_classes=num_classes))
    if num_classes != architecture.num_classes:
        raise ValueError(
            f"num_classes must be {architecture.num_classes} with weights={member}, got {num_classes}: load the "
            f"weights first, then replace the last layer, net.classifier[-1]"
        )
    state = _download(member, progress)
    # The weights are here: none need to be drawn, nor copied.
    net = build(architecture, device="meta")
    net.load_state_dict(state, strict=True, assign=True)
    return net.to(torch.get_default_device())


def _weights_of(name: str, weights: Weights) -> Any:
    """torchvision's enum member for `weights`: the member itself, "DEFAULT", "IMAGENET1K_V1" or "VGG16_Weights.…"."""
    if weights is None:
        return None
    from torchvision.models import get_model_weights

    known = get_model_weights(name)
    if isinstance(weights, known):
        return weights
    if isinstance(weights, str) and weights.removeprefix(f"{known.__name__}.") in known.__members__:
        return known[weights.removeprefix(f"{known.__name__}.")]
    raise ValueError(
        f"weights for {name} must be None, a member of torchvision's {known.__name__} or its name "
        f"({', '.join(known.__members__)}), got {weights!r}"
    )


class _WithoutNotice(io.TextIOBase):
    """A stream without torch's notice of where it downloads to: the path would end up in your notebook."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith("Downloading: ") else self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def _download(member: Any, progress: bool) -> dict[str, torch.Tensor]:
    """The published weights, from torch's cache or its hub, with its progress bar and its check of the hash."""
    from http.client import HTTPException
    from pathlib import Path
    from pickle import UnpicklingError

    try:
        with contextlib.redirect_stdout(_WithoutNotice(sys.stdout)):
            return member.get_state_dict(progress=progress, check_hash=True)
    # No network is an OSError (URLError), a wrong hash a RuntimeError; the others come from half a file in the cache.
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        file = folder / Path(member.url).name
        if file.exists():
            raise RuntimeError(
                f"The weights {member} cannot be read from {with_tilde(file)}.\n  found: {error}\n"
                f"  to do: delete it and run again"
            ) from error
        raise ConnectionError(
            f"The weights {member} are not on this machine, and fetching them failed.\n"
            f"  tried: {with_tilde(folder)} (torch's cache), then {member.url}\n"
            f"  found: {error}\n"
            f"  to do: connect and run again; or fetch {member.url} elsewhere and put the file, under its own name, "
            f"into {with_tilde(folder)}"
        ) from error
