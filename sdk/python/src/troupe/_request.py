"""Builds a troupe_request from a prompt, images, sampling and options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from ._binding import ffi
from ._images import fill_image, pictures
from ._library import lib
from ._options import seconds_of
from .errors import InvalidArgument, check
from .types import Constraint, Message, Prompt, Sampling

_COUNTS = ("n", "top_k", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs")
_NUMBERS = (*_COUNTS, "seed", "temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty",
            "frequency_penalty")
_YEAR_S = 365 * 24 * 3600
_MOST_CHOICES = 128  # troupe_sampling.n
_CONSTRAINTS = {"json_schema": lib.TROUPE_CONSTRAINT_JSON_SCHEMA, "regex": lib.TROUPE_CONSTRAINT_REGEX,
                "ebnf": lib.TROUPE_CONSTRAINT_EBNF, "choice": lib.TROUPE_CONSTRAINT_CHOICE}


class Options:
    """What a request may be given beside its prompt; one place for both engines' keyword arguments."""

    __slots__ = ("choices", "images", "sampling", "constraint", "tools", "documents", "template_kwargs", "session", "settings")

    def __init__(self, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                 constraint: Constraint | None = None, tools: Sequence[Mapping[str, Any]] | None = None,
                 documents: Sequence[Mapping[str, Any]] | None = None,
                 template_kwargs: Mapping[str, Any] | None = None, session: Any = None,
                 timeout: float | None = None, priority: int | None = None, adapter: str | None = None,
                 client: str | None = None, add_special_tokens: bool | None = None,
                 add_generation_prompt: bool | None = None, task: str | None = None) -> None:
        self.images, self.sampling, self.constraint, self.tools = pictures(images), sampling, constraint, tools
        n = getattr(sampling, "n", 1)
        self.choices = int(n) if isinstance(n, Integral) and 1 <= int(n) <= _MOST_CHOICES else 1  # others are refused later
        self.documents, self.template_kwargs, self.session = documents, template_kwargs, session
        self.settings = {
            "deadline_ms": _deadline(timeout),
            "priority": priority, "adapter": adapter, "client": client, "task": task,
            "add_special_tokens": _flag(add_special_tokens, "add_special_tokens"),
            "add_generation_prompt": _flag(add_generation_prompt, "add_generation_prompt"),
        }


def _deadline(timeout: float | None) -> int | None:
    """In milliseconds, of which one is the least, also of a time that is over already; above a year there is none."""
    if timeout is None or (seconds := seconds_of(timeout, "timeout")) > _YEAR_S:
        return None
    return max(1, round(max(seconds, 0.0) * 1000))


def _flag(value: bool | None, field: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, (bool, Integral)):  # "no" would be true
        raise InvalidArgument(f"{field} is {value!r}: it must be True or False")
    return int(bool(value))


def c_string(value: str, field: str) -> Any:
    """For fields that end at the first NUL: one inside would silently cut the rest off."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{field} is {value!r}: it must be a str")
    if "\0" in value:
        raise InvalidArgument(f"{field} is {value!r}: it has a NUL character")
    return ffi.new("char[]", value.encode("utf-8", "surrogatepass"))


def utf8(text: str, field: str) -> bytes:
    """Lone surrogates are no text: the library refuses their bytes and says where they stand."""
    if not isinstance(text, str):
        raise InvalidArgument(f"{field} is {text!r}: it must be a str")
    return text.encode("utf-8", "surrogatepass")


def _json(value: Any, field: str) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{field} cannot be written as JSON: {error}") from None


def build_request(prompt: Prompt, options: Options) -> Any:
    """A troupe_request that frees itself."""
    out = ffi.new("troupe_request **")
    check(lib.troupe_request_new(out))
    request = ffi.gc(out[0], lib.troupe_request_free)
    for source in options.images:
        _add_image(request, source)
    _add_prompt(request, prompt)
    for name, value, give in (("tools", options.tools, lib.troupe_request_tools),
                              ("documents", options.documents, lib.troupe_request_documents),
                              ("template_kwargs", options.template_kwargs, lib.troupe_request_template_kwargs)):
        if value is not None:
            wanted: type = Mapping if name == "template_kwargs" else Sequence
            if not isinstance(value, wanted) or isinstance(value, (str, bytes)):
                kind = "a dict" if wanted is Mapping else "a list of dicts"
                raise InvalidArgument(f"{name} is {value!r}: it must be {kind}")
            text = _json(value, name)
            check(give(request, text, len(text)))
    if options.sampling is not None:
        _add_sampling(request, options.sampling)
    if options.constraint is not None:
        if not isinstance(options.constraint, Constraint):
            raise InvalidArgument(f"constraint is {options.constraint!r}: it must be a troupe.Constraint")
        kind, text = options.constraint.kind, utf8(options.constraint.text, "constraint.text")
        if not isinstance(kind, str) or kind not in _CONSTRAINTS:
            raise InvalidArgument(f"constraint.kind is {kind!r}: it must be one of {', '.join(_CONSTRAINTS)}")
        check(lib.troupe_request_constraint(request, _CONSTRAINTS[kind], text, len(text)))
    if options.session is not None:
        pointer = getattr(options.session, "_pointer", None)
        if pointer is None:
            raise InvalidArgument(f"session is {options.session!r}: it must be one that engine.session() gave")
        check(lib.troupe_request_session(request, pointer()))
    for key, setting in options.settings.items():
        if setting is not None:
            check(lib.troupe_request_option(request, key.encode(), c_string(str(setting), key)))
    return request


def as_messages(messages: str | Sequence[Message]) -> Sequence[Message]:
    """Of a chat: a str is what the user says. Token ids and parts are for generate()."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    given: Any = messages
    if isinstance(given, Sequence) and all(isinstance(message, Mapping) for message in given):
        return messages
    raise InvalidArgument(f"messages is {messages!r}: it must be a list of dicts, or a str, the user's message")


def _add_prompt(request: Any, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        _add_text(request, prompt)
        return
    if isinstance(prompt, Mapping):
        raise InvalidArgument("prompt: messages are a list of dicts, not one dict")
    if isinstance(prompt, (bytes, bytearray, memoryview)):
        raise InvalidArgument("prompt: bytes are no text: decode them; a picture's go into images=[...]")
    if not isinstance(prompt, Iterable):
        raise InvalidArgument(f"prompt is {prompt!r}: it must be a str, token ids, messages, or a list of parts")
    items: list[Any] = _token_list(prompt) if hasattr(prompt, "tolist") else list(prompt)
    if not items:
        raise InvalidArgument("prompt: it is empty: no text, no token ids, no messages")
    if all(isinstance(item, Mapping) for item in items):
        messages: list[Message] = items
        text = _json(messages, "messages")
        check(lib.troupe_request_messages(request, text, len(text)))
    elif all(isinstance(item, Integral) for item in items):
        _add_tokens(request, items)
    else:
        for part in items:
            if isinstance(part, str):
                _add_text(request, part)
            elif isinstance(part, (list, tuple)):
                _add_tokens(request, part)
            elif isinstance(part, Mapping):
                raise InvalidArgument("prompt: messages and parts of a raw prompt do not mix")
            else:
                _add_image(request, part)


def _token_list(array: Any) -> list[Any]:
    """Of numpy and torch."""
    if len(array.shape) != 1:
        raise InvalidArgument(f"prompt: an array must be of token ids, of one dimension, not of shape "
                              f"{tuple(array.shape)}; pictures go into images=[...]")
    return list(array.tolist())


def _add_text(request: Any, part: str) -> None:
    text = utf8(part, "prompt")
    check(lib.troupe_request_text(request, text, len(text)))


def _add_tokens(request: Any, tokens: Sequence[int]) -> None:
    try:
        ids = ffi.new("int32_t[]", tokens)
    except (OverflowError, TypeError) as error:
        raise InvalidArgument(f"prompt: token ids must be whole numbers of 32 bits: {error}") from None
    check(lib.troupe_request_tokens(request, ids, len(tokens)))


def _add_image(request: Any, source: Any) -> None:
    image = ffi.new("troupe_image *")
    lib.troupe_image_init(image, ffi.sizeof("troupe_image"))
    alive = fill_image(image, source)
    check(lib.troupe_request_image(request, image))
    del alive


def _strings(field: str, values: Sequence[str], alive: list[Any]) -> Any:
    if isinstance(values, str):
        values = (values,)
    if not isinstance(values, Iterable):
        raise InvalidArgument(f"{field} is {values!r}: it must be a list of str")
    pointers = [c_string(value, field) for value in values]
    array = ffi.new("const char *[]", pointers)
    alive += [pointers, array]
    return array, len(pointers)


def _array(ctype: str, field: str, values: Any, alive: list[Any]) -> Any:
    try:
        alive.append(ffi.new(ctype, list(values)))
    except (OverflowError, TypeError) as error:
        raise InvalidArgument(f"{field} is {values!r}: {error}") from None
    return alive[-1]


def _add_sampling(request: Any, given: Sampling) -> None:
    if not isinstance(given, Sampling):
        raise InvalidArgument(f"sampling is {given!r}: it must be a troupe.Sampling")
    raw = ffi.new("troupe_sampling *")
    lib.troupe_sampling_init(raw, ffi.sizeof("troupe_sampling"))
    alive: list[Any] = []
    for name in _NUMBERS:
        value = getattr(given, name)
        if value is None:
            continue
        # -1 and NaN would mean "not given" in the library; it judges all the rest itself.
        if (value == -1 and name in _COUNTS) or value != value:
            raise InvalidArgument(f"{name} is {value}: None is for the default")
        try:
            setattr(raw, name, value)
        except (OverflowError, TypeError) as error:
            raise InvalidArgument(f"{name} is {value!r}: {error}") from None
    for name in ("ignore_eos", "include_stop", "skip_special_tokens"):
        setattr(raw, name, _flag(getattr(given, name), name))
    raw.stop, raw.n_stop = _strings("stop", given.stop, alive)
    raw.bad_words, raw.n_bad_words = _strings("bad_words", given.bad_words, alive)
    if given.stop_tokens:
        raw.stop_tokens = _array("int32_t[]", "stop_tokens", given.stop_tokens, alive)
        raw.n_stop_tokens = len(given.stop_tokens)
    if given.logit_bias:
        if not isinstance(given.logit_bias, Mapping):
            raise InvalidArgument(f"logit_bias is {given.logit_bias!r}: it must be a dict of token ids to numbers")
        raw.bias_tokens = _array("int32_t[]", "logit_bias", given.logit_bias.keys(), alive)
        raw.bias_values = _array("float[]", "logit_bias", given.logit_bias.values(), alive)
        raw.n_bias = len(given.logit_bias)
    check(lib.troupe_request_sampling(request, raw))
