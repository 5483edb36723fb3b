"""The command where things go wrong around it: full disks, closed pipes, files that are none, signals while it
waits. Run by ctest with the path of the command as the first argument."""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.argv, COMMAND = [sys.argv[0]], sys.argv[1:2]
import cli_test  # noqa: E402

if COMMAND:
    cli_test.TROUPE = str(Path(COMMAND[0]).resolve())
troupe = cli_test.troupe
MODEL = cli_test.MODEL
SLOW = "echo:?step_ms=20"


def line(custom_id, prompt):
    return json.dumps({"custom_id": custom_id, "url": "/v1/completions", "body": {"prompt": prompt}}) + "\n"


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


class Started(unittest.TestCase):
    """Commands that run on while the test looks at them."""

    def start(self, *arguments, **options):
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen([cli_test.TROUPE, *map(str, arguments)], **given)

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def heeds_signals(self, process):
        """Waits until the command has taken SIGINT into its own hands."""
        for _ in range(600):
            status = Path(f"/proc/{process.pid}/status").read_text()
            blocked = next(x for x in status.splitlines() if x.startswith("SigBlk"))
            if int(blocked.split()[1], 16) & (1 << (signal.SIGINT - 1)):
                return
            time.sleep(0.05)
        self.fail("the command blocked no signals")

    def bytes_of(self, pipe, least, seconds=20):
        got = b""
        while len(got) < least:
            self.assertTrue(select.select([pipe], [], [], seconds)[0], f"only {got} came")
            more = os.read(pipe.fileno(), 65536)
            self.assertTrue(more, f"it ended after {got}")
            got += more
        return got


class OneFile(InFolder):
    def refused(self, source, target, **options):
        text = line("a", "keep me")
        path = self.file("s.jsonl", text)
        done = subprocess.run([cli_test.TROUPE, "batch", "echo:", source, target], capture_output=True, text=True,
                              timeout=60, cwd=self.folder, **options)
        self.assertEqual(path.read_text(), text)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("s.jsonl") + done.stderr.count("link") + done.stderr.count("stdin"), 2,
                         done.stderr)

    def test_a_batch_never_overwrites_its_input(self):
        self.refused("s.jsonl", "s.jsonl")
        self.refused("s.jsonl", "../" + self.folder.name + "/s.jsonl")

    def test_nor_through_a_link(self):
        (self.folder / "link").symlink_to("s.jsonl")
        self.refused("s.jsonl", "link")
        self.refused("link", "s.jsonl")
        (self.folder / "link").unlink()
        self.file("s.jsonl", "")
        (self.folder / "link").hardlink_to(self.folder / "s.jsonl")
        self.refused("s.jsonl", "link")

    def test_nor_when_it_is_stdin(self):
        path = self.file("s.jsonl", line("a", "keep me"))
        with path.open() as stdin:
            self.refused("-", "s.jsonl", stdin=stdin)

    def test_a_device_may_be_both(self):
        done = troupe("batch", "echo:", "/dev/null", "/dev/null")
        self.assertEqual((done.returncode, done.stderr), (0, "0 lines, 0 failed\n"))


class FullDisk(InFolder):
    def test_every_verb_tells_that_its_output_is_lost(self):
        batch = self.file("in.jsonl", line("a", "x"))
        bench = ["bench", "latency", "echo:", "--in", "4", "--out", "2", "--repeats", "1"]
        for words in [["generate", "echo:", "-p", "x"], ["generate", "echo:", "-p", "x", "--json"],
                      ["generate", "echo:", "-p", "x", "--no-stream"], ["batch", "echo:", batch, "-"],
                      ["chat", "echo:"], ["doctor"], ["doctor", "--json"], ["keygen"], [*bench, "--json"], bench,
                      ["completion", "bash"], ["--help"], ["generate", "--help"], ["--version"],
                      *([["inspect", MODEL], ["inspect", MODEL, "--json"]] if MODEL.is_dir() else [])]:
            with open("/dev/full", "w") as full:
                done = subprocess.run([cli_test.TROUPE, *map(str, words)], input="hello\n", stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(done.returncode, 1, words)
            self.assertEqual(done.stderr.count("troupe: stdout: No space left on device"), 1, (words, done.stderr))

    def test_a_batch_whose_file_cannot_grow_names_it(self):
        for lines in (1, 3000):
            done = troupe("batch", "echo:", self.file("in.jsonl", line("a", "x") * lines), "/dev/full")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr, "troupe: /dev/full: No space left on device\n")

    def test_the_key_of_keygen_is_kept_whole_or_refused(self):
        path = self.folder / "keys"
        with open("/dev/full", "w") as full:
            done = subprocess.run([cli_test.TROUPE, "keygen", path], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("public-key", path.read_text())

    def test_half_a_key_file_is_none(self):
        path = self.folder / "keys"
        done = subprocess.run([cli_test.TROUPE, "keygen", path], capture_output=True, text=True, timeout=60,
                              restore_signals=False,  # SIGXFSZ stays ignored
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"{path}: File too large", done.stderr)
        self.assertFalse(path.exists())

    def test_a_closed_stdout_is_no_success(self):
        done = subprocess.run(f"{cli_test.TROUPE} generate echo: -p x >&-", shell=True, stderr=subprocess.PIPE,
                              timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"stdout", done.stderr)


class ClosedPipe(Started):
    def test_nothing_is_computed_for_nobody(self):
        for flags in ([], ["--chat"]):
            process = self.start("generate", SLOW, "-p", "x" * 3000, *flags)  # a minute of it
            process.stdout.read(1)
            process.stdout.close()
            self.assertEqual(process.wait(timeout=20), 1)
            self.assertIn(b"stdout: Broken pipe", process.stderr.read())

    def test_a_conversation_ends_with_its_listener(self):
        process = self.start("chat", SLOW)
        process.stdin.write(b"x" * 3000 + b"\nmore\n")
        process.stdin.flush()
        process.stdout.read(1)
        process.stdout.close()
        self.assertEqual(process.wait(timeout=20), 1)


class Promptly(Started):
    def test_a_finished_answer_is_written_while_the_input_stays_open(self):
        process = self.start("batch", "echo:", "-", "-")
        for name in ("a", "b"):
            process.stdin.write(line(name, name).encode())
            process.stdin.flush()
            self.assertEqual(json.loads(self.bytes_of(process.stdout, 100))["custom_id"], name)
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out, err), (0, b"", b"2 lines, 0 failed\n"))

    def test_a_file_grows_answer_by_answer(self):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "out.jsonl")
            process = self.start("batch", "echo:?step_ms=10", "-", target)
            process.stdin.write((line("quick", "q") + line("slow", "s" * 5000)).encode())
            process.stdin.flush()
            deadline = time.monotonic() + 20
            while not (target.exists() and target.read_text()) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(json.loads(target.read_text())["custom_id"], "quick")

    def test_a_crowd_of_lines_waits_for_nobody(self):
        bad, good = "{bad\n" * 40, line("a", "x")  # more than the lines that are held at once
        begin = time.monotonic()
        done = troupe("batch", "echo:", "-", "-", "--in-flight", "1", stdin=(bad + good) * 20 + bad)
        self.assertEqual(len(done.stdout.splitlines()), 20 * 41 + 40)
        self.assertLess(time.monotonic() - begin, 15)

    def test_long_and_short_lines_come_through_whole(self):
        names = ["n" * (i * 7919 % 3000) + str(i) for i in range(3000)] + ["m" * 300_000]
        lines = "".join(json.dumps({"custom_id": name, "url": "/elsewhere", "body": {}}) + "\n" for name in names)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "in.jsonl")
            source.write_text(lines)
            for done in (troupe("batch", "echo:", source, "-"), troupe("batch", "echo:", "-", "-", stdin=lines)):
                self.assertEqual([json.loads(x)["custom_id"] for x in done.stdout.splitlines()], names)

    def test_a_last_line_without_an_end_is_answered(self):
        done = troupe("batch", "echo:", "-", "-", stdin=line("a", "x") + line("b", "y").rstrip("\n"))
        self.assertEqual([json.loads(x)["custom_id"] for x in done.stdout.splitlines()], ["a", "b"])


class NoFile(InFolder):
    def test_a_directory_is_refused_by_name(self):
        for words in [["generate", "echo:", "--prompt-file", self.folder],
                      ["generate", "echo:", "-p", "x", "--image", self.folder],
                      ["bench", "serving", "echo:", "--lengths", self.folder],
                      ["batch", "echo:", self.folder, self.folder / "out"],
                      ["serve", "echo:", "--zmq", "tcp://127.0.0.1:*", "--curve", self.folder]]:
            done = troupe(*words)
            self.assertEqual(done.returncode, 2, (words, done.stderr))
            self.assertIn(f"{self.folder}: Is a directory", done.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_a_file_without_an_end_is_refused(self):
        for words in (["--prompt-file", "/dev/zero"], ["-p", "x", "--image", "/dev/zero"]):
            done = subprocess.run([cli_test.TROUPE, "generate", "echo:", *words], capture_output=True, text=True,
                                  timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**30,) * 2))
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("/dev/zero: larger than 256 MiB", done.stderr)

    def test_a_conversation_is_no_picture(self):
        done = troupe("chat", "echo:", stdin="/image -\nstill there\n")
        self.assertEqual((done.returncode, done.stdout), (0, "still there\n"))
        self.assertIn("./-: No such file", done.stderr)

    def test_a_directory_ends_no_conversation(self):
        done = troupe("chat", "echo:", stdin=f"/image {self.folder}\nstill there\n")
        self.assertEqual((done.returncode, done.stdout), (0, "still there\n"))
        self.assertIn("Is a directory", done.stderr)

    def test_stdin_that_is_none_is_refused(self):
        for words in (["generate", "echo:", "--prompt-file", "-"], ["batch", "echo:", "-", "-"]):
            with_directory = os.open(self.folder, os.O_RDONLY)
            done = subprocess.run([cli_test.TROUPE, *words], stdin=with_directory, capture_output=True, text=True,
                                  timeout=60)
            os.close(with_directory)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("stdin: Is a directory", done.stderr)

    def test_a_batch_without_its_input_leaves_the_output_alone(self):
        kept = self.file("out.jsonl", "kept")
        done = troupe("batch", "echo:", self.folder / "none.jsonl", kept)
        self.assertEqual((done.returncode, kept.read_text()), (2, "kept"))
        self.assertIn("none.jsonl: No such file or directory", done.stderr)


class Lengths(InFolder):
    def test_a_length_that_cannot_be_is_named(self):
        for entry in ("[-1, 5]", "[5, -1]", "[0, 5]", "[5, 0]", "[99999999999, 5]", "[5, 4294967297]",
                      "[18446744073709551615, 5]", "[2147483647, 5]", "[5.5, 5]", "[5]", "7"):
            path = self.file("lengths.json", f"[[8, 4], {entry}]")
            done = troupe("bench", "serving", "echo:", "--lengths", path, "--repeats", "1")
            self.assertEqual(done.returncode, 2, (entry, done.stderr))
            self.assertIn(f"{path}: entry 1 ", done.stderr)
            self.assertIn("whole numbers from 1 to", done.stderr)

    def test_a_rate_is_kept_without_a_list(self):
        flags = ["--batch", "8", "--in", "4", "--out", "2", "--repeats", "1", "--json"]
        done = troupe("bench", "serving", "echo:", "--rate", "8", *flags)
        figures = json.loads(done.stdout)["figures"]
        self.assertEqual(figures["rate_per_s"], 8)
        self.assertGreater(figures["wall_s"], 0.3)  # eight arrivals, a second of them on the average


class Signals(Started):
    def ends(self, process, number):
        self.heeds_signals(process)
        process.send_signal(number)
        self.assertEqual(process.wait(timeout=8), 130, process.stderr.read())

    def test_they_are_heeded_while_stdin_is_read(self):
        for words in (["generate", "echo:", "--prompt-file", "-"], ["batch", "echo:", "-", "-"],
                      ["generate", "echo:", "-p", "x", "--image", "-"]):
            for number in (signal.SIGINT, signal.SIGTERM):
                process = self.start(*words)
                process.stdin.write(b"half a l")
                process.stdin.flush()
                self.ends(process, number)

    def test_they_are_heeded_while_a_named_pipe_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder, "pipe")
            os.mkfifo(pipe)
            for words in (["generate", "echo:", "--prompt-file", pipe], ["batch", "echo:", pipe, "-"]):
                self.ends(self.start(*words), signal.SIGINT)
                process = self.start(*words)
                with pipe.open("w") as writer:
                    writer.write(line("a", "through a pipe"))
                out, err = process.communicate(timeout=20)
                self.assertEqual(process.returncode, 0, err)
                self.assertIn(b"through a pipe", out)

    def test_they_are_heeded_while_nobody_answers(self):
        process = self.start("generate", "tcp://127.0.0.1:1", "-p", "x")
        self.heeds_signals(process)
        time.sleep(0.5)  # into the connecting
        self.ends(process, signal.SIGINT)

    def test_a_bench_ends_with_130(self):
        for words in (["bench", "latency", SLOW, "--out", "3000"], ["bench", "serving", SLOW, "--out", "3000"]):
            process = self.start(*words)
            self.heeds_signals(process)
            time.sleep(0.5)  # into the first run
            self.ends(process, signal.SIGINT)

    def test_sigterm_ends_a_conversation(self):
        self.ends(self.start("chat", "echo:"), signal.SIGTERM)
        process = self.start("chat", SLOW)
        process.stdin.write(b"w" * 3000 + b"\n")
        process.stdin.flush()
        process.stdout.read(1)
        self.ends(process, signal.SIGTERM)


class Asked(unittest.TestCase):
    def test_no_prompt_is_no_question(self):
        for words in ([], ["--chat"], ["--chat", "--system", "be brief"], ["--json"]):
            done = troupe("generate", "echo:", *words, stdin="text that nobody asked for")
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertIn("--prompt-file -", done.stderr)

    def test_an_empty_prompt_may_be_meant(self):
        done = troupe("generate", "echo:", "-p", "")
        self.assertNotIn("--prompt-file", done.stderr)  # what an empty one means is the model's to say

    def test_lines_are_counted_as_an_editor_does(self):
        done = troupe("batch", "echo:", "-", "-", stdin="\n  \n" + line("ok", "x") + "\n{bad\n")
        self.assertIn("line 5: ", json.loads(done.stdout.splitlines()[1])["error"]["message"])
        self.assertIn("2 lines, 1 failed", done.stderr)

    def test_a_seed_too_large_is_refused(self):
        for flag in ("--seed", "--weights-seed"):
            for number in ("9" * 20, "-" + "9" * 20, "9223372036854775808", "1e3", "x"):
                done = troupe("generate", "echo:", "-p", "x", f"{flag}={number}")
                self.assertEqual(done.returncode, 2, (flag, number))
                self.assertIn(f"{flag}: '{number}' is not a", done.stderr)
        for number in (0, -1, 2**63 - 1):
            self.assertEqual(troupe("generate", "echo:", "-p", "x", f"--seed={number}").returncode, 0, number)

    def test_help_lists_the_models_that_a_verb_takes(self):
        for verb, echo, remote in (("generate", True, True), ("serve", True, False), ("inspect", False, False)):
            said = troupe(verb, "--help").stdout.split("Options:")[0]
            self.assertEqual(("echo:" in said, "tcp://" in said), (echo, remote), said)


class Warnings(Started):
    def test_serve_tells_of_a_list_that_it_cannot_read(self):
        with tempfile.TemporaryDirectory() as folder:
            key, allowed = Path(folder, "server.key"), Path(folder, "allowed")
            troupe("keygen", key)
            allowed.write_text(troupe("keygen", Path(folder, "client.key")).stdout)
            process = self.start("serve", "echo:", "--zmq", "tcp://127.0.0.1:*", "--curve", key, "--allow-list", allowed)
            self.bytes_of(process.stdout, 5)
            allowed.write_text("this is no key\n")
            said = b""
            while b"the old list" not in said:
                said += self.bytes_of(process.stderr, 1)
            self.assertIn(b"[warn]", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
