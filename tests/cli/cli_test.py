"""The command as its users meet it: arguments in, bytes and exit codes out. Run by ctest with the path
of the command as the first argument. Everything goes over `echo:`, which answers with its prompt."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TROUPE = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin/troupe"
MODEL = Path("examples/model/abacus")


def troupe(*arguments, stdin="", env=None):
    return subprocess.run([TROUPE, *map(str, arguments)], input=stdin, capture_output=True, text=True,
                          timeout=60, env={**os.environ, **(env or {})})


class Usage(unittest.TestCase):
    def test_a_mistyped_verb_is_met_with_the_nearest(self):
        done = troupe("generte")
        self.assertEqual(done.returncode, 2)
        self.assertIn("did you mean generate?", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_a_mistyped_flag_is_met_with_the_nearest(self):
        done = troupe("generate", "echo:", "--temprature", "1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("did you mean --temperature?", done.stderr)

    def test_a_bad_number_is_named_with_its_bound(self):
        for words, said in [
            (["bench", "latency", "echo:", "--batch", "0"], "--batch: '0' is not a whole number of at least 1"),
            (["bench", "latency", "echo:", "--batch", "2,x"], "--batch"),
            (["bench", "latency", "echo:", "--in", "-5"], "--in: '-5' is not a whole number of at least 1"),
            (["bench", "serving", "echo:", "--rate", "-1"], "--rate: '-1' is not a number of at least 0"),
            (["generate", "echo:", "--temperature", "nan"], "--temperature: 'nan' is not a number"),
            (["generate", "echo:", "--top-p", "inf"], "--top-p: 'inf' is not a number"),
            (["generate", "echo:", "--max-tokens", "9" * 20], f"--max-tokens: '{'9' * 20}' is not a number it can take"),
        ]:
            done = troupe(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(said, done.stderr)

    def test_errors_of_the_engine_speak_of_flags(self):
        for words, said in [
            (["--temperature", "5000"], "INVALID: --temperature is 5000: it must be 0 to 1000\n"),
            (["--max-tokens", "-5"], "INVALID: --max-tokens is -5: it must be 0 to 2147483647\n"),
            (["--stop", ""], "INVALID: --stop is empty\n"),
            (["--threads", "0"], "INVALID: --threads is 0: it must be 1 to 1024\n"),
            (["--tp", "0"], "INVALID: --tp is 0"),
            (["--set", "foo"], "INVALID: --set is \"foo\": it must be \"key=value\"\n"),
        ]:
            done = troupe("generate", "echo:", "-p", "x", *words)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertIn(said, done.stderr)

    def test_a_missing_or_unknown_command_is_met_with_the_choices(self):
        for words, said in [
            ([], "a command is wanted: generate, chat, "),
            (["bench"], "a command is wanted: latency, throughput, "),
            (["bench", "latancy", "echo:"], "no such command: bench latancy; did you mean latency?"),
            (["bench", "zzzzzz", "echo:"], "no such command: bench zzzzzz; there are latency, throughput, "),
        ]:
            done = troupe(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(said, done.stderr)

    def test_a_system_message_wants_a_chat(self):
        done = troupe("generate", "echo:", "-p", "x", "--system", "be brief")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--system requires --chat", done.stderr)

    def test_a_device_that_was_not_built_names_the_way(self):
        if Path(TROUPE).resolve().parent.parent.joinpath("lib/libtroupe_cuda.so").exists():
            self.skipTest("this build has it")
        done = troupe("generate", MODEL, "-p", "x", "--device", "cuda")
        self.assertEqual(done.returncode, 3)
        self.assertIn("this build has no CUDA backend", done.stderr)
        self.assertIn("--device cpu", done.stderr)

    def test_help_of_every_verb(self):
        for verb in ["generate", "chat", "batch", "inspect", "bench", "doctor", "completion",
                     "serve", "keygen"]:
            done = troupe(verb, "--help")
            self.assertEqual(done.returncode, 0, verb)
            self.assertIn("Usage", done.stdout)

    def test_help_documents_the_exit_codes(self):
        self.assertIn("Exit codes", troupe("--help").stdout)

    def test_a_model_that_is_not_there(self):
        done = troupe("generate", "/nowhere/model", "-p", "hi")
        self.assertEqual(done.returncode, 3)
        self.assertIn("/nowhere/model", done.stderr)

    def test_bad_kv_memory_is_named(self):
        done = troupe("generate", "echo:", "-p", "hi", "--kv-memory", "lots")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--kv-memory", done.stderr)

    def test_completion_scripts_parse(self):
        script = troupe("completion", "bash").stdout
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        asked = script + '\nCOMP_WORDS=(troupe gen); COMP_CWORD=1; _troupe; echo "${COMPREPLY[@]}"'
        found = subprocess.run(["bash"], input=asked, text=True, capture_output=True).stdout
        self.assertEqual(found.strip(), "generate")
        asked = script + '\nCOMP_WORDS=(troupe generate --temp); COMP_CWORD=2; _troupe; echo "${COMPREPLY[@]}"'
        found = subprocess.run(["bash"], input=asked, text=True, capture_output=True).stdout
        self.assertEqual(found.strip(), "--temperature")


class Generate(unittest.TestCase):
    def test_text_goes_to_stdout_and_nothing_else(self):
        done = troupe("generate", "echo:", "-p", "héllo wörld")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "héllo wörld\n", ""))

    def test_prompt_from_stdin(self):
        self.assertEqual(troupe("generate", "echo:", "--prompt-file", "-", stdin="from a pipe").stdout,
                         "from a pipe\n")

    def test_json_has_text_tokens_logprobs_and_timings(self):
        done = troupe("generate", "echo:", "-p", "abc", "--json", "--logprobs", "2")
        answer = json.loads(done.stdout)
        self.assertEqual(answer["text"], "abc")
        self.assertEqual(answer["finish_reason"], "stop")
        self.assertEqual(len(answer["logprobs"]), len(answer["tokens"]))
        self.assertEqual(answer["usage"]["prompt_tokens"] > 0, True)
        self.assertGreater(answer["timings"]["total_ms"], 0)

    def test_max_tokens_ends_with_length(self):
        answer = json.loads(troupe("generate", "echo:", "-p", "abcdef", "--json", "--max-tokens", "3").stdout)
        self.assertEqual((answer["text"], answer["finish_reason"]), ("abc", "length"))

    def test_stop_text(self):
        answer = json.loads(troupe("generate", "echo:", "-p", "one two three", "--json", "--stop", " two").stdout)
        self.assertEqual((answer["text"], answer["finish_reason"]), ("one", "stop"))

    def test_what_fails_leaves_stdout_empty(self):
        done = troupe("generate", "echo:?context=8", "-p", "much too long for it")
        self.assertEqual((done.returncode, done.stdout), (1, ""))

    def test_absurd_sampling_is_refused_by_name(self):
        done = troupe("generate", "echo:", "-p", "x", "--temperature", "-3")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("temperature", done.stderr)

    def test_invalid_utf8_is_refused(self):
        done = subprocess.run([TROUPE, "generate", "echo:", "--prompt-file", "-"], input=b"a\xff\xfeb",
                              capture_output=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"UTF-8", done.stderr)

    def test_ctrl_c_ends_with_130(self):
        process = subprocess.Popen([TROUPE, "generate", "echo:?step_ms=50", "-p", "x" * 2000],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=20), 130)
        process.stdout.close()
        process.stderr.close()

    def test_a_closed_pipe_is_no_crash(self):
        done = subprocess.run(f"{TROUPE} generate echo: -p '{'y' * 5000}' | head -c 1", shell=True,
                              capture_output=True, timeout=60)
        self.assertEqual(done.stdout, b"y")


class Batch(unittest.TestCase):
    def batch(self, lines, *flags):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
            source.write_text("".join(line + "\n" for line in lines))
            done = troupe("batch", "echo:", source, target, *flags)
            return done, [json.loads(line) for line in target.read_text().splitlines()]

    @staticmethod
    def line(custom_id, body, url="/v1/completions"):
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})

    def test_answers_come_in_the_order_of_the_lines(self):
        lines = [self.line(f"r{i}", {"prompt": "z" * (200 if i == 0 else 1) + str(i), "max_tokens": 300})
                 for i in range(50)]
        done, answers = self.batch(lines)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([a["custom_id"] for a in answers], [f"r{i}" for i in range(50)])
        self.assertEqual(answers[7]["response"]["body"]["choices"][0]["text"], "z7")

    def test_a_bad_line_gets_an_error_line_and_the_rest_goes_on(self):
        done, answers = self.batch(["{broken", self.line("a", {"prompt": "ok"}),
                                    self.line("b", {"prompt": "x", "temperature": "hot"}),
                                    self.line("c", {"prompt": "x"}, url="/v1/elsewhere")])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(answers), 4)
        self.assertIn("line 1", answers[0]["error"]["message"])
        self.assertEqual(answers[1]["response"]["body"]["choices"][0]["text"], "ok")
        self.assertIn("temperature", answers[2]["error"]["message"])
        self.assertIn("url", answers[3]["error"]["message"])
        self.assertIn("4 lines, 3 failed", done.stderr)

    def test_several_prompts_and_choices_make_choices_in_order(self):
        _, answers = self.batch([self.line("a", {"prompt": ["p", "q"], "n": 2})])
        choices = answers[0]["response"]["body"]["choices"]
        self.assertEqual([(c["index"], c["text"]) for c in choices], [(0, "p"), (1, "p"), (2, "q"), (3, "q")])

    def test_echo_scores_the_prompt(self):
        _, answers = self.batch([self.line("a", {"prompt": "abc", "echo": True, "logprobs": 1, "max_tokens": 0})])
        choice = answers[0]["response"]["body"]["choices"][0]
        self.assertEqual(choice["text"], "abc")
        self.assertIsNone(choice["logprobs"]["token_logprobs"][0])
        self.assertEqual(len(choice["logprobs"]["tokens"]), len(choice["logprobs"]["text_offset"]))
        self.assertIn("abc", "".join(choice["logprobs"]["tokens"]))

    def test_token_ids_in_and_out(self):
        _, answers = self.batch([self.line("a", {"prompt": [104, 105], "return_token_ids": True,
                                                  "logprobs": 0, "return_tokens_as_token_ids": True})])
        choice = answers[0]["response"]["body"]["choices"][0]
        self.assertEqual(choice["text"], "hi")
        self.assertEqual(choice["prompt_token_ids"], [104, 105])
        self.assertEqual(choice["token_ids"][:2], [104, 105])
        self.assertEqual(choice["logprobs"]["tokens"][0], "token_id:104")

    def test_chat(self):
        _, answers = self.batch([self.line("a", {"messages": [{"role": "user", "content": "hello"}]},
                                           url="/v1/chat/completions")])
        body = answers[0]["response"]["body"]
        self.assertEqual(body["object"], "chat.completion")
        self.assertEqual(body["choices"][0]["message"], {"role": "assistant", "content": "hello", "refusal": None})
        self.assertEqual(body["usage"]["total_tokens"],
                         body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"])

    def test_more_lines_than_fit_at_once(self):
        lines = [self.line(str(i), {"prompt": str(i)}) for i in range(500)]
        done, answers = self.batch(lines, "--in-flight", "8", "--max-sequences", "4", "--max-waiting", "4")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([a["response"]["body"]["choices"][0]["text"] for a in answers],
                         [str(i) for i in range(500)])


class Chat(unittest.TestCase):
    def test_turns_from_a_pipe(self):
        done = troupe("chat", "echo:", stdin="first\nsecond\n/exit\nnever\n")
        self.assertEqual((done.returncode, done.stdout), (0, "first\nsecond\n"))

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        process = subprocess.Popen([TROUPE, "chat", "echo:?step_ms=20"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"w" * 3000 + b"\n")
        process.stdin.flush()
        process.stdout.read(2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(process.poll())
        out, err = process.communicate(b"again\n", timeout=30)
        self.assertEqual(process.returncode, 0)
        self.assertTrue(out.endswith(b"\nagain\n"), out[-40:])
        self.assertIn(b"stopped", err)


class Doctor(unittest.TestCase):
    def test_this_machine_is_described(self):
        done = troupe("doctor", "--json")
        subjects = {finding["subject"]: finding for finding in json.loads(done.stdout)}
        self.assertEqual(subjects["library"]["verdict"], "ok", subjects["library"])
        self.assertIn("cores", subjects)

    def test_no_colour_where_none_is_wanted(self):
        self.assertNotIn("\x1b", troupe("doctor", env={"NO_COLOR": "1"}).stdout)


class Bench(unittest.TestCase):
    def test_latency_gives_exact_lengths(self):
        done = troupe("bench", "latency", "echo:", "--in", "8", "--out", "16", "--batch", "1,4",
                      "--repeats", "1", "--json")
        figures = json.loads(done.stdout)["figures"]
        self.assertEqual([f["batch"] for f in figures], [1, 4])
        self.assertGreater(figures[1]["total_tokens_per_s"], 0)

    def test_drawn_tokens_are_measured_as_they_are_asked_for(self):
        lengths = ("bench", "latency", "echo:", "--in", "8", "--out", "16", "--repeats", "1", "--json")
        done = troupe(*lengths, "--temperature", "0.8", "--top-k", "50", "--top-p", "0.95", "--seed", "7")
        self.assertGreater(json.loads(done.stdout)["figures"][0]["total_tokens_per_s"], 0)
        refused = troupe(*lengths, "--top-p", "3")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--top-p is 3: it must be above 0, at most 1", refused.stderr)

    def test_serving_replays_a_list(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as lengths:
            lengths.write("[[5, 7], [9, 3]]")
            lengths.flush()
            done = troupe("bench", "serving", "echo:", "--lengths", lengths.name, "--repeats", "1", "--json")
        self.assertEqual(json.loads(done.stdout)["figures"]["requests"], 2)

    def test_a_served_model_is_measured_from_afar(self):
        with subprocess.Popen([TROUPE, "serve", "echo:", "--zmq", "tcp://127.0.0.1:*"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as server:
            try:
                endpoint = server.stdout.readline().split()[-1]
                for kind in ["latency", "serving"]:
                    done = troupe("bench", kind, endpoint, "--in", "8", "--out", "4", "--repeats", "1", "--json")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(json.loads(done.stdout)["model"], endpoint)
            finally:
                server.send_signal(signal.SIGINT)


@unittest.skipUnless(MODEL.is_dir(), "the demo model is not in this checkout")
class RealModel(unittest.TestCase):
    def test_it_answers_correctly(self):
        done = troupe("generate", MODEL, "--chat", "-p", "What is seventeen plus twenty-five?",
                      "--temperature", "0")
        self.assertIn("forty-two", done.stdout.lower(), done.stderr)

    def test_inspect_names_family_and_fit(self):
        facts = json.loads(troupe("inspect", MODEL, "--json").stdout)
        self.assertEqual(facts["family"], "llama")

    def test_a_chat_reuses_its_prefix(self):
        done = troupe("chat", MODEL, "--timings", "--temperature", "0",
                      stdin="What is two plus two?\nWhat is three plus four?\n")
        self.assertIn("four", done.stdout.lower())
        self.assertIn("seven", done.stdout.lower())


if __name__ == "__main__":
    unittest.main(verbosity=2)
