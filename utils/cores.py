"""How many CPU cores there are to use: in a container or on a cluster, not all that the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

# Linux's control groups: those that this process is in, and where the groups' limits are read.
OWN_GROUPS = Path("/proc/self/cgroup")
CGROUP = Path("/sys/fs/cgroup")


def cpu_cores() -> int:
    """How many cores this process may use: what its affinity and its control groups' quotas leave of the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota() -> float | None:
    """The CPU time that this process may take, in cores (1.5: three seconds in two); None where there is no limit."""
    return min((quota for folder in _groups() if (quota := _quota(folder)) is not None), default=None)


def _groups() -> Iterator[Path]:
    """The folders of the groups that this process is in, and of those above: a limit on any of them counts.

    A container has its own group for a root, whatever path the line names: a folder need not be there.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return
    for line in lines:  # version 2: "0::/path"; version 1: "4:cpu,cpuacct:/path"
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            root = CGROUP / "cpu" if controllers else CGROUP
            group = root / path.strip("/")
            yield from (group, *(above for above in group.parents if above.is_relative_to(root)))


def _quota(folder: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
        try:
            words = [word for name in names for word in (folder / name).read_text(encoding="utf-8").split()]
        except OSError:  # not there: the other version, or no group with a limit
            continue
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):  # no limit: "max", or -1
            return int(words[0]) / int(words[1])
    return None
