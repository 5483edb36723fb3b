"""batch(): odd sizes, full engines, and its progress bar."""

import sys

import pytest

import troupe
from troupe import Engine


def test_batches_of_odd_sizes(engine):
    assert engine.batch([], progress=False) == []
    assert [r.text for r in engine.batch((p for p in "abc"), in_flight=1)] == ["a", "b", "c"]
    with pytest.raises(troupe.InvalidArgument, match="in_flight"):
        engine.batch(["x"], in_flight=0)
    with pytest.raises(troupe.InvalidArgument):
        engine.batch(["fine", [-5], "fine"], progress=False)
    assert engine.generate("and goes on").text == "and goes on"


def test_a_batch_waits_where_the_engine_is_full():
    with Engine("echo:?step_ms=1", max_sequences=2, max_waiting=2) as small:
        assert [r.text for r in small.batch([f"p{i}" for i in range(40)], progress=False)] == [f"p{i}" for i in range(40)]


def test_the_progress_bar_shows_where_somebody_looks(engine, monkeypatch, capsys):
    engine.batch(["a", "b"])
    assert capsys.readouterr().err == ""  # a pipe
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    engine.batch(["a", "b"], progress=False)
    assert capsys.readouterr().err == ""
    engine.batch(["a", "b"])
    shown = capsys.readouterr().err
    assert "2/2" in shown and shown.endswith("\r") and "\x1b" not in shown
    with pytest.raises(troupe.InvalidArgument):
        engine.batch(["a", [-5]])
    assert capsys.readouterr().err.endswith("\r")
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    assert [r.text for r in engine.batch(["a"])] == ["a"]
