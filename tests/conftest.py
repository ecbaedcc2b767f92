"""What several test files need. `utils` sets how torch's threads wait, and must be imported before torch."""

import utils  # noqa: F401, I001
import gc
import signal
import sys
from pathlib import Path

import pytest
import torch

from utils import data
from utils.data import FashionMNIST, Images


sys.path.insert(0, str(Path(__file__).parent))  # for for_processes.py; processes that are spawned get it too


def pytest_collection_finish() -> None:
    """What is imported by now stays: the search for memory collects garbage often, and needn't look at it each time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard():
    """A shell starts what runs in the background deaf to Ctrl-C; the tests of it would wait for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def one_thread():
    """More of them add in another order from run to run, and get in each other's way on small networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_shell_is_left():
    """The book's board makes one of IPython's. ipywidgets would show it the errors that else go into a log."""
    yield
    if "IPython.core.interactiveshell" in sys.modules:
        sys.modules["IPython.core.interactiveshell"].InteractiveShell.clear_instance()


@pytest.fixture(autouse=True)
def nothing_is_swallowed(caplog):
    """ipywidgets writes what a button's callback raises into a log."""
    yield
    assert not [record.message for record in caplog.records if "Exception in callback" in record.message]


@pytest.fixture(scope="module")
def quick_trials():
    """Twelve steps in a trial of a second or two, however busy the machine is, and one timing of the throughput."""
    from utils import trials

    plan_for = trials.plan_for

    def plan(seconds: float, step_seconds: float, look_seconds: float, num_images: int) -> trials.Plan:
        if seconds < 3:
            return trials.Plan(min(num_images, trials.BATCH), 12, 12)
        enough = trials.LOOKS * look_seconds + 4 * step_seconds
        return plan_for(max(seconds, enough), step_seconds, look_seconds, num_images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "plan_for", plan)
        patch.setattr(trials, "FEWEST_STEPS", 1e-3)  # no step is too slow
        patch.setattr(trials, "SLOWEST_STEP", 1e3)
        patch.setattr(trials, "OVERTIME", 1e3)
        patch.setattr(trials, "ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def tiny():
    """220 + 20 images to fit, 100 to test on: some of the sample."""
    contents, source = data._from_sample(lambda line: None)
    sample = data._assemble(contents, source, torch.device("cpu"), is_sample=True)
    fitted = sample.all_train.take(240)
    train, validation = (Images(fitted.pixels[part], fitted.labels[part]) for part in (slice(220), slice(220, None)))
    return FashionMNIST(train, validation, fitted, sample.test.take(100), "a test", "d" * 64, is_sample=True)
