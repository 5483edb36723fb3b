"""The conformance table (sdk/conformance/README.md), over `echo:`."""

import base64
import json
import os
from pathlib import Path

import numpy
import pytest

import troupe
from troupe import Constraint, Embedding, Engine, Sampling, TroupeError

# Over the wire, the same table with the endpoints of servers in it (tests/wire/with_servers.py).
FOLDER = Path(os.environ.get("TROUPE_CONFORMANCE") or Path(__file__).parents[2] / "conformance")

SKIPPED = {
    "planes have their own order": "arrays are height x width x channels",
    "an unknown request option": "options are keyword arguments: an unknown one is a TypeError",
    "a deadline that is no number": "timeout is a float",
}


def know(given, *keys):
    """Refuses a key that this runner does not know: a typo must not pass as a case."""
    assert set(given) <= set(keys), f"the table has unknown keys {set(given) - set(keys)}"


def text_of(value, i=0):
    if isinstance(value, dict):
        know(value, "repeat")
        value = value["repeat"][0] * value["repeat"][1]
    return value.replace("{i}", str(i))


def image_of(given):
    know(given, "kind", "base64", "width", "height", "format", "layout", "rows", "hidden", "type")
    data = base64.b64decode(given["base64"])
    if given["kind"] == "encoded":
        return data
    if given["kind"] == "pixels":
        assert (given["format"], given["layout"]) == ("rgb", "hwc")
        pixels = numpy.frombuffer(data, numpy.uint8)
        if pixels.size != given["height"] * given["width"] * 3:
            pytest.skip("an array cannot be shorter than its shape")
        return pixels.reshape(given["height"], given["width"], 3)
    assert (given["kind"], given["type"]) == ("embedding", "f32")
    return Embedding(numpy.frombuffer(data, numpy.float32).reshape(given["rows"], given["hidden"]))


def message_of(given, images):
    """A message in OpenAI's shape; its images go into `images`."""
    know(given, "role", "content")
    if isinstance(given["content"], str):
        return given
    parts = []
    for part in given["content"]:
        know(part, "text", "image")
        if "image" in part:
            images.append(image_of(part["image"]))
            parts.append({"type": "image"})
        else:
            parts.append({"type": "text", "text": part["text"]})
    return {"role": given["role"], "content": parts}


def part_of(given):
    know(given, "text", "tokens", "image")
    return image_of(given["image"]) if "image" in given else given.get("tokens") or text_of(given["text"])


def sampling_of(given):
    given = dict(given)
    bias = {token: value for token, value in given.pop("bias", [])}
    flags = {key: bool(given.pop(key)) for key in ("include_stop", "ignore_eos", "skip_special_tokens") if key in given}
    return Sampling(**given, **flags, logit_bias=bias)


def request_of(given, sessions, i=0):
    """The prompt and the keyword arguments of stream()."""
    know(given, "prompt", "tokens", "parts", "messages", "messages_json", "images", "tools", "sampling", "options",
         "constraint", "session")
    images = [image_of(image) for image in given.get("images", [])]
    if "prompt" in given:
        prompt = text_of(given["prompt"], i)
    elif "messages" in given:
        prompt = [message_of(message, images) for message in given["messages"]]
    elif "parts" in given:
        prompt = [part_of(part) for part in given["parts"]]
    else:
        prompt = given.get("tokens") or given["messages_json"]
    options = dict(given.get("options", {}))
    arguments = {"images": images, "sampling": sampling_of(given.get("sampling", {})), "tools": given.get("tools")}
    if "deadline_ms" in options:
        arguments["timeout"] = int(options.pop("deadline_ms")) / 1000
    if "add_special_tokens" in options:
        arguments["add_special_tokens"] = bool(int(options.pop("add_special_tokens")))
    if "constraint" in given:
        arguments["constraint"] = Constraint(**given["constraint"])
    if "session" in given:
        arguments["session"] = sessions[given["session"]]
    return prompt, arguments | options


def check_error(expected, error):
    know(expected, "code", "says", "retryable")
    assert error.code == expected["code"], error
    for part in expected.get("says", []):
        assert part in str(error)
    assert error.retryable == expected.get("retryable", error.retryable)


def must(step, call):
    """A call that must succeed, or fail as step["error"] says."""
    if "error" not in step:
        return call()
    with pytest.raises(TroupeError) as caught:
        call()
    check_error(step["error"], caught.value)
    return None


def check_outcome(expected, result, error=None, i=0):
    know(expected, "end", "error", "text", "text_begins", "tokens", "tokens_min", "tokens_max", "finish", "stop_text",
         "stop_token", "choices", "usage", "logprobs", "top_logprobs", "prompt_logprobs")
    if error is not None and "end" not in expected:
        raise error
    end = "done" if error is None else "cancelled" if error.code == "CANCELLED" else "failed"
    assert end == expected.get("end", "done")
    if "error" in expected:
        check_error(expected["error"], error)
    first = result.choices[0]
    got = {"text": first.text, "tokens": first.tokens, "finish": first.finish_reason, "stop_text": first.stop_text,
           "stop_token": first.stop_token, "logprobs": len(first.logprobs or []),
           "prompt_logprobs": len(result.prompt_logprobs or []),
           "choices": [{"text": c.text, "finish": c.finish_reason} for c in result.choices]}
    for key in got.keys() & expected.keys():
        assert got[key] == (text_of(expected[key], i) if key == "text" else expected[key]), key
    if "text_begins" in expected:
        assert text_of(expected["text_begins"]).startswith(first.text)
    assert expected.get("tokens_min", 0) <= len(first.tokens) <= expected.get("tokens_max", len(first.tokens))
    if "top_logprobs" in expected:
        assert [len(row) for row in first.top_logprobs] == [expected["top_logprobs"]] * len(first.tokens)
    for key, value in expected.get("usage", {}).items():
        if key == "cached_tokens_min":
            assert result.usage.cached_tokens >= value
        else:
            assert getattr(result.usage, key) == value, key


class Case:
    def __init__(self, engine):
        self.engine, self.sessions = engine, {}

    def generate(self, step):
        know(step, "do", "request", "expect", "error", "cancel_after")
        must(step, lambda: self.ask(step))

    def ask(self, step):
        prompt, arguments = request_of(step["request"], self.sessions)
        stream = self.engine.stream(prompt, **arguments)
        cancel_after, seen, error = step.get("cancel_after"), 0, None
        try:
            if cancel_after == 0:
                stream.cancel()
            for delta in stream:
                seen += len(delta.tokens) if delta.index == 0 else 0
                if cancel_after is not None and seen >= cancel_after:
                    stream.cancel()
        except TroupeError as failure:
            error = failure
        check_outcome(step.get("expect", {}), stream.so_far(), error)

    def many(self, step):
        know(step, "do", "request", "count", "expect", "refused", "accepted_min", "refused_min")
        streams, refused = {}, 0
        for i in range(step["count"]):
            prompt, arguments = request_of(step["request"], self.sessions, i)
            try:
                streams[i] = self.engine.stream(prompt, **arguments)
            except TroupeError as error:
                if "refused" not in step:
                    raise
                check_error(step["refused"], error)
                refused += 1
        for i, stream in streams.items():
            check_outcome(step["expect"], stream.result(), i=i)
        assert len(streams) >= step.get("accepted_min", 0) and refused >= step.get("refused_min", 0)

    flood = many

    def tokenize(self, step):
        know(step, "do", "text", "tokens", "flags", "error")
        flags = {name: name in step.get("flags", []) for name in ("add_special", "parse_special")}
        ids = must(step, lambda: self.engine.tokenize(step["text"], **flags))
        assert ids == step.get("tokens")

    def detokenize(self, step):
        know(step, "do", "text", "tokens", "flags", "error")
        skip = "skip_special" in step.get("flags", [])
        assert must(step, lambda: self.engine.detokenize(step["tokens"], skip_special=skip)) == step.get("text")

    def render(self, step):
        know(step, "do", "request", "text", "error")
        prompt, arguments = request_of(step["request"], self.sessions)
        assert must(step, lambda: self.engine.render(prompt, **arguments)) == step.get("text")

    def close(self, step):
        know(step, "do", "drain_ms", "error")
        must(step, lambda: self.engine.close(drain=step.get("drain_ms", 0) / 1000))

    def session_new(self, step):
        self.sessions[step["session"]] = must(step, self.engine.session)

    def session_fork(self, step):
        self.sessions[step["as"]] = must(step, self.sessions[step["session"]].fork)

    def session_rewind(self, step):
        must(step, lambda: self.sessions[step["session"]].rewind(step["tokens"]))

    def session_info(self, step):
        assert self.sessions[step["session"]].state.tokens == step["tokens"]

    def session_free(self, step):
        self.sessions.pop(step["session"]).close()


def table():
    for path in sorted(FOLDER.glob("*.json")):
        group = json.loads(path.read_text())
        know(group, "schema", "about", "cases")
        assert group["schema"] == 1
        for case in group["cases"]:
            yield pytest.param(case, id=f"{path.stem}: {case['name']}")


@pytest.mark.parametrize("case", table())
def test_case(case):
    know(case, "name", "endpoint", "options", "open_error", "steps", "local")
    if case["name"] in SKIPPED:
        pytest.skip(SKIPPED[case["name"]])
    engine = must({"error": case["open_error"]} if "open_error" in case else {},
                  lambda: troupe.Engine(case.get("endpoint", "echo:"), **case.get("options", {})))
    if engine is None:
        return
    assert isinstance(engine, Engine)
    with engine:
        running = Case(engine)
        for step in case["steps"]:
            getattr(running, step["do"])(step)
