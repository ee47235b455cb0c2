"""A dictionary that remembers what was asked for lately, and forgets the rest."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Two generations: a full one becomes the old one, and what is not asked for until the next one is full is gone.

    So it holds from `most` to twice as many, and a look costs no more than one into a dictionary.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """What was put there, where it is not forgotten yet."""
        found = self._young.get(key)
        if found is None and self._old and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Remember it."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
