"""Checks of what Lookout is taught: python3 examples/model/scenes/scenes_test.py

Standard library only; what needs Pillow and numpy is skipped where they are missing.
"""

import importlib.util
import io
import json
import math
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import draw
import glyphs
import questions
import raster
import scene as scenes
import strokes

try:
    import numpy
    import paint
except ImportError:
    numpy = None

HERE = pathlib.Path(__file__).resolve().parent
LOOKOUT = HERE.parent / "lookout"


def some_scenes(seed: int, count: int, **options) -> list[scenes.Scene]:
    inventor = scenes.Inventor(random.Random(seed), **options)
    return [inventor.scene() for _ in range(count)]


class Scenes(unittest.TestCase):
    def test_same_seed_same_scenes(self):
        self.assertEqual(some_scenes(1, 50), some_scenes(1, 50))
        self.assertNotEqual(some_scenes(1, 50), some_scenes(2, 50))
        scene = some_scenes(3, 1)[0]
        self.assertEqual(strokes.operations(scene), strokes.operations(scene))

    def test_nothing_leaves_the_picture_or_overlaps(self):
        for scene in some_scenes(4, 400):
            boxes = [(t.x - t.r, t.y - t.r, t.x + t.r, t.y + t.r) for t in scene.things]
            boxes += [
                (t.x - t.wide / 2, t.y - t.high / 2, t.x + t.wide / 2, t.y + t.high / 2)
                for t in scene.texts
            ]
            for i, box in enumerate(boxes):
                self.assertTrue(0 <= box[0] and box[2] <= scene.width, scene)
                self.assertTrue(0 <= box[1] and box[3] <= scene.height, scene)
                self.assertTrue(scenes.free(box, boxes[:i], 0), scene)

    def test_held_out_texts_are_never_printed_in_training(self):
        taught = {t.text for s in some_scenes(5, 4000) for t in s.texts if len(t.text) > 1}
        asked = {
            t.text for s in some_scenes(6, 1500, held_out=True) for t in s.texts if len(t.text) > 1
        }
        self.assertFalse({t.lower() for t in taught if scenes.text_held_out(t.lower())})
        self.assertFalse({t.lower() for t in taught} & {t.lower() for t in asked})
        self.assertGreater(len(asked), 300)

    def test_tiles_follow_the_nearest_aspect_ratio(self):
        for size, grid in (
            ((96, 96), (1, 1)),
            ((135, 135), (1, 1)),
            ((136, 136), (2, 2)),
            ((1000, 1000), (2, 2)),
            ((192, 96), (2, 1)),
            ((640, 480), (3, 2)),
            ((480, 640), (2, 3)),
            ((600, 100), (6, 1)),
            ((96, 400), (1, 4)),
        ):
            self.assertEqual(scenes.tile_grid(*size), grid, size)

    def test_every_glyph_is_there(self):
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz":
            self.assertTrue(glyphs.GLYPHS[letter], letter)
        self.assertEqual(len({str(glyphs.GLYPHS[c]) for c in glyphs.GLYPHS}), len(glyphs.GLYPHS))


class Answers(unittest.TestCase):
    """Answers are found a second time, from the drawing's own lines, and must agree."""

    def setUp(self):
        self.rng = random.Random(7)
        self.asker = questions.Asker(self.rng)
        self.scenes = some_scenes(8, 1500)

    def each(self, kind: str, least: int):
        found = 0
        for scene in self.scenes:
            made = self.asker.ask(scene, kind)
            if made:
                found += 1
                yield (
                    scene,
                    made[0].lower().replace("color", "colour").replace("gray", "grey"),
                    made[1],
                )
        self.assertGreater(found, least, kind)

    def test_counts(self):
        for scene, question, answer in self.each("count", 1400):
            things = scene.things
            for colour in scenes.COLOURS:
                if re.search(rf"\b{colour}\b", question):
                    things = [t for t in things if t.colour == colour]
            for shape in scenes.SHAPES:
                if questions.plural(shape) in question.split("?")[0].replace(".", "").split():
                    things = [t for t in things if t.shape == shape]
            self.assertEqual(answer, str(len(things)), question)

    def test_places(self):
        for scene, question, answer in self.each("place", 500):
            words = answer.split()
            items = [
                t
                for t in scene.things + scene.texts
                if all((w == "top") == (t.y < scene.height / 3) for w in ["top"] if w in words)
            ]
            good = False
            for item in items:
                column = (
                    "left"
                    if item.x < scene.width / 3
                    else "right"
                    if item.x > scene.width * 2 / 3
                    else ""
                )
                row = (
                    "top"
                    if item.y < scene.height / 3
                    else "bottom"
                    if item.y > scene.height * 2 / 3
                    else ""
                )
                good |= (" ".join(filter(None, (row, column))) or "centre") == answer
            self.assertTrue(good, (question, answer))

    def test_arrows_point_where_their_tip_is(self):
        for scene, _, answer in self.each("arrow", 40):
            thing = next(t for t in scene.things if t.shape == "arrow")
            points = strokes.outline(
                thing
            )  # the head is the wide part: its corners lie past the middle
            head = max(
                zip(points, points[2:] + points[:2], points[1:] + points[:1]),
                key=lambda p: math.dist(*p[:2]),
            )
            dx, dy = head[2][0] - thing.x, head[2][1] - thing.y
            way = (
                ("right" if dx > 0 else "left")
                if abs(dx) > abs(dy)
                else ("down" if dy > 0 else "up")
            )
            self.assertEqual(way, answer)

    def test_bigger_things_have_more_area(self):
        for scene, question, answer in self.each("biggest", 200):
            pick = max if "biggest" in question or "largest" in question else min
            thing = pick(scene.things, key=questions.extent)
            self.assertEqual(answer, questions.an(questions.full(thing)), question)

    def test_texts_are_read_as_printed(self):
        for kind in ("word", "number"):
            for scene, _, answer in self.each(kind, 300):
                self.assertIn(answer, [t.text.upper() for t in scene.texts if t.kind == kind])

    def test_sides_in_comparisons(self):
        answers = {answer for _, _, answer in self.each("beside", 300)}
        self.assertEqual(answers, {"yes", "no"})

    def test_all_kinds_are_asked_and_answers_are_fixed(self):
        for kind in questions.Asker.WEIGHTS:
            self.assertTrue(any(self.asker.ask(scene, kind) for scene in self.scenes), kind)
        for scene in self.scenes[:300]:
            question, answer, _ = self.asker.other(scene)
            self.assertEqual(answer, questions.REFUSAL, question)

    def test_refused_questions_never_name_our_shapes_alone(self):
        for _ in range(5000):
            question, _, _ = self.asker.other()
            self.assertFalse(
                set(scenes.SHAPES) & set(question.lower().rstrip("?.").split()), question
            )


class Raster(unittest.TestCase):
    def test_png_holds_the_picture(self):
        scene = some_scenes(9, 1, fonts=raster.FONTS)[0]
        rows = raster.draw(scene)
        data = raster.png(rows)
        self.assertEqual(struct.unpack(">II", data[16:24]), (scene.width, scene.height))
        length = struct.unpack(">I", data[33:37])[0]
        self.assertEqual(data[37:41], b"IDAT")
        pixels = zlib.decompress(data[41 : 41 + length])
        self.assertEqual(pixels, b"".join(b"\0" + row for row in rows))

    def test_blocks_with_and_without_colour(self):
        rows = [bytes([255, 0, 0] * 8)] * 8
        coloured = raster.blocks(rows, 8, colour=True)
        self.assertEqual(coloured.count("38;2;255;0;0"), 4)  # once a line: the colour stays
        self.assertEqual(coloured.count("\u2580"), 32)
        plain = raster.blocks(rows, 8, colour=False)
        self.assertNotIn("\x1b", plain)
        self.assertEqual(plain.count("\n"), 4)

    def test_the_command_draws_the_same_scene_again(self):
        with tempfile.TemporaryDirectory() as folder:
            made = []
            for name in ("a.png", "b.png"):
                out = pathlib.Path(folder) / name
                done = subprocess.run(
                    [sys.executable, HERE / "draw.py", "--seed", "3", "--out", out],
                    capture_output=True,
                    check=True,
                    text=True,
                )
                made.append((out.read_bytes(), json.loads(done.stdout)))
            self.assertEqual(made[0][0], made[1][0])
            self.assertEqual(made[0][1]["answer"], made[1][1]["answer"])
            _, [(_, question, answer)] = draw.drawn(3, draw.KINDS)
            self.assertEqual((question, answer), (made[0][1]["question"], made[0][1]["answer"]))


class Drawing(unittest.TestCase):
    def test_several_questions_are_of_different_kinds(self):
        for seed in range(30):
            scene, asked = draw.drawn(seed, draw.KINDS, count=3, wide=400)
            self.assertEqual(len({kind for kind, _, _ in asked}), 3)
            self.assertLessEqual(scene.width, 400)
            self.assertEqual(asked, draw.drawn(seed, draw.KINDS, count=3, wide=400)[1])
        with self.assertRaisesRegex(ValueError, "only 1 kinds"):
            draw.drawn(1, ["shape"], count=2)


@unittest.skipIf(numpy is None, "numpy and Pillow are not installed")
class Painting(unittest.TestCase):
    def test_both_painters_draw_the_same(self):
        for scene in some_scenes(10, 12, fonts=raster.FONTS):
            scene.noise, scene.smooth, scene.seed = 0, True, scene.seed | 1
            if scene.background[0] == "speckle":
                scene.background = ("plain", scene.background[1])
            ours = numpy.frombuffer(b"".join(raster.draw(scene)), numpy.uint8)
            theirs = numpy.asarray(paint.paint(scene)).reshape(-1)
            apart = numpy.abs(ours.astype(int) - theirs)
            self.assertLess(apart.mean(), 3.0, scene)
            self.assertLess((apart > 90).mean(), 0.02, scene)

    def test_tiles_cover_the_picture(self):
        for scene in some_scenes(11, 30):
            columns, rows = scene.tiles()
            tiles = paint.tiles(paint.paint(scene))
            self.assertEqual(len(tiles), columns * rows + (columns * rows > 1))

    def test_labels_name_what_is_drawn(self):
        import labels

        for scene in some_scenes(12, 60):
            made = labels.labels(scene)
            self.assertEqual(len(made), len(paint.tiles(paint.paint(scene))))
            whole = made[-1]
            shapes = {labels.SHAPE_ID[t.shape] for t in scene.things}
            self.assertLessEqual(set(whole[..., labels.SHAPE].flatten()) - {0}, shapes)
            self.assertEqual((whole[..., labels.CENTRE] == 1).sum() > 0, bool(scene.things))


def has_transformers() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers", "PIL"))


class Folder(unittest.TestCase):
    def test_it_is_no_larger_than_a_repository_likes(self):
        self.assertLessEqual(sum(file.stat().st_size for file in LOOKOUT.iterdir()), 14_000_000)

    @unittest.skipUnless(has_transformers(), "torch, transformers or Pillow is not installed")
    def test_transformers_opens_it_and_it_answers(self):
        import PIL.Image
        import transformers

        processor = transformers.AutoProcessor.from_pretrained(LOOKOUT)
        model = transformers.AutoModelForImageTextToText.from_pretrained(LOOKOUT)
        right = 0
        for seed in range(8):
            scene, [(_, question, answer)] = draw.drawn(seed, ["colour", "shape"], wide=200)
            picture = PIL.Image.open(io.BytesIO(raster.png(raster.draw(scene))))
            content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True,
                tokenize=True, return_dict=True, return_tensors="pt",
            )
            said = model.generate(**inputs, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :]
            right += processor.decode(said, skip_special_tokens=True).strip() == answer
        self.assertGreaterEqual(right, 7)


if __name__ == "__main__":
    unittest.main()
