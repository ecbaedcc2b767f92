"""Every test and notebook, in two environments at once: `make test`. Further words are pytest's.

In the ordinary environment, whose output is shown as it comes; and with Colab's versions (tests/colab.txt), whose
output is shown when that is done. There the notebooks are run by a test (tests/test_colab_door.py), as Colab would:
from their first cell, which fetches the project. What is marked `once` is left out there, for it is about results, not
about versions; and what is marked `system`: how processes die, the tools, the repository. `make test-oldest` and
`make test-newest` have that too. The exit status is 0 only if both are green.

Each has its share of the cores: two processes whose threads wait for each other's take more than twice as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
import colab_environment

from utils.cores import cpu_cores
from utils.words import speak_anywhere

ORDINARY = (sys.executable, "-m", "pytest")
COLAB_LIKE = (
    str(colab_environment.PYTHON), "-m", "pytest", "-o", "addopts=--import-mode=importlib --nbval-lax",
    "-o", "testpaths=tests", "-o", "cache_dir=.pytest_cache/colab", "-m", "not once and not system",
)  # fmt: skip


def main() -> int:
    speak_anywhere()
    os.chdir(colab_environment.ROOT)
    colab_environment.make()
    words = sys.argv[1:]
    share = {"OMP_NUM_THREADS": str(max(1, cpu_cores() // 2))} | os.environ
    with tempfile.TemporaryFile() as output:
        other = subprocess.Popen([*COLAB_LIKE, *words], env=share, stdout=output, stderr=subprocess.STDOUT)
        try:
            ordinary = subprocess.run([*ORDINARY, *words], env=share).returncode
            print(f"\nWith Colab's versions ({colab_environment.PINS.as_posix()}), at the same time:", flush=True)
            colab_like = other.wait()
        finally:
            other.kill()  # who stops the one stops the other
            other.wait()
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
    return ordinary or colab_like


if __name__ == "__main__":
    sys.exit(main())
