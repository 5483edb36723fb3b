"""dev/demo's asking half (dev/demo.py): against the real command, whose path is the first argument,
and against stand-ins that answer wrongly or die."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.argv, COMMAND = [sys.argv[0]], sys.argv[1:2]
ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "examples/model/lookout/model.safetensors"
CHAT = """import sys
for line in sys.stdin:
    if line.startswith("/image"):
        print("(attached to your next message)", file=sys.stderr, flush=True)
    else:
        {answer}
        print("(figures)", file=sys.stderr, flush=True)
"""


class Demo(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def demo(self, command, *flags):
        return subprocess.run(
            [sys.executable, ROOT / "dev/demo.py", "--troupe", command, "--out", self.folder / "scene.png", *flags],
            capture_output=True, text=True, timeout=60)

    def stand_in(self, answer):
        path = self.folder / "troupe"
        path.write_text(f"#!{sys.executable}\n" + CHAT.format(answer=answer))
        path.chmod(0o755)
        return path

    @unittest.skipUnless(COMMAND and WEIGHTS.exists(), "needs the command and Lookout")
    def test_lookout_answers_a_scene(self):
        done = self.demo(COMMAND[0], "--seed", "1", "--questions", "2")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("2 of 2 right", done.stdout)
        self.assertIn("prompt tokens reused", done.stdout)  # where the time went
        self.assertEqual((self.folder / "scene.png").read_bytes()[:4], b"\x89PNG")
        self.assertNotIn("\x1b", done.stdout)  # no terminal, no colours

    def test_a_wrong_answer_is_an_error(self):
        done = self.demo(self.stand_in('print("a purple unicorn", flush=True)'), "--seed", "1")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("it should have said", done.stdout)
        self.assertIn("3 of 3 answers about scene 1 are wrong", done.stderr)

    def test_a_command_that_dies_is_an_error(self):
        done = self.demo(self.stand_in('sys.exit("no room")'), "--seed", "1")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("no room", done.stderr)

    def test_what_the_demo_takes(self):
        self.assertIn("--questions must be at least 1", self.demo("troupe", "--questions", "0").stderr)
        self.assertIn("invalid choice", self.demo("troupe", "--kind", "unicorn").stderr)


if __name__ == "__main__":
    unittest.main()
