"""The device that a notebook runs on: which one, what it is called, what it is good at.

Run as a program (`python -m utils.device`) it says so in a line or two, as `make lab` does at its start.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from utils.cores import cpu_cores
from utils.words import counted, listed, speak_anywhere

PROJECT = Path(__file__).resolve().parent.parent
DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_device() -> torch.device:
    """The fastest device that torch sees: an NVIDIA (or ROCm) GPU, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_named(device: torch.device | str | None = None, *, or_meta: bool = False) -> torch.device:
    """The device that is meant, which has to be here; None: the fastest. ValueError, with what to do, for another.

    or_meta: does "meta" do as well, on which tensors have shapes and no numbers?
    """
    if device is None:
        return pick_device()
    here = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):  # no such name
        found = None
    if or_meta and found is not None and found.type == "meta":
        return found
    if found is None or found.type not in here or (found.index or 0) >= _number_of(found.type):
        to_do = "take one of those"
        if f"{device}".lower().startswith(("cuda", "gpu")) and not torch.cuda.is_available():
            to_do += ". " + (gpu_advice() or "In Colab a GPU is chosen under Runtime → Change runtime type")
        names = listed([repr(name) for name in here])
        raise ValueError(f"device must be one that torch finds here, {names}, got {device!r}: {to_do}")
    return found


def _number_of(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1


@functools.cache
def device_name(device: torch.device | str) -> str:
    """What the device is called: `NVIDIA H100 80GB HBM3`, or `AMD EPYC, 2 cores`."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = cpu_cores()
    name = f"{_processor()}, {counted(cores, 'core')}"
    return f"{name}, Apple GPU" if device.type == "mps" else name


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return _apple_chip() or platform.processor() or platform.machine() or "CPU"


def _apple_chip() -> str:
    """`Apple M3`; "" elsewhere. Python says "arm" of each, and what one Mac measured would count as another's."""
    if sys.platform != "darwin":
        return ""
    ask = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        found = subprocess.run(ask, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):  # then it goes by what Python says
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all that it was told to: a clock read before that measures nothing."""
    match torch.device(device).type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()


def fast_format(device: torch.device | str) -> torch.memory_format:
    """The order in memory in which convolutions are fast: channels_last; on Apple's GPU torch's own.

    There batch norm's gradients are wrong on channels_last, or it raises an error, as the version of macOS has it
    (torch 2.11, pytorch/pytorch#175189).
    """
    return torch.contiguous_format if torch.device(device).type == "mps" else torch.channels_last


def versions() -> dict[str, str]:
    """What a measurement's stamp says of the software: Python, torch, the system."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "system": platform.system()}


# --- which dtype is fast here ---------------------------------------------------------------------------------------

# A lower precision has to win by this much before it is worth its rounding, and so that noise doesn't decide.
WORTH_IT = 1.3
TURNS = 3  # in which both dtypes are timed: what else the machine does meets both, and the best of each counts


def resolve_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The dtype to autocast to; "auto" is the one that a small network was measured to train fastest in here."""
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {name!r}")
    return fastest_dtype(str(torch.device(device))) if name == "auto" else getattr(torch, name)


def dtype_name(name: str, device: torch.device | str) -> str:
    """The same, as a record has it: "float32", "bfloat16" or "float16"."""
    return str(resolve_dtype(name, device)).removeprefix("torch.")


@functools.cache
def fastest_dtype(device: str) -> torch.dtype:
    """Time a few training steps in float32 and in the 16-bit dtype that the device may have, and take the faster.

    Asking torch is not enough: `is_bf16_supported()` says yes where bf16 is only emulated (a T4, a CPU without
    AVX-512), and there it is many times slower. Takes well under a second, once a process.
    """
    candidate = _half_precision(torch.device(device))
    if candidate is None:
        return torch.float32
    full = half = math.inf
    try:
        for _ in range(TURNS):
            full = min(full, _step_seconds(device, torch.float32))
            half = min(half, _step_seconds(device, candidate, hopeless=2 * full))
            if half > 2 * full:
                break
    except torch.OutOfMemoryError:
        return torch.float32  # someone else fills the device; the training itself will say so
    return candidate if full > WORTH_IT * half else torch.float32


def _half_precision(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        # Compute capability 8 (Ampere) and later have bf16; before that it is emulated, and fp16 is the fast one.
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if device.type == "cpu" else None


def _step_seconds(device: str, dtype: torch.dtype, *, repeats: int = 3, hopeless: float = math.inf) -> float:
    """Seconds of one training step of a two-layer VGG, the best of `repeats`; of fewer, once one takes `hopeless`.

    On a CPU the layers are as wide as the course's VGGs. In narrower ones little is multiplied, and a Zen 4 in bfloat16
    is faster by a sixth only, where it trains those VGGs 1.5 to 2 times as fast: noise would decide.
    """
    on_cuda = device.startswith("cuda")
    batch, channels = (512, 64) if on_cuda else (64, 64)
    with torch.random.fork_rng(devices=[device] if on_cuda else []), torch.device(device):
        net = nn.Sequential(nn.Conv2d(channels, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.Flatten())
        images = torch.ones(batch, channels, 16, 16)
    net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(repeats + 1):  # the first is the warm-up
        synchronize(device)
        start = time.perf_counter()
        with torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype != torch.float32):
            loss = F.relu(net(images)).float().mean()
        loss.backward()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        if len(seconds) > 1 and seconds[-1] > hopeless:  # emulated: don't wait for more of it
            break
    return min(seconds[1:])


# --- what the student should know -----------------------------------------------------------------------------------


def describe(device: torch.device | str | None = None) -> str:
    """What the notebook runs on, and what could be better: a lesson's first output."""
    device = torch.device(device) if device is not None else pick_device()
    line = f"Running on {device_name(device)} ({device.type}), torch {torch.__version__}."
    advice = gpu_advice()
    return f"{line}\n{advice}" if advice else line


@functools.cache
def gpu_advice() -> str | None:
    """If the driver shows an NVIDIA GPU that torch doesn't see: why, and what to install. None if all is well."""
    if torch.cuda.is_available() or not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi is here but does not answer ({error}): mend the GPU's driver, then torch can use it."
    if found.returncode or not found.stdout.strip():
        return None
    gpu, _, driver = found.stdout.strip().splitlines()[0].partition(", ")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return f"There is a GPU here ({gpu}), hidden from torch by CUDA_VISIBLE_DEVICES: unset that variable to use it."
    own = Path(".uv", "Scripts" if os.name == "nt" else "bin", "uv")  # which `make` installs where there is none
    uv = str(own) if not shutil.which("uv") and (PROJECT / own).parent.exists() else "uv"
    same = [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "torchvision")]  # another build of them
    install = f"{uv} pip install --reinstall --torch-backend=auto {' '.join(same)}"
    if torch.version.cuda is None:
        return (
            f"There is a GPU here ({gpu}), but this torch ({torch.__version__}) is built for the CPU alone.\n"
            f"To use the GPU, in the project's folder: {install}   (then restart the kernel)"
        )
    return (
        f"There is a GPU here ({gpu}), but torch {torch.__version__} cannot use it: it is built for CUDA "
        f"{torch.version.cuda}, and the driver is {driver}.\n"
        f"Either update the driver (CUDA 13 needs 580 or later), or take a torch for your driver, in the project's "
        f"folder: {install}   (then restart the kernel)"
    )


if __name__ == "__main__":
    speak_anywhere()
    print(describe())
