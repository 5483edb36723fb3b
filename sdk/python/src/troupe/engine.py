"""Engine: the synchronous face. AsyncEngine in aio.py is its twin."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, overload

from ._batch import batch_steps
from ._core import Handle, Session, endpoint_of, new_session
from ._events import Collector, End
from ._options import ChatOptions, Progress, RequestOptions, ServerOptions, Unpack, nanoseconds_of
from ._reader import Mailbox, Reader
from ._request import Options
from ._server import Server, open_server
from .errors import Cancelled, Closed, Forked, TroupeError, fresh
from .types import Delta, EngineInfo, EngineStats, Logprob, Message, Prompt, Result, Sampling

_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Stream(Iterator[Delta]):
    """The deltas of one answer. Leaving it early, by close() or by dropping it, cancels the request."""

    def __init__(self, engine: Engine, request: int, key: int, mailbox: Mailbox, n: int) -> None:
        self._engine, self._request, self._key, self._mailbox = engine, request, key, mailbox
        self._collector = Collector(n)
        self._end: End | None = None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Delta:
        mailbox = self._mailbox
        items = mailbox.items
        while True:
            if not items:
                if self._end is not None:
                    mailbox.wake()  # should another thread wait for the same stream
                    raise StopIteration
                mailbox.wait()
                continue
            try:
                item = items.popleft()
            except IndexError:  # another thread took it
                continue
            if isinstance(item, Delta):
                self._collector.add(item)
                return item
            if isinstance(item, End):
                self._end = item
                self._collector.end(item)
                if item.error is not None:
                    raise fresh(item.error)
            else:
                self._collector.prompt(item)

    def result(self) -> Result:
        """Reads on to the end and gives the whole answer."""
        for _ in self:
            pass
        assert self._end is not None
        if self._end.error is not None:
            raise fresh(self._end.error)
        return self._collector.result()

    def so_far(self) -> Result:
        """What has come until now: after an error, the beginning of an answer."""
        return self._collector.result()

    def cancel(self) -> None:
        """Cancels the request without leaving it: what was made before still comes, then Cancelled is raised."""
        self._engine._handle.cancel(self._request)

    def close(self) -> None:
        """Cancels the request and drops what has not been read of it. A thread that waits hears of it."""
        self._abandon()

    def _abandon(self) -> None:
        if self._end is None:
            self._engine._abandon(self._request, self._key)
            self._mailbox.items.clear()
            self._mailbox.items.append(End(None, Cancelled("the stream was closed")))
            self._mailbox.wake()

    def __repr__(self) -> str:
        return f"<troupe.Stream of {self._engine.info.endpoint}{'' if self._end is None else ', ended'}>"

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._end is None:
            self._engine._abandon(self._request, self._key)


class Engine:
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
        self._handle = Handle(in_turn=True)
        self._reader = Reader(self._handle, progress)
        self._handle.open(endpoint, {
            "device": device, "threads": threads, "dtype": dtype, "kv_dtype": kv_dtype,
            "load_format": load_format, "chat_template": chat_template, "tensor_parallel": tensor_parallel,
            "max_sequences": max_sequences, "max_waiting": max_waiting, "max_step_tokens": max_step_tokens,
            "context_length": context_length, "block_tokens": block_tokens, "kv_bytes": kv_bytes, "seed": seed,
            "prefix_reuse": prefix_reuse, "overlap": overlap, "deterministic": deterministic, "settings": settings,
            "server_key": server_key, "client_public_key": client_public_key,
            "client_secret_key": client_secret_key, "connect_timeout": connect_timeout})
        self._reader.start()
        _open_engines.add(self)
        try:
            self._reader.wait_open()
            self.info: EngineInfo = self._handle.info()
        except BaseException:
            self.close(drain=0)
            raise

    # ---- answers ----

    def generate(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
                 **options: Unpack[RequestOptions]) -> Result:
        """The whole answer to a prompt: text, token ids, messages, or a list of parts.

        Keyword options: constraint, tools, documents, template_kwargs, session, timeout (seconds), priority,
        adapter, client, add_special_tokens, add_generation_prompt."""
        with self.stream(prompt, images=images, sampling=sampling, **options) as stream:
            return stream.result()

    def stream(self, prompt: Prompt, *, images: Sequence[Any] = (), sampling: Sampling | None = None,
               **options: Unpack[RequestOptions]) -> Stream:
        """The answer as it comes. `with` it, or iterate to its end; leaving early cancels."""
        given = Options(images=images, sampling=sampling, **options)
        key, mailbox = self._reader.mailbox()
        try:
            request = self._handle.submit(prompt, given, key)
        except BaseException:
            self._reader.forget(key)
            raise
        return Stream(self, request, key, mailbox, given.choices)

    def chat(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None,
             images: Sequence[Any] = (), sampling: Sampling | None = None, **options: Unpack[ChatOptions]) -> Result:
        """The assistant's next message. An image part is {"type": "image"}: the next of `images`."""
        return self.generate(messages, tools=tools, images=images, sampling=sampling, **options)

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

    # ---- the rest ----

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return self._handle.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = False) -> str:
        return self._handle.detokenize(tokens, skip_special)

    def render(self, messages: Sequence[Message], **options: Unpack[RequestOptions]) -> str:
        """The chat template applied: the text that the model sees."""
        return self._handle.render(messages, Options(**options))

    def session(self, *, lease: float | None = None) -> Session:
        return new_session(self._handle, lease)

    def serve(self, bind: str, **options: Unpack[ServerOptions]) -> Server:
        """Lets others reach this engine: "tcp://127.0.0.1:*", or ipc://path. Close it before the engine.

        Keyword options: allow_plaintext, public_key, secret_key, client_keys, resume_window, settings."""
        return open_server(self._handle, bind, **options)

    def stats(self) -> EngineStats:
        return self._handle.stats()

    def metrics(self) -> str:
        """Prometheus' text format."""
        return self._handle.metrics()

    def close(self, *, drain: float = 0.0) -> None:
        """Gives what runs `drain` seconds (below 0: as long as it takes), then cancels it. Idempotent."""
        drain_ns = nanoseconds_of(drain, "drain")
        _open_engines.discard(self)
        if self._handle.closed:
            return
        try:
            self._handle.close(drain_ns)
        finally:
            self._reader.stop()

    def _abandon(self, request: int, key: int) -> None:
        self._reader.forget(key)
        self._handle.cancel(request)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # The reader thread keeps the handle alive: an engine that is dropped must be closed.
        if hasattr(self, "_reader"):
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
    """Before the interpreter goes: no reader thread may be inside it afterwards."""
    for engine in list(_open_engines):
        try:
            engine.close()
        except (TroupeError, Closed):
            pass


def _after_fork_in_child() -> None:
    """The readers stayed behind in the parent: whoever waits for a stream here would wait for ever."""
    for engine in list(_open_engines):
        engine._reader.fail(Forked("this process is a fork of the one that opened the engine"))


os.register_at_fork(after_in_child=_after_fork_in_child)
