"""For every test, the notebooks too: nothing is resumed from runs of yours, nor written beside them."""

import tempfile

import pytest


@pytest.fixture(scope="session", autouse=True)
def _results_of_its_own():
    with tempfile.TemporaryDirectory() as fresh, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGGER_AND_DEEPER_RESULTS", fresh)
        yield
