"""Apple's GPU, pretended: what torch's MPS device refuses is refused here too, on any machine.

A tensor "on mps" holds its numbers on the CPU and says that it is on `mps:0`. What is computed with it is computed on
the CPU, after a look at what the real device would say of it. Refused, in torch's own words:

- float64 and complex128
- to mix it with a tensor on the CPU, unless that is a single number, or the numbers by which it is indexed
- adaptive average pooling to a size that doesn't divide the maps' size
- the backward pass of batch norm on channels_last, as in torch 2.11 on macOS 26; before, it gave wrong numbers

Operations that torch has no MPS kernel for are noted: torch's own table says so, which comes with it. Nothing is said
of Metal itself, of its speed, its rounding, its memory and its faults.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import pytest
import torch
import torch._dynamo  # optimizers import it, and it looks at torch's functions: here still at the real ones
import yaml
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

MPS = torch.device("mps:0")  # as a real tensor has it, whoever says "mps"
aten = torch.ops.aten
NO_FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please use float32 "
    "instead."
)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, mps:0 and cpu!"
UNEVEN = (
    "Adaptive pool MPS: input sizes must be divisible by output sizes. Non-divisible input sizes are not implemented "
    "on MPS device yet. For now, you can manually transfer tensor to cpu in this case."
)
NOT_CONTIGUOUS = (
    "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
    "contiguous subspaces). Use .reshape(...) instead."
)


# --- the tensors ------------------------------------------------------------------------------------------------------


class OnMps(torch.Tensor):
    """A tensor that says that it is on Apple's GPU. `numbers`: where they really are."""

    numbers: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnMps:
        # For torch's inside it is on the CPU: autograd asks the device, and knows none that this torch isn't built for.
        return torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype
        )

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers = numbers

    @property
    def device(self) -> torch.device:
        return MPS

    is_mps = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # module.to then exchanges a weight's inside, as it should
        return ["numbers"], None

    @staticmethod
    def __tensor_unflatten__(inside: dict, *_: Any) -> OnMps:
        return OnMps(inside["numbers"])

    def __repr__(self) -> str:
        return f"OnMps({self.numbers})"

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def numpy(self, **_: Any) -> None:
        raise TypeError(
            "can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *_: Any, **__: Any) -> None:
        self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        refuse_or_note(func, args, kwargs)
        out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_wrapped, out))


def _unwrapped(value: Any) -> Any:
    return value.numbers if isinstance(value, OnMps) else value


def _wrapped(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or isinstance(value, OnMps):
        return value
    _check_dtype(value.dtype)
    return OnMps(value)


def _check_dtype(dtype: torch.dtype | None) -> None:
    if dtype in (torch.float64, torch.complex128):
        raise TypeError(NO_FLOAT64)


# --- what the real device would say -----------------------------------------------------------------------------------

CROSS = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}  # where both devices may meet
lacking: set[str] = set()  # operations without a kernel for MPS that were asked for


def refuse_or_note(func: Any, args: tuple, kwargs: dict) -> None:
    """Raise what the real device raises; note what it has to leave to the CPU."""
    name = func._schema.name.removeprefix("aten::")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    if name not in CROSS and any(not isinstance(x, OnMps) and x.dim() for x in tensors):
        raise RuntimeError(f"{MIXED} ({name})")
    if not isinstance(args[0], (OnMps, list, tuple)) and name in CROSS - {"copy_"}:
        raise RuntimeError(f"{MIXED} ({name})")
    if func is aten._adaptive_avg_pool2d.default:
        sides = zip(args[0].shape[-2:], args[1], strict=True)
        if any(side % size for side, size in sides):
            raise RuntimeError(UNEVEN)
    if func is aten.native_batch_norm_backward.default:
        if any(not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last) for x in args[:2]):
            raise RuntimeError(NOT_CONTIGUOUS)
    if not has_mps_kernel(func._schema.name, func._schema.overload_name):
        lacking.add(name)


@functools.cache
def has_mps_kernel(name: str, overload: str) -> bool:
    """Whether torch's table has the operation for MPS, or makes it of others that it has."""
    own = f"{name.removeprefix('aten::')}.{overload}".removesuffix(".")
    entry = _table().get(own)
    if entry is None:  # torch makes it from another one, as it makes an out= variant
        return True
    if target := entry.get("structured_delegate"):
        return has_mps_kernel(*target.partition(".")[::2])
    keys = {key for several in entry.get("dispatch", {}) for key in several.replace(" ", "").split(",")}
    return not keys or "MPS" in keys or any(key.startswith("Composite") for key in keys)


@functools.cache
def _table() -> dict[str, dict]:
    text = files("torchgen").joinpath("packaged/ATen/native/native_functions.yaml").read_text(encoding="utf-8")
    entries = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].split("(")[0]: entry for entry in entries}


# --- to come there and to go ------------------------------------------------------------------------------------------


class _Moved(torch.autograd.Function):
    """A copy on the other device, through which the gradient finds back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.came_from_mps = isinstance(x, OnMps)
        return x.numbers.clone() if ctx.came_from_mps else _wrapped(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _wrapped(gradient.clone()) if ctx.came_from_mps else gradient.numbers.clone()


def _to(x: torch.Tensor, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
    """Tensor.to: another dtype or order on its own device first, then the way."""
    for arg in args:
        if isinstance(arg, torch.Tensor):  # device and dtype as they are there
            device, kwargs["dtype"] = arg.device, arg.dtype
        elif isinstance(arg, (torch.device, str)):
            device = arg
        elif isinstance(arg, torch.dtype):
            kwargs["dtype"] = arg
    given = {name: value for name, value in kwargs.items() if value is not None}  # flags by place: none matters here
    changed = torch.Tensor.to(x, **given) if given else x
    return changed if device is None or torch.device(device).type == x.device.type else _Moved.apply(changed)


class _ToThere(TorchFunctionMode):
    """Takes what is said to torch of a device called mps."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return _to(*args, **kwargs)
        if func is torch.Tensor.cpu:
            return _to(args[0], device="cpu")
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "mps" or torch._guards.detect_fake_mode() is not None:
            return func(*args, **kwargs)  # FakeTensors know the device by themselves
        _check_dtype(kwargs.get("dtype"))
        inner = tree_map(_unwrapped, args), tree_map(_unwrapped, kwargs | {"device": "cpu"})
        made = func(*inner[0], **inner[1])
        if made.requires_grad:
            return _wrapped(made.detach()).requires_grad_()
        return _wrapped(made)


class _Generator(torch.Generator):
    """One of the CPU's, so that it gives the CPU's numbers; a real one gives others."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu")
        made.where = MPS if torch.device(device).type == "mps" else torch.device("cpu")
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass

    device = property(lambda self: self.where)


@contextmanager
def pretend_mps() -> Iterator[None]:
    """While this lasts, torch has Apple's GPU. Each cache of a device's name or dtype must be emptied around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mps, "is_available", lambda: True)
        patch.setattr(torch.mps, "synchronize", lambda: None)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        patch.setattr(torch.mps, "get_rng_state", lambda: torch.get_rng_state())
        patch.setattr(torch.mps, "set_rng_state", lambda state: torch.set_rng_state(state))
        patch.setattr(torch, "Generator", _Generator)
        lacking.clear()
        with _ToThere():
            yield
