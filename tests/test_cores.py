"""utils/cores.py: how many cores this process may use, in a container too."""

import os
import subprocess
import sys

import pytest

from utils import cores
from utils.cores import cpu_cores, cpu_quota

pytestmark = pytest.mark.system


@pytest.fixture
def container(monkeypatch, tmp_path):
    """A machine with 64 cores; the function writes a control group's files, and which groups this process is in."""
    monkeypatch.setattr(cores, "CGROUP", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)

    def says(own, **files):
        (tmp_path / "own").write_text(own, encoding="utf-8")
        for name, words in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(f"{words}\n", encoding="utf-8")

    return says


def test_the_cores_are_those_this_process_may_use(monkeypatch, container):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5}, raising=False)
    assert cpu_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    assert cpu_cores() == 64 and cpu_quota() is None
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_cores() == 1


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [(200_000, 100_000, 2), (150_000, 100_000, 2), (10_000, 100_000, 1), (50_000, 25_000, 2), (9_900_000, 100_000, 64)],
)
def test_a_containers_quota_counts(container, quota, period, expected):
    container("0::/\n", **{"cpu.max": f"{quota} {period}"})  # version 2
    assert cpu_quota() == quota / period and cpu_cores() == expected


def test_a_group_that_the_container_does_not_see_is_its_root(container):
    container("0::/docker/abc\n", **{"cpu.max": "300000 100000"})
    assert cpu_quota() == 3


def test_the_smallest_quota_of_all_groups_above_counts(container):
    files = {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "200000 100000", "cpu.max": "max 100000"}
    container("0::/user.slice/job\n", **files)
    assert cpu_quota() == 2
    container("0::/user.slice/job\n", **files | {"user.slice/job/cpu.max": "150000 100000"})
    assert cpu_quota() == 1.5
    container("0::/other\n", **files)
    assert cpu_quota() is None, "others' limits aren't ours"


V1 = "12:memory:/jobs/7\n4:cpu,cpuacct:/jobs/7\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize("folder", ["cpu", "cpu/jobs", "cpu/jobs/7"])
def test_so_does_an_older_ones(container, folder):
    container(V1, **{f"{folder}/cpu.cfs_quota_us": 300_000, f"{folder}/cpu.cfs_period_us": 100_000})
    assert cpu_quota() == 3 and cpu_cores() == 3


@pytest.mark.parametrize("words", ["max 100000", "", "100000", "0 100000", "100000 0", "-1 100000", "a b"])
def test_without_a_limit_all_cores_count(container, words):
    container("0::/\n", **{"cpu.max": words})
    assert cpu_quota() is None and cpu_cores() == 64


def test_an_older_one_without_a_limit_is_none(container):
    container(V1, **{"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100_000})
    assert cpu_quota() is None and cpu_cores() == 64


@pytest.mark.parametrize(("yours", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")])
def test_torch_keeps_to_the_quota_unless_you_say_otherwise(tmp_path, yours, threads):
    (tmp_path / "cpu.max").write_text("80000 100000\n", encoding="utf-8")
    (tmp_path / "cgroup").write_text("0::/\n", encoding="utf-8")
    code = (
        "import os, pathlib; usual = pathlib.Path.read_text\n"
        f"pathlib.Path.read_text = lambda path, **_: usual(pathlib.Path({str(tmp_path)!r}, path.name))\n"
        "import utils; pathlib.Path.read_text = usual\n"
        "import torch; set_to = os.environ['OMP_NUM_THREADS']; print(set_to, torch.get_num_threads() <= int(set_to))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    run = subprocess.run([sys.executable, "-c", code], env=clean | yours, capture_output=True, text=True)
    assert run.stdout.strip() == f"{threads} True", run.stderr
