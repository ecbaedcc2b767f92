"""Sees to a browser for `make test`, which drives the explorers in a real one: `python tools/install_chromium.py`.

What it does: looks for a Chromium or Chrome that runs, and if there is one prints where it is, and that's all. If there
is none, on Debian and Ubuntu, as root or where sudo asks no password, it installs their package: `apt-get install -y
chromium`. Anywhere else it changes nothing and says what to do. The exit status is 0 if there is a browser in the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for a Python without the project
from utils.words import speak_anywhere

NAMED = "CHROMIUM"  # an environment variable that names the browser to use
ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELSEWHERE = (  # where macOS and Windows keep theirs
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
    r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
)
# No sandbox: root and containers can't have one, and the only pages that are opened are our own.
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
INSTALL = ("apt-get", "install", "-y", "chromium")
TO_DO = (
    "On Debian and Ubuntu: sudo apt-get install chromium (where Ubuntu gives a snap that doesn't run here, take Chrome "
    f"from google.com/chrome). Elsewhere: install Chromium or Chrome. One in an unusual place: {NAMED}=/path/to/it"
)


def main() -> None:
    speak_anywhere()
    found = find_chromium() or (install() and find_chromium())
    if not found:
        sys.exit(f"No Chromium or Chrome that runs is here: the explorers won't be tested in a browser.\n{TO_DO}")
    print(f"The browser for the tests: {found}")


def find_chromium() -> str | None:
    """The browser that CHROMIUM names, or else the first of the usual ones that runs; None if there is none."""
    if named := os.environ.get(NAMED):
        return named if runs(named) else None
    on_path = (shutil.which(name) for name in ON_PATH)
    elsewhere = (path for path in map(os.path.expandvars, ELSEWHERE) if Path(path).exists())
    return next((path for path in (*on_path, *elsewhere) if path and runs(path)), None)


def runs(browser: str) -> bool:
    """Does it show a page? Ubuntu's `chromium-browser` may be a few lines that tell you to install a snap."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = ("--headless", f"--user-data-dir={profile}", "--dump-dom", "data:text/html,<p>it runs</p>")
        try:
            shown = subprocess.run([browser, *QUIET, *page], capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return b"<p>it runs</p>" in shown.stdout


def install() -> bool:
    """Install Debian's and Ubuntu's package, if that is what this is and nobody has to be asked. Was it done?"""
    if not is_debian() or not shutil.which("apt-get"):
        return False
    if not (as_root := how_to_be_root()):
        return False
    print(f"Installing a browser for the tests: {' '.join((*as_root, *INSTALL))}", flush=True)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    if subprocess.run([*as_root, *INSTALL], **quiet).returncode == 0:
        return True
    subprocess.run([*as_root, "apt-get", "update"], **quiet)  # a fresh machine has no lists of packages, or old ones
    return subprocess.run([*as_root, *INSTALL], **quiet).returncode == 0


def is_debian() -> bool:
    """Debian, Ubuntu, or one that names either as what it is like."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    words = [word for line in lines if line.startswith(("ID=", "ID_LIKE=")) for word in line.split("=")[1].split()]
    return bool({"debian", "ubuntu"} & {word.strip("\"'") for word in words})


def how_to_be_root() -> tuple[str, ...] | None:
    """What to put before a command for root to run it: `env`, `sudo -n env`; None if a password would be asked."""
    frontend = ("env", "DEBIAN_FRONTEND=noninteractive")
    if os.geteuid() == 0:
        return frontend
    if not shutil.which("sudo"):
        return None
    may = subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    return ("sudo", "-n", *frontend) if may else None


if __name__ == "__main__":
    main()
