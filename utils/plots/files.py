"""A figure as files: SVG for pages and slides, PNG for the rest. Whole or not at all, and the same bytes each time."""

from __future__ import annotations

import io
import os
from html import escape
from pathlib import Path

from utils.checks import of_kind
from utils.plots.style import LessonFigure

PNG_DPI = 200


def save(figure: LessonFigure, path: str | os.PathLike[str]) -> list[Path]:
    """Write `path`.svg and `path`.png, folders included; returns both. The SVG's title and description are the
    figure's title and alternative text. Neither file is touched before both are drawn and written.

    Raises ValueError for what is none of this course's figures, or no name for files.
    """
    of_kind("figure", figure, LessonFigure, "plots.learning_curves(…)")
    files = _files(path)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None, "Description": figure.alt})
    parts = [file.with_name(f".{file.name}.part") for file in files]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    try:
        for part, content in zip(parts, (_described(svg.getvalue(), figure), png.getvalue()), strict=True):
            part.write_bytes(content)
        for part, file in zip(parts, files, strict=True):
            os.replace(part, file)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return files


def _files(path: str | os.PathLike[str]) -> list[Path]:
    if not isinstance(path, (str, os.PathLike)) or not Path(path).name:
        raise ValueError(f"path must be the files' name without its ending, such as 'my_curve', got {path!r}")
    name = os.fspath(path)
    stem = name[:-4] if name.endswith((".svg", ".png")) else name  # who names one of the two means that name
    files = [Path(f"{stem}{suffix}").expanduser() for suffix in (".svg", ".png")]
    for file in files:
        if file.is_dir():
            raise ValueError(f"path must be a name for files, and {file} is a folder: take another one")
    return files


def _described(svg: bytes, figure: LessonFigure) -> bytes:
    """What a screen reader says: the first children of <svg> are its title and its description."""
    head, tag, body = svg.decode().partition("<svg ")
    attributes, close, rest = body.partition(">")
    words = f"\n <title>{escape(figure.title)}</title>\n <desc>{escape(figure.alt)}</desc>"
    return f'{head}{tag}role="img" {attributes}{close}{words}{rest}'.encode()
