"""The one progress bar: with the time that is left, gone when it is done, and no flood of lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm  # a widget in a notebook, text elsewhere

# Seconds. Each time is two or three messages to the browser, and where none reads them (a notebook that is executed
# by a command), a kernel's queues hold about 7,000: at tqdm's ten a second the cell's end is lost after six minutes.
REDRAWN_EVERY = 0.5
LOG_EVERY = 15  # seconds between lines, where nothing can be drawn over


def progress_bar(iterable: Iterable | None = None, **options: Any) -> tqdm:
    """tqdm's bar; `options` are tqdm's. Redrawn often in a notebook or a terminal, seldom in a log."""
    if "ipykernel" in sys.modules:
        every = {"mininterval": REDRAWN_EVERY}
    else:
        every = {} if sys.stderr.isatty() else {"mininterval": LOG_EVERY, "miniters": 0}
    # A low smoothing: the time left is judged by the whole run so far, not by the last second.
    return tqdm(iterable, leave=False, dynamic_ncols=True, smoothing=0.05, **every, **options)
