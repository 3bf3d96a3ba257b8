"""The use of each annotation: counted, cut out or unused.

The class decides, by its exact components; a name decides where there is no class. Where these leave it open, an error
names the options by which the user can decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wsipsm.errors import RoiError
from wsipsm.region.base import Use

ROI_CLASSES = ("Tumor", "Tumour")
EXCLUDE_CLASSES = ("Ignore", "Necrosis", "Artefact", "Artifact", "Exclude")
EVERY_CLASS = "*"
"""The class that stands for every annotation that is not cut out."""
NO_CLASS = "none"
"""The class that stands for annotations without one."""
PLAIN_CLASS = "Region*"
"""QuPath's class of annotations that mark an area and say nothing else about it."""
_MAX_LISTED = 12
_LIKE_EXCLUDED = re.compile(r"\b(ignor|exclu|necro|artefa|artifa)")
_LIKE_TUMOUR = re.compile(r"tumou?r")


@dataclass(frozen=True, slots=True)
class RoiRules:
    """Rules by which a user chooses the annotations that count."""

    roi_class: tuple[str, ...] | None = None
    """Classes whose annotations count; None: ``ROI_CLASSES`` or, where the file has none of these, every annotation
    that is not cut out, if they are all of one kind."""
    exclude_class: tuple[str, ...] | None = None
    """Classes that are cut out; None: ``EXCLUDE_CLASSES``."""
    tma_cores: bool = False
    """Whether TMA cores are areas like annotations."""
    absent_class_is_error: bool = True
    """Whether each class that is named must occur in the file; the file of a slide in a cohort need not hold all."""


class _Labelled(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def classification(self) -> str: ...


def class_key(text: str) -> str:
    """Return a class, or a component of one, as it is compared: without case, a trailing ``*`` and spare blanks."""
    parts = (" ".join(part.split()).rstrip("*").strip() for part in unicodedata.normalize("NFC", text).split(":"))
    return ": ".join(part.casefold() for part in parts if part)


_PLAIN = class_key(PLAIN_CLASS)


@dataclass
class _Roles:
    """The rules as they are compared; the role of each pair of class and name is found once."""

    wanted: frozenset[str]
    excluded: frozenset[str]
    every: bool
    no_class: bool
    _known: dict[tuple[tuple[str, ...], str], str] = field(default_factory=dict)

    def role(self, drawn: _Labelled) -> str:
        """Return ``excluded``, ``wanted`` or ``other``."""
        key = (drawn.components, "" if drawn.components else drawn.name)
        if key not in self._known:
            self._known[key] = self._role(drawn)
        return self._known[key]

    def _role(self, drawn: _Labelled) -> str:
        keys = keys_of(drawn)
        if keys & self.excluded:
            return "excluded"
        if self.every or keys & self.wanted or (self.no_class and not drawn.components):
            return "wanted"
        return "other"


def keys_of(drawn: _Labelled) -> frozenset[str]:
    """Return the keys with which a user's class is compared: whole class and components, or the name without a class.

    A name counts with and without a number at its end: ``Tumour 2`` is another tumour.
    """
    if drawn.components:
        return frozenset({class_key(drawn.classification), *map(class_key, drawn.components)}) - {""}
    key = class_key(drawn.name)
    return frozenset({key, re.sub(r"[\s_#-]*\d+$", "", key)}) - {""}


def choose_uses(drawn: Sequence[_Labelled], rules: RoiRules, path: str) -> list[Use]:
    """Choose the use of each annotation.

    Parameters
    ----------
    drawn
        Annotations of a file.
    rules
        Rules that the user gave.
    path
        Path of the file, for messages.

    Returns
    -------
    Use of each annotation, in their order.

    Raises
    ------
    RoiError
        When it is not clear which annotations count, or the rules name a class that does not occur in the file.
    """
    roles = _roles(rules)
    _refuse_absent(drawn, rules, path)
    found = [roles.role(one) for one in drawn]
    counted = "wanted"
    if "wanted" not in found:
        if rules.roi_class is not None:
            raise RoiError(
                f"{path}: no annotation of {_or(rules.roi_class)}; --roi-class needs one. Found: {list_classes(drawn)}."
            )
        counted = "other"
        _refuse_ambiguous([one for one, role in zip(drawn, found, strict=True) if role == counted], rules, path)
    uses = {"excluded": Use.CUT_OUT, counted: Use.COUNTED}
    return [uses.get(role, Use.UNUSED) for role in found]


def _roles(rules: RoiRules) -> _Roles:
    given = rules.roi_class if rules.roi_class is not None else ROI_CLASSES
    cut = rules.exclude_class if rules.exclude_class is not None else EXCLUDE_CLASSES
    wanted, excluded = (frozenset(map(class_key, classes)) - {""} for classes in (given, cut))
    if rules.roi_class is not None:
        both = wanted & excluded
        if both and rules.exclude_class is not None:
            raise RoiError(
                f"--exclude-class: {_or(sorted(both))}, which --roi-class names too; a class either counts or is cut "
                "out. Leave it out of one of the two."
            )
        excluded -= both  # a class that --roi-class names is not cut out by default
    every = any(text.strip() == EVERY_CLASS for text in given)
    return _Roles(wanted, excluded, every, rules.roi_class is not None and NO_CLASS in wanted)


def _refuse_absent(drawn: Sequence[_Labelled], rules: RoiRules, path: str) -> None:
    """Refuse a class that does not occur in the file: it may be misspelled, and its area would count silently."""
    if not rules.absent_class_is_error:
        return
    present = frozenset().union(*{keys_of(one) for one in drawn})
    for flag, given, usual in (
        ("--roi-class", rules.roi_class, ROI_CLASSES),
        ("--exclude-class", rules.exclude_class, EXCLUDE_CLASSES),
    ):
        needed = {class_key(text): text for text in given or ()}
        for key in ("", NO_CLASS, *map(class_key, usual)):
            needed.pop(key, None)
        absent = [text for key, text in needed.items() if key not in present]
        if absent:
            raise RoiError(
                f"{path}: no annotation of {_or(absent)}, which {flag} names. Found: {list_classes(drawn)}. Pass "
                f"{flag} with one of these, or leave it out."
            )


def _refuse_ambiguous(candidates: Sequence[_Labelled], rules: RoiRules, path: str) -> None:
    """Refuse a file without a tumour class whose annotations may mean different things."""
    keys = {class_key(one.classification) for one in candidates}
    classes, has_plain = keys - {"", _PLAIN}, bool(keys & {"", _PLAIN})
    unclear = ""
    if len(classes) + has_plain > 1:
        unclear = "none of which is Tumor"
    elif rules.exclude_class is None and any(_LIKE_EXCLUDED.search(_text(one)) for one in candidates):
        unclear = "and their exact classes do not say whether all of them count or some are to be cut out"
    elif not classes:
        alike = {bool(_LIKE_TUMOUR.search(_text(one))) for one in candidates}
        unclear = "and only some are named like tumour, none exactly" if len(alike) > 1 else ""
    if unclear:
        example = _example(candidates)
        raise RoiError(
            f"{path}: annotations of {list_classes(candidates)}, {unclear}; it must be clear whose nuclei count. Pass "
            f'--roi-class with what counts, e.g. --roi-class "{example}" ("{EVERY_CLASS}" for every annotation, '
            f'"{NO_CLASS}" for those without a class), or --exclude-class with what is to be cut out.'
        )


def _text(drawn: _Labelled) -> str:
    return class_key(drawn.classification or drawn.name)


def _example(drawn: Sequence[_Labelled]) -> str:
    """Choose a class or name that the user may mean, preferably one like tumour, and last one like an exclusion."""
    kept = [one for one in drawn if not _LIKE_EXCLUDED.search(_text(one))] or drawn
    texts = list(dict.fromkeys(one.classification or one.name for one in kept if one.classification or one.name))
    cancer = [text for text in texts if re.search(r"carcinom|cancer|invasi|malign", text.casefold())]
    return (cancer or texts or [NO_CLASS])[0]


def list_classes(drawn: Sequence[_Labelled]) -> str:
    """List the classes of annotations with their numbers, and names of those without a class, for a message."""
    counts: Counter[str] = Counter()
    for one in drawn:
        named = f"no class, named '{one.name}'" if one.name else "no class"
        counts[f"'{one.classification}'" if one.components else named] += 1
    listed = [text if n == 1 else f"{text} ({n:,})" for text, n in counts.most_common(_MAX_LISTED)]
    more = [f"{len(counts) - _MAX_LISTED:,} more"] if len(counts) > _MAX_LISTED else []
    return ", ".join([*listed, *more]) or "no annotation"


def _or(classes: Sequence[str]) -> str:
    return " or ".join(f"class '{text}'" for text in classes)
