"""The sync face over `echo:`, which answers with its prompt."""

import signal
import subprocess
import sys
import threading
import time

import pytest

import troupe
from helpers import run_python
from troupe import Engine, Sampling
from troupe._request import as_messages


def test_generate(engine):
    result = engine.generate("héllo wörld")
    assert result.text == "héllo wörld"
    assert result.finish_reason == "stop"
    assert result.usage.prompt_tokens > 0
    assert result.timings.total > 0
    assert str(result) == result.text
    assert "tokens" in result._repr_markdown_()


def test_stream_concatenates_to_the_text(engine):
    with engine.stream("naïve café 🎭 done") as stream:
        deltas = list(stream)
    assert "".join(delta.text for delta in deltas) == "naïve café 🎭 done"
    assert deltas[-1].finish_reason == "stop"


def test_chat(engine):
    result = engine.chat([{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}])
    assert result.text == "hello"


def test_a_str_in_a_chat_is_the_users_message(engine):
    assert as_messages("hello") == [{"role": "user", "content": "hello"}]
    assert engine.chat("hello").text == "hello"
    for wrong in ([1, 2, 3], {"role": "user", "content": "x"}, None, 7, b"x", ["x"]):
        with pytest.raises(troupe.InvalidArgument, match="messages is"):
            engine.chat(wrong)


def test_token_ids(engine):
    ids = engine.tokenize("hi", add_special=False)
    assert engine.generate(ids).text == "hi"
    assert engine.detokenize(ids) == "hi"


def test_choices_and_logprobs(engine):
    result = engine.generate("abc", sampling=Sampling(n=3, logprobs=2))
    assert [choice.text for choice in result.choices] == ["abc"] * 3
    assert len(result.logprobs) == len(result.tokens)
    assert all(len(row) >= 1 for row in result.choices[0].top_logprobs)


def test_score_gives_a_row_a_token(engine):
    rows = engine.score([104, 105, 33])
    assert len(rows) == 3 and rows[0] == [] and rows[1][0].token == 105


def test_stop_and_length(engine):
    assert engine.generate("one two", sampling=Sampling(stop=[" two"])).text == "one"
    assert engine.generate("abcdef", sampling=Sampling(max_tokens=2)).finish_reason == "length"


def test_leaving_a_stream_cancels():
    with Engine("echo:?step_ms=5") as slow:
        with slow.stream("x" * 3000) as stream:
            next(stream)
        deadline = time.monotonic() + 10
        while slow.stats().cancelled == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert slow.stats().cancelled == 1


def test_errors_have_their_kind(engine):
    with pytest.raises(troupe.InvalidArgument, match="temperature") as caught:
        engine.generate("x", sampling=Sampling(temperature=-1.0))
    assert isinstance(caught.value, ValueError) and caught.value.code == "INVALID"
    with pytest.raises(troupe.NotFound, match="nowhere"):
        Engine("/nowhere/at/all")
    with pytest.raises(troupe.InvalidArgument):
        engine.generate([1.5])
    with pytest.raises(troupe.InvalidArgument, match="max_tokens"):
        engine.generate("x", sampling=Sampling(max_tokens=-1))


def test_deadline():
    with Engine("echo:?step_ms=20") as slow:
        with pytest.raises(troupe.DeadlineExceeded) as caught:
            slow.generate("y" * 3000, timeout=0.2)
        assert isinstance(caught.value, TimeoutError)


def test_constraints_are_not_there_yet_and_capabilities_say_so(engine):
    assert "constrain" not in engine.info.capabilities
    assert "chat" in engine.info.capabilities


def test_batch_keeps_the_order(engine):
    results = engine.batch([f"prompt {i}" for i in range(200)], in_flight=32, progress=False)
    assert [r.text for r in results] == [f"prompt {i}" for i in range(200)]


def test_batch_returns_exceptions_where_asked(engine):
    results = engine.batch(["ok", [-5], "also"], progress=False, return_exceptions=True)
    assert results[0].text == "ok" and results[2].text == "also"
    assert isinstance(results[1], troupe.TroupeError)


def test_sessions_fork(engine):
    with engine.session() as session:
        engine.generate("first ", session=session)
        before = session.state.tokens
        assert before > 0
        with session.fork() as other:
            engine.generate("second", session=other)
            assert other.state.tokens > before
        assert session.state.tokens == before
        session.rewind(2)
        assert session.state.tokens == 2


def test_closing_cuts_short_a_drain_that_goes_on():
    engine = Engine("echo:?step_ms=10")
    stream, begun = engine.stream("y" * 3000), time.monotonic()
    patient = threading.Thread(target=engine.close, kwargs={"drain": -1})
    patient.start()
    time.sleep(0.1)
    engine.close()
    with pytest.raises(troupe.Cancelled):  # its end is there already
        stream.result()
    patient.join()
    assert time.monotonic() - begun < 10  # of 30


def test_close_is_idempotent_and_final():
    engine = Engine("echo:")
    engine.close()
    engine.close()
    with pytest.raises(troupe.Closed):
        engine.generate("x")
    assert "closed" in repr(engine)


def test_two_engines_in_one_process():
    with Engine("echo:") as one, Engine("echo:") as two:
        assert one.generate("1").text + two.generate("2").text == "12"


def test_a_thousand_streams_at_once():
    with Engine("echo:", max_sequences=1024, max_waiting=2048) as engine:
        streams = [engine.stream(f"stream {i}") for i in range(1000)]
        assert [s.result().text for s in streams] == [f"stream {i}" for i in range(1000)]


def test_threads_share_an_engine(engine):
    answers = {}

    def ask(i):
        answers[i] = engine.generate(f"thread {i}").text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: f"thread {i}" for i in range(16)}


def test_a_fork_of_the_process_is_told_so():
    code = ("import os, sys, troupe\n"
            "engine = troupe.Engine('echo:')\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    try:\n        engine.generate('x')\n"
            "    except troupe.TroupeError as error:\n        sys.exit(7 if error.code == 'FORKED' else 8)\n"
            "    sys.exit(9)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), engine.generate('still here'))\n")
    done = run_python(code)
    assert done[1] == "7 still here\n", done


def test_keyboard_interrupt_ends_a_generate():
    # Whoever starts the tests in the background hands down an ignored SIGINT: ask for Python's own.
    code = ("import signal\nfrom troupe import Engine\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "engine = Engine('echo:?step_ms=20')\n"
            "print('ready', flush=True)\n"
            "try:\n    engine.generate('x' * 5000)\n"
            "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "interrupted\n" and process.returncode == 0


def test_exit_with_work_in_flight():
    code = "from troupe import Engine\ne = Engine('echo:?step_ms=5')\ns = [e.stream('x' * 500) for _ in range(20)]\n"
    done = run_python(code)
    assert done[0] == 0, done
