"""The progress bar, in a notebook's kernel and in a log."""

import subprocess
import sys
from pathlib import Path

from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parent.parent
FLOOD = """
import time
from utils.progress import progress_bar
with progress_bar(total=2000, desc="a bar") as bar:
    for i in range(2000):
        bar.update()
        time.sleep(0.001)
"""


def test_a_kernel_is_not_flooded():
    """Where nobody reads what it sends, its queues hold some thousand messages, and then lose the cell's end."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=ROOT)
    try:
        sent = []
        client.execute_interactive(FLOOD, timeout=120, output_hook=lambda message: sent.append(message["msg_type"]))
        bars = sum(kind == "display_data" for kind in sent)
        assert bars == 1 and "error" not in sent, sent
        updates = sent.count("comm_msg")
        assert 3 <= updates <= 40, f"{updates} messages in about three seconds, drawn at most twice a second"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_log_gets_a_line_now_and_then():
    run = subprocess.run([sys.executable, "-c", FLOOD], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "" and 1 <= run.stderr.count("a bar") <= 2, run.stderr
