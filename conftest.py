"""For every test, the notebooks too: nothing is resumed from runs of yours, nor written beside them. What this machine
lacks something for is skipped loudly: the summary says what was not tested, and what to do."""

import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _results_of_its_own():
    with tempfile.TemporaryDirectory() as fresh, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGGER_AND_DEEPER_RESULTS", fresh)
        yield


# --- the slow ones ----------------------------------------------------------------------------------------------------

SLOW = Path(__file__).parent / "tests" / "slow.txt"
BUDGET = 75  # seconds, for all that is quick
ALL_OF_IT = ("tests/test_browser.py", "tests/test_experiments.py", "tests/test_workers.py")  # browsers, processes


def pytest_addoption(parser) -> None:
    parser.addoption("--keep-slow", action="store_true", help="write down which tests `make test-quick` leaves out")


def pytest_collection_modifyitems(config, items) -> None:
    slow = set(SLOW.read_text(encoding="utf-8").splitlines()) if SLOW.exists() else set()
    for item in items:
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish(session) -> None:
    """A list made from some of the tests would call all others quick."""
    if not session.config.getoption("keep_slow"):
        return
    there = {path.name for path in (Path(__file__).parent / "tests").glob("test_*.py")}
    if missing := there - {item.path.name for item in session.items}:
        raise pytest.UsageError(
            f"--keep-slow takes a run of every test in the ordinary environment: of {', '.join(sorted(missing)[:3])} "
            f"there is none. Type: .venv/bin/python -m pytest -o addopts=--import-mode=importlib --keep-slow tests"
        )


def pytest_deselected(items) -> None:
    if items and items[0].config.getoption("keep_slow"):
        raise pytest.UsageError(f"--keep-slow takes a run of every test, and {len(items)} are left out: no -k, no -m")


def keep_slow(reports) -> None:
    """Measured in this run: the quickest tests, as many as there is time for every day, and then the rest."""
    seconds: dict[str, float] = {}
    for report in reports:
        name = report.nodeid.partition("[")[0]
        if name.startswith("tests/"):
            seconds[name] = seconds.get(name, 0) + report.duration
    left, slow = BUDGET, [name for name in seconds if name.startswith(ALL_OF_IT)]
    for name in sorted(seconds.keys() - {*slow}, key=seconds.get):
        left -= seconds[name]
        slow += [name] * (left < 0)
    head = f"# What is left out so that the rest takes {BUDGET} s, as a run of all with --keep-slow has measured it.\n"
    SLOW.write_text(head + "\n".join(sorted(slow)) + "\n", encoding="utf-8", newline="\n")


# --- what was not tested ----------------------------------------------------------------------------------------------

LOUD = "NOT TESTED: "  # a reason for skipping that begins so is said at the end, and not only with -rs


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    ran_to_its_end = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if config.getoption("keep_slow") and ran_to_its_end:
        keep_slow([report for kind in ("passed", "failed", "") for report in terminalreporter.stats.get(kind, ())])
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    reasons = [report.longrepr[2].partition(LOUD)[2] for report in skipped]
    for reason in sorted({*reasons} - {""}):
        terminalreporter.section("not tested", red=True, bold=True)
        terminalreporter.line(f"{reasons.count(reason)} tests were skipped. {LOUD}{reason}", red=True)
