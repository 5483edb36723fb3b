"""Anything that is a picture, as a troupe_image: a path, encoded bytes, a PIL image, a numpy array, or
an embedding."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._binding import ffi
from ._library import lib
from .errors import InvalidArgument

# What becomes of PIL's other modes.
_CONVERTED = {"1": "L", "P": "RGB", "LA": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB",
              "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_FORMATS = {1: lib.TROUPE_PIXELS_GREY, 3: lib.TROUPE_PIXELS_RGB, 4: lib.TROUPE_PIXELS_RGBA}


@dataclass(frozen=True)
class Embedding:
    """Rows that the model's projector would have made: a float16 or float32 array of rows x hidden.

    `grid` is (time, height, width) in merged patches, for models that rotate by position."""

    values: Any
    grid: tuple[int, int, int] | None = None


def fill_image(image: Any, source: Any) -> Any:
    """Fills an initialised troupe_image; returns what must stay alive until it was handed over."""
    if isinstance(source, Embedding):
        return _fill_embedding(image, source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _fill_encoded(image, bytes(source))
    if isinstance(source, (str, os.PathLike)):
        return _fill_encoded(image, Path(source).read_bytes())
    if hasattr(source, "__array_interface__"):
        # PIL images have it too, but their palettes and 16-bit modes are not plain pixels.
        if hasattr(source, "tobytes") and hasattr(source, "mode"):
            return _fill_pil(image, source)
        return _fill_array(image, source)
    raise InvalidArgument(f"images: {type(source).__name__} is no path, bytes, PIL image, numpy array or Embedding")


def pictures(images: Any) -> list[Any]:
    """`images` as a list. One picture alone is an easy slip, and some of them could be gone through like a list."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Embedding)) or hasattr(
            images, "__array_interface__"):
        raise InvalidArgument(f"images is one {type(images).__name__}: it must be a list, images=[picture]")
    if images is None:
        return []
    if not isinstance(images, Iterable):
        raise InvalidArgument(f"images is {images!r}: it must be a list, images=[picture]")
    return list(images)


def _fill_encoded(image: Any, data: bytes) -> Any:
    buffer = ffi.from_buffer(data)
    image.kind, image.data, image.size = lib.TROUPE_IMAGE_ENCODED, buffer, len(data)
    return buffer


def _fill_pil(image: Any, source: Any) -> Any:
    if source.mode in _WIDE_MODES:  # 16 bits a channel: PIL would cut what is above 255 off, the library scales it
        target = io.BytesIO()
        (source.convert("I;16") if source.mode == "I" else source).save(target, format="PNG")
        return _fill_encoded(image, target.getvalue())
    while source.mode not in ("L", "RGB", "RGBA"):
        wanted = "RGBA" if source.mode == "P" and "transparency" in source.info else _CONVERTED.get(source.mode)
        if wanted is None:
            raise InvalidArgument(f"images: a PIL image of mode {source.mode!r} is no picture of 8 bits a channel: "
                                  "convert it, with image.convert('RGB')")
        source = source.convert(wanted)
    data = source.tobytes()
    buffer = ffi.from_buffer(data)
    image.kind, image.data, image.size = lib.TROUPE_IMAGE_PIXELS, buffer, len(data)
    image.width, image.height = source.size
    image.format = _FORMATS[len(source.getbands())]
    return buffer


def _fill_array(image: Any, source: Any) -> Any:
    view = source.__array_interface__
    shape, kind = view["shape"], view["typestr"]
    if kind not in ("|u1", "<u1", ">u1") or len(shape) not in (2, 3):
        raise InvalidArgument(f"images: an array must be uint8 of height x width [x channels], not {kind} {shape}")
    channels = 1 if len(shape) == 2 else shape[2]
    if channels not in _FORMATS:
        raise InvalidArgument(f"images: an array must have 1, 3 or 4 channels, not {channels}: its shape is {shape}, "
                              "and must be height x width x channels")
    if 0 in shape:
        raise InvalidArgument(f"images: an array of shape {shape} has no pixels")
    import numpy

    array = numpy.ascontiguousarray(source)
    buffer = ffi.from_buffer(array)
    image.kind, image.data, image.size = lib.TROUPE_IMAGE_PIXELS, buffer, array.nbytes
    image.height, image.width = shape[0], shape[1]
    image.format = _FORMATS[channels]
    return buffer


def _fill_embedding(image: Any, source: Embedding) -> Any:
    import numpy

    values = source.values
    if not hasattr(values, "__array_interface__") and hasattr(values, "__dlpack__"):
        values = numpy.from_dlpack(values)
    array = numpy.ascontiguousarray(values)
    kinds = {"float16": lib.TROUPE_TYPE_F16, "float32": lib.TROUPE_TYPE_F32}
    if array.ndim != 2 or array.size == 0 or str(array.dtype) not in kinds:
        raise InvalidArgument(f"Embedding: must be float16 or float32 of rows x hidden, not {array.dtype} {array.shape}")
    buffer = ffi.from_buffer(array)
    image.kind, image.data, image.size = lib.TROUPE_IMAGE_EMBEDDING, buffer, array.nbytes
    image.rows, image.hidden = array.shape
    image.type = kinds[str(array.dtype)]
    if source.grid is not None:
        try:
            image.grid = list(source.grid)
        except (IndexError, OverflowError, TypeError) as error:
            raise InvalidArgument(f"Embedding.grid is {source.grid!r}: it must be (time, height, width): {error}") from None
    return buffer
