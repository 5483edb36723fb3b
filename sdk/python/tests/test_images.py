"""Every form of picture, over `echo:`, which answers with its size and hash."""

import io

import numpy
import pytest
from PIL import Image

import troupe
from troupe import Embedding, Engine


@pytest.fixture(scope="module")
def engine():
    with Engine("echo:") as opened:
        yield opened


@pytest.fixture
def picture():
    return Image.fromarray(numpy.arange(4 * 6 * 3, dtype=numpy.uint8).reshape(4, 6, 3))


def test_pil_and_numpy_are_the_same_pixels(engine, picture):
    by_pil = engine.generate("", images=[picture]).text
    by_numpy = engine.generate("", images=[numpy.asarray(picture)]).text
    assert by_pil == by_numpy
    assert "6x4" in by_pil


def test_strided_arrays(engine, picture):
    flipped = numpy.asarray(picture)[:, ::-1]
    assert engine.generate("", images=[flipped]).text == \
        engine.generate("", images=[numpy.ascontiguousarray(flipped)]).text


def test_path_and_bytes_are_the_same_file(engine, picture, tmp_path):
    path = tmp_path / "p.png"
    picture.save(path)
    assert engine.generate("", images=[path]).text == engine.generate("", images=[path.read_bytes()]).text


def test_a_palette_image_goes_as_a_file(engine, picture):
    assert "6x4" in engine.generate("", images=[picture.convert("P")]).text


def test_embedding(engine):
    rows = numpy.zeros((5, 8), dtype=numpy.float16)
    assert engine.generate("", images=[Embedding(rows)]).text
    with pytest.raises(troupe.InvalidArgument):
        engine.generate("", images=[Embedding(rows.astype(numpy.float64))])


def test_what_is_no_picture_is_refused(engine):
    with pytest.raises(troupe.InvalidArgument, match="images"):
        engine.generate("", images=[42])
    with pytest.raises(troupe.InvalidArgument, match="channels"):
        engine.generate("", images=[numpy.zeros((2, 2, 2), dtype=numpy.uint8)])
    with pytest.raises(FileNotFoundError):
        engine.generate("", images=["/nowhere.png"])


def test_image_parts_in_a_chat(engine, picture):
    target = io.BytesIO()
    picture.save(target, format="PNG")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    assert "what?" in engine.chat(messages, images=[target.getvalue()]).text
