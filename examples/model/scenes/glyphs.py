"""A stroke font of our own: letters and digits as lines on a small grid (standard library only).

A glyph is polylines on a grid of 4 by 6 (x to the right, y down; small letters go down to 8), each
written as points of two digits. "~" rounds the corners of a polyline, "@" those of a closed one.
From it come the fonts of the scenes: plain, bold, slanted, serif, pixel and segment.
"""

import math

CAP = 6.0  # height of a capital on the grid
GAP = 1.7  # between two glyphs

SHAPES = {
    "A": "06,20,46 14,34",
    "B": "00,06 ~00,40,43,03 ~03,43,46,06",
    "C": "~41,40,00,06,46,45",
    "D": "00,06 ~00,40,46,06",
    "E": "40,00,06,46 03,33",
    "F": "40,00,06 03,33",
    "G": "~41,40,00,06,46,43 43,23",
    "H": "00,06 40,46 03,43",
    "I": "10,16 00,20 06,26",
    "J": "~40,46,06,04",
    "K": "00,06 40,03,46",
    "L": "00,06,46",
    "M": "06,00,23,40,46",
    "N": "06,00,46,40",
    "O": "@00,40,46,06",
    "P": "06,00 ~00,40,43,03",
    "Q": "@00,40,46,06 24,46",
    "R": "06,00 ~00,40,43,03 23,46",
    "S": "~41,40,00,03,43,46,06,05",
    "T": "00,40 20,26",
    "U": "~00,06,46,40",
    "V": "00,26,40",
    "W": "00,16,22,36,40",
    "X": "00,46 40,06",
    "Y": "00,23,40 23,26",
    "Z": "00,40,06,46",
    "0": "@00,30,36,06",
    "1": "01,20,26",
    "2": "~01,00,40,42,06 06,46",
    "3": "~01,00,40,43,13 ~13,43,46,06,05",
    "4": "36,30,04,44",
    "5": "40,00,02 ~02,42,46,06,05",
    "6": "~41,40,00,04 @02,42,46,06",
    "7": "00,40,16",
    "8": "@00,40,43,03 @03,43,46,06",
    "9": "@00,40,44,04 ~42,46,06,05",
    "a": "@02,32,36,06 32,36",
    "b": "00,06 @02,32,36,06",
    "c": "~33,32,02,06,36,35",
    "d": "30,36 @02,32,36,06",
    "e": "04,34 ~34,32,02,06,36",
    "f": "~30,10,16 02,22",
    "g": "@02,32,36,06 ~32,38,08",
    "h": "00,06 ~04,02,32,36",
    "i": "12,16 10,10",
    "j": "~22,28,08 20,20",
    "k": "00,06 32,04,36",
    "l": "10,16",
    "m": "02,06 ~04,02,22,26 ~24,22,42,46",
    "n": "02,06 ~04,02,32,36",
    "o": "@02,32,36,06",
    "p": "02,08 @02,32,36,06",
    "q": "32,38 @02,32,36,06",
    "r": "02,06 ~04,02,32",
    "s": "~32,02,04,34,36,06",
    "t": "~10,16,36 02,32",
    "u": "~02,06,36,32 32,36",
    "v": "02,26,42",
    "w": "02,16,23,36,42",
    "x": "02,36 32,06",
    "y": "02,26 42,18",
    "z": "02,32,06,36",
}
# Seven bars: top, upper right, lower right, bottom, lower left, upper left, middle.
SEGMENTS = {
    "0": "abcdef",
    "1": "bc",
    "2": "abged",
    "3": "abgcd",
    "4": "fgbc",
    "5": "afgcd",
    "6": "afgedc",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
}
BARS = {
    "a": (0, 0, 4, 0),
    "b": (4, 0, 4, 3),
    "c": (4, 3, 4, 6),
    "d": (0, 6, 4, 6),
    "e": (0, 3, 0, 6),
    "f": (0, 0, 0, 3),
    "g": (0, 3, 4, 3),
}

Line = list[tuple[float, float]]


def rounded(points: Line, closed: bool) -> Line:
    """Chaikin's corner cutting, three times; the ends of an open line stay."""
    for _ in range(3):
        pairs = list(zip(points, points[1:] + points[:1] if closed else points[1:]))
        cut = [
            p
            for (ax, ay), (bx, by) in pairs
            for p in (
                (0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by),
                (0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by),
            )
        ]
        points = cut if closed else [points[0], *cut, points[-1]]
    return points + points[:1] if closed else points


def parse(shape: str) -> list[Line]:
    lines = []
    for part in shape.split():
        points = [(float(p[0]), float(p[1])) for p in part.lstrip("~@").split(",")]
        lines.append(rounded(points, part[0] == "@") if part[0] in "~@" else points)
    return lines


GLYPHS = {letter: parse(shape) for letter, shape in SHAPES.items()}
WIDTHS = {letter: max(x for line in lines for x, _ in line) for letter, lines in GLYPHS.items()}


def serifs(lines: list[Line]) -> list[Line]:
    """Small feet at every end that stands on the baseline or hangs from the top."""
    feet = []
    for line in lines:
        for x, y in (line[0], line[-1]):
            if y in (0.0, 6.0) and line[0] != line[-1]:
                feet.append([(x - 0.8, y), (x + 0.8, y)])
    return lines + feet


def segment_glyph(digit: str) -> list[Line]:
    """Bars that stop short of each other, as on a clock."""
    lines = []
    for bar in SEGMENTS[digit]:
        ax, ay, bx, by = BARS[bar]
        length = math.hypot(bx - ax, by - ay)
        ux, uy = (bx - ax) / length * 0.55, (by - ay) / length * 0.55
        lines.append([(ax + ux, ay + uy), (bx - ux, by - uy)])
    return lines


def pixel_cells(letter: str) -> list[tuple[int, int]]:
    """The cells of a grid that the glyph's lines pass through."""
    cells = set()
    for line in GLYPHS[letter]:
        for (ax, ay), (bx, by) in zip(line, line[1:] or line):
            steps = max(1, round(4 * math.hypot(bx - ax, by - ay)))
            for i in range(steps + 1):
                t = i / steps
                cells.add(
                    (math.floor(ax + (bx - ax) * t + 0.5), math.floor(ay + (by - ay) * t + 0.5))
                )
    return sorted(cells)


FONTS = ("plain", "bold", "slant", "serif", "pixel", "segment", "type")
CAPITALS_ONLY = ("serif", "pixel")


def text_width(text: str, font: str) -> float:
    """Width of a text in the height of a capital. `type` is the font inside Pillow: an estimate."""
    if font == "type":
        return 0.9 * len(text)
    if font == "segment":
        return (4 * len(text) + GAP * (len(text) - 1)) / CAP
    gap = 1.0 + 0.3 if font == "pixel" else GAP + (0.9 if font == "serif" else 0)
    wide = 1.0 if font == "pixel" else 0.0
    return (sum(WIDTHS[c] + wide for c in text) + gap * (len(text) - 1)) / CAP


def text_lines(text: str, font: str) -> tuple[list[Line], float]:
    """(lines in the height of a capital, the text's centre at 0,0; the stroke's width)."""
    at, lines = 0.0, []
    weight = {"bold": 1.25, "segment": 0.85, "serif": 0.55}.get(font, 0.75) / CAP
    gap = GAP + (0.9 if font == "serif" else 0)
    for letter in text:
        glyph = segment_glyph(letter) if font == "segment" else GLYPHS[letter]
        glyph = serifs(glyph) if font == "serif" else glyph
        for line in glyph:
            lines.append(
                [
                    ((x + at + (0.22 * (3 - y) if font == "slant" else 0)) / CAP, (y - 3) / CAP)
                    for x, y in line
                ]
            )
        at += (4 if font == "segment" else WIDTHS[letter]) + gap
    half = (at - gap) / 2 / CAP
    return [[(x - half, y) for x, y in line] for line in lines], weight


def letter_spans(text: str, font: str) -> list[tuple[float, float]]:
    """(centre, half the width) of each letter, as text_lines and text_squares place them."""
    unit = 0.86 / CAP if font == "pixel" else 1 / CAP
    gap = 1.3 if font == "pixel" else GAP + (0.9 if font == "serif" else 0)
    at, spans = 0.0, []
    for letter in text:
        wide = 4.0 if font == "segment" else WIDTHS[letter] + (1.0 if font == "pixel" else 0.0)
        spans.append((at + wide / 2, wide / 2))
        at += wide + gap
    middle = (at - gap) / 2
    return [((x - middle) * unit, half * unit) for x, half in spans]


def text_squares(text: str) -> list[tuple[float, float, float]]:
    """The pixel font: (left, top, side) of each cell, in the height of a capital."""
    at, cells = 0.0, []
    for letter in text:
        cells += [(x + at, y) for x, y in pixel_cells(letter)]
        at += WIDTHS[letter] + 1 + 1.3
    half = (at - 1.3) / 2
    return [((x - half) * 0.86 / CAP, (y - 3.5) * 0.86 / CAP, 0.86 / CAP) for x, y in cells]
