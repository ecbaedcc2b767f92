"""How numbers are written in sentences."""

import pytest

from utils.words import percent


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1, "100 %"),
        (0.314, "31 %"),
        (0.0951, "10 %"),
        (0.0949, "9.5 %"),
        (0.039, "3.9 %"),
        (0.0004, "0.04 %"),
        (0, "0 %"),
    ],
)
def test_shares_have_two_digits(share, words):
    assert percent(share) == words


def test_or_so_many_places_as_you_say():
    assert (percent(0.072, 0), percent(0.072, 1), percent(1, 1)) == ("7 %", "7.2 %", "100.0 %")
