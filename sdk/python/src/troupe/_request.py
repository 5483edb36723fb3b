"""Builds a troupe_request from a prompt, images, sampling and options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ._binding import ffi
from ._images import fill_image
from ._library import lib
from .errors import InvalidArgument, check
from .types import Message, Prompt, Sampling

_INTS = {"top_k", "seed", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs"}
_FLOATS = {"temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
_INT_RANGE = {"seed": (-(2**63) + 1, 2**63 - 1)}


class Options:
    """What a request may be given beside its prompt; one place for both engines' keyword arguments."""

    __slots__ = ("images", "sampling", "tools", "documents", "template_kwargs", "session", "settings")

    def __init__(self, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                 tools: Sequence[Mapping[str, Any]] | None = None,
                 documents: Sequence[Mapping[str, Any]] | None = None,
                 template_kwargs: Mapping[str, Any] | None = None, session: Any = None,
                 timeout: float | None = None, priority: int | None = None, adapter: str | None = None,
                 client: str | None = None, add_special_tokens: bool | None = None,
                 add_generation_prompt: bool | None = None, task: str | None = None) -> None:
        self.images, self.sampling, self.tools = images, sampling, tools
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
        image = ffi.new("troupe_image *")
        lib.troupe_image_init(image, ffi.sizeof("troupe_image"))
        alive = fill_image(image, source)
        check(lib.troupe_request_image(request, image))
        del alive
    _add_prompt(request, prompt)
    for value, give in ((options.tools, lib.troupe_request_tools),
                        (options.documents, lib.troupe_request_documents),
                        (options.template_kwargs, lib.troupe_request_template_kwargs)):
        if value is not None:
            text = json.dumps(value).encode()
            check(give(request, text, len(text)))
    if options.sampling is not None:
        _add_sampling(request, options.sampling)
    if options.session is not None:
        check(lib.troupe_request_session(request, options.session._pointer()))
    for key, setting in options.settings.items():
        if setting is not None:
            check(lib.troupe_request_option(request, key.encode(), str(setting).encode()))
    return request


def _add_prompt(request: Any, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        # Lone surrogates are no text: the library refuses their bytes and says where they stand.
        text = prompt.encode("utf-8", "surrogatepass")
        check(lib.troupe_request_text(request, text, len(text)))
        return
    items = list(prompt)
    if items and all(isinstance(item, Mapping) for item in items):
        messages: list[Message] = items  # type: ignore[assignment]
        text = json.dumps(messages).encode()
        check(lib.troupe_request_messages(request, text, len(text)))
        return
    if not all(isinstance(item, int) for item in items):
        raise InvalidArgument("prompt: must be a str, token ids, or a list of messages")
    try:
        ids = ffi.new("int32_t[]", items)
    except OverflowError as error:
        raise InvalidArgument(f"prompt: {error}") from None
    check(lib.troupe_request_tokens(request, ids, len(items)))


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
        if name in _INTS:
            low, high = _INT_RANGE.get(name, (-1, 2**31 - 1))
            if not isinstance(value, int) or not low <= value <= high or value == -1 and name != "seed":
                raise InvalidArgument(f"{name}: must be a whole number of at least 0, not {value!r}")
        setattr(raw, name, value)
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
