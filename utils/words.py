"""How numbers are written in sentences, the same way everywhere."""

from __future__ import annotations


def percent(share: float, places: int | None = None) -> str:
    """`31 %`, `3.9 %`, `0.04 %`: to two digits, or with so many places after the point."""
    if places is None:
        return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"
    return f"{100 * share:.{places}f} %"


def counted(number: float, noun: str) -> str:
    """`1 image`, `55,000 images`, `0.3 epochs`."""
    digits = f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
    return f"{digits} {noun}{'s' * (number != 1)}"


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
