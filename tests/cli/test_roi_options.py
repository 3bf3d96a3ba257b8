"""Classes of annotations on the command line."""

from __future__ import annotations

import pytest

from wsipsm.cli.run_options import split_classes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        # As the context of a command holds an option that was not given.
        ([], None),
        ((), None),
        (["Tumor"], ("Tumor",)),
        (["Tumor, Invasive carcinoma", "x"], ("Tumor", "Invasive carcinoma", "x")),
        (['"a, b",c'], ("a, b", "c")),
        ([""], ()),
    ],
)
def test_classes_are_split(given: list[str] | None, expected: tuple[str, ...] | None) -> None:
    assert split_classes(given) == expected
