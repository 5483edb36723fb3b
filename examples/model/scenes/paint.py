"""Draws scenes with Pillow, fast, and cuts them into tiles as the processor of the model does."""

import functools
import io
import random

import numpy
from PIL import Image, ImageDraw, ImageFont

import scene as scenes
import strokes


@functools.lru_cache(maxsize=256)
def type_font(size: int):
    return ImageFont.load_default(size)


def paint_background(scene: scenes.Scene, scale: int) -> Image.Image:
    kind, rgb, *rest = scene.background
    width, height = scene.width * scale, scene.height * scale
    if kind == "gradient":
        other, across = rest
        ramp = Image.linear_gradient("L").resize((width, height))
        if across:
            ramp = Image.linear_gradient("L").rotate(90).resize((width, height))
        return Image.composite(
            Image.new("RGB", (width, height), other), Image.new("RGB", (width, height), rgb), ramp
        )
    image = Image.new("RGB", (width, height), rgb)
    if kind == "lines":
        line, step, squared = rest
        draw = ImageDraw.Draw(image)
        for y in range(step, scene.height, step):
            draw.rectangle((0, y * scale, width, (y + 1) * scale - 1), fill=line)
        for x in range(step, scene.width, step) if squared else ():
            draw.rectangle((x * scale, 0, (x + 1) * scale - 1, height), fill=line)
    return image


def draw_type(draw, op: tuple, scale: int) -> None:
    """Text in Pillow's font, its capitals as tall as asked if its box is wide enough."""
    _, text, x, y, wide, high, rgb = op
    size = max(6, round(high * scale / 0.72))
    length = type_font(size).getlength(text)
    if length > wide * scale:
        size = max(6, int(size * wide * scale / length))
    draw.text(
        (x * scale, y * scale + 0.36 * size), text, font=type_font(size), fill=rgb, anchor="ms"
    )


def paint(scene: scenes.Scene) -> Image.Image:
    scale = 1 if not scene.smooth else 3 if scene.width * scene.height < 20_000 else 2
    image = paint_background(scene, scale)
    draw = ImageDraw.Draw(image)
    for op in strokes.operations(scene):
        if op[0] == "poly":
            draw.polygon([(x * scale - 0.5, y * scale - 0.5) for x, y in op[1]], fill=op[2])
        elif op[0] == "stroke":
            stroke(draw, op, scale)
        else:
            draw_type(draw, op, scale)
    if scale > 1:
        image = image.reduce(scale)
    return disturb(image, scene)


def stroke(draw, op: tuple, scale: int) -> None:
    _, points, width, rgb = op
    points = [(x * scale - 0.5, y * scale - 0.5) for x, y in points]
    width = max(1, round(width * scale))
    if len(points) > 1 and points[0] != points[-1]:
        draw.line(points, fill=rgb, width=width, joint="curve" if width > 3 else None)
        ends = (points[0], points[-1]) if width > 2 else ()
    elif len(points) > 2:
        draw.line(points + points[1:2], fill=rgb, width=width, joint="curve" if width > 3 else None)
        ends = ()
    else:
        ends = points[:1]
    r = width / 2 - 0.25
    for x, y in ends:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rgb)


def disturb(image: Image.Image, scene: scenes.Scene) -> Image.Image:
    """Noise, and now and then the marks of a JPEG file."""
    sigma = scene.background[2] if scene.background[0] == "speckle" else scene.noise
    if sigma:
        pixels = numpy.asarray(image)
        rng = numpy.random.default_rng(scene.seed)
        noise = rng.standard_normal(pixels.shape[:2] + (1,), dtype=numpy.float32) * sigma
        image = Image.fromarray(numpy.clip(pixels + noise, 0, 255).astype(numpy.uint8))
    if scene.seed % 10 == 0:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=random.Random(scene.seed).randint(60, 95))
        image = Image.open(file).convert("RGB")
    return image


def tiles(image: Image.Image) -> numpy.ndarray:
    """(n, 96, 96, 3) bytes: the tiles row by row and, when there are several, the thumbnail."""
    side = scenes.TILE
    columns, rows = scenes.tile_grid(*image.size)
    canvas = numpy.asarray(image.resize((columns * side, rows * side), Image.Resampling.BICUBIC))
    cut = canvas.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    if len(cut) == 1:
        return cut
    thumbnail = numpy.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return numpy.concatenate([cut, thumbnail[None]])
