"""utils/device.py: which device, what it is called, which dtype is fast on it, what a student without a GPU is told.

What this machine lacks is played: other devices by patching torch, an NVIDIA driver by a command called nvidia-smi.
"""

import itertools
import math
import os
import platform
import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from utils import device
from utils.device import describe, device_name, fastest_dtype, gpu_advice, pick_device, resolve_dtype

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
posix = pytest.mark.skipif(os.name != "posix", reason="the command in nvidia-smi's place is a shell script")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Each test starts without the answers that the process keeps, and leaves none of its own."""
    kept = (device_name, fastest_dtype, gpu_advice)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


def sees(monkeypatch, *, cuda=False, mps=False, built_for="13.0"):
    """Let torch see these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.version, "cuda", built_for)


# --- which device, and its name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "picked"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_the_fastest_device_is_picked(monkeypatch, seen, picked):
    sees(monkeypatch, **seen)
    assert pick_device() == torch.device(picked)


@pytest.mark.parametrize(("cores", "said"), [(1, "1 core"), (2, "2 cores"), (16, "16 cores")])
def test_a_cpus_name_says_how_many_cores(monkeypatch, cores, said):
    monkeypatch.setattr(device, "_processor", lambda: "AMD EPYC")
    monkeypatch.setattr(device, "cpu_cores", lambda: cores)
    assert device_name("cpu") == device_name(torch.device("cpu")) == f"AMD EPYC, {said}"
    assert device_name("mps") == f"AMD EPYC, {said}, Apple GPU"


def test_a_gpus_name_is_torchs(monkeypatch):
    names = {torch.device("cuda"): "NVIDIA H100 80GB HBM3", torch.device("cuda:1"): "Tesla T4"}
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert [device_name("cuda"), device_name("cuda:1")] == list(names.values())


CPUINFO = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC   9B14: 96-Core \nprocessor\t: 1\n"
ARM_CPUINFO = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "machine", "name"),
    [
        (CPUINFO, "x86_64", "x86_64", "AMD EPYC 9B14: 96-Core"),
        (ARM_CPUINFO, "", "aarch64", "aarch64"),
        (None, "arm", "arm64", "arm"),
        (None, "", "", "CPU"),
    ],
)
def test_a_processor_always_has_a_name(tmp_path, monkeypatch, cpuinfo, processor, machine, name):
    if cpuinfo:
        (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    places = {"/proc/cpuinfo": tmp_path / "cpuinfo"}
    monkeypatch.setattr(device, "Path", places.__getitem__)
    monkeypatch.setattr(device, "_apple_chip", lambda: "")
    monkeypatch.setattr(platform, "processor", lambda: processor)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert device._processor() == name


@pytest.mark.parametrize(("where", "waited"), [("cpu", []), ("cuda:1", ["cuda:1"]), ("mps", ["mps"])])
def test_synchronize_waits_for_the_device_that_is_meant(monkeypatch, where, waited):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda which: calls.append(str(which)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append("mps"))
    device.synchronize(where)
    device.synchronize(torch.device(where))
    assert calls == waited * 2


def test_versions_are_those_that_run():
    found = device.versions()
    assert found.pop("python") == ".".join(map(str, sys.version_info[:3]))
    assert found == {"torch": str(torch.__version__), "system": platform.system()}
    assert all(type(value) is str for value in device.versions().values()), "plain text, for JSON"


# --- which dtype is fast ----------------------------------------------------------------------------------------------


@pytest.fixture
def speeds(monkeypatch):
    """Gives a function that sets how long a step takes in each dtype, and returns the list of what is measured."""

    def set_up(candidate, **seconds):
        measured = []

        def step_seconds(where, dtype, hopeless=math.inf):
            assert hopeless == (math.inf if dtype == torch.float32 else 2 * seconds["float32"])
            measured.append((where, dtype))
            found = seconds[str(dtype).removeprefix("torch.")]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(device, "_half_precision", lambda where: candidate)
        monkeypatch.setattr(device, "_step_seconds", step_seconds)
        return measured

    return set_up


@pytest.mark.parametrize("candidate", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("full", "half", "wins"),
    [(2.0, 1.0, True), (1.31, 1.0, True), (1.29, 1.0, False), (1.0, 1.0, False), (1.0, 10.0, False)],
)
def test_half_precision_is_taken_where_it_is_clearly_faster(speeds, candidate, full, half, wins):
    speeds(candidate, float32=full, **{str(candidate).removeprefix("torch."): half})
    assert fastest_dtype("cpu") == resolve_dtype("auto", torch.device("cpu")) == (candidate if wins else torch.float32)


def test_the_dtype_is_measured_once_a_device(speeds):
    measured = speeds(torch.bfloat16, float32=2.0, bfloat16=1.0)
    assert {resolve_dtype("auto", where) for where in ("cpu", torch.device("cpu"), "cpu")} == {torch.bfloat16}
    in_turn = [torch.float32, torch.bfloat16] * device.TURNS
    assert measured == [("cpu", dtype) for dtype in in_turn]
    resolve_dtype("auto", "cuda:1")
    assert measured[len(in_turn) :] == [("cuda:1", dtype) for dtype in in_turn]


def test_of_each_dtype_the_best_turn_counts(monkeypatch):
    """What else the machine did meanwhile slowed some of them."""
    turns = {torch.float32: iter([5.0, 2.0, 2.2]), torch.bfloat16: iter([1.6, 4.0, 1.0])}
    monkeypatch.setattr(device, "_half_precision", lambda where: torch.bfloat16)
    monkeypatch.setattr(device, "_step_seconds", lambda where, dtype, **more: next(turns[dtype]))
    assert fastest_dtype("cpu") == torch.bfloat16, "2.0 : 1.0"


def test_a_dtype_that_is_emulated_gets_one_turn(speeds):
    measured = speeds(torch.bfloat16, float32=1.0, bfloat16=10.0)
    assert fastest_dtype("cpu") == torch.float32 and len(measured) == 2


def test_a_device_without_half_precision_is_not_measured(speeds):
    measured = speeds(None)
    assert fastest_dtype("mps") == torch.float32
    assert measured == []


def test_a_full_device_gets_float32(speeds):
    speeds(torch.bfloat16, float32=2.0, bfloat16=torch.OutOfMemoryError("CUDA out of memory"))
    assert fastest_dtype("cuda") == torch.float32


def test_any_other_failure_to_measure_is_shown(speeds):
    speeds(torch.bfloat16, float32=2.0, bfloat16=RuntimeError("cuDNN is broken"))
    with pytest.raises(RuntimeError, match="cuDNN is broken"):
        fastest_dtype("cuda")


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((6, 1), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_bf16_is_for_gpus_that_have_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    assert device._half_precision(torch.device("cuda")) == dtype


def test_cpus_may_have_bf16_and_apples_gpu_stays_with_float32():
    assert device._half_precision(torch.device("cpu")) == torch.bfloat16
    assert device._half_precision(torch.device("mps")) is None


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_named_dtype_is_taken_unmeasured(speeds, name):
    measured = speeds(torch.bfloat16)
    assert resolve_dtype(name, "cpu") == getattr(torch, name)
    assert measured == []


@pytest.mark.parametrize("name", ["bf16", "half", "int64", "", None, torch.float32])
def test_an_unknown_dtype_is_an_error(name):
    with pytest.raises(ValueError) as caught:
        resolve_dtype(name, "cpu")
    assert str(caught.value) == f"dtype must be one of 'auto', 'float32', 'bfloat16', 'float16', got {name!r}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_timed_between_two_waits_and_the_warm_up_does_not_count(monkeypatch, dtype):
    durations = [0.25, 3.0, 1.0, 2.0]  # the warm-up's is the shortest
    ends = list(itertools.accumulate(durations))
    times = iter([time for end, took in zip(ends, durations, strict=True) for time in (end - took, end)])
    events, computed_in = [], set()

    def clock():
        events.append("clock")
        return next(times)

    def relu(x):
        computed_in.add(x.dtype)
        return x.clamp(min=0)

    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(device, "synchronize", lambda where: events.append("wait"))
    monkeypatch.setattr(device, "F", SimpleNamespace(relu=relu))
    assert device._step_seconds("cpu", dtype, repeats=3) == 1.0
    assert events == ["wait", "clock"] * 8, "two readings a step, each after a wait"
    assert computed_in == {dtype}


def test_a_hopeless_dtype_is_timed_once(monkeypatch):
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    assert device._step_seconds("cpu", torch.float32, hopeless=0.5) == 1.0
    assert device.time.perf_counter() == 4, "two readings of the warm-up, two of a step"


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
def test_measuring_leaves_the_random_numbers_as_they_were(where):
    torch.manual_seed(0)
    before = torch.rand(3, device=where)
    torch.manual_seed(0)
    device._step_seconds(where, torch.float32, repeats=1)
    assert torch.equal(torch.rand(3, device=where), before)


@cuda
def test_this_gpu_is_measured():
    where = torch.device("cuda")
    assert fastest_dtype("cuda") in (torch.float32, device._half_precision(where))
    assert device_name(where) == torch.cuda.get_device_name(where)


# --- advice -----------------------------------------------------------------------------------------------------------

# Another build of the versions that are installed.
INSTALL = "uv pip install --reinstall --torch-backend=auto torch=={} torchvision=={}".format(
    *(version(name).split("+")[0] for name in ("torch", "torchvision"))
)
TESLA = "echo 'Tesla T4, 535.104.05'"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Gives a function that puts a shell script in nvidia-smi's place, and returns its list of calls. torch sees no
    GPU, though it is built for CUDA 13.0."""
    sees(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    commands, log = tmp_path / "commands", tmp_path / "log"
    commands.mkdir()
    log.write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", os.pathsep.join((str(commands), "/usr/bin", "/bin")))
    monkeypatch.setattr(device, "PROJECT", tmp_path)

    def set_up(script):
        (commands / "nvidia-smi").write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n{script}\n', encoding="utf-8")
        (commands / "nvidia-smi").chmod(0o755)
        return lambda: log.read_text("utf-8").splitlines()

    return set_up


def test_no_driver_no_advice(tmp_path, monkeypatch):
    sees(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_advice() is None
    assert describe() == f"Running on {device_name('cpu')} (cpu), torch {torch.__version__}."


@posix
def test_a_driver_too_old_for_this_torch(driver):
    calls = driver(TESLA)
    assert gpu_advice() == (
        f"There is a GPU here (Tesla T4), but torch {torch.__version__} cannot use it: it is built for CUDA 13.0, and "
        f"the driver is 535.104.05.\nEither update the driver (CUDA 13 needs 580 or later), or take a torch for your "
        f"driver, in the project's folder: {INSTALL}   (then restart the kernel)"
    )
    assert calls() == ["--query-gpu=name,driver_version --format=csv,noheader"]


@posix
def test_a_torch_for_the_cpu_alone(driver, monkeypatch):
    driver(TESLA)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu_advice() == (
        f"There is a GPU here (Tesla T4), but this torch ({torch.__version__}) is built for the CPU alone.\n"
        f"To use the GPU, in the project's folder: {INSTALL}   (then restart the kernel)"
    )


@posix
def test_the_advice_names_a_uv_that_can_be_called(driver, tmp_path, monkeypatch):
    driver(TESLA)
    (tmp_path / ".uv" / "bin").mkdir(parents=True)
    assert f": .uv/bin/{INSTALL}" in gpu_advice()
    gpu_advice.cache_clear()
    (tmp_path / "commands" / "uv").touch(mode=0o755)
    assert f": {INSTALL}" in gpu_advice()


@posix
@pytest.mark.parametrize(("hidden", "to"), [(True, ""), (True, "-1"), (False, "0"), (False, "1,0")])
def test_a_gpu_that_is_hidden_from_torch(driver, monkeypatch, hidden, to):
    driver(TESLA)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", to)
    said = "There is a GPU here (Tesla T4), hidden from torch by CUDA_VISIBLE_DEVICES: unset that variable to use it."
    assert (gpu_advice() == said) == hidden
    assert "Tesla T4" in gpu_advice()


@posix
def test_of_several_gpus_the_first_is_named(driver):
    driver("echo 'NVIDIA A100-SXM4-80GB, 570.1'; echo 'Tesla T4, 570.1'")
    assert "(NVIDIA A100-SXM4-80GB)" in gpu_advice() and "the driver is 570.1.\n" in gpu_advice()
    assert "Tesla" not in gpu_advice()


@posix
def test_a_gpu_that_torch_sees_needs_no_advice(driver, monkeypatch):
    calls = driver(TESLA)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_advice() is None
    assert calls() == [], "the driver isn't even asked"


@posix
@pytest.mark.parametrize(
    "script", ["echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9", "exit 0"]
)
def test_an_nvidia_smi_without_a_gpu_behind_it_is_no_news(driver, script):
    """As in Colab's runtime without a GPU, which has the command all the same."""
    calls = driver(script)
    assert gpu_advice() is None
    assert len(calls()) == 1


@posix
def test_a_driver_that_hangs_is_given_up(driver, monkeypatch):
    driver("exec sleep 30")
    real, limits = subprocess.run, []

    def run(command, *, timeout, **options):
        limits.append(timeout)
        return real(command, timeout=0.2, **options)

    monkeypatch.setattr(subprocess, "run", run)
    advice = gpu_advice()
    assert advice.startswith("nvidia-smi is here but does not answer (") and "timed out after 0.2 seconds" in advice
    assert advice.endswith("): mend the GPU's driver, then torch can use it.")
    assert limits == [20]


@posix
def test_an_nvidia_smi_that_cannot_be_run(driver, tmp_path):
    driver("")
    (tmp_path / "commands" / "nvidia-smi").write_text("#!/no/such/shell\n", encoding="utf-8")
    assert gpu_advice().startswith("nvidia-smi is here but does not answer ([Errno 2] No such file or directory")


@posix
def test_the_driver_is_asked_once(driver):
    calls = driver(TESLA)
    assert gpu_advice() == gpu_advice() and describe() == describe("cpu")
    assert len(calls()) == 1


@posix
def test_the_advice_stands_under_what_is_run_on(driver, monkeypatch):
    driver(TESLA)
    monkeypatch.setattr(device, "device_name", lambda where: f"a fine {where.type}")
    first, rest = describe().split("\n", 1)
    assert first == f"Running on a fine cpu (cpu), torch {torch.__version__}."
    assert rest == gpu_advice()
    assert describe("mps").startswith("Running on a fine mps (mps), ")


@posix
def test_run_as_a_program_it_describes_the_device(driver, capsys, monkeypatch):
    driver(TESLA)
    monkeypatch.setattr(device, "PROJECT", Path(device.__file__).parents[1])
    runpy.run_path(device.__file__, run_name="__main__")
    assert capsys.readouterr().out == f"{describe()}\n"


# --- which device -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["gpu", "meta", "cuda:99", "cpu:1", 7.5, ""])
def test_a_device_that_isnt_here_is_refused_with_those_that_are(wrong):
    with pytest.raises(
        ValueError, match=rf"device must be one that torch finds here, 'cpu'.*, got {wrong!r}: take one of those"
    ):
        device.device_named(wrong)


@pytest.mark.parametrize("wrong", ["cuda", "cuda:0", "GPU", torch.device("cuda")])
def test_cuda_where_there_is_none_says_where_to_get_it(monkeypatch, wrong):
    sees(monkeypatch)
    monkeypatch.setattr(device, "gpu_advice", lambda: None)
    with pytest.raises(ValueError, match=rf"got {re.escape(repr(wrong))}: .*Change runtime type"):
        device.device_named(wrong)


def test_a_device_that_is_here_is_taken_and_the_fastest_where_none_is_named():
    assert device.device_named("cpu") == torch.device("cpu") == device.device_named(torch.device("cpu"))
    assert device.device_named() == device.pick_device()
    assert device.device_named("meta", or_meta=True) == torch.device("meta")


TAKES = ["load_fashion_mnist", "ceilings", "roofline_explorer", "kernel_laboratory", "build", "Images.to"]


@pytest.mark.parametrize("takes", TAKES)
def test_whoever_takes_a_device_refuses_one_that_isnt_here(takes):
    from utils.architectures import LENET
    from utils.data import Images, load_fashion_mnist
    from utils.models import build
    from utils.roofline import ceilings
    from utils.widgets import kernel_laboratory, roofline_explorer

    images = Images(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    calls = {
        "load_fashion_mnist": load_fashion_mnist,
        "ceilings": ceilings,
        "roofline_explorer": roofline_explorer,
        "kernel_laboratory": kernel_laboratory,
        "build": lambda device: build(LENET, device=device),
        "Images.to": images.to,
    }
    with pytest.raises(ValueError, match="device must be one that torch finds here"):
        calls[takes](device="gpu")
