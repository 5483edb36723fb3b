#!/usr/bin/env python3
"""Builds the example backend away from the source tree, against an installed Troupe alone. It must
pass the ops suite, answer golden models as the reference did, and be caught when an op is wrong.

    example_backend_test.py BUILD_DIR SOURCE_DIR
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.join(sys.path[0], "golden"))
import id_tokenizer
from installed import clean_environment, install, run

SOURCE = pathlib.Path(sys.argv.pop(2)).resolve()
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
MODELS = ["llama3", "qwen2", "gemma2", "qwen3-moe"]


def build(prefix, folder, change=None):
    """The example's library, built from a copy of its sources; `change` is (file, from, to)."""
    shutil.copytree(SOURCE / "examples" / "backend", folder / "source")
    if change:
        file = folder / "source" / change[0]
        text = file.read_text()
        assert change[1] in text, change
        file.write_text(text.replace(change[1], change[2]))
    env = clean_environment(prefix)
    run("cmake", "-G", "Ninja", "-S", folder / "source", "-B", folder / "build",
        f"-DCMAKE_PREFIX_PATH={prefix}", env=env, stdout=subprocess.DEVNULL)
    run("cmake", "--build", folder / "build", env=env, stdout=subprocess.DEVNULL)
    return folder / "build" / "libslate.so"


class ExampleBackend(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        prefix, _ = install(str(BUILD), cls.folder.name)
        cls.prefix = pathlib.Path(prefix)
        cls.library = build(cls.prefix, cls.root / "right")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check(self, library, *words):
        return subprocess.run([self.prefix / "bin" / "troupe-check-backend", library, *words],
                              capture_output=True, text=True, timeout=300,
                              env=clean_environment(self.prefix))

    def troupe(self, *words):
        return subprocess.run([self.prefix / "bin" / "troupe", *words], capture_output=True,
                              text=True, timeout=300, env=clean_environment(self.prefix))

    def test_it_passes_the_ops_suite(self):
        done = self.check(self.library)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("slate:0", done.stdout)
        agree = done.stdout.splitlines()[-1].split()
        self.assertEqual(agree[0], agree[2])
        self.assertGreater(int(agree[0]), 30)

    def test_a_wrong_op_is_caught_by_name(self):
        wrong = build(self.prefix, self.root / "wrong", ("slate.cpp", "bias + dot(", "dot("))
        done = self.check(wrong, "--only", "linear")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, "DIFFERS +linear_")

    def golden_model(self, name):
        """A copy with a tokenizer, which the golden folders lack: their prompts are token ids."""
        folder = self.root / name
        shutil.copytree(SOURCE / "tests" / "golden" / "models" / name, folder)
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        id_tokenizer.write(folder, vocabulary)
        return folder

    def answers(self, model, library):
        folder = self.golden_model(model)
        cases = json.loads((folder / "expected.json").read_text())["cases"]
        lines = [{"custom_id": str(i), "url": "/v1/completions", "body": {
            "prompt": case["prompt"], "max_tokens": len(case["tokens"]), "temperature": 0,
            "ignore_eos": True, "logprobs": 1, "return_token_ids": True}}
            for i, case in enumerate(cases)]
        given, taken = self.root / "in.jsonl", self.root / "out.jsonl"
        given.write_text("\n".join(map(json.dumps, lines)))
        done = self.troupe("batch", folder, given, taken, "--device", library, "--dtype", "f32",
                           "--kv-dtype", "f32", "--kv-memory", "64M")
        self.assertEqual(done.returncode, 0, done.stderr)
        by_id = {row["custom_id"]: row for row in map(json.loads, taken.read_text().splitlines())}
        return cases, [by_id[str(i)]["response"]["body"]["choices"][0] for i in range(len(cases))]

    def test_golden_models_answer_as_the_reference(self):
        for model in MODELS:
            for case, choice in zip(*self.answers(model, self.library)):
                with self.subTest(model=model, case=case["name"]):
                    self.assertEqual(choice["token_ids"], case["tokens"])
                    for mine, expected in zip(choice["logprobs"]["token_logprobs"], case["logprobs"]):
                        self.assertAlmostEqual(mine, expected, delta=1e-3)

    def test_memory_is_the_devices_own(self):
        done = self.troupe("inspect", SOURCE / "examples" / "model" / "abacus", "--device", self.library)
        self.assertEqual(done.returncode, 0, done.stderr)
        small = build(self.prefix, self.root / "small", ("slate.cpp", "8ULL << 30", "1ULL << 20"))
        done = self.troupe("generate", SOURCE / "examples" / "model" / "abacus", "-p", "x", "--device", small)
        self.assertEqual(done.returncode, 3)
        self.assertIn("OUT_OF_MEMORY", done.stderr)

    def test_its_log_goes_where_the_users_goes(self):
        abacus = SOURCE / "examples" / "model" / "abacus"
        words = ("generate", abacus, "-p", "x", "--max-tokens", "1", "--device", self.library)
        done = self.troupe(*words, "--verbose")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("slate: opening device 0", done.stderr)
        self.assertNotIn("slate", self.troupe(*words).stderr)

    def test_what_is_no_backend_is_refused_with_its_name(self):
        for library, said in [("/nowhere/libslate.so", "cannot load /nowhere/libslate.so"),
                              (str(self.prefix / "lib" / "libtroupe.so"), "is no backend"),
                              (f"{self.library}:1", "there are 1")]:
            done = self.check(library)
            self.assertEqual(done.returncode, 3)
            self.assertIn(said, done.stderr)
            done = self.troupe("generate", SOURCE / "examples" / "model" / "abacus", "-p", "x",
                               "--device", library)
            self.assertEqual(done.returncode, 3)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
