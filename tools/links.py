"""Looks whether the links of README, lessons and docstrings lead anywhere: `make links`.

The relative ones (files, pictures, headings) are looked up, and the exit status is 1 if one leads nowhere. The others
are listed with where they stand; with --fetch each is asked for but those that lead to this repository itself, which
takes the network and half a minute.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from utils.words import speak_anywhere

ROOT = Path(__file__).resolve().parent.parent
PROSE = ("*.md", "lessons/*.md", "results/**/*.md", ".github/**/*.md")
CODE = ("utils/**/*.py", "tools/*.py", "tests/*.py")
# [words](target), ![words](target), <img src="target">, [words]: target
TARGET = r"\]\(<?([^)\s>]+)|(?:src|href)=\"([^\"]+)\"|(?m:^\[[^\]]+\]: +(\S+))"
# What a docstring or a comment calls a file of ours: `tests/colab.txt`, results/reference/.
OUR_FILE = r"(?<![\w/.~-])((?:lessons|notebooks|results|tests|tools|utils)/[\w./-]*\w(?:\.\w+|/)(?![\w*{/-]))"
URL = r"https?://[^\s)\"'<>\]}`]+[^\s)\"'<>\]}`.,;:]"
NOT_OPENED = ("http://127.0.0.1", "http://localhost", "https://127.0.0.1")
OURS_LATER = ("results/local/",)  # made by running something
SECONDS = 20  # for an answer


def main() -> int:
    speak_anywhere()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--fetch", action="store_true", help="ask for each external one")
    options = parser.parse_args()
    broken = sorted({f"{where}: {target} is not there" for where, target in broken_links(ROOT)})
    external = external_links(ROOT)
    if options.fetch:
        external = {url: places for url, places in external.items() if not is_our_own(url)}
        with ThreadPoolExecutor(8) as threads:
            answers = dict(zip(external, threads.map(answer, external), strict=True))
        broken += [f"{url}: {said} ({', '.join(external[url])})" for url, said in answers.items() if said]
    elif not broken:
        for url, places in external.items():
            print(f"{url}    {', '.join(places)}")
    for line in broken:
        print(line, file=sys.stderr)
    if not broken:
        print("Every link that was looked at leads somewhere." if options.fetch else "Every relative link is there.")
    return int(bool(broken))


def broken_links(root: Path) -> Iterator[tuple[str, str]]:
    """Where a relative link stands that leads nowhere, and what it says."""
    for path in files(root, PROSE):
        text, where = path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
        for pair in re.findall(TARGET, without_code(text)):
            target = "".join(pair)
            if not re.match(r"[a-z]+:", target) and not leads_somewhere(target, path):
                yield where, target
        yield from ((where, target) for target in missing_files(text, root))
    for path in files(root, CODE):
        where = path.relative_to(root).as_posix()
        for words in documentation(path):
            yield from ((where, target) for target in missing_files(words, root))


def missing_files(words: str, root: Path) -> list[str]:
    """The files of ours that are named and not there, but for those that something makes later."""
    named = {target for target in re.findall(OUR_FILE, words) if not target.startswith(OURS_LATER)}
    return sorted(target for target in named if "NN_" not in target and not (root / target).exists())


def leads_somewhere(target: str, path: Path) -> bool:
    """Is the file there that `path` links to, and the heading in it?"""
    file, _, heading = unquote(target).partition("#")
    found = (path.parent / file).resolve() if file else path
    if not found.exists() or is_ignored(found):
        return False
    return not heading or (found.suffix == ".md" and heading in anchors(found.read_text(encoding="utf-8")))


@functools.cache
def is_ignored(path: Path) -> bool:
    """Is it a file that a clone wouldn't have, because git ignores it? Without git, none is."""
    try:
        asked = subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=ROOT, capture_output=True)
    except OSError:
        return False
    return asked.returncode == 0


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ +(.+?) *#*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    """A page without what it quotes: no link is made of that."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def documentation(path: Path) -> Iterator[str]:
    """The docstrings and comments of a file of Python."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def external_links(root: Path) -> dict[str, list[str]]:
    """Every address on the network, with the files that it stands in."""
    found: dict[str, list[str]] = {}
    for path in files(root, PROSE):
        for url in re.findall(URL, path.read_text(encoding="utf-8")):
            found.setdefault(url, []).append(path.relative_to(root).as_posix())
    for path in files(root, CODE):
        for words in documentation(path):
            for url in re.findall(URL, words):
                found.setdefault(url, []).append(path.relative_to(root).as_posix())
    return {url: sorted({*places}) for url, places in sorted(found.items()) if not url.startswith(NOT_OPENED)}


def is_our_own(url: str) -> bool:
    """Does it lead to this repository? It is wherever a fork has put it, and may not be public yet."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bigger-and-deeper"]
    return f"/{settings['repository']}" in url


def files(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def answer(url: str) -> str:
    """What is wrong with an address, in words; nothing if a page comes."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (looks for dead links)"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"answers {error.code}"
    except (OSError, ValueError) as error:
        return f"{error}"


if __name__ == "__main__":
    sys.exit(main())
