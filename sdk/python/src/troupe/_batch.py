"""Many prompts at once, in their order: what both engines' batch() do, one waiting for a stream by blocking and
the other by awaiting it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from numbers import Integral
from typing import Protocol, TypeVar

from ._progress import progress_bar
from .errors import InvalidArgument, TroupeError
from .types import Prompt, Result

Answers = list["Result | TroupeError"]


class Closable(Protocol):
    def _abandon(self) -> None: ...


S = TypeVar("S", bound=Closable)


def batch_steps(submit: Callable[[Prompt], S], prompts: Sequence[Prompt], in_flight: int, progress: bool,
                return_exceptions: bool) -> Generator[S, Result | TroupeError, Answers]:
    """Yields the streams to wait for and is sent what became of each; returns the answers."""
    if not isinstance(in_flight, Integral) or in_flight < 1:
        raise InvalidArgument(f"in_flight is {in_flight!r}: it must be a whole number, 1 or more")
    answers: dict[int, Result | TroupeError] = {}
    running: dict[int, S] = {}
    submitted = 0

    def answered(index: int, answer: Result | TroupeError) -> None:
        if isinstance(answer, TroupeError) and not return_exceptions:
            raise answer
        answers[index] = answer
        advance(1)

    with progress_bar(len(prompts), progress) as advance:
        try:
            while submitted < len(prompts) or running:
                while submitted < len(prompts) and len(running) < in_flight:
                    try:
                        running[submitted] = submit(prompts[submitted])
                    except TroupeError as error:
                        if error.code == "OVERLOADED" and running:
                            break
                        answered(submitted, error)
                    submitted += 1
                if running:
                    index = next(iter(running))
                    outcome = yield running[index]
                    del running[index]
                    answered(index, outcome)
        finally:
            for stream in running.values():
                stream._abandon()
    return [answers[index] for index in range(len(prompts))]
