"""How fast each layer runs, beside how much it computes: times of layers, and the roofline that they stand under.

A device computes at most so many FLOPs a second, and moves at most so many bytes. A layer that does few FLOPs with each
byte waits for memory, however fast the arithmetic is: Williams, Waterman and Patterson, *Roofline: an insightful visual
performance model for multicore architectures* (Communications of the ACM 52(4), 2009). Here both are measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from utils.checks import is_number, of_kind, whole
from utils.device import device_name, device_named, dtype_name, fast_format, resolve_dtype, versions
from utils.faults import layers_named, memory_named
from utils.modes import keeping_modes
from utils.profiling import profile, without_numbers
from utils.throughput import time_repeats
from utils.words import counted, percent, plain

SIDES = (512, 1024, 2048, 4096, 8192)  # of the square matrices that are multiplied
LONGEST = 0.08  # seconds: where one product would take longer, larger ones aren't tried
COPIED = 2**27  # bytes: more than caches hold, and twice that fits where little memory is
NOTE = (
    "Each layer alone, on what it is given in the network. MACs are of the whole batch; pooling, normalisation and "
    "activations count 0. MB: at least moved, input and weights read, output written."
)


# --- the roof -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ceilings:
    """The most that a device was measured to do: FLOPs a second, and bytes a second read from and written to memory."""

    flops_per_s: float
    bytes_per_s: float
    dtype: str
    device: str
    threads: int

    @property
    def ridge(self) -> float:
        """FLOPs per byte where both ceilings meet: who does fewer waits for memory, who does more for arithmetic."""
        return self.flops_per_s / self.bytes_per_s

    def attainable(self, intensity: float) -> float:
        """FLOPs a second under the roof, for `intensity` FLOPs per byte moved."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)

    def least_seconds(self, layers: pd.DataFrame) -> pd.Series:
        """Of each layer the time that it takes on the roof: arithmetic or moving, whichever is longer.

        layers: with the columns macs and bytes, as `layer_work` and `layer_times` give them.
        """
        return np.maximum(2 * layers.macs / self.flops_per_s, layers.bytes / self.bytes_per_s)


def ceilings(device: torch.device | str = "cpu", dtype: str = "auto") -> Ceilings:
    """The device's ceilings, measured. It takes a second or two on two cores, and a quarter of a GB.

    FLOPs: the best of several timings of matrix products, ever larger ones until one takes long. Each product is done a
    second time as a 1×1 convolution: torch multiplies those by another library, and on a GPU in float32 by other rules
    (it may round to TF32). And about as much arithmetic once more as a 3×3 convolution, for which there may be
    better ways than a product. Bytes: the best of several timings of a copy too large for caches. dtype: as in
    `layer_times`.

    Raises ValueError for an unknown dtype, OutOfMemory where the device has no room.
    """
    device = device_named(device)
    compute_in = resolve_dtype(dtype, device)
    with torch.inference_mode(), memory_named("while the device's ceilings were measured", "Free some and try again"):
        return Ceilings(
            flops_per_s=_most_flops(device, compute_in),
            bytes_per_s=_most_bytes(device, compute_in),
            dtype=dtype_name(dtype, device),
            device=device_name(device),
            threads=torch.get_num_threads(),
        )


def _most_flops(device: torch.device, dtype: torch.dtype) -> float:
    best = 0.0
    for side in SIDES:
        if best and 2 * side**3 / best > LONGEST:
            break
        best = max([best, *(flops / _least(call, device) for flops, call in _products(side, device, dtype))])
    return best


def _products(side: int, device: torch.device, dtype: torch.dtype) -> list[tuple[int, Callable[[], Tensor]]]:
    """A product of two square matrices, as such and as a 1×1 convolution; a 3×3 convolution. Each with its FLOPs."""
    generator = torch.Generator(device).manual_seed(0)  # torch's global one is left as it was

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    a, b = random(side, side), random(side, side)
    pixels = a.view(1, side // 32, 32, side).permute(0, 3, 1, 2)  # (1, side, side/32, 32), channels last
    kernels = b.view(side, side, 1, 1)
    num_images, channels = math.ceil(side / 9), side // 16  # in maps of 16×16: about the product's FLOPs
    maps = random(num_images, channels, 16, 16).to(memory_format=fast_format(device))
    of_3x3 = random(channels, channels, 3, 3).to(memory_format=fast_format(device))
    return [
        (2 * side**3, partial(torch.mm, a, b)),
        (2 * side**3, partial(F.conv2d, pixels, kernels)),
        (2 * maps.numel() * 9 * channels, partial(F.conv2d, maps, of_3x3, padding=1)),
    ]


def _most_bytes(device: torch.device, dtype: torch.dtype) -> float:
    source = torch.ones(COPIED // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    return (source.nbytes + target.nbytes) / _least(partial(target.copy_, source), device)


def _least(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call at its best: what slows it down now and then is not the device's."""
    return min(time_repeats(call, device, repeats=3, seconds=0.02))


# --- what layers do, without running them ---------------------------------------------------------------------------


def layer_work(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    batch_size: int = 1,
    dtype: str = "auto",
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """What each layer of `model` computes and moves for a batch: what `layer_times` finds, but for the times.

    The columns name, kind, layer, macs, bytes and intensity of `LayerTimes.layers`, and the same numbers in them.
    Nothing is computed and no memory is needed, so that it takes no longer for VGG-19: a copy of the network runs on
    tensors without numbers. They are torch's FakeTensors, of which it knows all else: shape, order in memory, and the
    dtype that autocast gives them on the device.

    Raises ValueError as `layer_times` does.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    whole("batch_size", batch_size, least=1)
    device = device_named(device)
    compute_in = resolve_dtype(dtype, device)
    costs = profile(model, input_shape)
    network = without_numbers(model).eval()

    def measure(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> _Time:
        copies = tuple(map(_copy, args)), {name: _copy(value) for name, value in kwargs.items()}
        return _Time(_moved(layer, *copies, compute_in), math.nan)

    is_cast = compute_in != torch.float32
    cast = torch.autocast(device.type, dtype=compute_in, enabled=is_cast, cache_enabled=False)
    with torch.inference_mode(False), torch.no_grad(), FakeTensorMode(), cast:
        for module in network.modules():
            for kept in (module._parameters, module._buffers):
                kept |= {name: _fake(tensor, device) for name, tensor in kept.items() if tensor is not None}
        images = torch.empty(batch_size, *costs.input_shape, device=device).to(memory_format=fast_format(device))
        with _stopped_at(network, measure) as found:
            network(images)
    table = _table(costs.layers, found, batch_size)
    return table[["name", "kind", "layer", "macs", "bytes", "intensity"]]


def _fake(tensor: Tensor, device: torch.device) -> Tensor:
    """One without numbers on `device`, made while torch makes no others."""
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


# --- how long they take ---------------------------------------------------------------------------------------------

SLOWER = 2  # about how many times as long as on the roof a layer takes that takes long


def seconds_to_measure(
    work: pd.DataFrame, ceilings: Ceilings, *, repeats: int, seconds: float, rounds: int = 1
) -> float:
    """About how long `layer_times` will take, told before it is called. work: what `layer_work` gives.

    Each layer and the whole network are called three times to begin with; then it is counted how many calls fill
    `seconds`, and so many are timed, `repeats` times; all of that in each of the `rounds`.
    """
    layers = SLOWER * ceilings.least_seconds(work)
    return rounds * float(sum(3 * one + (1 + repeats) * max(one, seconds) for one in (*layers, layers.sum())))


class _Time(NamedTuple):
    """What is measured of a layer as it runs."""

    bytes: int
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class LayerTimes:
    """How long each layer of a network takes for a batch, in evaluation mode, and what it computes and moves.

    `layers` has a row for each layer without others inside, in the order in which they run; two for one that runs
    twice. What a module around layers computes itself, as the sum in a residual block, has no row.

    name         as in the network's state dict: `features.0`
    kind         conv, pool, dense, norm, activation, dropout, flatten, other
    layer        `3×3, 64 → 64`: as in the table of `profile`
    macs         multiply-accumulates for the whole batch, as torch counts them: only convolutions and dense layers have
                 them
    bytes        that have to be moved at least: input and weights read once, output written once, each in the dtype
                 that the layer computes in. 0 for what does nothing in evaluation mode, or gives a view
    seconds      of one call: the median
    share        of the sum of all rows' seconds
    intensity    FLOPs per byte: 2 · macs / bytes; NaN where nothing is moved
    flops_per_s  2 · macs / seconds

    `whole_seconds` is the whole network's time for the batch: the median. The sum of the parts, `parts_seconds`, is
    another number. Alone, a layer finds its weights in the cache, and maybe its input too, since it had them a moment
    ago; in the network others have been there meanwhile. So the parts may be faster than the whole. They may be slower
    as well: on a GPU, layers that take microseconds are told one after another what to do, and a row holds what the
    telling takes. And the whole has what modules around layers do themselves.
    """

    layers: pd.DataFrame
    whole_seconds: float
    batch_size: int
    input_shape: tuple[int, int, int]
    dtype: str
    device: str
    threads: int
    versions: dict[str, str]

    @property
    def parts_seconds(self) -> float:
        """The sum of the layers' seconds."""
        return float(self.layers.seconds.sum())

    def in_words(self) -> pd.DataFrame:
        """The table for people: numbers as text; below them the sum of the parts, and the whole network."""

        def costs(macs: int, moved: int, seconds: float) -> dict[str, str]:
            rate = f"{2 * macs / seconds / 1e9:,.1f}" if macs and seconds else "–"
            return {"MACs": f"{macs:,}", "MB": f"{moved / 1e6:,.2f}", "ms": f"{1e3 * seconds:,.3f}", "GFLOP/s": rate}

        rows = [
            {"name": row.name, "kind": row.kind, "layer": row.layer}
            | costs(row.macs, row.bytes, row.seconds)
            | {"share": f"{row.share:.1%}", "FLOPs/byte": f"{row.intensity:.1f}" if row.macs else "–"}
            for row in self.layers.itertuples(index=False)
        ]
        macs, moved = int(self.layers.macs.sum()), int(self.layers.bytes.sum())
        rows.append({"name": "sum of the parts"} | costs(macs, moved, self.parts_seconds))
        rows.append({"name": "whole network", "ms": f"{1e3 * self.whole_seconds:,.3f}"})
        return pd.DataFrame(rows).fillna("").set_index("name")

    @property
    def _stamp(self) -> str:
        return f"A batch of {self.batch_size}, {self.dtype}, {self.device}. {NOTE}"

    def __repr__(self) -> str:
        return f"{self.in_words().to_string()}\n{self._stamp}"

    def _repr_html_(self) -> str:
        return f"{self.in_words().to_html()}\n<p>{self._stamp}</p>"


def layer_times(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    batch_size: int = 1,
    dtype: str = "auto",
    device: torch.device | str = "cpu",
    repeats: int = 5,
    seconds: float = 0.01,
    rounds: int = 1,
) -> LayerTimes:
    """How long each layer of `model` takes for a batch of random images, and the whole network, in evaluation mode.

    input_shape is one image's (channels, height, width): what `build` wrote into the network, unless you give another.
    The batch goes through the network once, and each layer is stopped at: it runs alone on a copy of what it is given
    (an in-place ReLU may then write where it likes), `repeats` times for at least `seconds`. So no more memory is
    needed than for a pass and one more input. Layers, MACs and kinds are those of `profile`. All of that so many
    `rounds`, of which the median counts: what holds the machine up for a moment then falls on no layer.

    Under autocast (bfloat16, float16) weights lie in float32, and a pass casts each of them once. A layer that runs
    alone does so once a call, no more and no less. So its seconds hold just what it adds to a pass, its casting
    included; a dense layer with many weights and few images lies lower under the roof for it. Its bytes don't count it.

    The model is moved to the device and left there, in the order of `fast_format`, its mode put back, as
    `inference_throughput` does.

    Raises ValueError for an argument that makes no sense and for images that a layer can't take, with its name;
    OutOfMemory if the batch doesn't fit.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    whole("batch_size", batch_size, least=1)
    whole("repeats", repeats, least=1)
    whole("rounds", rounds, least=1)
    if not is_number(seconds) or seconds < 0:
        raise ValueError(f"seconds must be a number of at least 0, got {seconds!r}")
    device = device_named(device)
    compute_in = resolve_dtype(dtype, device)
    costs = profile(model, input_shape)
    shape = costs.input_shape

    def median(call: Callable[[], object]) -> float:
        return statistics.median(time_repeats(call, device, repeats=repeats, seconds=seconds))

    here = f"while layers were timed, with a batch of {counted(batch_size, 'image')} of {shape}"
    with memory_named(here, "Take a smaller batch_size"), keeping_modes(model):
        random = torch.Generator(device).manual_seed(0)  # torch's global one is left as it was
        images = torch.randn(batch_size, *shape, generator=random, device=device)
        images = images.to(memory_format=fast_format(device))  # (N, C, H, W)
        # Not in inference mode: what is moved in it can't be trained afterwards.
        model.to(device).to(memory_format=fast_format(device)).eval()
        is_cast = compute_in != torch.float32
        # No cache, whatever torch does in inference mode: with weights that a call before has cast, one is too fast.
        cast = torch.autocast(device.type, dtype=compute_in, enabled=is_cast, cache_enabled=False)
        with torch.inference_mode(), layers_named(model), cast:
            whole_seconds, in_rounds = [], []
            for _ in range(rounds):
                whole_seconds.append(median(partial(model, images)))
                with _stopped_at(model, partial(_time, median=median, compute_in=compute_in)) as found:
                    model(images)
                in_rounds.append(found)
    return LayerTimes(
        layers=_table(costs.layers, _medians(in_rounds), batch_size),
        whole_seconds=statistics.median(whole_seconds),
        batch_size=batch_size,
        input_shape=shape,
        dtype=dtype_name(dtype, device),
        device=device_name(device),
        threads=torch.get_num_threads(),
        versions=versions(),
    )


@contextmanager
def _stopped_at(
    model: nn.Module, measure: Callable[[nn.Module, tuple, dict[str, Any]], _Time]
) -> Iterator[list[tuple[str, _Time]]]:
    """While `model` runs, `measure` each layer when it is called, before it runs: name and measured, in that order."""
    found: list[tuple[str, _Time]] = []
    hooks = []
    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            shown = name or type(module).__name__  # as profile has it: the network itself has no name

            def stop(layer: nn.Module, args: tuple, kwargs: dict[str, Any], name: str = shown) -> None:
                found.append((name, measure(layer, args, kwargs)))

            hooks.append(module.register_forward_pre_hook(stop, with_kwargs=True))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _time(
    layer: nn.Module,
    args: tuple,
    kwargs: dict[str, Any],
    *,
    median: Callable[[Callable[[], object]], float],
    compute_in: torch.dtype,
) -> _Time:
    """The layer alone, on a copy of what it is given. Its `forward`: called whole, it would be stopped at again."""
    # Out of inference mode, tensors know how often they have been written to.
    with torch.inference_mode(False), torch.no_grad():
        args = tuple(_copy(value) for value in args)
        kwargs = {name: _copy(value) for name, value in kwargs.items()}
        moved = _moved(layer, args, kwargs, compute_in)
    return _Time(moved, median(partial(layer.forward, *args, **kwargs)))


def _medians(rounds: Sequence[Sequence[tuple[str, _Time]]]) -> list[tuple[str, _Time]]:
    """Of each layer's times in the rounds."""
    return [
        (own[0][0], _Time(own[0][1].bytes, statistics.median(time.seconds for _, time in own)))
        for own in zip(*rounds, strict=True)
    ]


def _moved(layer: nn.Module, args: tuple, kwargs: dict[str, Any], compute_in: torch.dtype) -> int:
    """Bytes that the layer moves at least: it runs once, and may write to what it is given."""
    inputs = _tensors((*args, *kwargs.values()))
    before = [x._version for x in inputs]
    outputs = _tensors(layer.forward(*args, **kwargs))
    written_to = [x._version for x in inputs] != before
    if not written_to and _is_view(inputs, outputs):
        return 0
    cast_to = compute_in if isinstance(layer, CAST) else None
    kept = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
    weights = [tensor for tensor in kept if tensor.is_floating_point()]  # batch norm's count of batches isn't read
    return sum(_nbytes(tensor, cast_to) for tensor in (*inputs, *weights, *outputs))


# What autocast gives its inputs and weights in another dtype; other layers take numbers as they come.
CAST = (nn.modules.conv._ConvNd, nn.Linear)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value  # in the order in memory that it has


def _tensors(values: Any) -> list[Tensor]:
    """What is a tensor among `values`, which may be one itself."""
    return [x for x in (values if isinstance(values, (tuple, list)) else (values,)) if isinstance(x, Tensor)]


def _is_view(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Does the output lie where the input does? Flatten gives such a view, and dropout in evaluation mode."""
    own = {x.untyped_storage()._cdata for x in inputs}  # tensors without numbers have no address
    return all(y.untyped_storage()._cdata in own for y in outputs)


def _nbytes(tensor: Tensor, cast_to: torch.dtype | None) -> int:
    """Bytes of a tensor's numbers, in the dtype that they are computed with."""
    is_cast = cast_to is not None and tensor.is_floating_point()
    return tensor.numel() * (cast_to if is_cast else tensor.dtype).itemsize


def _table(costs: pd.DataFrame, found: Sequence[tuple[str, _Time]], batch_size: int) -> pd.DataFrame:
    """A row for each layer that ran: what `profile` says of it, for the batch, and what was measured."""
    names = {name for name, _ in found}
    ran = costs[costs.name.isin(names)].reset_index(drop=True)
    if ran.name.tolist() != [name for name, _ in found]:
        raise ValueError(
            "the network must run the same layers for a batch as for one image, in the same order; it ran others:\n"
            f"  found: {', '.join(name for name, _ in found)}\n"
            f"  to do: leave out of its forward what depends on the batch or on the numbers in it"
        )
    table = ran[["name", "kind", "layer", "macs"]].copy()
    table["macs"] *= batch_size
    table[["bytes", "seconds"]] = pd.DataFrame([time for _, time in found], columns=_Time._fields)
    table["share"] = table.seconds / table.seconds.sum()
    table["intensity"] = 2 * table.macs / table.bytes
    table["flops_per_s"] = 2 * table.macs / table.seconds
    return table


# --- in words -------------------------------------------------------------------------------------------------------


LONG = 3e-4  # seconds of a layer: to start it takes less than a tenth of that
FAR_BELOW = 1 / 3  # of what its place under the roof allows: a layer below that is held up by something else


def why_slow(
    work: pd.DataFrame,
    ceilings: Ceilings,
    *,
    batch_size: int,
    names: Sequence[str],
    times: LayerTimes | None = None,
) -> str:
    """Why a dense layer takes the time that it takes, in sentences made from the numbers; "" if there is none.

    It is the dense layer that takes longest: as measured, if `times` are given, or on the roof. work: what `layer_work`
    gives for the batch; names: what each of its rows is called.
    """
    seconds = ceilings.least_seconds(work) if times is None else times.layers.seconds
    is_dense = work.kind == "dense"
    if not is_dense.any():
        return ""
    place = int(seconds.where(is_dense, -1.0).argmax())
    layer = work.iloc[place]
    allowed = ceilings.attainable(layer.intensity)
    images = f"{batch_size} images" if batch_size > 1 else "one image"
    words = (
        f"{names[place]} ({layer['name']}, {layer.layer}) uses each weight that it reads for {images}; FLOPs per byte "
        f"moved: {plain(layer.intensity)}. "
    )
    if layer.intensity < ceilings.ridge:
        share = percent(allowed / ceilings.flops_per_s)
        words += (
            f"Below {plain(ceilings.ridge, 3)} memory is the limit, and allows {share} of what the arithmetic can do."
        )
    else:
        words += f"Above {plain(ceilings.ridge, 3)} arithmetic is the limit, and not memory."
    if times is None:
        return words
    measured = times.layers.iloc[place]
    reached = measured.flops_per_s / allowed
    words += (
        f" Measured: {percent(layer.macs / work.macs.sum())} of the FLOPs, {percent(measured.share)} of the time; it "
        f"reaches {percent(reached)} of what its place allows."
    )
    if reached < FAR_BELOW:
        words += _what_else(measured.seconds, times.dtype)
    return words


def _what_else(seconds: float, dtype: str) -> str:
    """What a layer that takes so many seconds may spend most of them on."""
    if seconds > LONG:
        return " The rest isn’t told by these limits: how well the library’s code suits the layer’s shape counts, too."
    casting = f", and its weights are rounded to {dtype} first" if dtype != "float32" else ""
    return f" The rest goes elsewhere: to start a layer takes time, whatever it does{casting}."


def time_without_flops(times: LayerTimes) -> str:
    """What the layers take that do no FLOPs, by kind, those with 1 % of the time at least; "" if there are none."""
    idle = times.layers[times.layers.macs == 0]
    if idle.empty:
        return ""
    by_kind = idle.groupby("kind").share.sum().sort_values(ascending=False)
    kinds = ", ".join(f"{kind} {percent(share)}" for kind, share in by_kind.items() if share >= 0.01)
    number = f"{len(idle)} layers" if len(idle) > 1 else "1 layer"
    return f"{number} without FLOPs: {percent(idle.share.sum())} of the time{f' ({kinds})' if kinds else ''}."
