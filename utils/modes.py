"""Training and evaluation mode, put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards each layer is in the mode in which it was, also after an error.

    `model.train(was_training)` would give all layers the mode of the outermost: a frozen batch norm would learn again.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training
