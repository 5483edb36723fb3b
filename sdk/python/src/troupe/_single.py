"""What stands for one thing of the library's, or for one answer on its way."""

from __future__ import annotations

from typing import NoReturn


class Single:
    """Not copied and not pickled: who has a copy would close what the original still uses."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:  # copy and pickle both ask it
        raise TypeError(f"a troupe.{type(self).__name__} cannot be copied or pickled: share it, or open another where "
                        "it is needed")
