"""`troupe serve` and its clients as processes: the example client, kills, restarts, drains and keys.

Run by ctest with the paths of the command and of capi_many_streams as the first arguments; over `echo:`, which answers with its prompt.
"""
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

TROUPE = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin/troupe"
MANY_STREAMS = sys.argv.pop(1) if "many_streams" in "".join(sys.argv[1:2]) else "build/release/tests/capi_many_streams"
CLIENT = "examples/wire/client.py"


def python_with_zmq():
    """An interpreter that has pyzmq and msgpack: this one, the system's, or that of the Python SDK's tests."""
    cache = os.environ.get("TROUPE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troupe"
    for python in (sys.executable, "/usr/bin/python3", str(Path(cache) / "python-sdk-venv" / "bin" / "python")):
        try:
            if subprocess.run([python, "-c", "import zmq, msgpack"], capture_output=True).returncode == 0:
                return python
        except FileNotFoundError:
            continue
    return None


PYTHON = python_with_zmq()
needs_zmq = unittest.skipUnless(PYTHON, "no Python with pyzmq and msgpack: run sdk/python/test once")


def free_port():
    """A port that will still be free for a server that is started anew: no client's connection is given one of these."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    def __init__(self, model, *flags, bind="tcp://127.0.0.1:*"):
        self.process = subprocess.Popen([TROUPE, "serve", model, "--zmq", bind, *map(str, flags)], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = self.process.stdout.readline().split()
        if line[:1] != ["zmq"]:
            raise AssertionError(f"troupe serve did not start: {self.process.stderr.read()}")
        self.endpoint = line[1]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


def generate(endpoint, prompt, *flags):
    return subprocess.Popen([TROUPE, "generate", endpoint, "-p", prompt, *flags], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def rest_of(client, timeout):
    """What is left of its output and what it complained of, once it has ended. communicate() would pass over what
    read() has taken out of the pipe beyond what it was asked for."""
    late = threading.Timer(timeout, client.kill)
    late.start()
    try:
        with client.stdout, client.stderr:
            return client.stdout.read(), client.stderr.read()
    finally:
        client.wait()
        late.cancel()


def keygen(path):
    """A new pair in a file: public and secret half."""
    public = subprocess.run([TROUPE, "keygen", path], check=True, capture_output=True, text=True).stdout.strip()
    secret = [line.split()[2] for line in Path(path).read_text().splitlines() if line.startswith("secret-key")]
    return public, secret[0]


class TheExampleClient(unittest.TestCase):
    def client(self, *arguments):
        return subprocess.run([PYTHON, CLIENT, *map(str, arguments)], capture_output=True, text=True, timeout=60)

    def test_it_is_under_80_lines_and_without_troupe(self):
        source = Path(CLIENT).read_text()
        self.assertLess(len(source.splitlines()), 80)
        self.assertNotIn("import troupe", source)

    @needs_zmq
    def test_it_streams_an_answer(self):
        with Server("echo:") as server:
            done = self.client(server.endpoint, "héllo wörld, from the document alone")
            self.assertEqual((done.returncode, done.stdout), (0, "héllo wörld, from the document alone"), done.stderr)
            self.assertEqual(server.stop(), 0)

    @needs_zmq
    def test_it_hears_of_errors(self):
        with Server("echo:?context=64") as server:
            done = self.client(server.endpoint, "x" * 200)
            self.assertEqual(done.returncode, 1)
            self.assertIn("error 2:", done.stderr)

    @needs_zmq
    def test_killed_and_started_again_it_goes_on_where_it_was(self):
        text = " ".join(f"word{i}" for i in range(600))
        with tempfile.TemporaryDirectory() as folder, Server("echo:?step_ms=2") as server:
            note, seen, kills, code = Path(folder) / "note", "", 0, None
            command = [PYTHON, CLIENT, server.endpoint, text, "100000", "--resume", str(note)]
            # The answer goes on while a client is started: on a busy machine it may be there before three were killed,
            # and then the next client reads the rest in one go and ends.
            while code != 0:
                client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                wanted = len(seen) + 200 if kills < 3 else len(text) + 1
                while client.poll() is None and (not note.exists() or json.loads(note.read_text())["bytes"] < wanted):
                    time.sleep(0.02)
                client.kill()
                out, err = client.communicate()
                code = client.returncode
                self.assertIn(code, (0, -signal.SIGKILL), err.decode())
                # What a killed one had noted is what it has; one delta more may have been printed.
                kills += code != 0
                seen += out.decode()[:json.loads(note.read_text())["bytes"] - len(seen)]
            self.assertGreaterEqual(kills, 1)
            self.assertEqual(seen, text)

    @needs_zmq
    def test_curve(self):
        with tempfile.TemporaryDirectory() as folder:
            key = subprocess.run([TROUPE, "keygen", f"{folder}/key"], capture_output=True, text=True).stdout.strip()
            with Server("echo:", "--curve", f"{folder}/key") as server:
                self.assertEqual(self.client(server.endpoint, "secret", 100, key).stdout, "secret")


class Restarts(unittest.TestCase):
    def stream_then(self, server, act):
        """Starts an endless answer, does something, and says how it ended and how long that took."""
        client = generate(server.endpoint, "again and again ", "--ignore-eos", "--max-tokens", "20000")
        client.stdout.read(40)
        act()
        begun = time.monotonic()
        out, err = client.communicate(timeout=30)
        return client.returncode, err, time.monotonic() - begun

    def test_a_killed_server_is_connection_lost_within_three_heartbeats(self):
        with Server("echo:?step_ms=2", "--limit", "heartbeat_ms=700") as server:
            code, err, seconds = self.stream_then(server, lambda: server.stop(signal.SIGKILL))
            self.assertEqual(code, 1)
            self.assertIn("CONNECTION_LOST", err)
            self.assertLess(seconds, 3 * 0.7 + 0.5)

    def test_a_restarted_server_is_connection_lost_at_once(self):
        bind = f"tcp://127.0.0.1:{free_port()}"
        with Server("echo:?step_ms=2", "--limit", "heartbeat_ms=2000", bind=bind) as server:
            again = []

            def restart():
                server.stop(signal.SIGKILL)
                again.append(Server("echo:?step_ms=2", bind=bind))

            code, err, seconds = self.stream_then(server, restart)
            with again[0]:
                self.assertEqual(code, 1)
                self.assertIn("CONNECTION_LOST", err)
                self.assertLess(seconds, 6.0)

    def test_a_server_that_stood_still_goes_on_where_it_was(self):
        with Server("echo:?step_ms=5", "--limit", "heartbeat_ms=400") as server:
            client = generate(server.endpoint, "0123456789" * 60)
            head = client.stdout.read(20)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(2.0)  # longer than three heartbeats: to the client it is lost, and its port is still open
            server.process.send_signal(signal.SIGCONT)
            out, err = rest_of(client, 60)
            self.assertEqual((client.returncode, head + out), (0, "0123456789" * 60 + "\n"), err)

    def test_a_client_that_stood_still_goes_on_where_it_was(self):
        with Server("echo:?step_ms=5", "--limit", "heartbeat_ms=400") as server:
            client = generate(server.endpoint, "9876543210" * 60)
            head = client.stdout.read(20)
            client.send_signal(signal.SIGSTOP)
            time.sleep(2.0)
            client.send_signal(signal.SIGCONT)
            out, err = rest_of(client, 60)
            self.assertEqual((client.returncode, head + out), (0, "9876543210" * 60 + "\n"), err)

    def test_sigterm_lets_what_runs_end(self):
        with Server("echo:?step_ms=5") as server:
            client = generate(server.endpoint, "y" * 300)
            client.stdout.read(10)
            self.assertEqual(server.stop(signal.SIGTERM), 0)
            out, err = rest_of(client, 30)
            self.assertEqual((client.returncode, out), (0, "y" * 290 + "\n"), err)

    def test_the_drain_ends(self):
        for drain in ("0", "0.5"):
            with self.subTest(drain), Server("echo:?step_ms=5", "--drain", drain) as server:
                client = generate(server.endpoint, "z ", "--ignore-eos", "--max-tokens", "20000")
                client.stdout.read(10)
                begun = time.monotonic()
                self.assertEqual(server.stop(signal.SIGINT), 0)
                self.assertLess(time.monotonic() - begun, 5)
                _, err = rest_of(client, 30)
                self.assertNotEqual(client.returncode, 0)
                self.assertIn("CLOSED: the server", err)
                self.assertNotIn("by the caller", err)


class Newcomers(unittest.TestCase):
    LINE = {"method": "POST", "url": "/v1/completions",
            "body": {"model": "m", "prompt": "long " * 20, "max_tokens": 3000, "ignore_eos": True}}

    def test_they_go_past_a_burst_of_a_client_that_was_alone(self):
        """Also when the client that sent it was killed: what it has here runs on until its window ends."""
        with tempfile.TemporaryDirectory() as folder, Server("echo:?step_ms=5", "--max-sequences", "8") as server:
            lines = Path(folder, "lines")
            lines.write_text("".join(json.dumps(self.LINE | {"custom_id": str(i)}) + "\n" for i in range(60)))
            burst = subprocess.Popen([TROUPE, "batch", server.endpoint, lines, f"{folder}/answers", "--in-flight", "60"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1)
            for killed in (False, True):
                with self.subTest(killed=killed):
                    if killed:
                        burst.kill()
                        burst.wait()
                    begun = time.monotonic()
                    out, err = rest_of(generate(server.endpoint, "hello"), 60)
                    self.assertEqual(out, "hello\n", err)
                    self.assertLess(time.monotonic() - begun, 5, "a burst of answers takes two minutes")
                    self.assertEqual(burst.poll(), -signal.SIGKILL if killed else None, "it should run on")


class TheDemosModel(unittest.TestCase):
    """Abacus, from the document alone and by the C ABI with 500 streams at once, over all transports."""

    MODEL, QUESTION = "examples/model/abacus", "What is seventeen plus twenty-five?"
    STREAMS, CONNECTIONS = 500, 10

    @classmethod
    def setUpClass(cls):
        done = subprocess.run([TROUPE, "generate", cls.MODEL, "-p", cls.QUESTION, "--temperature", "0", "--max-tokens", "12"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        cls.local = done.stdout.removesuffix("\n")

    def serve(self, transport, folder, *flags):
        bind = "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{folder}/socket"
        return Server(self.MODEL, "--max-sequences", "512", *flags, bind=bind)

    def ask(self, server, *keys):
        done = subprocess.run([MANY_STREAMS, server.endpoint, str(self.STREAMS), str(self.CONNECTIONS), self.QUESTION, *keys],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual((done.returncode, done.stdout), (0, f"{self.STREAMS} {self.local}\n"), done.stderr)
        if PYTHON:
            done = subprocess.run([PYTHON, CLIENT, server.endpoint, self.QUESTION, "12", *keys[:1]], capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (0, self.local), done.stderr)

    def test_plain(self):
        for transport in ("tcp", "ipc"):
            with self.subTest(transport), tempfile.TemporaryDirectory() as folder, self.serve(transport, folder) as server:
                self.ask(server)
                self.assertEqual(server.stop(), 0)

    def test_with_keys(self):
        for transport in ("tcp", "ipc"):
            with self.subTest(transport), tempfile.TemporaryDirectory() as folder:
                server_keys, client_keys = keygen(f"{folder}/server"), keygen(f"{folder}/client")
                with self.serve(transport, folder, "--curve", f"{folder}/server") as server:
                    self.ask(server, server_keys[0], *client_keys)
                    self.assertEqual(server.stop(), 0)


# What a server says of itself, by one question over a connection of its own.
ASK_METRICS = """
import os, sys, msgpack, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 500
socket.connect(sys.argv[1])
for kind, body in ((0x01, {0: [1], 1: os.urandom(16)}), (0x31, {0: 1})):
    socket.send_multipart([b"TR\\x01" + bytes([kind]), msgpack.packb(body)])
    answer = msgpack.unpackb(socket.recv_multipart()[1], strict_map_key=False)
socket.send_multipart([b"TR\\x01\\x06", msgpack.packb({})])
print(answer[2])
"""


class Kills(unittest.TestCase):
    ROUNDS = int(os.environ.get("TROUPE_KILL_ROUNDS", "60"))

    def counts(self, server):
        done = subprocess.run([PYTHON, "-c", ASK_METRICS, server.endpoint], capture_output=True, text=True, timeout=60)
        lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines() if line.startswith("troupe_wire_")]
        return {name.removeprefix("troupe_wire_"): int(value) for name, value in lines}

    @needs_zmq
    def test_clients_that_are_killed_at_any_moment_leave_nothing(self):
        """Real processes and SIGKILL: nothing of them stays behind, and somebody else's answer is whole."""
        chance = random.Random(11)
        with Server("echo:?step_ms=1", "--resume-window", "1", "--limit", "heartbeat_ms=200", "--limit", "idle_ms=500") as server:
            survivor = generate(server.endpoint, "0123456789" * 400)
            for _ in range(self.ROUNDS):
                client = generate(server.endpoint, "abc " * chance.randrange(1, 400))
                time.sleep(chance.random() * 0.08)
                client.kill()
                client.communicate()
            out, err = survivor.communicate(timeout=120)
            self.assertEqual((survivor.returncode, out), (0, "0123456789" * 400 + "\n"), err)
            left, until = {}, time.monotonic() + 60
            while time.monotonic() < until and [left.get(n) for n in ("requests_running", "clients", "connections")] != [0, 1, 1]:
                time.sleep(0.2)
                left = self.counts(server)
            self.assertEqual((left["requests_running"], left["clients"], left["connections"]), (0, 1, 1))
            self.assertEqual(server.stop(), 0)


class Keys(unittest.TestCase):
    def test_a_key_file_is_its_owners_and_is_never_overwritten(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "key"
            public = subprocess.run([TROUPE, "keygen", path], capture_output=True, text=True).stdout.strip()
            self.assertEqual(len(public), 40)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            before = path.read_text()
            self.assertEqual(subprocess.run([TROUPE, "keygen", path], capture_output=True).returncode, 2)
            self.assertEqual(path.read_text(), before)

    def test_plaintext_beyond_this_machine_is_refused(self):
        done = subprocess.run([TROUPE, "serve", "echo:", "--zmq", "tcp://0.0.0.0:*"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--allow-plaintext", done.stderr)

    def test_an_unknown_client_is_unauthorised(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = {name: subprocess.run([TROUPE, "keygen", f"{folder}/{name}"], capture_output=True, text=True).stdout.strip()
                    for name in ("server", "friend", "stranger")}
            Path(folder, "clients").write_text(keys["friend"] + "\n")
            with Server("echo:", "--curve", f"{folder}/server", "--allow-list", f"{folder}/clients") as server:
                for name, code in (("friend", 0), ("stranger", 3)):
                    client = generate(server.endpoint, "hi", "--server-key", keys["server"],
                                      "--client-key-file", f"{folder}/{name}")
                    out, err = client.communicate(timeout=30)
                    self.assertEqual(client.returncode, code, err)
                    self.assertEqual(out, "hi\n" if code == 0 else "")
                self.assertIn("UNAUTHORISED", err)


if __name__ == "__main__":
    unittest.main()
