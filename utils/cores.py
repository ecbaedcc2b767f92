"""How many CPU cores there are to use: in a container or on a cluster, not all that the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

# A container sees its own group here: version 2 of Linux's control groups, and version 1.
CGROUP = Path("/sys/fs/cgroup")


def cpu_cores() -> int:
    """How many cores this process may use: what its affinity and its container's quota leave of the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota() -> float | None:
    """The CPU time that the container may take, in cores (1.5: three seconds in two); None where there is no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = [word for name in names for word in (CGROUP / name).read_text().split()]
        except OSError:  # not there: another system, or the other version
            continue
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):  # no limit: "max", or -1
            return int(words[0]) / int(words[1])
    return None
