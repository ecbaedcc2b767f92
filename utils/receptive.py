"""What one number deep in a network depends on: all that it can see, and what it really looks at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.checks import of_kind, whole
from utils.faults import check_batch_of_images, check_numbers, layers_named
from utils.modes import keeping_modes


@torch.inference_mode(False)
def effective_field(layers: nn.Module, images: Tensor, *, seed: int = 0) -> Tensor:
    """How much the middle of the last feature map depends on each pixel of `images`: (H, W), the largest is 1.

    layers: (N, C, H, W) → (N, C', H', W'), such as `net.features` or a part of it; it runs in evaluation mode.
    images: (N, C, H, W). The root mean square, over images and channels, of the gradient of the middle number with
    respect to the pixel; the output's channels are weighted at random, so that none is preferred. What lies outside the
    theoretical field is 0; much of what lies inside is nearly so: Luo, Li, Urtasun & Zemel, arXiv 1701.04128.

    Raises ValueError if the images aren't such, or the layers don't give feature maps.
    """
    of_kind("layers", layers, nn.Module, "net.features")
    check_numbers(layers)
    check_batch_of_images(images)
    if not len(images):
        raise ValueError("images must be at least one, got none: take what data.train.batch(slice(64)) gives")
    whole("seed", seed, least=0)
    pixels = images.detach().clone().requires_grad_()
    with keeping_modes(layers), layers_named(layers), torch.enable_grad():
        layers.eval()
        maps = layers(pixels)
    if maps.dim() != 4 or 0 in maps.shape:
        raise ValueError(
            f"layers must give feature maps (N, channels, height, width), got shape {tuple(maps.shape)}: leave out "
            f"what comes after the convolutions, such as net.features"
        )
    middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]  # (N, C')
    weights = torch.randn(middle.shape, generator=torch.Generator().manual_seed(seed)).to(middle)
    (gradient,) = torch.autograd.grad((weights * middle).sum(), pixels)
    field = gradient.cpu().double().pow(2).mean(dim=(0, 1)).sqrt()  # (H, W)
    return (field / field.max().clamp_min(torch.finfo(field.dtype).tiny)).float()
