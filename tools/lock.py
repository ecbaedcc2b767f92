"""Compile requirements.txt (the tested versions, with hashes) anew from pyproject.toml: `make lock`."""

from setup_environment import find_uv, run

GROUPS = ("d2l", "build", "test", "docs", "authors")

if __name__ == "__main__":
    groups = [word for group in GROUPS for word in ("--group", group)]
    run(
        find_uv(), "pip", "compile", "pyproject.toml", *groups, "--output-file", "requirements.txt", "--quiet",
        "--upgrade", "--universal", "--generate-hashes", "--no-emit-index-url", "--python-version", "3.11",
        "--custom-compile-command", "make lock",
    )  # fmt: skip
