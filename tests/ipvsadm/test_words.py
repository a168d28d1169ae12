"""Splitting words the popt way (spec/70 section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.ipvsadm.grammar import LONG, SHORT, WORDS, Takes
from ipvs_model.ipvsadm.words import BadOption, Words


def split(*words: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    reader = Words(words)
    options = []
    while (option := reader.next()) is not None:
        options.append((option.word.long, option.argument))
    return options, reader.left_over


def test_short_options_may_be_joined() -> None:
    assert split("-Ln") == ([("list", None), ("numeric", None)], [])
    assert split("-At", "1.2.3.4:80") == ([("add-service", None), ("tcp-service", "1.2.3.4:80")], [])


@pytest.mark.parametrize("words", [("-t", "1.2.3.4:80"), ("-t1.2.3.4:80",), ("-t=1.2.3.4:80",), ("--tcp-service", "1.2.3.4:80"), ("--tcp-service=1.2.3.4:80",)])
def test_an_argument_is_the_rest_of_the_word_or_the_next_one(words: tuple[str, ...]) -> None:
    assert split(*words) == ([("tcp-service", "1.2.3.4:80")], [])


def test_an_argument_may_look_like_an_option() -> None:
    assert split("-t", "-s") == ([("tcp-service", "-s")], [])


@pytest.mark.parametrize(
    ("words", "argument", "left_over"),
    [
        (["-p"], None, []),
        (["-p", "100"], "100", []),
        (["-p100"], "100", []),
        (["-p=100"], "100", []),
        (["-p="], "", []),
        (["-p", ""], "", []),
        (["--persistent="], "", []),
        (["--persistent", "100"], "100", []),
        (["-p", "-"], None, ["-"]),
        (["-ps", "rr"], "s", ["rr"]),
    ],
)
def test_the_optional_argument_does_not_begin_with_a_dash(words: list[str], argument: str | None, left_over: list[str]) -> None:
    assert split(*words) == ([("persistent", argument)], left_over)


def test_other_words_are_left_over_and_options_may_follow() -> None:
    assert split("1", "-", "", "--set", "2") == ([("set", None)], ["1", "-", "", "2"])
    assert split("--set", "--", "-n", "--") == ([("set", None)], ["-n", "--"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-q"], "-q: unknown option"),
        (["-Sn5"], "-Sn5: unknown option"),
        (["--set", "-1", "0", "0"], "-1: unknown option"),
        (["--numeri"], "--numeri: unknown option"),
        (["---numeric"], "---numeric: unknown option"),
        (["-t"], "-t: missing argument"),
        (["--scheduler"], "--scheduler: missing argument"),
        (["--numeric=5"], "--numeric=5: option does not take an argument"),
        (["-n=5"], "-n=5: option does not take an argument"),
    ],
)
def test_a_bad_word_is_named_whole(words: list[str], message: str) -> None:
    with pytest.raises(BadOption) as bad:
        split(*words)
    assert str(bad.value) == message


def test_every_name_is_there_once() -> None:
    assert len(LONG) == len(WORDS)
    assert len(SHORT) == sum(len(word.letters) for word in WORDS)


@given(st.sampled_from([word for word in WORDS if word.takes is not Takes.NOTHING]), st.text(min_size=1).filter(lambda text: text[0] != "="))
def test_every_way_to_give_an_argument_gives_the_same(word, text) -> None:
    ways = [(f"--{word.long}={text}",), *((f"-{letter}{text}",) for letter in word.letters), *((f"-{letter}={text}",) for letter in word.letters)]
    if word.takes is Takes.ARGUMENT or not text.startswith("-"):
        ways += [(f"--{word.long}", text), *((f"-{letter}", text) for letter in word.letters)]
    assert {split(*way)[0][0] for way in ways} == {(word.long, text)}
