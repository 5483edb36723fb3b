"""Every form of picture, over `echo:`, which answers with its size and hash."""

import io
from pathlib import Path

import numpy
import pytest
from PIL import Image

import troupe
from troupe import Embedding, Engine, Sampling


@pytest.fixture(scope="module")
def engine():
    with Engine("echo:") as opened:
        yield opened


@pytest.fixture
def picture():
    return Image.fromarray(numpy.arange(4 * 6 * 3, dtype=numpy.uint8).reshape(4, 6, 3))


def test_what_the_encoder_makes_of_a_picture_may_be_given_back():
    model = Path(__file__).parents[3] / "examples" / "model" / "lookout"
    picture = Image.fromarray(numpy.random.default_rng(7).integers(0, 255, (48, 64, 3), dtype=numpy.uint8))
    with Engine(model, threads=1) as lookout:
        assert "encode_images" in lookout.info.capabilities
        rows = lookout.generate("", images=[picture], task="encode_image")
        assert rows.data is not None and rows.data.format == "f" and rows.data.shape[0] > 0
        ask = Sampling(max_tokens=1, temperature=0.0, logprobs=3)
        seen, given = (lookout.generate([one, "What is it?"], sampling=ask) for one in (picture, Embedding(rows.data)))
        assert (given.tokens, given.usage.image_tokens) == (seen.tokens, rows.data.shape[0])
        assert seen.data is None


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


def test_one_picture_that_is_not_in_a_list_is_told(engine, picture, tmp_path):
    for single in (picture, numpy.asarray(picture), "p.png", tmp_path / "p.png", b"...", Embedding(numpy.zeros((1, 8)))):
        with pytest.raises(troupe.InvalidArgument, match="images=\\[picture\\]"):
            engine.generate("", images=single)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16",
                                  "La", "RGBa"])
def test_every_mode_of_pil(engine, mode):
    assert "6x4" in engine.generate("", images=[Image.new(mode, (6, 4))]).text


def test_modes_that_are_no_picture_are_refused(engine):
    for mode in ("F", "LAB"):
        with pytest.raises(troupe.InvalidArgument, match=mode):
            engine.generate("", images=[Image.new(mode, (6, 4))])
    with pytest.raises(troupe.InvalidArgument):
        engine.generate("", images=[Image.new("RGB", (0, 4))])


def test_conversions_keep_the_colours(engine, picture):
    by_hand = engine.generate("", images=[numpy.asarray(picture.convert("CMYK").convert("RGB"))]).text
    assert engine.generate("", images=[picture.convert("CMYK")]).text == by_hand
    seen = engine.generate("", images=[picture.convert("P")]).text
    assert seen == engine.generate("", images=[picture.convert("P").convert("RGB")]).text
    grey = picture.convert("LA")
    assert engine.generate("", images=[grey]).text == engine.generate("", images=[grey.convert("RGBA")]).text


def test_arrays_of_odd_strides_and_types(engine, picture):
    whole = numpy.asarray(picture)
    wide = numpy.zeros((8, 12, 3), dtype=numpy.uint8)
    wide[::2, ::2] = whole
    same = engine.generate("", images=[whole]).text
    assert engine.generate("", images=[wide[::2, ::2]]).text == same
    assert engine.generate("", images=[numpy.asfortranarray(whole)]).text == same
    assert engine.generate("", images=[whole[::-1][::-1]]).text == same
    assert engine.generate("", images=[whole.view()[:, :, 0]]).text == engine.generate("", images=[whole[:, :, :1]]).text
    readonly = whole.copy()
    readonly.flags.writeable = False
    assert engine.generate("", images=[readonly]).text == same
    for dtype in (numpy.float32, numpy.int8, numpy.uint16, numpy.bool_, object):
        with pytest.raises(troupe.InvalidArgument, match="uint8"):
            engine.generate("", images=[whole.astype(dtype)])
    for shape in ((3, 4, 6), (4,), (1, 4, 6, 3), (0, 6, 3)):
        with pytest.raises(troupe.InvalidArgument):
            engine.generate("", images=[numpy.zeros(shape, dtype=numpy.uint8)])


def test_files_that_are_not_there_or_no_file(engine, tmp_path):
    with pytest.raises(IsADirectoryError):
        engine.generate("", images=[tmp_path])
    with pytest.raises(troupe.InvalidArgument):
        engine.generate("", images=[b""])
