"""Checks that every field a student can set goes through: what was expected, what was found."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any


def whole(name: str, value: Any, least: int) -> None:
    """ValueError unless `value` is an int (True and False are not) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        meant = _as_int(value)
        to_do = f": take int({meant})" if meant is not None and meant >= least else ""
        raise ValueError(f"{name} must be a whole number of at least {least}, got {shown(value)}{to_do}")


def _as_int(value: Any) -> int | None:
    """The int that a number of numpy's or torch's stands for; None for an int, and for what is no whole number."""
    if isinstance(value, int):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def is_number(value: Any) -> bool:
    """Is it a finite int or float (True and False are not)?"""
    is_int_or_float = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_int_or_float and abs(value) <= sys.float_info.max  # false for NaN, and for 10**400


def share(name: str, value: Any) -> None:
    """ValueError unless 0 ≤ `value` < 1."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a share from 0 up to, not including, 1, got {shown(value)}")


def truth(name: str, value: Any) -> None:
    """ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """ValueError unless `value` is one of the strings in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}")


def tuple_of(name: str, value: Any, kind: type | None = None) -> tuple:
    """`value` as a tuple: lists (from JSON, from a student) do as well. ValueError if an item isn't a `kind`."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a sequence such as a tuple or a list, got {shown(value, 400)}")
    for i, item in enumerate(value):
        if kind is not None and not isinstance(item, kind):
            raise ValueError(f"{name}[{i}] must be {a(kind)}, got {shown(item, 120)}")
    return tuple(value)


def some_of(name: str, value: Any, example: str, kind: type | None = None) -> tuple:
    """As `tuple_of`, and ValueError too if there is no item at all; it names an example of one."""
    if not (items := tuple_of(name, value, kind)):
        raise ValueError(f"{name} must be at least one, got none: give ({example},)")
    return items


def image_shape(name: str, value: Any) -> tuple[int, int, int]:
    """`value` as one image's (channels, height, width). ValueError if it isn't one."""
    if len(shape := tuple_of(name, value)) != 3:
        raise ValueError(f"{name} must be one image's (channels, height, width), got {shown(value)}")
    for side, size in zip(("channels", "height", "width"), shape, strict=True):
        whole(f"{name}'s {side}", size, least=1)
    return shape


def of_kind(name: str, value: Any, kind: type, example: str) -> None:
    """ValueError unless `value` is a `kind`; it names an example of one."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {a(kind)}, such as {example}, got {shown(value)}")


def dict_of(name: str, value: Any, kind: type, example: str) -> None:
    """ValueError unless `value` is a dict of names and such values, one at least; it names an example of one."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{name} must be a dict, such as {example}, got {shown(value)}")
    for key, item in value.items():
        if not isinstance(item, kind):
            raise ValueError(f"{name}[{key!r}] must be {a(kind)}, as in {example}; got {shown(item)}")


def shown(value: Any, length: int = 80) -> str:
    """`value` as Python writes it, on one line and cut off: a network's or an architecture's text fills a screen.

    A number of numpy's is written as Python writes its own: `5, numpy's int64`, and not `np.int64(5)`.
    """
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == () and kind.__name__ != "ndarray":
        # A float64 is a float, and does wherever one does: what is wrong with it is its value, not its kind.
        return f"{value.item()!r}" + ("" if isinstance(value, float) else f", numpy's {kind.__name__}")
    text = " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def a(kind: type) -> str:
    """`a Recipe`, `an Architecture`."""
    return f"a{'n' * (kind.__name__[0] in 'AEIOU')} {kind.__name__}"


def changed(thing: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a dataclass with some fields changed. ValueError for what it has no field of."""
    names = [f.name for f in fields(thing)]
    for name in changes:
        if name not in names:
            raise ValueError(f"{name} is not a field of {type(thing).__name__}: it has {', '.join(sorted(names))}")
    return replace(thing, **changes)


def with_tilde(path: Path) -> str:
    """The path with ~ for the home folder: notebooks are published with what they print."""
    home = Path(os.path.expanduser("~"))
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) and home.name else str(path)
