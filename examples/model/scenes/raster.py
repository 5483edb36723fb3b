"""Draws scenes with the standard library alone, writes PNG files and shows pictures in a terminal.

Slower than paint.py (a tenth of a second a picture) and equal to it but for the edges, which are
antialiased by another rule; Pillow's own font is the one thing it cannot draw.
"""

import math
import os
import random
import struct
import zlib

import glyphs
import scene as scenes
import strokes

SUBLINES = 4  # samples of each pixel row when a polygon is filled
SHADES = "@%#*+=-:. "  # dark to light, for terminals without colour


class Canvas:
    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.rows = [[0.0] * (3 * width) for _ in range(height)]

    def blend(self, x: int, y: int, coverage: float, rgb: tuple) -> None:
        row, at = self.rows[y], 3 * x
        for channel in range(3):
            row[at + channel] += (rgb[channel] - row[at + channel]) * coverage

    def fill(self, points: list, rgb: tuple) -> None:
        """A polygon by the even-odd rule; coverage is exact along x and sampled along y."""
        edges = list(zip(points, points[1:] + points[:1]))
        top = max(0, math.floor(min(y for _, y in points)))
        bottom = min(self.height, math.ceil(max(y for _, y in points)))
        for y in range(top, bottom):
            cover = [0.0] * self.width
            for part in range(SUBLINES):
                level = y + (part + 0.5) / SUBLINES
                cuts = sorted(
                    ax + (level - ay) / (by - ay) * (bx - ax)
                    for (ax, ay), (bx, by) in edges
                    if (ay <= level) != (by <= level)
                )
                for left, right in zip(cuts[::2], cuts[1::2]):
                    left, right = max(0.0, left), min(float(self.width), right)
                    for x in range(int(left), min(self.width, math.ceil(right))):
                        cover[x] += max(0.0, min(right, x + 1) - max(left, x))
            for x, amount in enumerate(cover):
                if amount:
                    self.blend(x, y, amount / SUBLINES, rgb)

    def stroke(self, points: list, width: float, rgb: tuple) -> None:
        """A line of some width with round ends and joints, each pixel covered once."""
        cover: dict[tuple[int, int], float] = {}
        reach = width / 2 + 0.5
        for (ax, ay), (bx, by) in zip(points, points[1:] or points):
            dx, dy = bx - ax, by - ay
            square = dx * dx + dy * dy
            for y in range(
                max(0, int(min(ay, by) - reach)), min(self.height, int(max(ay, by) + reach) + 1)
            ):
                for x in range(
                    max(0, int(min(ax, bx) - reach)), min(self.width, int(max(ax, bx) + reach) + 1)
                ):
                    px, py = x + 0.5 - ax, y + 0.5 - ay
                    t = max(0.0, min(1.0, (px * dx + py * dy) / square)) if square else 0.0
                    amount = reach - math.hypot(px - t * dx, py - t * dy)
                    if amount > cover.get((x, y), 0.0):
                        cover[x, y] = amount
        for (x, y), amount in cover.items():
            self.blend(x, y, min(1.0, amount), rgb)


def background(canvas: Canvas, scene: scenes.Scene) -> None:
    kind, rgb, *rest = scene.background
    for y in range(canvas.height):
        for x in range(canvas.width):
            colour = rgb
            if kind == "gradient":
                other, across = rest
                t = (x + 0.5) / canvas.width if across else (y + 0.5) / canvas.height
                colour = [a + (b - a) * t for a, b in zip(rgb, other)]
            elif kind == "lines":
                line, step, squared = rest
                if (y and y % step == 0) or (squared and x and x % step == 0):
                    colour = line
            canvas.rows[y][3 * x : 3 * x + 3] = colour


def draw(scene: scenes.Scene) -> list[bytes]:
    """The rows of the picture, three bytes a pixel."""
    canvas = Canvas(scene.width, scene.height)
    background(canvas, scene)
    for op in strokes.operations(scene):
        if op[0] == "poly":
            canvas.fill(op[1], op[2])
        elif op[0] == "stroke":
            canvas.stroke(op[1], op[2], op[3])
        else:
            raise ValueError(
                f"the standard library has no font for {op[1]!r}: invent scenes with "
                "the fonts in raster.FONTS"
            )
    sigma = scene.background[2] if scene.background[0] == "speckle" else scene.noise
    if sigma:
        rng = random.Random(scene.seed)
        for row in canvas.rows:
            for at in range(0, len(row), 3):
                noise = rng.gauss(0, sigma)
                row[at : at + 3] = [v + noise for v in row[at : at + 3]]
    return [bytes(max(0, min(255, round(v))) for v in row) for row in canvas.rows]


FONTS = tuple(font for font in glyphs.FONTS if font != "type")


def png(rows: list[bytes]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 6))
        + chunk(b"IEND", b"")
    )


def shrunk(rows: list[bytes], columns: int, lines: int) -> list[list[tuple]]:
    """The picture at another size, each cell the mean of what it covers."""
    height, width = len(rows), len(rows[0]) // 3
    out = []
    for line in range(lines):
        ys = range(
            line * height // lines, max(line * height // lines + 1, (line + 1) * height // lines)
        )
        cells = []
        for column in range(columns):
            left = column * width // columns
            xs = range(left, max(left + 1, (column + 1) * width // columns))
            cells.append(
                tuple(
                    sum(rows[y][3 * x + c] for y in ys for x in xs) // (len(ys) * len(xs))
                    for c in range(3)
                )
            )
        out.append(cells)
    return out


def blocks(rows: list[bytes], columns: int = 64, colour: bool | None = None) -> str:
    """The picture as text: two pixels a character in colour, or shades of grey under NO_COLOR."""
    if colour is None:
        colour = not os.environ.get("NO_COLOR")
    height, width = len(rows), len(rows[0]) // 3
    columns = min(columns, width)
    lines = max(2, round(columns * height / width / 2) * 2)
    cells, text = shrunk(rows, columns, lines), []
    levels = [sum(cell) for line in cells for cell in line]
    dark, range_ = min(levels), max(1, max(levels) - min(levels))
    for upper, lower in zip(cells[::2], cells[1::2]):
        line, painted = [], None
        for top, bottom in zip(upper, lower):
            if colour:
                if (top, bottom) != painted:
                    line.append("\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*top, *bottom))
                    painted = (top, bottom)
                line.append("\u2580")
            else:
                level = (sum(top) + sum(bottom)) / 2 - dark
                line.append(SHADES[min(9, int(level * 10 / range_))])
        text.append("".join(line) + ("\x1b[0m" if colour else ""))
    return "\n".join(text) + "\n"
