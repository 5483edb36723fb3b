"""Small pictures in every format and mode that vision/decode reads, and what the reference makes of
them: Pillow's decoder, ImageOps.exif_transpose, then transformers' convert_to_rgb (alpha over white).

Where Pillow clips (16-bit grey), the expected pixels are the upper 8 bits, as for its 16-bit RGB.
"""

import io
import pathlib
import struct
import zlib

import numpy
import PIL.Image
import PIL.ImageOps
from transformers.image_transforms import convert_to_rgb


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(rows, depth, colour, interlaced=False, extra=b""):
    """A PNG from rows of packed bytes per pass: what Pillow cannot write."""
    height, width = rows["size"]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    raw = b"".join(b"\0" + bytes(row) for row in rows["rows"])
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def filtered_png(values, first):
    """Rows filtered in every way in turn, `first` the first, and the data in three chunks."""
    height, width, channels = values.shape
    above, packed = numpy.zeros(width * channels, int), b""
    for y, row in enumerate(values.reshape(height, -1).astype(int)):
        left, corner = (numpy.concatenate([numpy.zeros(channels, int), v[:-channels]])
                        for v in (row, above))
        away = [numpy.abs(left + above - corner - v) for v in (left, above, corner)]
        nearest = numpy.where((away[0] <= away[1]) & (away[0] <= away[2]), left,
                              numpy.where(away[1] <= away[2], above, corner))
        kind = (first + y) % 5
        guess = [0, left, above, (left + above) // 2, nearest][kind]
        packed += bytes([kind]) + ((row - guess) % 256).astype(numpy.uint8).tobytes()
        above = row
    data = zlib.compress(packed, 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    parts = [data[:7], data[7:len(data) // 2], data[len(data) // 2:]]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"Title\0filters") +
            b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b""))


def deep_png(values, colour, extra=b""):
    big = values.astype(">u2")
    return png({"size": values.shape[:2], "rows": [row.tobytes() for row in big]}, 16, colour, extra=extra)


def interlaced_png(values, colour):
    rows = []
    for top, left, down, right in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
                                   (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]:
        part = values[top::down, left::right]
        rows += [row.tobytes() for row in part] if part.shape[1] else []
    return png({"size": values.shape[:2], "rows": rows}, 8, colour, interlaced=True)


def bmp(width, height, bits, compression, data, palette=b"", masks=b"", size=40):
    offset = 14 + size + len(masks) * (size == 40) + len(palette)
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(data),
                         2835, 2835, len(palette) // 4, 0) + masks
    return (b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) +
            header.ljust(size, b"\0") + palette + data)


def gif_frame_inside(image):
    """A GIF whose only frame covers a part of the screen."""
    data = bytearray(encoded(image, "GIF"))
    data[6:10] = struct.pack("<HH", image.width + 9, image.height + 7)
    at = data.index(b"\x2c", 13 + 3 * (2 << (data[10] & 7)))
    data[at + 1:at + 5] = struct.pack("<HH", 5, 3)
    return bytes(data)


def oriented(kind, image, number, **options):
    exif = PIL.Image.Exif()
    exif[0x112] = number
    return encoded(image, kind, exif=exif.tobytes(), **options)


def files(picture):
    rgb = picture(37, 23, 1)
    noisy = picture(101, 75, 2)
    smooth = noisy.resize((20, 15)).resize((203, 151), PIL.Image.Resampling.BICUBIC)
    alpha = PIL.Image.fromarray(numpy.asarray(picture(37, 23, 5))[:, :, 0], "L")
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey = rgb.convert("L")
    palette = rgb.quantize(50)
    cmyk = rgb.convert("CMYK")
    for name, image in (("noisy", noisy), ("smooth", smooth)):
        for sampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
            yield f"jpeg-{name}-{sampling.replace(':', '')}.jpg", encoded(image, "JPEG", quality=80, subsampling=sampling)
    yield "jpeg-low.jpg", encoded(smooth, "JPEG", quality=10)
    yield "jpeg-progressive.jpg", encoded(smooth, "JPEG", quality=70, progressive=True)
    yield "jpeg-restart.jpg", encoded(rgb, "JPEG", restart_marker_blocks=1)
    yield "jpeg-grey.jpg", encoded(grey, "JPEG")
    yield "jpeg-cmyk.jpg", encoded(cmyk, "JPEG")
    yield "jpeg-rgb.jpg", encoded(rgb, "JPEG", keep_rgb=True)
    yield "jpeg-one.jpg", encoded(picture(1, 1, 1), "JPEG")
    for number in range(1, 9):
        yield f"jpeg-exif-{number}.jpg", oriented("JPEG", picture(19, 11, 1), number)
    yield "png-rgb.png", encoded(rgb, "PNG")
    yield "png-rgba.png", encoded(rgba, "PNG")
    yield "png-grey.png", encoded(grey, "PNG")
    yield "png-grey-alpha.png", encoded(rgba.convert("LA"), "PNG")
    yield "png-one-bit.png", encoded(grey.convert("1"), "PNG")
    for bits in (1, 2, 4, 8):
        yield f"png-palette-{bits}.png", encoded(rgb.quantize(min(2 ** bits, 200)), "PNG", bits=bits)
    yield "png-palette-clear.png", encoded(palette, "PNG", transparency=7)
    yield "png-palette-alpha.png", encoded(palette, "PNG", transparency=bytes(range(0, 250, 5)))
    yield "png-rgb-key.png", encoded(rgb, "PNG", transparency=rgb.getpixel((3, 4)))
    yield "png-grey-key.png", encoded(grey, "PNG", transparency=grey.getpixel((3, 4)))
    yield "png-exif-6.png", oriented("PNG", picture(19, 11, 1), 6)
    deep = (numpy.asarray(rgba).astype(numpy.uint16) * 251 + 77) & 0xFFFF
    yield "png-16-grey.png", deep_png(deep[:, :, 0], 0)
    yield "png-16-rgb.png", deep_png(deep[:, :, :3], 2)
    yield "png-16-grey-alpha.png", deep_png(deep[:, :, [0, 3]], 4)
    yield "png-16-rgba.png", deep_png(deep, 6)
    for first, values in ((4, numpy.asarray(rgb)), (3, numpy.asarray(rgba))):
        yield f"png-filters-{values.shape[2]}.png", filtered_png(values, first)
    yield "png-filters-narrow.png", filtered_png(numpy.asarray(picture(1, 12, 1)), 2)
    yield "png-interlaced.png", interlaced_png(numpy.asarray(rgb), 2)
    yield "png-interlaced-alpha.png", interlaced_png(numpy.asarray(rgba), 6)
    yield "png-interlaced-tiny.png", interlaced_png(numpy.asarray(picture(3, 2, 1)), 2)
    yield "webp-lossy.webp", encoded(smooth, "WEBP", quality=60)
    yield "webp-lossless.webp", encoded(rgb, "WEBP", lossless=True)
    yield "webp-lossless-alpha.webp", encoded(rgba, "WEBP", lossless=True)
    yield "webp-lossy-alpha.webp", encoded(rgba, "WEBP", quality=70)
    yield "webp-animated.webp", encoded(rgba, "WEBP", save_all=True, lossless=True,
                                        append_images=[rgba.rotate(180)])
    yield "webp-exif-8.webp", oriented("WEBP", picture(19, 11, 1), 8, lossless=True)
    yield "gif-plain.gif", encoded(palette, "GIF")
    yield "gif-rows-in-order.gif", encoded(palette, "GIF", interlace=False)
    yield "gif-grey.gif", encoded(grey, "GIF")
    yield "gif-two-colours.gif", encoded(grey.convert("1"), "GIF")
    yield "gif-clear.gif", encoded(palette, "GIF", transparency=3)
    yield "gif-animated.gif", encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)])
    yield "gif-inside.gif", gif_frame_inside(palette)
    yield "gif-large.gif", encoded(noisy.quantize(256), "GIF")
    yield "bmp-rgb.bmp", encoded(rgb, "BMP")
    yield "bmp-grey.bmp", encoded(grey, "BMP")
    yield "bmp-palette.bmp", encoded(palette, "BMP")
    yield "bmp-one-bit.bmp", encoded(grey.convert("1"), "BMP")
    yield "bmp-rgba.bmp", encoded(rgba, "BMP")
    raw = numpy.asarray(rgb.crop((0, 0, 36, 20)))
    yield "bmp-top-first.bmp", bmp(36, -20, 24, 0, raw[:, :, ::-1].tobytes())
    sixteen = ((raw[:, :, 0].astype(int) >> 3) << 10 | (raw[:, :, 1].astype(int) >> 3) << 5 |
               raw[:, :, 2] >> 3)
    yield "bmp-555.bmp", bmp(36, 20, 16, 0, sixteen.astype("<u2")[::-1].tobytes())
    sixteen = ((raw[:, :, 0].astype(int) >> 3) << 11 | (raw[:, :, 1].astype(int) >> 2) << 5 |
               raw[:, :, 2] >> 3)
    yield "bmp-565.bmp", bmp(36, 20, 16, 3, sixteen.astype("<u2")[::-1].tobytes(),
                             masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    colours = bytes(v for i in range(256) for v in (i, 255 - i, i * 7 % 256, 0))
    indices = numpy.asarray(alpha.crop((0, 0, 10, 3)))
    runs = b"".join(bytes([0, 10]) + row.tobytes() + bytes([0, 0]) for row in indices[:2])
    yield "bmp-rle8.bmp", bmp(10, 4, 8, 1, runs + bytes([6, 9, 4, 200, 0, 0, 3, 1, 0, 0, 0, 1]), colours)
    runs = bytes([7, 0x3A, 0, 0, 0, 5, 0x12, 0x34, 0x50, 0, 0, 0, 0, 2, 2, 1, 3, 0x77, 0, 0, 9, 0x21, 0, 1])
    yield "bmp-rle4.bmp", bmp(9, 5, 4, 2, runs, colours[:64])


def expected(name, data):
    image = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    if name == "png-16-grey.png":
        grey = (numpy.asarray(image).astype(int) >> 8).astype(numpy.uint8)
        return numpy.repeat(grey[:, :, None], 3, axis=2)
    return convert_to_rgb(image, return_numpy=True)


def make(folder: pathlib.Path, picture):
    folder.mkdir(exist_ok=True)
    out = []
    for name, data in files(picture):
        (folder / name).write_bytes(data)
        pixels = numpy.ascontiguousarray(expected(name, data))
        assert pixels.dtype == numpy.uint8 and pixels.shape[2] == 3, name
        out.append({"name": name, "width": pixels.shape[1], "height": pixels.shape[0],
                    "crc": zlib.crc32(pixels.tobytes())})
    return {"files": out}
