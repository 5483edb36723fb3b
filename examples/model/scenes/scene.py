"""Drawn scenes: what is in them, and where (standard library only).

A scene is things (shapes) and texts on a background, in pixels. strokes.py turns it into polygons
and lines, which raster.py (standard library) and paint.py (Pillow, fast) both draw. All follows
from one random.Random, so the same seed gives the same scene.
"""

import dataclasses
import functools
import math
import random
import zlib

import glyphs

TILE, TILES_MAX = 96, 6  # the side of a tile and the most of them, as in preprocessor_config.json

# Ranges of red, green and blue. They contain the colours that drawing programs give these names.
COLOURS = {
    "red": [((205, 255), (0, 45), (0, 45))],
    "green": [((0, 60), (110, 170), (0, 70)), ((0, 80), (200, 255), (0, 80))],
    "blue": [((0, 50), (0, 90), (190, 255)), ((20, 70), (90, 130), (210, 255))],
    "yellow": [((238, 255), (215, 255), (0, 60))],
    "orange": [((240, 255), (120, 165), (0, 40))],
    "purple": [((110, 160), (0, 60), (120, 195))],
    "pink": [((245, 255), (105, 195), (170, 210))],
    "brown": [((105, 165), (42, 80), (10, 45))],
    "black": [((0, 25),)], "white": [((240, 255),)], "grey": [((110, 190),)],
}
SHAPES = ["circle", "square", "triangle", "rectangle", "star", "heart", "cross", "diamond", "ring",
          "moon", "arrow"]
WAYS = ["right", "down", "left", "up"]
PLACES = [["top left", "top", "top right"], ["left", "centre", "right"],
          ["bottom left", "bottom", "bottom right"]]

WORDS = """cat dog fish bird tree house sun moon star car bus boat ship ball book door fire rain
snow wind milk tea bread cake apple pear plum king queen hand foot nose eye ear arm leg red blue
green black white stop go exit open shut push pull yes no left right up down sale free new old hot
cold big small cafe bar hotel taxi bank shop park zoo farm lake river sea hill road east west north
south one two three four five six seven eight nine ten day night time year week hello bye love hope
home work play game jump run walk sit box cup key map pen hat shoe bag coin ring gold iron wood
stone glass paper salt rice corn bean soup egg meat lamp chair table bed wall roof room city
town""".split()


@dataclasses.dataclass
class Thing:
    """A shape inside the circle of radius `r` around (x, y)."""

    shape: str
    colour: str
    rgb: tuple
    x: float
    y: float
    r: float
    angle: float
    style: str  # filled, inked, outline or hand
    way: str = ""  # where an arrow points


@dataclasses.dataclass
class Text:
    """A word or number centred on (x, y), its capitals `high` pixels tall."""

    text: str
    kind: str  # word or number
    colour: str
    rgb: tuple
    x: float
    y: float
    wide: float
    high: float
    font: str


@dataclasses.dataclass
class Scene:
    width: int
    height: int
    background: tuple
    background_colour: str  # its name when it is plain and has one, else ""
    things: list
    texts: list
    hand: bool
    seed: int  # for wobbling lines and noise
    noise: float
    smooth: bool  # edges antialiased

    def tiles(self) -> tuple[int, int]:
        return tile_grid(self.width, self.height)


@functools.lru_cache(maxsize=4096)
def tile_grid(width: int, height: int) -> tuple[int, int]:
    """Columns and rows that InternVL's dynamic tiling gives a picture: the nearest aspect ratio,
    and among equals the larger grid while it is not over twice the picture's area."""
    grids = sorted(((c, r) for c in range(1, TILES_MAX + 1) for r in range(1, TILES_MAX + 1)
                    if c * r <= TILES_MAX), key=lambda g: g[0] * g[1])
    best, least = (1, 1), math.inf
    for c, r in grids:
        difference = abs(width / height - c / r)
        if difference < least:
            best, least = (c, r), difference
        elif difference == least and width * height > 0.5 * TILE * TILE * c * r:
            best = (c, r)
    return best


def text_held_out(text: str) -> bool:
    """Texts of this slice are never printed in training; held-out scenes print no others."""
    return zlib.crc32(text.encode()) % 12 == 0


def distance(a: tuple, b: tuple) -> float:
    return math.dist(a, b)


# -- inventing scenes ------------------------------------------------------------------------------

class Inventor:
    """Draws scenes at random. `fonts` are those that the painter at hand has."""

    def __init__(self, rng: random.Random, held_out: bool = False, fonts=glyphs.FONTS,
                 small: bool = False):
        self.rng, self.held_out, self.fonts = rng, held_out, fonts
        self.small = small  # only pictures of one tile

    def shade(self, colour: str) -> tuple:
        ranges = self.rng.choice(COLOURS[colour])
        if len(ranges) == 1:
            level = self.rng.randint(*ranges[0])
            return (level, level, level)
        return tuple(self.rng.randint(*r) for r in ranges)

    def size(self) -> tuple[int, int]:
        """Small pictures of one tile, and larger ones of many shapes."""
        rng, roll = self.rng, self.rng.random()
        if self.small:
            roll *= 0.52
        if roll < 0.17:
            return TILE, TILE
        if roll < 0.52:
            side = rng.randint(72, 134)
            return side, max(64, min(140, side + rng.choice([0, 0, 0, rng.randint(-8, 8)])))
        if roll < 0.70:
            side = rng.choice([192, rng.randint(136, 320), rng.randint(160, 240)])
            return side, side
        columns, rows = rng.choice([(2, 1), (1, 2), (3, 2), (2, 3), (3, 2), (2, 3), (3, 1), (1, 3),
                                    (4, 1), (1, 4), (5, 1), (1, 5), (6, 1), (1, 6), (3, 2), (2, 1)])
        scale = rng.choice([1.0, rng.uniform(0.8, 1.5), rng.uniform(0.8, 1.2)])
        if rng.random() < 0.3:
            scale *= 0.7
        stretch = rng.uniform(0.9, 1.12)
        return round(TILE * columns * scale * stretch), round(TILE * rows * scale / stretch)

    def background(self) -> tuple[tuple, str, list]:
        """(how to fill it, its name, the colours that things must differ from)."""
        rng, roll = self.rng, self.rng.random()
        if roll < 0.50:
            name = rng.choice(["white"] * 8 + ["black"] * 2 + ["grey"] * 2 + list(COLOURS))
            rgb = (255, 255, 255) if name == "white" and rng.random() < 0.6 else self.shade(name)
            return ("plain", rgb), name, [rgb]
        light = rng.random() < 0.75
        tint = (lambda: tuple(rng.randint(205, 250) if light else rng.randint(5, 70)
                              for _ in range(3)))
        rgb = tint()
        if roll < 0.64:
            return ("plain", rgb), "", [rgb]
        if roll < 0.76:
            other = tint()
            middle = tuple((a + b) // 2 for a, b in zip(rgb, other))
            return ("gradient", rgb, other, rng.random() < 0.5), "", [rgb, middle, other]
        if roll < 0.90:
            shift = rng.choice([-1, 1]) * rng.randint(12, 40)
            line = tuple(max(0, min(255, c + shift)) for c in rgb)
            return ("lines", rgb, line, rng.randint(8, 24), rng.random() < 0.5), "", [rgb, line]
        return ("speckle", rgb, rng.randint(6, 22)), "", [rgb]

    def colour_on(self, against: list, among: list) -> tuple[str, tuple]:
        """A colour that stands out from the background."""
        for attempt in range(60):
            name = self.rng.choice(among if attempt < 20 else list(COLOURS))
            rgb = self.shade(name)
            if all(distance(rgb, other) > 100 for other in against):
                return name, rgb
        raise AssertionError("no colour stands out from " + repr(against))

    def letters(self) -> str:
        """A word, or letters that make none: so that reading is learnt and not guessing."""
        rng = self.rng
        if rng.random() < 0.45:
            return rng.choice(WORDS)
        if rng.random() < 0.5:
            return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz")
                           for _ in range(rng.randint(2, 5)))
        text = "".join(rng.choice("bcdfghjklmnprstvwxyz") + rng.choice("aeiou")
                       for _ in range(rng.randint(1, 2)))
        return text + rng.choice(["", "", *"nrstlmkpd"])

    def some_text(self, kind: str) -> str:
        while True:
            if kind == "word":
                text = self.letters()
            else:
                text = "".join(self.rng.choice("0123456789")
                               for _ in range(self.rng.choice([1, 2, 2, 3, 3, 4, 5])))
            if len(text) == 1 or text_held_out(text) == self.held_out:
                return text

    # -- putting things down -----------------------------------------------------------------------

    def place_text(self, scene: Scene, boxes: list, against: list, kind: str, alone: bool) -> None:
        rng, (columns, rows) = self.rng, scene.tiles()
        fx, fy = TILE * columns / scene.width, TILE * rows / scene.height
        font = "plain" if scene.hand else rng.choice(
            [f for f in self.fonts if f != "segment" or kind == "number"])
        for _ in range(30):
            text = self.some_text(kind)
            if kind == "word" and (font in glyphs.CAPITALS_ONLY or rng.random() < 0.6):
                text = text.upper()
            ratio = glyphs.text_width(text, font)
            least = max(13.0 / fy, 10.0 * len(text) / ratio / fx)  # what can be read in the tiles
            most = min(0.9 * scene.width / ratio, 0.7 * scene.height,
                       scene.height * (0.6 if alone else 0.3))
            if least < most:
                break
        else:
            return
        usual = min(most, max(least, 40 / fy))
        high = least * (usual / least) ** rng.random()
        if rng.random() < (0.3 if alone else 0.1):
            high = least * (most / least) ** rng.random()
        wide, tall = high * ratio, high * 1.35
        for _ in range(40):
            x = rng.uniform(wide / 2 + 2, scene.width - wide / 2 - 2)
            if tall + 5 >= scene.height:
                return
            y = rng.uniform(tall / 2 + 2, scene.height - tall / 2 - 2)
            box = (x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)
            if free(box, boxes, 3):
                colour, rgb = self.colour_on(against, list(COLOURS))
                boxes.append(box)
                scene.texts.append(Text(text, kind, colour, rgb, x, y, wide, high, font))
                return

    def place_things(self, scene: Scene, boxes: list, against: list, count: int) -> None:
        rng, (columns, rows) = self.rng, scene.tiles()
        shapes = rng.sample(SHAPES, rng.choice([1, 2, 3, 4, 6]))
        if rng.random() < 0.12:
            shapes[0] = "arrow"
        if scene.hand:
            shapes = [s for s in shapes if s != "ring"] or ["circle"]
        colours = rng.sample(list(COLOURS), rng.choice([1, 2, 3, 4, 6]))
        side = min(scene.width, scene.height)
        grain = min(TILE * columns / scene.width, TILE * rows / scene.height)
        tiny = columns * rows >= 4 and rng.random() < 0.3
        least = max(8.0 / grain, (0.06 if tiny else 0.09) * side)
        crowd = math.sqrt(scene.width * scene.height / max(1, count))
        most = max(least * 1.1, min(0.42 * side, 0.36 * crowd))
        for _ in range(count):
            for attempt in range(30):
                r = rng.uniform(least, most if attempt < 10 else least * 1.3)
                x = rng.uniform(r + 1, scene.width - r - 1)
                y = rng.uniform(r + 1, scene.height - r - 1)
                box = (x - r, y - r, x + r, y + r)
                if free(box, boxes, 2 / grain):
                    boxes.append(box)
                    scene.things.append(self.thing(scene, x, y, r, against, shapes, colours))
                    break

    def thing(self, scene: Scene, x, y, r, against, shapes, colours) -> Thing:
        rng = self.rng
        shape = rng.choice(shapes)
        colour, rgb = self.colour_on(against, colours)
        style = "hand" if scene.hand else rng.choice(["filled"] * 6 + ["inked", "outline"])
        if shape == "ring":
            style = "filled"
        if style == "inked" and (colour == "black" or min(sum(c) for c in against) < 200):
            style = "filled"
        way = rng.choice(WAYS) if shape == "arrow" else ""
        tilt = {"circle": 180, "ring": 180, "star": 36, "moon": 25, "diamond": 6}.get(shape, 10)
        angle = math.radians(rng.uniform(-tilt, tilt) if rng.random() < 0.6 else 0)
        return Thing(shape, colour, rgb, x, y, r, angle, style, way)

    def scene(self) -> Scene:
        rng = self.rng
        width, height = self.size()
        background, name, against = self.background()
        scene = Scene(width, height, background, name, [], [], rng.random() < 0.25,
                      rng.randrange(1 << 30),
                      rng.choice([0, 0, 0, 0, 2, rng.uniform(0, 10)]), rng.random() < 0.85)
        columns, rows = scene.tiles()
        texts = rng.choice([0, 0, 0, 1, 1, 2]) if rng.random() < 0.8 else 1
        alone = texts and rng.random() < 0.4
        strip = max(columns, rows) >= 3 and min(columns, rows) == 1
        count = 0 if alone else rng.choice([1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7])
        boxes: list = []
        kinds = rng.sample(["word", "number"], texts)
        for kind in kinds:
            self.place_text(scene, boxes, against, kind, bool(alone))
        self.place_things(scene, boxes, against, min(count, 4) if strip else count)
        if not scene.things and not scene.texts:
            self.place_things(scene, boxes, against, 1)
        return scene


def free(box: tuple, boxes: list, gap: float) -> bool:
    return all(box[2] + gap < b[0] or b[2] + gap < box[0] or box[3] + gap < b[1]
               or b[3] + gap < box[1] for b in boxes)
