"""What holds for every sheet that an explorer draws."""

from utils.plots.sheet import SMALLEST_TEXT, Box, Sheet, Words, text_width


def assert_readable(sheet: Sheet, widest: float = 700, slack: float = 0.5) -> None:
    """Nothing is cut off, no text is small. slack: pixels that a frame's line may stick out."""
    assert sheet.width <= widest
    for mark in sheet.marks:
        if isinstance(mark, Words):
            width = text_width(mark.words, mark.size, bold=mark.bold)
            left = mark.x - {"start": 0, "middle": width / 2, "end": width}[mark.anchor]
            assert mark.size >= SMALLEST_TEXT and -0.5 <= left and left + width <= sheet.width + 0.5, mark
            assert 0 < mark.y <= sheet.height, mark
        elif isinstance(mark, Box):
            assert mark.x >= -slack and mark.x + mark.width <= sheet.width + slack, mark
            assert mark.y >= -slack and mark.y + mark.height <= sheet.height + slack, mark
