"""Pictures at the command: the small vision-language model of the repository, asked by file, in a
conversation, and by data: URL. Run by ctest with the path of the command as the first argument."""

import base64
import json
import struct
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

sys.argv, COMMAND = [sys.argv[0]], sys.argv[1:2]
import cli_test  # noqa: E402

sys.path.append("examples/model/scenes")
import draw  # noqa: E402
import raster  # noqa: E402

if COMMAND:
    cli_test.TROUPE = COMMAND[0]
troupe = cli_test.troupe
MODEL = Path("examples/model/lookout")
QUESTION = "What colour is the circle?"


def png(width, height, colour_at):
    """A PNG file's bytes; colour_at(x, y) gives red, green and blue."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in colour_at(x, y)) for y in range(height))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def circle(colour):
    """A scene with one circle."""
    return png(96, 96, lambda x, y: colour if (x - 48) ** 2 + (y - 48) ** 2 < 24 ** 2 else (245, 245, 245))


RED, BLUE = (220, 40, 40), (40, 80, 220)


@unittest.skipUnless((MODEL / "model.safetensors").exists(), "the small vision-language model is not here")
class Pictures(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.red, self.blue = self.file("red one.png", RED), self.file("blue.png", BLUE)

    def file(self, name, colour):
        path = Path(self.folder.name) / name
        path.write_bytes(circle(colour))
        return path

    def test_a_question_about_a_file(self):
        said = {}
        for path in (self.red, self.blue):
            done = troupe("generate", MODEL, "--chat", "--image", path, "-p", QUESTION, "--temperature", "0", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            answer = json.loads(done.stdout)
            said[path] = answer["text"]
            self.assertGreater(answer["usage"]["image_tokens"], 0)
            self.assertEqual(answer["images"]["given"], 1)
            self.assertEqual(answer["images"]["encoded"], 1)
            self.assertGreater(answer["images"]["encode_ms"], 0)
        self.assertIn("red", said[self.red].lower())
        self.assertIn("blue", said[self.blue].lower())

    def test_a_conversation_about_a_picture_encodes_it_once(self):
        lines = f"/image {self.red}\n{QUESTION}\n{QUESTION}\n"
        done = troupe("chat", MODEL, "--temperature", "0", "--timings", stdin=lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.lower().count("red"), 2, done.stdout)
        self.assertIn("1 encoded, 0 reused", done.stderr)
        self.assertIn("0 encoded, 1 reused", done.stderr)

    def test_a_dropped_path_is_a_picture(self):
        dropped = str(self.red).replace(" ", "\\ ")
        done = troupe("chat", MODEL, "--temperature", "0", stdin=f"{dropped}\n{QUESTION}\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("red", done.stdout.lower())

    def test_batch_takes_data_urls_and_refuses_others(self):
        def line(name, url):
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
            body = {"messages": [{"role": "user", "content": content}], "temperature": 0}
            return json.dumps({"custom_id": name, "url": "/v1/chat/completions", "body": body})

        data = "data:image/png;base64," + base64.b64encode(self.blue.read_bytes()).decode()
        lines = [line("data", data), line("web", "https://example.org/a.png"), line("file", "file:///a.png"),
                 line("again", data)]
        done = troupe("batch", MODEL, "-", "-", stdin="\n".join(lines) + "\n")
        answers = [json.loads(x) for x in done.stdout.splitlines()]
        for i in (0, 3):
            text = answers[i]["response"]["body"]["choices"][0]["message"]["content"]
            self.assertIn("blue", text.lower())
        for i in (1, 2):
            self.assertIn("data:", answers[i]["error"]["message"])

    def test_drawn_scenes_are_answered(self):
        lines, answers = [], []
        for seed in range(12):
            scene, [(_, question, answer)] = draw.drawn(seed, draw.KINDS, wide=300)
            data = "data:image/png;base64," + base64.b64encode(raster.png(raster.draw(scene))).decode()
            content = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": question}]
            body = {"messages": [{"role": "user", "content": content}], "temperature": 0}
            lines.append(json.dumps({"custom_id": str(seed), "url": "/v1/chat/completions", "body": body}))
            answers.append(answer)
        done = troupe("batch", MODEL, "-", "-", stdin="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = {}
        for line in map(json.loads, done.stdout.splitlines()):
            said[int(line["custom_id"])] = line["response"]["body"]["choices"][0]["message"]["content"]
        wrong = {seed: (said[seed], answer) for seed, answer in enumerate(answers) if said[seed].strip() != answer}
        self.assertLessEqual(len(wrong), 2, wrong)  # Lookout is right about nineteen times in twenty

    def test_what_is_no_picture_is_refused_by_name(self):
        path = Path(self.folder.name) / "text.png"
        path.write_text("no picture")
        done = troupe("generate", MODEL, "--chat", "--image", path, "-p", QUESTION)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("images[0]", done.stderr)
        text_model = troupe("generate", "examples/model/abacus", "--chat", "--image", self.red, "-p", "hi")
        self.assertIn("takes text only", text_model.stderr)

    def test_bench_vision(self):
        done = troupe("bench", "vision", MODEL, "--images", "3", "--size", "200x100", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout)["figures"]
        self.assertEqual((figures["encoded"], figures["again_encoded"]), (3, 0))
        self.assertGreater(figures["images_per_s"], 0)

    def test_inspect_says_what_the_eyes_take(self):
        images = json.loads(troupe("inspect", MODEL, "--json").stdout)["images"]
        self.assertGreater(images["images_max"], 0)
        self.assertGreater(images["weight_bytes"], 0)


if __name__ == "__main__":
    unittest.main()
