"""What each layer of a network costs and what it sees: parameters, multiply-accumulates, memory, receptive field.

Nothing here is derived a second time: the network itself runs, on torch's `meta` device, where tensors have shapes but
no numbers. That takes no memory and, for VGG-19, a fraction of a second; the table can't disagree with the network.

The first count in a process imports much of torch's compiler, which takes seconds.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from types import MethodType
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.checks import image_shape, of_kind, one_of, share, whole
from utils.faults import MAKE_IT_FIT, check_not_lazy, first_line, to_do_for

COSTS = ["parameters", "macs", "activation_bytes"]
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a number
NOTE = (
    "One image, float32. MACs are multiply-accumulates, as torch counts them: convolutions and dense layers have them; "
    "biases, normalisation, pooling and activations count 0. Memory is what a layer newly writes: 0 in place."
)


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """What a network costs and sees, for one image of `input_shape`, in evaluation mode and float32.

    `layers` has a row for each layer in the order in which they ran. A layer that ran twice has two rows, with its
    parameters in the first; one that holds parameters and was never called comes last, with no output. A module
    *around* layers has a row where it holds parameters or computes something itself, as the sum in a residual block.

    name              as in the network's state dict: `features.0`
    block             1, 2, … and "head" for a network with flat `features`: ours have the architecture's blocks, and in
                      torchvision's AlexNet and VGG a block ends with its pooling layer. For others the name of the
                      outermost module around it
    kind              conv, pool, dense, norm, activation, dropout, flatten, other
    layer             `3×3, 64 → 64`; stride, padding and groups where they aren't 1, the size's half, 1
    output_shape      of one image: (64, 224, 224); None where the output is no tensor
    parameters        each counted once, also where layers share it
    macs              multiply-accumulates, half of torch's FLOPs. Torch counts convolutions and products of matrices;
                      biases, normalisation, pooling and activations count 0
    activation_bytes  of the output, if it is new memory: 0 for what works in place (ReLU) or gives a view (Flatten)
    receptive_field   side, in pixels of the image, of the square that one number of the output depends on, padding
                      counted; the longer side of a rectangle. A dense layer sees all that its input saw
    stride            how many pixels of the image lie between neighbours in the output

    The last two are NA where a layer's input isn't the output of the layer before, as behind a residual block's sum,
    and from there on; and stride where neighbours lie at no equal distance, or there are none: in a dense layer.
    """

    layers: pd.DataFrame
    input_shape: tuple[int, int, int]
    _network: nn.Module  # a copy without numbers

    @property
    def blocks(self) -> pd.DataFrame:
        """Parameters, MACs and activation bytes of each block."""
        return self.layers.groupby("block", sort=False)[COSTS].sum()

    @property
    def total(self) -> pd.Series:
        """Parameters, MACs and activation bytes of the whole network."""
        return self.layers[COSTS].sum().rename("total")

    def training_memory(
        self, batch_size: int, *, dtype: str = "float32", optimizer: str = "sgd", momentum: float = 0.9
    ) -> pd.Series:
        """Bytes that a training step holds at the end of its forward pass, by what they are for, and their total.

        weights               float32, also under autocast; with batch norm's running averages
        gradients             one float32 a weight that is trained
        optimizer state       float32: one copy for SGD with momentum, none without; two for AdamW
        activations           what torch keeps for the backward pass but for weights and input: here the network runs
                              in training mode on `meta`, and torch says. At two bytes a number in bfloat16 or float16;
                              the indices of max-pooling stay int64, what batch norm keeps a channel stays float32
        low-precision copies  of the weights and the input, made by autocast; 0 in float32
        input                 the images, float32

        A lower bound, and close to it: what a GPU's libraries work in, the loss, gradients on their way and what the
        allocator can't use come on top. A dropout mask counts as the CPU keeps it, a number each; a GPU keeps a byte.
        """
        whole("batch_size", batch_size, least=1)
        one_of("dtype", dtype, tuple(SIZES))
        one_of("optimizer", optimizer, ("sgd", "adamw"))
        share("momentum", momentum)
        weights, kept, size = list(self._network.parameters()), self._kept, SIZES[dtype]
        trained = sum(p.numel() for p in weights if p.requires_grad)
        image = torch.Size(self.input_shape).numel()
        copied = kept.weights + batch_size * image * kept.has_input if dtype != "float32" else 0
        memory = {
            "weights": sum(t.nbytes for t in (*weights, *self._network.buffers())),
            "gradients": 4 * trained,
            "optimizer state": 4 * trained * (2 if optimizer == "adamw" else int(momentum > 0)),
            "activations": batch_size * (size * kept.numbers + kept.other_bytes) + kept.fixed_bytes,
            "low-precision copies": size * copied,
            "input": 4 * batch_size * image,
        }
        return pd.Series({**memory, "total": sum(memory.values())}, name="bytes", dtype="int64")

    @cached_property
    def _kept(self) -> _Kept:
        return _kept_for_backward(self._network, self.input_shape)

    def in_words(self) -> pd.DataFrame:
        """The table for people: numbers as text, and the total in the last row."""

        def costs(row: Any) -> dict[str, str]:
            return {
                "parameters": f"{row.parameters:,}",
                "MACs": f"{row.macs:,}",
                "memory": _in_bytes(row.activation_bytes),
            }

        def pixels(value: Any) -> str:
            return "–" if pd.isna(value) else f"{value:,} px"

        rows = [
            {"name": row.name, "block": row.block, "kind": row.kind, "layer": row.layer}
            | {"output": " × ".join(map(str, row.output_shape)) if row.output_shape else "–"}
            | costs(row)
            | {"sees": pixels(row.receptive_field), "stride": pixels(row.stride)}
            for row in self.layers.itertuples(index=False)
        ]
        table = pd.DataFrame([*rows, {"name": "total"} | costs(self.total)])
        return table.fillna("").set_index("name")

    def __repr__(self) -> str:
        return f"{self.in_words().to_string()}\n{NOTE}"

    def _repr_html_(self) -> str:
        return f"{self.in_words().to_html()}\n<p>{NOTE}</p>"


def _in_bytes(number: int) -> str:
    """`0`, `18.8 kB`, `12.8 MB`: a MB is a million bytes."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B" if number else "0"


@torch.inference_mode(False)
def profile(model: nn.Module, input_shape: Sequence[int] | None = None) -> Profile:
    """What each layer of `model` costs and sees. Any module will do that takes images (N, channels, height, width).

    input_shape is one image's (channels, height, width): what `build` wrote into the network, unless you give another.
    The model stays as it is: a copy without numbers runs, in evaluation mode, on one image. Raises ValueError, with
    the layer's name, if the network can't take such an image.
    """
    of_kind("model", model, nn.Module, "build(LENET)")
    shape = _checked(getattr(model, "input_shape", None) if input_shape is None else input_shape)
    network = without_numbers(model)
    layers = pd.DataFrame(_Watch(network, shape).run(), columns=_Row._fields)
    return Profile(layers.astype({"receptive_field": "Int64", "stride": "Int64"}), shape, network)


def _checked(input_shape: Any) -> tuple[int, int, int]:
    if input_shape is None:
        raise ValueError(
            "input_shape must be given: this network doesn't say which images it takes (those that build makes do). "
            "Give one image's (channels, height, width), such as (1, 28, 28)"
        )
    return image_shape("input_shape", input_shape)


def without_numbers(model: nn.Module) -> nn.Module:
    """A copy of `model` with shapes but no numbers, and without hooks: a student's would see tensors without numbers.

    Float32, in torch's own order in memory: bfloat16 or channels_last change what a layer is given, not what it is.
    """
    check_not_lazy(model)
    twins: dict[int, Any] = {}  # by the id of what they stand for: deepcopy takes them instead of making copies
    for module in model.modules():
        twins[id(module)] = module.__new__(type(module))
        for parameter in module.parameters(recurse=False):
            twins[id(parameter)] = nn.Parameter(_empty_like(parameter), requires_grad=parameter.requires_grad)
        for buffer in module.buffers(recurse=False):
            twins[id(buffer)] = _empty_like(buffer)
    for module in model.modules():
        twin = vars(twins[id(module)])
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                value = OrderedDict()
            elif isinstance(value, torch.Tensor):  # that is neither weight nor buffer
                value = _empty_like(value)
            elif isinstance(value, (nn.Module, MethodType, dict, list, tuple, set)):
                value = copy.deepcopy(value, twins)  # it may hold layers, or be added to
            # The rest is not ours to copy: a trainer, a plot, a data set.
            if name != "_compiled_call_impl":  # which would run the model itself
                twin[name] = value
    return twins[id(model)]


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


# --- one image goes through -----------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A row of `Profile.layers`."""

    name: str
    block: int | str
    kind: str
    layer: str
    output_shape: tuple[int, ...] | None
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: int | None
    stride: int | None


@dataclass
class _Call:
    """A module that is running, and what was known when it began."""

    name: str
    module: nn.Module
    flops_before: int
    field: _Field | None  # of its input
    input_shape: torch.Size | None
    flops_within: int = 0  # counted meanwhile in modules inside


class _Watch:
    """Follows one image through a network: a row for each module that does something itself."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.network = network
        self.image = torch.empty(1, *input_shape, dtype=torch.float32, device="meta")
        self.counter = FlopCounterMode(display=False)
        self.block_of = _blocks(network)
        self.rows: list[_Row] = []
        self.running: list[_Call] = []
        self.called: set[str] = set()
        self.counted: set[nn.Parameter] = set()
        self.memory = {_address(self.image): self.image}  # held, so that no address is given out twice
        self.chain: _Link | None = _Link.at(
            self.image, (_Axis.of_image(input_shape[1]), _Axis.of_image(input_shape[2]))
        )

    def run(self) -> list[_Row]:
        """All rows. Raises ValueError if the network can't take the image."""
        hooks = []
        for name, module in self.network.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True))
            hooks.append(module.register_forward_hook(self._leave))
        try:
            # torch.device: tensors that a student's forward makes on its way have no numbers either.
            with torch.no_grad(), torch.device("meta"), self.counter:
                self.network.eval()(self.image)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:  # torch's and torchvision's
            if "meta" in first_line(error):
                raise ValueError(
                    f"the network looks at its numbers while it runs, and here it runs on shapes alone.\n"
                    f"  found: {self._where()}{first_line(error)}\n"
                    f"  to do: leave out of its forward what needs them, such as .item(), .numpy() or `if x.sum() > 0`"
                ) from error
            if isinstance(error, TypeError):  # no word of a shape: a fault in a student's own lines
                raise
            raise ValueError(
                f"the network can't take an image of (channels, height, width) = {tuple(self.image.shape[1:])}.\n"
                f"  found: {self._where()}{error}\n"
                f"  to do: {self._to_do(error)}"
            ) from error
        for hook in hooks:
            hook.remove()
        return [*self.rows, *self._never_called()]

    def _where(self) -> str:
        """The layer that runs now, for an error: `features.20, pool max 2×2, given (512, 1, 1): `."""
        if not self.running or not self.running[-1].name:
            return ""
        call = self.running[-1]
        given = f", given {tuple(call.input_shape[1:])}" if call.input_shape else ""
        return f"{call.name}, {_kind(call.module)} {_describe(call.module)}{given}: "

    def _to_do(self, error: BaseException) -> str:
        call = self.running[-1] if self.running else None
        words = to_do_for(call.module, call.input_shape, error) if call and call.input_shape else MAKE_IT_FIT
        return (
            words if words != MAKE_IT_FIT else "give the input_shape that the network is made for, or change that layer"
        )

    def _enter(self, name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if _is_layer(module) and not (self.chain and len(inputs) == 1 and self.chain.leads_to(inputs[0])):
            self.chain = None  # and what a layer sees isn't known from here on
        self.called.add(name)
        self.running.append(
            _Call(
                name,
                module,
                flops_before=self.counter.get_total_flops(),
                field=self.chain.field if self.chain else None,
                input_shape=inputs[0].shape if inputs else None,
            )
        )

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        call = self.running.pop()
        flops = self.counter.get_total_flops() - call.flops_before
        if self.running:
            self.running[-1].flops_within += flops
        tensor = output if isinstance(output, torch.Tensor) else None
        seen = None
        if _is_layer(module):
            seen = _through(module, call.field, call.input_shape, tensor)
            self.chain = _Link.at(tensor, seen) if seen else None
        own_flops, parameters, new_bytes = flops - call.flops_within, self._parameters(module), self._new_bytes(output)
        if _is_layer(module) or own_flops or parameters or new_bytes:
            row = self._row(call.name, module, parameters)
            self.rows.append(
                row._replace(
                    output_shape=None if tensor is None else tuple(tensor.shape[1:]),
                    macs=own_flops // 2,
                    activation_bytes=new_bytes,
                    receptive_field=max(axis.size for axis in seen) if seen else None,
                    stride=max(axis.stride for axis in seen) if seen and all(axis.stride for axis in seen) else None,
                )
            )

    def _row(self, name: str, module: nn.Module, parameters: int) -> _Row:
        shown = name or type(module).__name__  # the network itself has no name
        return _Row(shown, self.block_of(shown), _kind(module), _describe(module), None, parameters, 0, 0, None, None)

    def _parameters(self, module: nn.Module) -> int:
        """How many parameters the module itself holds, but for those that were counted before."""
        new = set(module.parameters(recurse=False)) - self.counted
        self.counted |= new
        return sum(parameter.numel() for parameter in new)

    def _new_bytes(self, output: Any) -> int:
        """Bytes of the output's tensors, but for memory that was the image's or another layer's output before."""
        new = {_address(t): t for t in _tensors(output) if _address(t) not in self.memory}
        self.memory |= new
        return sum(tensor.nbytes for tensor in new.values())

    def _never_called(self) -> list[_Row]:
        rows = []
        for name, module in self.network.named_modules():
            if name not in self.called and (parameters := self._parameters(module)):
                row = self._row(name, module, parameters)
                rows.append(row._replace(layer=f"{row.layer}, never called".removeprefix(", ")))
        return rows


def _address(tensor: torch.Tensor) -> int:
    """Which piece of memory the tensor lies in; views and what works in place share theirs."""
    return tensor.untyped_storage()._cdata


def _tensors(output: Any) -> list[torch.Tensor]:
    """The tensors in what a module returns: one, or some in tuples, lists and dicts."""
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


# --- what a layer sees ----------------------------------------------------------------------------------------------

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
WHOLE = (nn.Linear, nn.Softmax, nn.LogSoftmax, nn.Softmin)  # they mix all that they are given


@dataclass(frozen=True)
class _Axis:
    """Height or width: pixels of the image that one number sees, between neighbours, and that all of them see."""

    size: int
    stride: int | None
    whole: int

    @classmethod
    def of_image(cls, length: int) -> _Axis:
        return cls(size=1, stride=1, whole=length)

    def slid(self, kernel: int, stride: int, dilation: int, length: int) -> _Axis | None:
        """After a window that slides to `length` places: r ← r + (k − 1)·d·j, j ← j·s."""
        if self.stride is None:
            return None
        size, jump = self.size + (kernel - 1) * dilation * self.stride, self.stride * stride
        return _Axis(size, jump, whole=size + (length - 1) * jump)

    def divided(self, before: int, after: int) -> _Axis | None:
        """After adaptive pooling: windows of one size where `after` divides `before`; else their sizes differ."""
        if before % after == 0:
            return self.slid(before // after, before // after, 1, after)
        if self.stride is None:
            return None
        widest = max(-(-(i + 1) * before // after) - i * before // after for i in range(after))
        return _Axis(self.size + (widest - 1) * self.stride, None, self.whole)

    def collected(self) -> _Axis:
        """After a dense layer, which sees all of it."""
        return _Axis(self.whole, None, self.whole)


_Field: TypeAlias = tuple[_Axis, _Axis]  # height, width


@dataclass(frozen=True)
class _Link:
    """Where a chain of layers stands: the last output, and what each of its numbers sees."""

    output: torch.Tensor
    version: int
    field: _Field

    @classmethod
    def at(cls, output: torch.Tensor, field: _Field) -> _Link:
        return cls(output, output._version, field)

    def leads_to(self, x: torch.Tensor) -> bool:
        """Is `x` the last output, maybe flattened, and has nothing been added to it since?"""
        last = self.output
        if _address(x) != _address(last) or last._version != self.version or x.numel() != last.numel():
            return False
        as_it_was = x.shape == last.shape and x.stride() == last.stride()
        return as_it_was or (x.shape == (1, last.numel()) and last.is_contiguous())


def _through(
    module: nn.Module, field: _Field | None, shape: torch.Size | None, output: torch.Tensor | None
) -> _Field | None:
    """What a number of the layer's output sees; None where that isn't known."""
    if field is None or shape is None or output is None:
        return None
    after: list[_Axis | None] = list(field)
    if isinstance(module, WINDOWS) and output.dim() == 4:
        for i, (kernel, stride, dilation) in enumerate(_windows(module)):
            after[i] = field[i].slid(kernel, stride, dilation, output.shape[2 + i])
    elif isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)) and output.dim() == 4:
        after = [field[i].divided(shape[2 + i], output.shape[2 + i]) for i in range(2)]
    elif isinstance(module, WHOLE) and len(shape) == 2:
        after = [axis.collected() for axis in field]
    elif not _is_pointwise(module, shape, output):
        return None
    return None if None in after else tuple(after)


def _is_pointwise(module: nn.Module, shape: torch.Size, output: torch.Tensor) -> bool:
    """Does each number of the output depend on one place of the input, whatever the channels?"""
    if _kind(module) in ("activation", "dropout"):
        return not isinstance(module, WHOLE) and shape == output.shape
    return isinstance(module, (nn.Identity, nn.Flatten, nn.BatchNorm1d, nn.BatchNorm2d, nn.LocalResponseNorm))


def _windows(module: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Kernel, stride and dilation along height and along width."""
    for i in range(2):
        yield tuple(
            value if isinstance(value, int) else value[i]
            for value in (module.kernel_size, module.stride, getattr(module, "dilation", 1))
        )


# --- words ----------------------------------------------------------------------------------------------------------

# torch's own files under torch/nn/modules name the kinds of layers.
KINDS = {
    "conv": "conv",
    "pooling": "pool",
    "linear": "dense",
    "batchnorm": "norm",
    "normalization": "norm",
    "instancenorm": "norm",
    "activation": "activation",
    "dropout": "dropout",
    "flatten": "flatten",
}


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _kind(module: nn.Module) -> str:
    if not _is_layer(module) or isinstance(module, nn.Identity):
        return "other"
    for base in type(module).__mro__:
        package, _, file = base.__module__.rpartition(".")
        if package == "torch.nn.modules" and file in KINDS:
            return KINDS[file]
    return "other"


def _describe(module: nn.Module) -> str:
    """`3×3, 64 → 64`, `max 3×3, stride 2`, `25,088 → 4,096`, or the class's name."""
    name = type(module).__name__
    match module:
        case nn.modules.conv._ConvNd():
            channels = f"{module.in_channels} → {module.out_channels}"
            return ", ".join([_by(module.kernel_size), channels, *_unusual(module)])
        case nn.MaxPool2d() | nn.AvgPool2d():
            kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
            return ", ".join([f"{kind} {_by(_sides(module.kernel_size))}", *_unusual(module)])
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            kind = "max" if isinstance(module, nn.AdaptiveMaxPool2d) else "average"
            return f"{kind} to {_by(_sides(module.output_size))}"
        case nn.Linear():
            return f"{module.in_features:,} → {module.out_features:,}"
        case nn.modules.batchnorm._BatchNorm():
            return f"batch norm, {module.num_features}"
        case nn.LocalResponseNorm():
            return f"LRN over {module.size} channels"
        case nn.modules.dropout._DropoutNd():
            return f"p = {module.p:g}"
    return name


def _unusual(module: nn.Module) -> list[str]:
    """Stride, padding, dilation and groups, where they aren't what a reader takes for granted."""
    is_conv = isinstance(module, nn.modules.conv._ConvNd)
    sides = len(module.kernel_size) if is_conv else 2
    ones, kernel = (1,) * sides, _sides(module.kernel_size, sides)
    dilation = _sides(getattr(module, "dilation", 1), sides)
    half = tuple(d * (k // 2) if is_conv and k % 2 else 0 for k, d in zip(kernel, dilation, strict=True))
    padding = {"same": half, "valid": 0}.get(module.padding, module.padding)
    found = {
        "stride": (_sides(module.stride, sides), ones if is_conv else kernel),
        "padding": (_sides(padding, sides), half),
        "dilation": (dilation, ones),
        "groups": ((getattr(module, "groups", 1),), (1,)),
    }
    return [
        f"{word} {value[0] if len(set(value)) == 1 else _by(value)}"
        for word, (value, usual) in found.items()
        if value != usual
    ]


def _sides(value: Any, sides: int = 2) -> tuple:
    """(3, 3) for 3: torch takes one number for both sides."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * sides


def _by(values: Iterable[Any]) -> str:
    return "×".join(map(str, values))


def _blocks(network: nn.Module) -> Callable[[str], int | str]:
    """Which block the module of a name belongs to: see `Profile`."""
    features = getattr(network, "features", None)
    if not isinstance(features, nn.Sequential) or not all(map(_is_layer, features)):
        return lambda name: name.split(".")[0]
    kinds = {f"features.{name}": _kind(layer) for name, layer in features.named_children()}
    starts = _first_convs(network, list(kinds.values()).count("conv"))
    number, convs, numbers = 1, 0, {}
    for name, kind in kinds.items():
        if kind == "conv":
            number += convs in starts
            convs += 1
        numbers[name] = number
        number += kind == "pool" and not starts
    return lambda name: numbers.get(name, "head")


def _first_convs(network: nn.Module, number: int) -> set[int]:
    """Which convolutions begin a block, counted from 0, but for the first; none if that isn't known of `number`."""
    in_blocks = getattr(network, "convs_in_blocks", ())
    return set(accumulate(in_blocks[:-1])) if sum(in_blocks) == number else set()


# --- what training keeps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What torch keeps for the backward pass, beside what is the network's own."""

    numbers: int  # an image: floating point, so their bytes depend on the dtype
    other_bytes: int  # an image: indices, masks
    fixed_bytes: int  # whatever the batch: batch norm's mean and deviation of each channel
    weights: int  # matrices and kernels, which autocast copies; biases it doesn't keep
    has_input: bool


@torch.inference_mode(False)
def _kept_for_backward(network: nn.Module, input_shape: tuple[int, int, int]) -> _Kept:
    own = {_address(t) for t in (*network.parameters(), *network.buffers())}

    def kept(batch_size: int) -> tuple[int, int, int, bool]:
        """Numbers, bytes of what isn't floating point, copied weights, and whether the input is among it all."""
        images = torch.empty(batch_size, *input_shape, dtype=torch.float32, device="meta")
        saved: dict[int, torch.Tensor] = {}  # held, so that no address is given out twice
        with (
            torch.enable_grad(),
            torch.device("meta"),
            torch.autograd.graph.saved_tensors_hooks(lambda t: saved.update({_address(t): t}), lambda _: None),
        ):
            network.train()(images)
        weights = sum(p.numel() for p in network.parameters() if p.dim() > 1 and _address(p) in saved)
        has_input = saved.pop(_address(images), None) is not None
        others = [t for address, t in saved.items() if address not in own]
        numbers = sum(t.untyped_storage().nbytes() // 4 for t in others if t.is_floating_point())
        return (
            numbers,
            sum(t.untyped_storage().nbytes() for t in others if not t.is_floating_point()),
            weights,
            has_input,
        )

    # What two images keep and what three keep: the difference is an image's, the rest is kept whatever the batch.
    (two, other_of_two, weights, has_input), (three, other_of_three, _, _) = kept(2), kept(3)
    numbers, other_bytes = three - two, other_of_three - other_of_two
    fixed = 4 * (two - 2 * numbers) + other_of_two - 2 * other_bytes
    return _Kept(numbers, other_bytes, fixed, weights, has_input)
