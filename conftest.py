"""For every test, the notebooks too: nothing is resumed from runs of yours, nor written beside them. What this machine
lacks something for is skipped loudly: the summary says what was not tested, and what to do."""

import tempfile

import pytest


@pytest.fixture(scope="session", autouse=True)
def _results_of_its_own():
    with tempfile.TemporaryDirectory() as fresh, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGGER_AND_DEEPER_RESULTS", fresh)
        yield


LOUD = "NOT TESTED: "  # a reason for skipping that begins so is said at the end, and not only with -rs


def pytest_terminal_summary(terminalreporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    reasons = [report.longrepr[2].partition(LOUD)[2] for report in skipped]
    for reason in sorted({*reasons} - {""}):
        terminalreporter.section("not tested", red=True, bold=True)
        terminalreporter.line(f"{reasons.count(reason)} tests were skipped. {LOUD}{reason}", red=True)
