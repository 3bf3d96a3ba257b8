"""What comes out of `clean_text` cannot steer a terminal, hide letters or break a writer, whatever went in."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.errors import one_line
from wsipsm.text import clean_json, clean_text, is_writable_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Lone surrogates too, which hypothesis leaves out unless asked."""
NASTY = st.text(
    st.sampled_from(
        "a\x1b\x07\x08\x00\x7f\x9b\n\r\t\u202e\u2066\u200d\u200c\u200e\u2028\ufeff\u00adé\u0301ب👩🏽️…\udcff\ud800\u3164"
    )
)
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(ANY_TEXT | NASTY)
def test_nothing_hidden_is_left(text: str) -> None:
    cleaned = clean_text(text)

    left = {char for char in cleaned if unicodedata.category(char) in HIDDEN}
    assert left <= set(
        "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    )
    assert cleaned.encode().decode() == cleaned


@given(ANY_TEXT | NASTY, st.integers(1, 40))
def test_cleaning_twice_changes_nothing_and_length_is_bounded(text: str, max_chars: int) -> None:
    cleaned = clean_text(text, max_chars)

    assert len(cleaned) <= max_chars
    assert clean_text(cleaned, max_chars) == cleaned
    assert clean_text(cleaned) == cleaned


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x2FFF), max_size=50))
def test_letters_signs_and_digits_stay(text: str) -> None:
    kept = "".join(char for char in text if char not in "\u115f\u1160\u2800")

    assert clean_text(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "Tumor: Positive",
        "Région tumorale n° 3, µm²",
        "e\u0301galite\u0301",
        "腫瘍",
        "опухоль",
        "ورم",
        "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645",
        "क्\u200dष",
        "❤\ufe0f",
        "👩🏽\u200d🔬",
        "👨\u200d👩\u200d👧",
        "🇩🇪",
        r"C:\slides\x1b.svs",
    ],
)
def test_ordinary_text_of_all_scripts_stays(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x08b\x7f", r"a\x08b\x7f"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x85\u2028\u2029", r"\x85\u2028\u2029"),
        ("slide\u202egnp.svs", r"slide\u202egnp.svs"),
        ("\u2066a\u2069\u200f", r"\u2066a\u2069\u200f"),
        ("\ud800x", r"\ud800x"),
        (os.fsdecode(b"caf\xe9.svs"), r"caf\xe9.svs"),
        ("Tu\u200dmor\u200c", r"Tu\u200dmor\u200c"),
        ("Tu\u200bm\u00ador\ufeff", r"Tu\u200bm\xador\ufeff"),
        ("a\u3164b\ufdd0\ufffe", r"a\u3164b\ufdd0\ufffe"),
        ("a\ufe01\U000e0041\U000e0101", r"a\ufe01\U000e0041\U000e0101"),
        ("a" + "\u0301" * 10, "a" + "\u0301" * 8 + r"\u0301\u0301"),
    ],
)
def test_what_could_fool_a_reader_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert clean_text(text) == shown


def test_an_error_is_one_clean_line_of_bounded_length() -> None:
    assert one_line(ValueError("a\n b\x1b[2J")) == r"a b\x1b[2J"
    assert len(one_line("x" * 10**6)) < 30_000


def test_json_values_are_cleaned_at_every_depth() -> None:
    value = {"a\x07": ["\x1b", ("\ud800", 1, None, 2.5)], "path": Path("a\u202eb")}

    cleaned = clean_json(value)

    assert cleaned == {r"a\x07": [r"\x1b", [r"\ud800", 1, None, 2.5]], "path": r"a\u202eb"}
    json.dumps(cleaned, ensure_ascii=False).encode()


def test_a_name_of_other_bytes_is_known() -> None:
    assert is_writable_text("名.svs")
    assert not is_writable_text(os.fsdecode(b"\xff.svs"))
