"""How many images a second a network takes, by one ritual: warm up, synchronise, repeat, median, spread, stamp.

The images are random and lie on the device already: loading data is never inside a network's throughput.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from utils.checks import image_shape, is_number, of_kind, whole
from utils.device import device_name, device_named, dtype_name, fast_format, resolve_dtype, synchronize, versions
from utils.faults import check_not_lazy, layers_named, memory_named
from utils.modes import keeping_modes
from utils.words import counted


@dataclass(frozen=True)
class Throughput:
    """Images a second: the median of `repeats` timings, the lowest and the highest; and what it was measured under."""

    images_per_s: float
    low: float
    high: float
    repeats: int
    batch_size: int
    dtype: str
    device: str
    threads: int
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inference_throughput(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_size: int = 256,
    dtype: str = "auto",
    device: torch.device | str = "cpu",
    repeats: int = 5,
    seconds: float = 0.2,
) -> Throughput:
    """Images a second of `model` in evaluation mode.

    input_shape is one image's (channels, height, width). Each of the `repeats` timings runs whole batches for at least
    `seconds`. dtype="auto" takes what `fit` would. The model is moved to the device and left there, its mode put back.

    Raises ValueError for an argument that makes no sense, OutOfMemory if the batch doesn't fit.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    check_not_lazy(model)
    whole("batch_size", batch_size, least=1)
    whole("repeats", repeats, least=1)
    if not is_number(seconds) or seconds < 0:
        raise ValueError(f"seconds must be a number of at least 0, got {seconds!r}")
    input_shape = image_shape("input_shape", input_shape)
    device = device_named(device)
    compute_in = resolve_dtype(dtype, device)
    random = torch.Generator(device).manual_seed(0)  # torch's global one is left as it was
    here = f"while throughput was measured, with a batch of {counted(batch_size, 'image')} of {input_shape}"
    to_do = "Take a smaller batch_size, for all networks that you compare"
    with memory_named(here, to_do), keeping_modes(model):
        images = torch.randn(batch_size, *input_shape, generator=random, device=device)
        images = images.to(memory_format=fast_format(device))  # (N, C, H, W)
        # Not in inference mode: what is moved in it can't be trained afterwards.
        model.to(device).to(memory_format=fast_format(device)).eval()

        def batch() -> None:
            with torch.autocast(device.type, dtype=compute_in, enabled=compute_in != torch.float32):
                model(images)

        with torch.inference_mode(), layers_named(model):
            rates = [batch_size / s for s in time_repeats(batch, device, repeats=repeats, seconds=seconds)]
    return Throughput(
        images_per_s=statistics.median(rates),
        low=min(rates),
        high=max(rates),
        repeats=repeats,
        batch_size=batch_size,
        dtype=dtype_name(dtype, device),
        device=device_name(device),
        threads=torch.get_num_threads(),
        versions=versions(),
    )


def merged(rounds: Sequence[Throughput]) -> Throughput:
    """Of one network, measured several times under the same conditions: median, lowest and highest of all of them."""
    return replace(
        rounds[0],
        images_per_s=statistics.median(measured.images_per_s for measured in rounds),
        low=min(measured.low for measured in rounds),
        high=max(measured.high for measured in rounds),
        repeats=sum(measured.repeats for measured in rounds),
    )


def time_repeats(
    call: Callable[[], object], device: torch.device | str, *, repeats: int = 5, seconds: float = 0.2
) -> list[float]:
    """Seconds of one `call`, measured `repeats` times, each over as many calls as fill `seconds`.

    The first calls, which allocate and choose algorithms, are not counted.
    """

    def run(calls: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        return time.perf_counter() - start

    run(2)  # warm up
    calls = max(1, math.ceil(seconds / max(run(1), 1e-6)))
    calls = max(1, math.ceil(seconds * calls / run(calls)))  # the first guess was one call long: rough
    return [run(calls) / calls for _ in range(repeats)]
