"""The parts that networks are made of. Each function gives a *list* of layers, so that a network stays flat.

Flat means `features.0.weight`, `features.3.weight`, … : torchvision's names, so that weights go either way.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def activation_layer(name: str) -> list[nn.Module]:
    """The activation as a list of one layer; of none for "identity"."""
    match name:
        # In place, as torchvision has it: the backward pass needs only ReLU's output, so its input can be overwritten.
        case "relu":
            return [nn.ReLU(inplace=True)]
        case "tanh":
            return [nn.Tanh()]
        case "sigmoid":
            return [nn.Sigmoid()]
        case "gelu":
            return [nn.GELU()]
        case "identity":
            return []
    raise ValueError(f"activation must be 'relu', 'tanh', 'sigmoid', 'gelu' or 'identity', got {name!r}")


def conv_layer(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    norm: str = "none",
    activation: str = "relu",
) -> list[nn.Module]:
    """A convolution and what follows it. padding None keeps the size (odd kernel, stride 1).

    (N, in_channels, H, W) → (N, out_channels, H', W') with H' = ⌊(H + 2·padding − kernel_size) / stride⌋ + 1.
    Batch norm stands between convolution and activation (Ioffe & Szegedy, section 3.2); local response
    normalisation after the activation, with AlexNet's n=5, k=2, α=1e-4, β=0.75 (section 3.3 of its paper; torch
    divides α by n, the paper doesn't). Raises ValueError for an even kernel, or a stride above 1,
    without a padding.
    """
    if padding is None:
        if stride != 1:
            raise ValueError(f"padding must be given with a stride of {stride}: no padding would keep the image's size")
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd to keep the image's size, got {kernel_size}: take {kernel_size - 1} or "
                f"{kernel_size + 1}, or say which padding you want"
            )
        padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups)
    match norm:
        case "none":
            return [conv, *activation_layer(activation)]
        case "batch":
            return [conv, nn.BatchNorm2d(out_channels), *activation_layer(activation)]
        case "lrn":
            return [conv, *activation_layer(activation), nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)]
    raise ValueError(f"norm must be 'none', 'batch' or 'lrn', got {norm!r}")


def pool_layer(kind: str = "max", kernel_size: int = 2, stride: int = 2) -> list[nn.Module]:
    """(N, C, H, W) → (N, C, H', W') with H' = ⌊(H − kernel_size) / stride⌋ + 1."""
    match kind:
        case "max":
            return [nn.MaxPool2d(kernel_size, stride)]
        case "avg":
            return [nn.AvgPool2d(kernel_size, stride)]
    raise ValueError(f"kind must be 'max' or 'avg', got {kind!r}")


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Torch's; on Apple's GPU for any size, too: there torch takes only maps that the output's size divides."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, output_size, output_size)"""
        if input.device.type == "mps":
            return _pooled_where_it_can_be(input, self.output_size)
        return super().forward(input)


def _pooled_where_it_can_be(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """On the CPU and back, if it must be. Torch's own fall-back is for operations that are missing; this one isn't."""
    height, width = (size, size) if isinstance(size, int) else size
    if maps.shape[-2] % height == 0 and maps.shape[-1] % width == 0:
        return F.adaptive_avg_pool2d(maps, size)
    return F.adaptive_avg_pool2d(maps.cpu(), size).to(maps.device)


def vgg_block(
    num_convs: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int = 3,
    norm: str = "none",
    activation: str = "relu",
) -> list[nn.Module]:
    """VGG's block: `num_convs` convolutions that keep the size, then pooling that halves it.

    (N, in_channels, H, W) → (N, out_channels, ⌊H/2⌋, ⌊W/2⌋). Simonyan & Zisserman, section 2.1.
    """
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        layers += conv_layer(in_channels, out_channels, kernel_size, norm=norm, activation=activation)
        in_channels = out_channels
    return layers + pool_layer("max", 2, 2)


def dense_head(
    in_features: int,
    num_classes: int,
    *,
    hidden: Sequence[int] = (4096, 4096),
    dropout: float = 0.0,
    dropout_first: bool = False,
    activation: str = "relu",
) -> list[nn.Module]:
    """Dense layers: (N, in_features) → (N, num_classes) scores (logits, no softmax).

    Dropout goes after each hidden layer's activation, as in VGG, or before each hidden layer, as in AlexNet.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        drop = [nn.Dropout(dropout)] if dropout else []
        dense = [nn.Linear(in_features, width), *activation_layer(activation)]
        layers += drop + dense if dropout_first else dense + drop
        in_features = width
    return [*layers, nn.Linear(in_features, num_classes)]


def pooled_head(in_channels: int, num_classes: int) -> list[nn.Module]:
    """Global average pooling and one dense layer: (N, in_channels, H, W) → (N, num_classes).

    Lin, Chen & Yan, arXiv 1312.4400, section 3.2.
    """
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes)]
