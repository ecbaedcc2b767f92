"""How numbers are written in sentences."""

import math

import pytest

from utils.words import counted, duration, listed, percent, plain, sentence


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


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "1 step"), (0, "0 steps"), (20, "20 steps"), (12_345, "12,345 steps"), (0.3, "0.3 steps"), (1.0, "1 step")],
)
def test_one_of_a_thing_is_said_as_one_and_large_numbers_in_plain_digits(number, words):
    assert counted(number, "step") == words


def test_a_sentence_begins_with_a_capital_and_a_name_from_code_doesnt():
    assert sentence("the loss became nan") == "The loss became nan" and sentence("a name") == "A name"
    assert [sentence(words) for words in ("lr must be a number", "VGG-11: a step", "")] == [
        "lr must be a number", "VGG-11: a step", "",
    ]  # fmt: skip


def test_a_list_ends_with_and():
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_no_number_is_written_with_an_exponent():
    assert [plain(n) for n in (0.0123, 1.26, 126, 12_600)] == ["0.012", "1.3", "130", "13,000"]
    assert plain(1234, 3) == "1,230" and plain(9.96) == "10" and plain(-0.5) == "-0.5"
    assert [plain(n, 3) for n in (9.996e8, 1e-6, 5e-5)] == ["1,000,000,000", "0.000001", "0.00005"]
    assert [plain(n, 3) for n in (1e9, -4.976e18, 9.9e-7)] == ["1 × 10⁹", "-4.98 × 10¹⁸", "9.9 × 10⁻⁷"]
    assert percent(1e-7) == "0.00001 %" and counted(12_345.6, "epoch") == "12,350 epochs"
    assert [plain(n) for n in (0, math.inf, math.nan)] == ["0", "inf", "nan"]


def test_seconds_are_milliseconds_where_they_are_few():
    assert [duration(s) for s in (0.00004, 0.0352, 0.1, 1.44, 1234)] == [
        "0.04 ms", "35 ms", "0.1 s", "1.4 s", "1,234 s",
    ]  # fmt: skip
