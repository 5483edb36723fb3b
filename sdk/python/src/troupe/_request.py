"""Builds a troupe_request from a prompt, images, sampling and options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ._binding import ffi
from ._images import fill_image
from ._library import lib
from .errors import InvalidArgument, check
from .types import Constraint, Message, Prompt, Sampling

_INTS = {"top_k", "seed", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs"}
_FLOATS = {"temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
_CONSTRAINTS = {"json_schema": lib.TROUPE_CONSTRAINT_JSON_SCHEMA, "regex": lib.TROUPE_CONSTRAINT_REGEX,
                "ebnf": lib.TROUPE_CONSTRAINT_EBNF, "choice": lib.TROUPE_CONSTRAINT_CHOICE}


class Options:
    """What a request may be given beside its prompt; one place for both engines' keyword arguments."""

    __slots__ = ("images", "sampling", "constraint", "tools", "documents", "template_kwargs", "session", "settings")

    def __init__(self, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                 constraint: Constraint | None = None, tools: Sequence[Mapping[str, Any]] | None = None,
                 documents: Sequence[Mapping[str, Any]] | None = None,
                 template_kwargs: Mapping[str, Any] | None = None, session: Any = None,
                 timeout: float | None = None, priority: int | None = None, adapter: str | None = None,
                 client: str | None = None, add_special_tokens: bool | None = None,
                 add_generation_prompt: bool | None = None, task: str | None = None) -> None:
        self.images, self.sampling, self.constraint, self.tools = images, sampling, constraint, tools
        self.documents, self.template_kwargs, self.session = documents, template_kwargs, session
        self.settings = {
            "deadline_ms": None if timeout is None else max(1, round(timeout * 1000)),
            "priority": priority, "adapter": adapter, "client": client, "task": task,
            "add_special_tokens": None if add_special_tokens is None else int(add_special_tokens),
            "add_generation_prompt": None if add_generation_prompt is None else int(add_generation_prompt),
        }


def build_request(prompt: Prompt, options: Options) -> Any:
    """A troupe_request that frees itself."""
    out = ffi.new("troupe_request **")
    check(lib.troupe_request_new(out))
    request = ffi.gc(out[0], lib.troupe_request_free)
    for source in options.images:
        _add_image(request, source)
    _add_prompt(request, prompt)
    for value, give in ((options.tools, lib.troupe_request_tools),
                        (options.documents, lib.troupe_request_documents),
                        (options.template_kwargs, lib.troupe_request_template_kwargs)):
        if value is not None:
            text = json.dumps(value).encode()
            check(give(request, text, len(text)))
    if options.sampling is not None:
        _add_sampling(request, options.sampling)
    if options.constraint is not None:
        kind, text = options.constraint.kind, options.constraint.text.encode()
        if kind not in _CONSTRAINTS:
            raise InvalidArgument(f"constraint.kind is {kind!r}: it must be one of {', '.join(_CONSTRAINTS)}")
        check(lib.troupe_request_constraint(request, _CONSTRAINTS[kind], text, len(text)))
    if options.session is not None:
        check(lib.troupe_request_session(request, options.session._pointer()))
    for key, setting in options.settings.items():
        if setting is not None:
            check(lib.troupe_request_option(request, key.encode(), str(setting).encode()))
    return request


def _add_prompt(request: Any, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        _add_text(request, prompt)
        return
    if isinstance(prompt, Mapping):
        raise InvalidArgument("prompt: messages are a list of dicts, not one dict")
    items = list(prompt)
    if not items:
        raise InvalidArgument("prompt: it is empty: no text, no token ids, no messages")
    if all(isinstance(item, Mapping) for item in items):
        messages: list[Message] = items
        text = json.dumps(messages).encode()
        check(lib.troupe_request_messages(request, text, len(text)))
    elif all(isinstance(item, int) for item in items):
        _add_tokens(request, items)
    else:
        for part in items:
            if isinstance(part, str):
                _add_text(request, part)
            elif isinstance(part, (list, tuple)):
                _add_tokens(request, part)
            else:
                _add_image(request, part)


def _add_text(request: Any, part: str) -> None:
    # Lone surrogates are no text: the library refuses their bytes and says where they stand.
    text = part.encode("utf-8", "surrogatepass")
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


def _strings(values: Sequence[str], alive: list[Any]) -> Any:
    if isinstance(values, str):
        values = (values,)
    pointers = [ffi.new("char[]", value.encode()) for value in values]
    array = ffi.new("const char *[]", pointers)
    alive += [pointers, array]
    return array, len(pointers)


def _add_sampling(request: Any, given: Sampling) -> None:
    raw = ffi.new("troupe_sampling *")
    lib.troupe_sampling_init(raw, ffi.sizeof("troupe_sampling"))
    alive: list[Any] = []
    for name in _FLOATS | _INTS:
        value = getattr(given, name)
        if value is None:
            continue
        # -1 would mean "not given" in the library; it judges all the rest itself.
        if value == -1 and name in _INTS and name != "seed":
            raise InvalidArgument(f"{name} is -1: it must be 0 or more")
        try:
            setattr(raw, name, value)
        except (OverflowError, TypeError) as error:
            raise InvalidArgument(f"{name} is {value!r}: {error}") from None
    raw.n = given.n
    raw.ignore_eos, raw.include_stop = int(given.ignore_eos), int(given.include_stop)
    raw.skip_special_tokens = int(given.skip_special_tokens)
    raw.stop, raw.n_stop = _strings(given.stop, alive)
    raw.bad_words, raw.n_bad_words = _strings(given.bad_words, alive)
    if given.stop_tokens:
        ids = ffi.new("int32_t[]", list(given.stop_tokens))
        raw.stop_tokens, raw.n_stop_tokens = ids, len(given.stop_tokens)
        alive.append(ids)
    if given.logit_bias:
        tokens = ffi.new("int32_t[]", list(given.logit_bias.keys()))
        values = ffi.new("float[]", list(given.logit_bias.values()))
        raw.bias_tokens, raw.bias_values, raw.n_bias = tokens, values, len(given.logit_bias)
        alive += [tokens, values]
    check(lib.troupe_request_sampling(request, raw))
