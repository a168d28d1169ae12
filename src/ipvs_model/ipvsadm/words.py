"""Splitting words into options the way the popt library does it for ipvsadm.

source: popt.c, poptGetNextOpt, poptBadOption
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from ipvs_model.ipvsadm.grammar import LONG, SHORT, Takes, Word

UNKNOWN_OPTION: Final = "unknown option"
MISSING_ARGUMENT: Final = "missing argument"
UNWANTED_ARGUMENT: Final = "option does not take an argument"


class BadOption(Exception):
    """A word that cannot be read as an option: the whole command-line word, and why."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(f"{word}: {why}")


@frozen
class Given:
    """An option as it stands on the command line. ``argument`` None: none was given. ``at``: the command-line word that ended it."""

    word: Word
    argument: str | None
    at: str


class Words:
    """The options of a command line, one after the other; other words are left over.

    >>> words = Words(["-At", "10.0.0.1:80", "one", "--scheduler=rr"])
    >>> [(given.word.long, given.argument) for given in iter(words.next, None)], words.left_over
    ([('add-service', None), ('tcp-service', '10.0.0.1:80'), ('scheduler', 'rr')], ['one'])
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._next = 0
        self._letters: str | None = None  #: what is left of a word of joined short options
        self._ended = False  #: "--" was met
        self.left_over: list[str] = []

    def next(self) -> Given | None:
        """The next option, None at the end. Raises BadOption."""
        if self._letters is not None:
            return self._short()
        while self._next < len(self._words):
            text = self._words[self._next]
            self._next += 1
            if self._ended or not text.startswith("-") or text == "-":
                self.left_over.append(text)
            elif text == "--":
                self._ended = True
            elif text.startswith("--"):
                return self._long(text[2:])
            else:
                self._letters = text[1:]
                return self._short()
        return None

    def _long(self, text: str) -> Given:
        name, equals, argument = text.partition("=")
        word = LONG.get(name)
        if word is None:
            raise self._bad(UNKNOWN_OPTION)
        if word.takes is Takes.NOTHING:
            if equals:
                raise self._bad(UNWANTED_ARGUMENT)
            return self._given(word, None)
        return self._given(word, argument if equals else self._following(word))

    def _short(self) -> Given:
        letters = self._letters or ""
        self._letters = None
        word = SHORT.get(letters[:1])
        if word is None:
            raise self._bad(UNKNOWN_OPTION)
        rest = letters[1:]
        if word.takes is Takes.NOTHING:
            if rest.startswith("="):
                raise self._bad(UNWANTED_ARGUMENT)
            self._letters = rest or None
            return self._given(word, None)
        glued = rest.removeprefix("=") if rest else None
        return self._given(word, glued if glued is not None else self._following(word))

    def _following(self, word: Word) -> str | None:
        """The next word as argument: whatever it looks like, but an optional argument does not begin with a dash."""
        if self._next == len(self._words):
            if word.takes is Takes.OPTIONAL:
                return None
            raise self._bad(MISSING_ARGUMENT)
        following = self._words[self._next]
        if word.takes is Takes.OPTIONAL and following.startswith("-"):
            return None
        self._next += 1
        return following

    def _given(self, word: Word, argument: str | None) -> Given:
        return Given(word, argument, self._words[self._next - 1])

    def _bad(self, why: str) -> BadOption:
        return BadOption(self._words[self._next - 1], why)
