"""Every test and notebook, in two environments, two things at a time: `make test`. Further words are pytest's.

The tests run in the ordinary environment, whose output is shown as it comes, and at the same time with Colab's versions
(tests/colab.txt). Whichever is done first goes on with the notebooks, one by one (after further words they belong to
the ordinary run); what all these had to say is shown in the end. With Colab's versions the notebooks are run by a test
(tests/test_colab_door.py), as Colab would: from their first cell, which fetches the project. What is marked `once` is
left out there, for it is about results, not about versions; what is marked `system`: processes, the tools, the
repository; and what is marked `torch`, while Colab has the same one. `make test-oldest` and `make test-newest` have
these two as well. The exit status is 0 only if all are green, and the last line says which aren't.

Each has its share of the cores: two processes whose threads wait for each other's take more than twice as long.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for who loads this file as a module
import colab_environment

from utils.cores import cpu_cores
from utils.words import speak_anywhere

AT_ONCE = 2
NOTHING_TO_RUN = 5  # pytest's exit status then
ORDINARY = (sys.executable, "-m", "pytest")
TESTS_ALONE = ("-o", "testpaths=tests")
COLAB_LIKE = (
    str(colab_environment.PYTHON), "-m", "pytest", "-o", "addopts=--import-mode=importlib --nbval-lax",
    *TESTS_ALONE, "-o", "cache_dir=.pytest_cache/colab",
)  # fmt: skip
WITH_COLABS = f"with Colab's versions ({colab_environment.PINS.as_posix()})"


def main() -> int:
    speak_anywhere()
    os.chdir(colab_environment.ROOT)
    colab_environment.make()
    words = sys.argv[1:]
    statuses = run_all(planned(words))
    if words and statuses[WITH_COLABS] == NOTHING_TO_RUN:
        statuses[WITH_COLABS] = 0
        print("Of what you asked for nothing is run with Colab's versions.")
    bad = [f"{name} (exit status {status})" for name, status in statuses.items() if status]
    print(f"Not green: {', '.join(bad)}." if bad else f"All {len(statuses)} runs are green.", flush=True)
    return next(filter(None, statuses.values()), 0)


def planned(words: list[str]) -> dict[str, tuple[str, ...]]:
    """What each run is called, and its command. Words such as paths or -k mean both environments: then it is two."""
    colab_like = {WITH_COLABS: (*COLAB_LIKE, "-m", " and ".join(f"not {mark}" for mark in left_out()), *words)}
    if words:
        return {"the ordinary tests and notebooks": (*ORDINARY, *words)} | colab_like
    notebooks = sorted(Path("notebooks").glob("*.ipynb"), reverse=True)  # the last lessons take the longest
    alone = {path.as_posix(): (*ORDINARY, "-p", "no:cacheprovider", path.as_posix()) for path in notebooks}
    return {"the ordinary tests": (*ORDINARY, *TESTS_ALONE)} | colab_like | alone


def left_out() -> list[str]:
    """The marks of what isn't run with Colab's versions. What is about torch alone is, if Colab has another torch."""
    pins, ours = (path.read_text(encoding="utf-8") for path in (colab_environment.PINS, Path("requirements.txt")))
    torch, torch_of_ours = (set(re.findall(r"^torch(?:vision)?==[^\s;]+", text, flags=re.M)) for text in (pins, ours))
    return ["once", "system", *(["torch"] if torch == torch_of_ours else [])]


def run_all(runs: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """The exit status of each. The first one's output is shown as it comes, the others' in their turn."""
    share = {"OMP_NUM_THREADS": str(max(1, cpu_cores() // AT_ONCE))} | os.environ
    first, started, statuses = next(iter(runs)), [], {}
    lock, stopping = threading.Lock(), threading.Event()

    def run(name: str) -> tuple[int, bytes]:
        with tempfile.TemporaryFile() as output:
            streams = {} if name == first else {"stdout": output, "stderr": subprocess.STDOUT}
            with lock:
                if stopping.is_set():
                    return 1, b""
                started.append(process := subprocess.Popen(runs[name], env=share, **streams))
            status = process.wait()
            output.seek(0)
            return status, output.read()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = {name: pool.submit(run, name) for name in runs}
        try:
            for name, result in results.items():
                if name != first:
                    print(f"\nAt the same time, {name}:", flush=True)
                statuses[name], printed = result.result()
                print(printed.decode(errors="replace").replace("\r\n", "\n"), flush=True)
        finally:  # who stops this stops all that it has started
            with lock:
                stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()
    return statuses


if __name__ == "__main__":
    sys.exit(main())
