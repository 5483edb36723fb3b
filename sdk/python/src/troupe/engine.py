"""Engine: the synchronous face. AsyncEngine in aio.py is its twin."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, overload

from . import _native
from ._batch import batch_steps
from ._binding import ffi
from ._calls import Calls
from ._core import Handle, endpoint_of
from ._events import End, Gathering, opening_of
from ._library import lib
from ._options import ChatOptions, Progress, RequestOptions, Unpack, nanoseconds_of
from ._request import Options, as_messages
from .errors import Cancelled, Closed, Forked, TroupeError, check
from .types import Logprob, Message, Prompt, Result, Sampling

_SLICE_NS = 50_000_000  # so long it waits at a time for an engine that opens: in between Python hears of signals
_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Stream(Gathering, _native.BlockingAnswer):
    """The deltas of one answer. Leaving it early, by close() or by dropping it, cancels the request."""

    _request: int | None = None  # until it was submitted

    def __init__(self, engine: Engine, n: int) -> None:
        self._gather(n)
        self._engine = engine
        super().__init__(n, engine._handle.queue_address)

    def result(self) -> Result:
        """Reads on to the end and gives the whole answer."""
        for _ in self:
            pass
        return self._whole()

    def so_far(self) -> Result:
        """What has come until now: after an error, the beginning of an answer."""
        return self._result()

    def cancel(self) -> None:
        """Cancels the request without leaving it: what was made before still comes, then Cancelled is raised."""
        if self._request is not None:
            self._engine._handle.cancel(self._request)

    def close(self) -> None:
        """Cancels the request and drops what has not been read of it. A thread that waits hears of it."""
        self._abandon()

    def _abandon(self) -> None:
        if self._end is None:
            self._end_with(End(None, Cancelled("the stream was closed")), True)
            self.cancel()
            self._wake()

    def __repr__(self) -> str:
        return f"<troupe.Stream of {self._engine.info.endpoint}{'' if self._end is None else ', ended'}>"

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._end is None:
            self.cancel()


class Engine(Calls):
    """A model, here or elsewhere: a folder, `echo:`, or tcp://host:port.

        with Engine("models/llama") as engine:
            print(engine.generate("Once upon a time").text)
    """

    def __init__(self, model: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None,
                 dtype: str | None = None, kv_dtype: str | None = None, load_format: str | None = None,
                 chat_template: str | None = None, tensor_parallel: int | None = None,
                 max_sequences: int | None = None, max_waiting: int | None = None,
                 max_step_tokens: int | None = None, context_length: int | None = None,
                 block_tokens: int | None = None, kv_bytes: int | None = None, seed: int | None = None,
                 prefix_reuse: bool | None = None, overlap: bool | None = None, deterministic: bool | None = None,
                 settings: Mapping[str, Any] | None = None, server_key: str | None = None,
                 client_public_key: str | None = None, client_secret_key: str | None = None, connect_timeout: float | None = None, progress: Progress | None = None) -> None:
        endpoint = endpoint_of(model)
        self._handle = Handle()
        self._handle.open(endpoint, {
            "device": device, "threads": threads, "dtype": dtype, "kv_dtype": kv_dtype,
            "load_format": load_format, "chat_template": chat_template, "tensor_parallel": tensor_parallel,
            "max_sequences": max_sequences, "max_waiting": max_waiting, "max_step_tokens": max_step_tokens,
            "context_length": context_length, "block_tokens": block_tokens, "kv_bytes": kv_bytes, "seed": seed,
            "prefix_reuse": prefix_reuse, "overlap": overlap, "deterministic": deterministic, "settings": settings,
            "server_key": server_key, "client_public_key": client_public_key,
            "client_secret_key": client_secret_key, "connect_timeout": connect_timeout})
        _open_engines.add(self)
        try:
            self._wait_open(progress)
            self.info = self._handle.info()
        except BaseException:
            self.close(drain=0)
            raise

    def _wait_open(self, progress: Progress | None) -> None:
        out = ffi.new("troupe_events **")
        while True:
            check(lib.troupe_queue_wait(self._handle.queue, _SLICE_NS, 1, out))
            if not out[0]:
                continue
            try:
                news = opening_of(out[0].events)
            finally:
                lib.troupe_events_free(out[0])
            if news is None:
                return
            if isinstance(news, TroupeError):
                raise news
            if progress is not None:
                progress(*news)

    # ---- answers ----

    def generate(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                 **options: Unpack[RequestOptions]) -> Result:
        """The whole answer to a prompt: text, token ids, messages, or a list of parts.

        Keyword options: constraint, tools, documents, template_kwargs, session, timeout (seconds), priority,
        adapter, client, add_special_tokens, add_generation_prompt, task (score; encode_image and embed, whose
        values are the result's `data`)."""
        with self.stream(prompt, images=images, sampling=sampling, **options) as stream:
            return stream.result()

    def stream(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
               **options: Unpack[RequestOptions]) -> Stream:
        """The answer as it comes. `with` it, or iterate to its end; leaving early cancels."""
        given = Options(images=images, sampling=sampling, **options)
        stream = Stream(self, given.choices)
        stream._request = self._handle.submit(prompt, given, stream._queue)
        return stream

    def chat(self, messages: str | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
             images: Sequence[Any] = (), sampling: Sampling | None = None, **options: Unpack[ChatOptions]) -> Result:
        """The assistant's next message; a str is one message of the user. An image part is {"type": "image"}: the
        next of `images`."""
        return self.generate(as_messages(messages), tools=tools, images=images, sampling=sampling, **options)

    def score(self, prompt: Prompt, *, top: int = 0, **options: Unpack[RequestOptions]) -> list[list[Logprob]]:
        """Log-probabilities of a given prompt; a row per token, the first one empty."""
        result = self.generate(prompt, sampling=Sampling(max_tokens=0, prompt_logprobs=top), **options)
        return result.prompt_logprobs or []

    @overload
    def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
              progress: bool = True, return_exceptions: Literal[False] = False,
              **options: Unpack[RequestOptions]) -> list[Result]: ...

    @overload
    def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
              progress: bool = True, return_exceptions: bool,
              **options: Unpack[RequestOptions]) -> list[Result | TroupeError]: ...

    def batch(self, prompts: Iterable[Prompt], *, sampling: Sampling | None = None, in_flight: int = 512,
              progress: bool = True, return_exceptions: bool = False, **options: Unpack[RequestOptions]) -> Any:
        """Answers many prompts at once, in their order. With return_exceptions a failed one gives its
        exception in its place; without, the first failure is raised and the rest cancelled."""

        def submit(prompt: Prompt) -> Stream:
            return self.stream(prompt, sampling=sampling, **options)

        steps = batch_steps(submit, list(prompts), in_flight, progress, return_exceptions)
        try:
            stream = next(steps)
            while True:
                outcome: Result | TroupeError
                try:
                    outcome = stream.result()
                except TroupeError as error:
                    outcome = error
                stream = steps.send(outcome)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def close(self, *, drain: float = 0.0) -> None:
        """Gives what runs `drain` seconds (below 0: as long as it takes), then cancels it. Idempotent. Of several at
        once on an engine of this process the least patient counts: close() ends a drain that is going on."""
        drain_ns = nanoseconds_of(drain, "drain")
        _open_engines.discard(self)
        self._handle.close(drain_ns)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle") and not self._handle.closed:
            try:
                self.close()
            except Forked:  # nothing to close here: it lives in the parent
                pass

    def __repr__(self) -> str:
        if self._handle.closed:
            return "<troupe.Engine closed>"
        info = self.info
        return (f"<troupe.Engine {info.model} ({info.family}, {info.dtype}) on {info.device}, "
                f"context {info.context_length}>")


@atexit.register
def _close_all() -> None:
    """Before the interpreter goes: what waits for streams hears of it while it can."""
    for engine in list(_open_engines):
        try:
            engine.close()
        except (TroupeError, Closed):
            pass
