"""Checks that every QuPath since 0.4 reads a GeoJSON file correctly.

Files with one Feature a line, as wsipsm writes them, are checked a line at a time, in memory that hardly grows
with the file; any other GeoJSON is parsed whole.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from wsipsm.export.geojson_rules import FeatureRules, Problem
from wsipsm.geometry import Box, Size
from wsipsm.keys import QuPathFrame
from wsipsm.slide.frame import SlideFrame
from wsipsm.text import JsonObject

__all__ = ["GeoJsonReport", "OnSlide", "Problem", "check_geojson", "examine_geojson"]

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")
MAX_PART_BYTES = 100_000_000
"""Uncompressed size in bytes from which QuPath needs more than about 1.1 GB of heap."""
MAX_ANNOTATIONS = 10_000
_BOM = b"\xef\xbb\xbf"

Opener = Callable[[], IO[bytes] | gzip.GzipFile]


@dataclass(frozen=True, slots=True)
class GeoJsonReport:
    """The findings of a check."""

    problems: list[Problem]
    """Rules that are broken, at most ``geojson_rules.MAX_PROBLEMS``."""
    n_more: int
    """Number of further problems."""
    notes: list[str]
    """Remarks on what is allowed but heavy or unusual."""
    n_features: int
    qupath_frame: QuPathFrame | None
    """Frame of the positions: the one that the file names, or else the slide's; None where neither is known."""


@dataclass(frozen=True, slots=True)
class OnSlide:
    """The slide that a file is meant for."""

    frame: SlideFrame
    """Frame of the slide, with what QuPath shows of it; a frame that the file itself names is used instead."""
    fingerprint: str
    """Fingerprint of the slide, which is compared with the file's where it has one."""


class _NotByLine(Exception):
    """The file is not laid out with one Feature a line."""


def check_geojson(path: str | Path, size: Size | None = None) -> list[str]:
    """Find what would make QuPath refuse or misread a file.

    Parameters
    ----------
    path
        File ending in .geojson, .json, .geojson.gz, .json.gz or .zip.
    size
        Width and height of the image as QuPath shows it, level-0 pixels; without it only negative coordinates are
        found to be outside.

    Returns
    -------
    Problems, one line each, with the Feature's number and id and the rule's name; empty when there are none.
    A collection without features has none: QuPath reads it as 0 objects.

    Raises
    ------
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> check_geojson("results/case/cells.geojson.gz")
    []
    >>> "outside the image" in check_geojson("results/case/cells.geojson.gz", Size(256, 256))[0]
    True
    """
    report = examine_geojson(path, size)
    more = [f"and {report.n_more} more problems"] if report.n_more else []
    return [*map(str, report.problems), *more]


def examine_geojson(path: str | Path, size: Size | None = None, slide: OnSlide | None = None) -> GeoJsonReport:
    """Check a file as :func:`check_geojson` does, and note what is allowed but heavy or unusual.

    Parameters
    ----------
    path, size
        The same as in :func:`check_geojson`.
    slide
        Slide in place of a size: positions must lie where the slide holds pixels, in the frame that the file names or
        else in the slide's, and a fingerprint in the file must be the slide's.
    """
    image = slide.frame.content_qupath if slide else None if size is None else Box(0, 0, size.width, size.height)
    check = _FileCheck(Path(path), FeatureRules(image), slide)
    check.run()
    rules = check.rules  # not the object passed above: the check may have replaced it by a copy
    rules.finish()
    if rules.image is not None and rules.detection_area_px2 > rules.image.area:
        rules.report("total-area", "detections cover more than the image; are they in pixels of another slide?")
    notes = check.notes
    if rules.n_features == 0 and not rules.problems:
        notes.append("no features: QuPath reads 0 objects.")
    if rules.n_annotations > MAX_ANNOTATIONS:
        notes.append(f"{rules.n_annotations} annotations make QuPath slow; detections are lighter.")
    return GeoJsonReport(rules.problems, rules.n_more, notes, rules.n_features, check.qupath_frame)


@dataclass
class _FileCheck:
    path: Path
    rules: FeatureRules
    slide: OnSlide | None = None
    notes: list[str] = field(default_factory=list)
    _slips: list[tuple[str, str]] = field(default_factory=list)
    """Faults that the JSON parser's hooks found in the current document, as rule and message."""
    _decoder: json.JSONDecoder = field(init=False)
    qupath_frame: QuPathFrame | None = field(init=False)

    def __post_init__(self) -> None:
        self.qupath_frame = self.slide.frame.qupath if self.slide else None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def run(self) -> None:
        name = self.path.name.lower()
        kind = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
        with self.path.open("rb") as file:
            magic = file.read(4)
        if kind is None:
            self.rules.report("file-name", f"QuPath reads only files that end in {', '.join(SUFFIXES)}.")
            kind = ".zip" if magic == b"PK\x03\x04" else ".gz" if magic[:2] == b"\x1f\x8b" else ".json"
        if kind == ".zip":
            self._zip()
        elif kind.endswith(".gz"):
            self._document(lambda: gzip.GzipFile(self.path, "rb"), None)
        else:
            self._document(lambda: self.path.open("rb"), None)

    def _zip(self) -> None:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
                if not entries:
                    self.rules.report("zip-entry", "the zip file is empty.")
                for entry in entries:
                    if not entry.filename.lower().endswith((".geojson", ".json")):
                        message = "not .geojson or .json; QuPath refuses a dropped zip that holds anything else."
                        self.rules.report("zip-entry", message, entry.filename)
                        continue
                    self._document(lambda entry=entry: archive.open(entry), entry.filename)  # type: ignore[misc]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            self.rules.report("compression", f"the zip file cannot be read ({error}).")

    def _document(self, opener: Opener, entry: str | None) -> None:
        """Check one JSON document."""
        try:
            with opener() as file:
                starts_with_bom = file.read(3) == _BOM
            if starts_with_bom:
                self.rules.report("bom", "the file starts with a byte order mark.", entry)
            before = self.rules.copy()
            try:
                with opener() as file:
                    n_bytes = self._by_line(file, entry)
            except _NotByLine:
                self.rules = before
                self._slips.clear()
                with opener() as file:
                    n_bytes = self._whole(file, entry)
        except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
            self.rules.report("compression", f"compressed data ends early or is damaged ({error}).", entry)
            return
        if n_bytes > MAX_PART_BYTES:
            where = f"{entry}: " if entry else ""
            gigabytes = 11 * n_bytes / 1e9
            self.notes.append(
                f"{where}{n_bytes / 1e6:.0f} MB uncompressed; QuPath needs about {gigabytes:.1f} GB of memory for it."
            )

    def _by_line(self, file: IO[bytes] | gzip.GzipFile, entry: str | None) -> int:
        """Check a document with one Feature on each line; return the number of bytes read.

        Raises
        ------
        _NotByLine
            When it has another layout; the caller then discards the problems reported so far.
        """
        header = file.readline().rstrip()
        if not header.endswith(b'"features":[') or header.startswith(_BOM):
            raise _NotByLine
        collection = self._parse(header + b"]}")
        self._collection(collection, entry)
        self._report_slips(entry)
        n_bytes, index, expects_more = len(header), 0, True
        for line in file:
            n_bytes += len(line)
            text = line.strip()
            if text == b"]}" and (index == 0 or not expects_more):
                if file.read().strip():
                    self.rules.report("json", "text follows the end of the document.", entry)
                return n_bytes
            if not expects_more:
                raise _NotByLine
            expects_more = text.endswith(b",")
            try:
                feature = self._parse(text.removesuffix(b","))
            except _NotByLine:
                # This is the last line of a truncated file, which need not be parsed again as a whole.
                if index == 0 or file.read(1):
                    raise
                break
            self._report_slips(entry, index)
            self.rules.check(feature, index, entry)
            index += 1
        self.rules.report("json", f"not one JSON document (it breaks off after {index} features).", entry)
        return n_bytes

    def _whole(self, file: IO[bytes] | gzip.GzipFile, entry: str | None) -> int:
        """Check a document of any layout; return the number of bytes read."""
        data = file.read()
        n_bytes = len(data)
        try:
            text = data.removeprefix(_BOM).decode("utf-8")
            del data
            document = self._loads(text)
        except UnicodeDecodeError as error:
            self.rules.report("encoding", f"not UTF-8 (byte {error.start}).", entry)
            return n_bytes
        except RecursionError:
            self.rules.report("json", "nested too deeply.", entry)
            return n_bytes
        except ValueError as error:
            self.rules.report("json", f"not one JSON document ({error}).", entry)
            return n_bytes
        self._report_slips(entry)
        if self._collection(document, entry):
            for index, feature in enumerate(document["features"]):
                self.rules.check(feature, index, entry)
        return n_bytes

    def _parse(self, line: bytes) -> Any:
        """Parse one line; a line that is not valid JSON means another layout, or damage."""
        try:
            return self._loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _NotByLine from error

    def _loads(self, text: str) -> Any:
        return self._decoder.decode(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> JsonObject:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            self._slips.append(("duplicate-key", f"key {', '.join(twice)} occurs twice in one object."))
        return found

    def _constant(self, token: str) -> float:
        self._slips.append(("nan-token", f"{token} is no JSON number."))
        return 0.0

    def _report_slips(self, entry: str | None, index: int | None = None) -> None:
        for rule, message in self._slips:
            self.rules.report(rule, message, entry, index)
        self._slips.clear()

    def _collection(self, document: Any, entry: str | None) -> bool:
        """Check the top level; return whether its features can be checked."""
        if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
            self.rules.report("collection", "the top level is not a FeatureCollection.", entry)
            return False
        if not isinstance(document.get("features"), list):
            self.rules.report("collection", "features is not an array.", entry)
            return False
        self._place(document.get("wsipsm"), entry)
        return True

    def _place(self, about: Any, entry: str | None) -> None:
        """Use the slide and frame that a file of wsipsm names."""
        if not isinstance(about, dict):
            return
        if about.get("qupath_frame") in list(QuPathFrame):
            self.qupath_frame = QuPathFrame(about["qupath_frame"])
        if self.slide is None:
            return
        frame = replace(self.slide.frame, qupath=self.qupath_frame or self.slide.frame.qupath)
        self.rules.set_image(frame.content_qupath)
        of = about.get("slide_fingerprint", self.slide.fingerprint)
        if of != self.slide.fingerprint:
            message = f"made of another slide (fingerprint {str(of)[:12]}; this one has {self.slide.fingerprint[:12]})."
            self.rules.report("slide", message, entry)
