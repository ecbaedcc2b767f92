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
TOO_LONG = 0.7  # seconds, for all cases of a test together


def pytest_addoption(parser) -> None:
    parser.addoption("--keep-slow", action="store_true", help="write down which tests `make test-quick` leaves out")


def pytest_collection_modifyitems(config, items) -> None:
    slow = set(SLOW.read_text(encoding="utf-8").splitlines()) if SLOW.exists() else set()
    for item in items:
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker(pytest.mark.slow)


def keep_slow(reports) -> None:
    """Measured in this run: which tests take too long for every day."""
    seconds: dict[str, float] = {}
    for report in reports:
        name = report.nodeid.partition("[")[0]
        seconds[name] = seconds.get(name, 0) + report.duration
    names = sorted(name for name, taken in seconds.items() if taken >= TOO_LONG and name.startswith("tests/"))
    head = f"# Tests of {TOO_LONG} s and more, as a run of all of them with --keep-slow has found.\n"
    SLOW.write_text(head + "\n".join(names) + "\n", encoding="utf-8", newline="\n")


# --- what was not tested ----------------------------------------------------------------------------------------------

LOUD = "NOT TESTED: "  # a reason for skipping that begins so is said at the end, and not only with -rs


def pytest_terminal_summary(terminalreporter, config) -> None:
    if config.getoption("keep_slow"):
        keep_slow([report for kind in ("passed", "failed", "") for report in terminalreporter.stats.get(kind, ())])
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    reasons = [report.longrepr[2].partition(LOUD)[2] for report in skipped]
    for reason in sorted({*reasons} - {""}):
        terminalreporter.section("not tested", red=True, bold=True)
        terminalreporter.line(f"{reasons.count(reason)} tests were skipped. {LOUD}{reason}", red=True)
