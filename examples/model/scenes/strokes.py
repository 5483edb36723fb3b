"""The lines of a scene: its shapes and letters as polygons and strokes (standard library only)."""

import math
import random

import glyphs
from scene import WAYS, Scene, Text, Thing


def regular(corners: int, turn: float, inner: float = 1.0) -> list:
    """A polygon on the unit circle; with `inner`, every second corner lies further in."""
    return [(math.cos(turn + 2 * math.pi * i / corners) * (inner if i % 2 else 1),
             math.sin(turn + 2 * math.pi * i / corners) * (inner if i % 2 else 1))
            for i in range(corners)]


def heart() -> list:
    points = []
    for i in range(36):
        t = 2 * math.pi * i / 36
        points.append((math.sin(t) ** 3 * 0.95,
                       -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
                         - math.cos(4 * t)) / 16.5 - 0.1))
    return points


def moon() -> list:
    angles = [math.radians(50 + 260 * i / 24) for i in range(25)]
    outer = [(math.cos(t), math.sin(t)) for t in angles]
    (bx, by), (ax, ay) = outer[-1], outer[0]
    inner = [(bx + (ax - bx) * i / 12 - 1.1 * math.sin(math.pi * i / 12), by + (ay - by) * i / 12)
             for i in range(1, 12)]
    return [(x + 0.1, y) for x, y in outer + inner]


OUTLINES = {
    "circle": regular(40, 0.0), "square": regular(4, math.pi / 4),
    "triangle": regular(3, -math.pi / 2), "star": regular(10, -math.pi / 2, 0.42),
    "rectangle": [(-0.9, -0.42), (0.9, -0.42), (0.9, 0.42), (-0.9, 0.42)],
    "cross": [(x * 0.96, y * 0.96) for x, y in (
        (-.3, -1), (.3, -1), (.3, -.3), (1, -.3), (1, .3), (.3, .3), (.3, 1), (-.3, 1), (-.3, .3),
        (-1, .3), (-1, -.3), (-.3, -.3))],
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)], "heart": heart(), "moon": moon(),
    "ring": regular(40, 0.0),
    "arrow": [(1, 0), (.25, -.72), (.25, -.26), (-1, -.26), (-1, .26), (.25, .26), (.25, .72)],
}


def outline(thing: Thing) -> list:
    turn = thing.angle + math.pi / 2 * (WAYS.index(thing.way) if thing.way else 0)
    # A rectangle lies or stands; its centre, in whole pixels, decides which.
    if thing.shape == "rectangle" and int(thing.x) % 2:
        turn += math.pi / 2
    c, s = math.cos(turn), math.sin(turn)
    return [(thing.x + thing.r * (x * c - y * s), thing.y + thing.r * (x * s + y * c))
            for x, y in OUTLINES[thing.shape]]


def wobbly(points: list, rng: random.Random, step: float, amount: float) -> list:
    """The line as a hand would draw it: more points, each a little off."""
    line = []
    for (ax, ay), (bx, by) in zip(points, points[1:]):
        parts = max(1, round(math.dist((ax, ay), (bx, by)) / step))
        line += [(ax + (bx - ax) * i / parts, ay + (by - ay) * i / parts) for i in range(parts)]
    line.append(points[-1])
    return [(x + rng.gauss(0, amount), y + rng.gauss(0, amount)) for x, y in line]


def hatching(points: list, rng: random.Random, gap: float) -> list:
    """Slanted lines inside a polygon."""
    slope, lines = rng.uniform(-0.6, 0.6), []
    low, high = (pick(y - slope * x for x, y in points) for pick in (min, max))
    offset = low + gap * 0.7
    while offset < high:
        crossings = []
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            a, b = ay - slope * ax - offset, by - slope * bx - offset
            if (a < 0) != (b < 0):
                t = a / (a - b)
                crossings.append((ax + t * (bx - ax), ay + t * (by - ay)))
        crossings.sort()
        lines += [[p, q] for p, q in zip(crossings[::2], crossings[1::2]) if math.dist(p, q) > gap]
        offset += gap
    return lines


def draw_thing(thing: Thing, rng: random.Random) -> list:
    points = outline(thing)
    closed = points + points[:1]
    if thing.shape == "ring":
        line = [(thing.x + 0.79 * (x - thing.x), thing.y + 0.79 * (y - thing.y)) for x, y in closed]
        return [("stroke", line, 0.4 * thing.r, thing.rgb)]
    if thing.style == "filled":
        return [("poly", points, thing.rgb)]
    pen = max(1.4, 0.09 * thing.r)
    if thing.style == "inked":
        return [("poly", points, thing.rgb), ("stroke", closed, pen, (15, 15, 15))]
    if thing.style == "outline":
        return [("stroke", closed, max(2.0, 0.14 * thing.r), thing.rgb)]
    amount = 0.028 * thing.r + 0.15
    pen = max(1.8, 0.11 * thing.r)
    parts = [("stroke", wobbly(closed, rng, 0.3 * thing.r, amount), pen, thing.rgb)
             for _ in range(rng.choice([1, 1, 2]))]
    fill = rng.random()
    if fill < 0.4:
        gap, pen = max(3.5, 0.22 * thing.r), max(1.3, 0.07 * thing.r)
        parts += [("stroke", wobbly(line, rng, 0.5 * thing.r, amount * 0.7), pen, thing.rgb)
                  for line in hatching(points, rng, gap)]
    elif fill < 0.65:
        parts.append(("poly", wobbly(closed, rng, 0.3 * thing.r, amount)[:-1], thing.rgb))
    return parts


def draw_text(text: Text, rng: random.Random, hand: bool) -> list:
    if text.font == "type":
        return [("type", text.text, text.x, text.y, text.wide, text.high, text.rgb)]
    h = text.high
    if text.font == "pixel":
        return [("poly", [(text.x + x * h, text.y + y * h), (text.x + (x + s) * h, text.y + y * h),
                          (text.x + (x + s) * h, text.y + (y + s) * h),
                          (text.x + x * h, text.y + (y + s) * h)], text.rgb)
                for x, y, s in glyphs.text_squares(text.text)]
    lines, weight = glyphs.text_lines(text.text, text.font)
    parts = []
    for line in lines:
        points = [(text.x + x * h, text.y + y * h) for x, y in line]
        if hand:
            points = wobbly(points, rng, 0.22 * h, 0.018 * h)
        parts.append(("stroke", points, max(1.3, weight * h), text.rgb))
    return parts


def operations(scene: Scene) -> list:
    """What to draw, in order: ("poly", points, rgb), ("stroke", points, width, rgb) and, in
    Pillow's own font, ("type", text, x, y, wide, high, rgb)."""
    rng = random.Random(scene.seed)
    drawn = [op for thing in scene.things for op in draw_thing(thing, rng)]
    return drawn + [op for text in scene.texts for op in draw_text(text, rng, scene.hand)]
