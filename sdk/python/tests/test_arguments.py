"""Arguments of every wrong kind: each is refused by name, and the engine goes on."""

import copy
import pickle
from collections import UserString

import numpy
import pytest

import troupe
from helpers import LONG, run_python
from troupe import AsyncEngine, Constraint, Embedding, Engine, Sampling


def test_what_is_no_prompt_is_refused(engine):
    for prompt, said in ((b"bytes", "bytes"), ({"role": "user"}, "list of dicts"), ([], "empty"),
                         (numpy.zeros((2, 3), dtype=numpy.int64), "one dimension"),
                         (numpy.zeros((4, 4, 3), dtype=numpy.uint8), "images="),
                         ([2**40], "32 bits"), ([{"role": "user", "content": "x"}, "y"], "do not mix"),
                         ([{"role": "user", "content": {1, 2}}], "JSON")):
        with pytest.raises(troupe.InvalidArgument, match=said):
            engine.generate(prompt)


def test_values_of_other_types_are_refused_by_name(engine):
    for given, said in (({"prompt": None}, "prompt is None"), ({"prompt": 3}, "prompt is 3"),
                        ({"prompt": ["x", None]}, "NoneType"), ({"sampling": {"n": 2}}, "troupe.Sampling"),
                        ({"session": "mine"}, r"session is 'mine'.*engine.session"),
                        ({"constraint": "json"}, "troupe.Constraint"), ({"timeout": "1"}, "timeout is '1'"),
                        ({"sampling": Sampling(stop=3)}, "stop is 3"), ({"sampling": Sampling(bad_words=5)}, "bad_words"),
                        ({"sampling": Sampling(stop=None)}, "stop is None"),
                        ({"sampling": Sampling(logit_bias=[1])}, "logit_bias"),
                        ({"sampling": Sampling(ignore_eos="yes")}, "ignore_eos is 'yes'"),
                        ({"add_special_tokens": "no"}, "add_special_tokens is 'no'"), ({"images": 5}, "images is 5"),
                        ({"tools": "x"}, "tools is 'x'"), ({"documents": 3}, "documents is 3"),
                        ({"template_kwargs": [1]}, r"template_kwargs is \[1\]"), ({"adapter": 3}, "adapter|NOT_FOUND|no adapter")):
        with pytest.raises(troupe.TroupeError, match=said):
            engine.generate(**{"prompt": "x", **given})
    for call, said in ((lambda: engine.tokenize(3), "text is 3"), (lambda: engine.session(lease="x"), "lease is 'x'"),
                       (lambda: engine.session(lease=float("nan")), "lease is nan"),
                       (lambda: engine.serve(3), "bind is 3"), (lambda: engine.serve("tcp://127.0.0.1:*\0"), "NUL"),
                       (lambda: engine.serve("tcp://127.0.0.1:*", secret_key=b"x"), "secret_key"),
                       (lambda: engine.serve("tcp://127.0.0.1:*", resume_window="x"), "resume_window is 'x'"),
                       (lambda: Engine("echo:", settings="x"), "settings is 'x'"),
                       (lambda: Engine("echo:", threads=1.5), "threads is 1.5"),
                       (lambda: engine.batch(["x"], in_flight="many"), "in_flight is 'many'"),
                       (lambda: engine.close(drain="x"), "drain is 'x'"),
                       (lambda: engine.close(drain=float("nan")), "drain is nan"),
                       (lambda: Engine("tcp://127.0.0.1:1", connect_timeout="x"), "connect_timeout is 'x'")):
        with pytest.raises(troupe.InvalidArgument, match=said):
            call()
    either = engine.batch(["a", None, b"x", ["x", {}]], return_exceptions=True)
    assert either[0].text == "a" and all(isinstance(e, troupe.InvalidArgument) for e in either[1:])
    assert engine.generate("still open", images=None, sampling=Sampling(n=None)).text == "still open"


def test_times_without_end(engine):
    for timeout in (float("inf"), 1e300, 10**400):
        assert engine.generate("x", timeout=timeout).text == "x"
    with Engine("echo:?step_ms=1") as other:
        stream = other.stream("x" * 50)
        other.close(drain=1e300)
        assert stream.result().text == "x" * 50


def test_everything_shows_what_it_is(engine):
    stream, session = engine.stream("abc"), engine.session()
    assert repr(stream) == "<troupe.Stream of echo:>" and repr(session) == "<troupe.Session>"
    stream.result()
    session.close()
    assert repr(stream) == "<troupe.Stream of echo:, ended>" and repr(session) == "<troupe.Session closed>"


def test_token_ids_of_every_kind_of_number(engine):
    ids = engine.tokenize("hi", add_special=False)
    for given in (numpy.array(ids), numpy.array(ids, dtype=numpy.int32), tuple(ids), range(104, 106),
                  [numpy.int64(i) for i in ids]):
        assert engine.generate(given).text == "hi"
    assert engine.detokenize(numpy.array(ids)) == "hi"


class Name(str):
    pass


def test_strings_that_are_more_than_strings(engine):
    assert engine.generate(Name("a subclass")).text == "a subclass"
    assert engine.generate("nul \0 in it").text == "nul \0 in it"
    with pytest.raises(troupe.InvalidArgument, match="UTF-8"):
        engine.generate("half a pair \ud83c")
    with pytest.raises((troupe.InvalidArgument, TypeError)):
        engine.generate("x", sampling=Sampling(stop=[UserString("x")]))


def test_a_nul_inside_a_setting_is_not_cut_off(engine):
    for given in ({"sampling": Sampling(stop=["a\0b"])}, {"adapter": "a\0b"}, {"client": "c\0"}):
        with pytest.raises(troupe.InvalidArgument, match="NUL"):
            engine.generate("x", **given)
    with pytest.raises(troupe.InvalidArgument, match="NUL"):
        Engine("echo:\0")


def test_numbers_that_mean_something_else_in_the_library(engine):
    for given in ({"temperature": float("nan")}, {"n": -1}, {"top_k": -1}, {"max_tokens": 2**40}, {"n": "two"},
                  {"stop_tokens": ["x"]}, {"logit_bias": {"x": 1.0}}, {"n": 1000}):
        with pytest.raises(troupe.InvalidArgument, match=next(iter(given))):
            engine.generate("x", sampling=Sampling(**given))
    with pytest.raises(troupe.InvalidArgument, match="timeout"):
        engine.generate("x", timeout=float("nan"))
    assert engine.generate("x", timeout=float("inf")).text == "x"
    with pytest.raises(troupe.DeadlineExceeded):
        with Engine("echo:?step_ms=50") as slow:
            slow.generate(LONG, timeout=-1.0)


def test_options_by_wrong_names_and_of_wrong_kinds():
    for face in (Engine, AsyncEngine, troupe.inspect):
        with pytest.raises(TypeError, match="thread"):
            face("echo:", thread=3)
    with pytest.raises(troupe.InvalidArgument, match="threads"):
        Engine("echo:", threads="four")
    with pytest.raises(troupe.InvalidArgument, match="max_sequences"):
        Engine("echo:", max_sequences=10**12)
    with pytest.raises(troupe.InvalidArgument, match="model"):
        Engine(b"echo:")
    with pytest.raises(TypeError):
        Engine(None)
    with Engine("echo:") as engine, pytest.raises(TypeError, match="temperature"):
        engine.generate("x", temperature=0.5)


def test_what_the_library_holds_is_neither_copied_nor_pickled(engine):
    stream = engine.stream("x")
    with engine.session() as session, engine.serve("tcp://127.0.0.1:*") as server:
        for single in (engine, AsyncEngine("echo:"), session, server, stream, engine._handle):
            for again in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=f"a troupe.{type(single).__name__} cannot be copied"):
                    again(single)
        assert session.state.tokens == 0
    assert stream.result().text == "x"
    assert engine.generate("still open").text == "still open"


def test_a_refused_copy_leaves_nothing_behind():
    code = """if True:
        import copy, gc, troupe
        with troupe.Engine("echo:") as engine:
            for again in (copy.copy, copy.deepcopy):
                try:
                    again(engine)
                except TypeError:
                    pass
            gc.collect()
            print(engine.generate("still open").text)
    """
    assert run_python(code) == (0, "still open\n", "")


def test_constraints_of_odd_kinds(engine):
    for constraint, said in ((Constraint("regex", 5), "constraint.text is 5"), (Constraint("regex", None), "None"),
                             (Constraint("regex", "half a pair \ud83c"), "constraint is not UTF-8.* at offset 12"),
                             (Constraint([], "a"), r"constraint.kind is \[\]"), (Constraint("re", "a"), "kind is 're'")):
        with pytest.raises(troupe.InvalidArgument, match=said):
            engine.generate("x", constraint=constraint)


def test_embeddings_of_odd_kinds(engine):
    whole = numpy.arange(40, dtype=numpy.float32).reshape(5, 8)
    transposed = numpy.asfortranarray(whole)
    assert engine.generate("", images=[Embedding(transposed)]).text == engine.generate("", images=[Embedding(whole)]).text
    for values in (whole.astype(">f4"), whole[0], whole[:0], whole.astype(numpy.int32)):
        with pytest.raises(troupe.InvalidArgument, match="Embedding"):
            engine.generate("", images=[Embedding(values)])
    with pytest.raises(troupe.InvalidArgument, match="grid"):
        engine.generate("", images=[Embedding(whole, grid=(1, 2, 3, 4))])
