"""What every patch of a tile shows: extra targets that teach the vision tower, in training only.

A question gives a handful of tokens to learn from; a scene's description knows of all 144 patches
of every tile which shape, colour and letter is there. One byte each: SHAPE, COLOUR and so on below.
"""

import numpy

import glyphs
import paint
import scene as scenes

SHAPE, COLOUR, LETTER, WAY, CENTRE, RADIUS = range(6)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
CLASSES = [
    len(scenes.SHAPES) + 1,
    len(scenes.COLOURS) + 1,
    len(LETTERS) + 1,
    len(scenes.WAYS) + 1,
    3,
]
PATCH, PATCHES = 8, scenes.TILE // 8
RADIUS_UNIT = 2.0  # RADIUS is in halves of a pixel of the tile
READABLE = 7.0  # pixels of a capital's height below which letters are not asked for

SHAPE_ID = {name: i + 1 for i, name in enumerate(scenes.SHAPES)}
COLOUR_ID = {name: i + 1 for i, name in enumerate(scenes.COLOURS)}
LETTER_ID = {letter: i + 1 for i, letter in enumerate(LETTERS)}


def letter_centres(text: scenes.Text) -> list[tuple[float, float]]:
    """(centre, half the width) of each letter, in pixels of the picture."""
    if text.font == "type":
        size = max(6, round(text.high / 0.72))
        lengths = [
            paint.type_font(size).getlength(text.text[:i]) for i in range(len(text.text) + 1)
        ]
        shrink = min(1.0, text.wide / lengths[-1])
        return [
            (text.x + ((a + b) / 2 - lengths[-1] / 2) * shrink, (b - a) / 2 * shrink)
            for a, b in zip(lengths, lengths[1:])
        ]
    return [
        (text.x + centre * text.high, half * text.high)
        for centre, half in glyphs.letter_spans(text.text, text.font)
    ]


def view_labels(scene: scenes.Scene, letters: list, fx: float, fy: float, left: int, top: int):
    """Labels of one tile: the picture scaled by fx, fy, seen from (left, top) on."""
    out = numpy.zeros((PATCHES, PATCHES, 6), numpy.uint8)
    xs = (left + PATCH * numpy.arange(PATCHES) + PATCH / 2) / fx
    ys = (top + PATCH * numpy.arange(PATCHES) + PATCH / 2) / fy

    def centre(x: float, y: float, value: int) -> None:
        column, row = int((x * fx - left) // PATCH), int((y * fy - top) // PATCH)
        if 0 <= column < PATCHES and 0 <= row < PATCHES:
            out[row, column, CENTRE] = value

    for thing in scene.things:
        inside = numpy.hypot(xs[None] - thing.x, ys[:, None] - thing.y) < thing.r
        out[inside] = (
            SHAPE_ID[thing.shape],
            COLOUR_ID[thing.colour],
            0,
            1 + scenes.WAYS.index(thing.way) if thing.way else 0,
            0,
            min(255, round(thing.r * min(fx, fy) * RADIUS_UNIT)),
        )
        centre(thing.x, thing.y, 1)
    for text, spans in letters:
        rows = numpy.abs(ys - text.y) < text.high * 0.6
        readable = text.high * fy >= READABLE
        for letter, (x, half) in zip(text.text.upper(), spans):
            inside = rows[:, None] & (numpy.abs(xs - x) <= half + 0.1 * text.high)[None]
            out[inside, COLOUR] = COLOUR_ID[text.colour]
            if readable:
                out[inside, LETTER] = LETTER_ID[letter]
                centre(x, text.y, 2)
    return out


def labels(scene: scenes.Scene) -> numpy.ndarray:
    """(tiles, 12, 12, 6) bytes, in the order of paint.tiles."""
    columns, rows = scene.tiles()
    letters = [(text, letter_centres(text)) for text in scene.texts]
    side = scenes.TILE
    fx, fy = columns * side / scene.width, rows * side / scene.height
    views = [
        view_labels(scene, letters, fx, fy, c * side, r * side)
        for r in range(rows)
        for c in range(columns)
    ]
    if len(views) > 1:
        views.append(view_labels(scene, letters, side / scene.width, side / scene.height, 0, 0))
    return numpy.stack(views)
