"""What goes in and what comes out, as frozen dataclasses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Protocol, Union

from ._native import DeltaFields

Message = Mapping[str, Any]
"""A message in OpenAI's shape: {"role": "user", "content": "..."}."""


class TokenArray(Protocol):
    """A numpy array or torch tensor of token ids, of one dimension."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def tolist(self) -> Any: ...


Prompt = Union[str, Sequence[int], TokenArray, Sequence[Message], Sequence[Any]]
"""Text, token ids, the messages of a chat, or parts in their order: ["What is in ", picture, "?"], of text,
images and lists of token ids."""


@dataclass(frozen=True)
class Constraint:
    """What the answer must match; made by one of the functions below. Engines that cannot constrain raise
    Unsupported: `"constrain" in engine.info.capabilities`."""

    kind: str
    text: str

    @staticmethod
    def json_schema(schema: Mapping[str, Any]) -> Constraint:
        return Constraint("json_schema", json.dumps(schema))

    @staticmethod
    def regex(pattern: str) -> Constraint:
        return Constraint("regex", pattern)

    @staticmethod
    def ebnf(grammar: str) -> Constraint:
        return Constraint("ebnf", grammar)

    @staticmethod
    def choice(answers: Sequence[str]) -> Constraint:
        return Constraint("choice", json.dumps(list(answers)))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. None: the model's generation_config.json decides, else the default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ignore_eos: bool = False
    include_stop: bool = False
    skip_special_tokens: bool = True
    stop: Sequence[str] = ()
    stop_tokens: Sequence[int] = ()
    bad_words: Sequence[str] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logprob:
    token: int
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds."""

    queued: float = 0.0
    first_token: float = 0.0
    total: float = 0.0


@dataclass
class Delta(DeltaFields):
    """More of one choice."""

    __slots__ = ()
    text: str
    tokens: list[int]
    index: int = 0
    finish_reason: str | None = None
    logprobs: list[float] | None = None
    top_logprobs: list[list[Logprob]] | None = None
    stop_text: str | None = None
    stop_token: int | None = None

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, each.name) for each in fields(self))


for _field in fields(Delta):
    if _field.default is not MISSING:
        delattr(Delta, _field.name)  # in the class it would hide the field of the same name below it


@dataclass
class Choice:
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    logprobs: list[float] | None = None
    top_logprobs: list[list[Logprob]] | None = None
    stop_text: str | None = None
    stop_token: int | None = None


@dataclass
class Result:
    """A whole answer; `text`, `tokens` and the rest are those of its first choice.

    `data` is what the tasks encode_image and embed give, float32 of rows x columns: numpy.asarray(result.data), or
    images=[troupe.Embedding(result.data)]."""

    choices: list[Choice]
    usage: Usage = Usage()
    timings: Timings = Timings()
    prompt_logprobs: list[list[Logprob]] | None = None
    data: memoryview | None = None

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def tokens(self) -> list[int]:
        return self.choices[0].tokens

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason

    @property
    def stop_text(self) -> str | None:
        """The stop string that ended it."""
        return self.choices[0].stop_text

    @property
    def stop_token(self) -> int | None:
        """The id that ended it."""
        return self.choices[0].stop_token

    @property
    def logprobs(self) -> list[float] | None:
        return self.choices[0].logprobs

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        """In a notebook the answer reads as an answer."""
        usage, seconds = self.usage, self.timings.total
        return (f"{self.text}\n\n<sub>{usage.completion_tokens} tokens in {seconds:.2f} s, "
                f"{usage.cached_tokens} of {usage.prompt_tokens} prompt tokens reused</sub>")


@dataclass(frozen=True)
class EngineInfo:
    model: str
    family: str
    endpoint: str
    device: str
    dtype: str
    chat_template_origin: str
    context_length: int
    vocab_size: int
    max_sequences: int
    weight_bytes: int
    kv_bytes: int
    kv_tokens: int
    capabilities: frozenset[str]


@dataclass(frozen=True)
class EngineStats:
    waiting: int
    running: int
    sessions: int
    submitted: int
    refused: int
    done: int
    cancelled: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    images: int
    steps: int
    preemptions: int
    kv_blocks_total: int
    kv_blocks_used: int
    step_last_ns: int
    uptime_ns: int


@dataclass(frozen=True)
class SessionState:
    tokens: int
    cached_tokens: int
    lease_left: float
