"""How numbers are written in sentences, the same way everywhere, and what a program needs to print them anywhere."""

from __future__ import annotations

import io
import math
import sys
from numbers import Integral

TOO_SMALL, TOO_LARGE = 1e-6, 1e9  # to write all zeros of it
FIRST_WORDS = ("a", "an", "after", "in", "the", "there", "this")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float, places: int | None = None) -> str:
    """`31 %`, `3.9 %`, `0.04 %`: to two digits, or with so many places after the point."""
    if places is None:
        return f"{100 * share:.0f} %" if share >= 0.095 else f"{plain(100 * share)} %"
    return f"{100 * share:.{places}f} %"


def plain(number: float, digits: int = 2) -> str:
    """To so many digits, and never as 1.2e+02: `0.12`, `120`, `12,000`, `0.00005`; what has too many zeros to read,
    as `5 × 10¹⁸`."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if not TOO_SMALL <= abs(number) < TOO_LARGE:
        mantissa, exponent = f"{number:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g} × {power_of_ten(int(exponent))}"
    places = digits - 1 - math.floor(math.log10(abs(number)))
    written = f"{round(number, places):,.{max(0, places)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def power_of_ten(exponent: int) -> str:
    """`10¹⁸`, `10⁻⁶`."""
    return f"10{str(exponent).translate(RAISED)}"


def duration(seconds: float) -> str:
    """`12 s`, `1.4 s`, `35 ms`."""
    if seconds >= 2:
        return f"{seconds:,.0f} s"
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{plain(1000 * seconds)} ms"


def counted(number: float, noun: str) -> str:
    """`1 image`, `55,000 images`, `0.3 epochs`."""
    digits = f"{number:,}" if isinstance(number, Integral) else plain(number, 4)
    return f"{digits} {noun}{'s' * (number != 1)}"


def sentence(words: str) -> str:
    """With a capital, unless they begin with a name from code: `lr must be …`."""
    return words[:1].upper() + words[1:] if words.split(" ", 1)[0] in FIRST_WORDS else words


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def speak_anywhere() -> None:
    """No `print` of this program fails from here on: a character that the output doesn't have becomes a question mark.

    Python on Windows writes into a file or a pipe in the system's old code page, which has no → and no ≥, and else ends
    the program at the first of them, after an hour of training it may be. Errors are safe: there Python does so itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # not a notebook's, which takes all
        sys.stdout.reconfigure(errors="replace")
