"""Compile requirements.txt (the tested versions, with hashes) anew from pyproject.toml: `make lock`."""

import os
import re
import tempfile
from pathlib import Path

from setup_environment import ROOT, find_uv, run

GROUPS = ("d2l", "build", "test", "docs", "authors")

HELD = r"^(?:torch|torchvision)==\S+"  # to what Colab has: the one that decides what a network computes


def main() -> None:
    os.chdir(ROOT)
    groups = [word for group in GROUPS for word in ("--group", group)]
    with tempfile.TemporaryDirectory() as scratch:
        held = Path(scratch, "colab.txt")
        pins = re.findall(HELD, Path("tests", "colab.txt").read_text(encoding="utf-8"), flags=re.M)
        held.write_text("\n".join(pins), encoding="utf-8")
        run(
            find_uv(), "pip", "compile", "pyproject.toml", *groups, "--constraints", str(held), "--no-annotate",
            "--output-file", "requirements.txt", "--quiet", "--upgrade", "--universal", "--generate-hashes",
            "--no-emit-index-url", "--python-version", "3.11", "--custom-compile-command", "make lock",
        )  # fmt: skip


if __name__ == "__main__":
    main()
