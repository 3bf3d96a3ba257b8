"""Labelled images to score on, which are read when they are first used. No training reads their labels."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from wsipsm.errors import UsageError
from wsipsm.geometry import Box, Size
from wsipsm.slide.readers.image import MAX_IMAGE_PX

NO_POINTS: NDArray[np.float64] = np.empty((0, 2))
_N_SHOWN_NAMES = 12
_DECODING_ERRORS = (OSError, ValueError, SyntaxError, IndexError, struct.error, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Truth:
    """A true label image, and what was corrected when it was made."""

    labels: NDArray[np.int32]
    """Shape (height, width), 0 is background."""
    notes: tuple[str, ...] = ()
    """Sentences on the corrections; each names the file."""


@dataclass(frozen=True)
class LabelledImage:
    """An image with a label image as its truth; both are read once, when they are first used."""

    name: str
    path: Path
    read_truth: Callable[[], Truth]
    crop: Box | None = None
    """Part of the image that is scored, pixels; None: all of it."""
    organ: str = ""
    """Organ of the tissue; empty where it is not known."""

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """Pixels of the scored part, uint8, shape (height, width, 3)."""
        return crop_pixels(read_rgb(self.path), self.crop)

    @cached_property
    def _truth(self) -> Truth:
        return self.read_truth()

    @property
    def truth(self) -> NDArray[np.int32]:
        """True label image of the scored part, int32, shape (height, width)."""
        return self._truth.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was corrected in the truth."""
        return self._truth.notes

    @property
    def size(self) -> Size:
        """Width and height of the part that is scored, pixels."""
        return Size(self.truth.shape[1], self.truth.shape[0])


@dataclass(frozen=True)
class PointImage:
    """An image with points as its truth; pixels are read once, when they are first used.

    Points are (x, y) in pixels, corner convention, shape (n, 2).
    """

    name: str
    path: Path
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    ignore: NDArray[np.float64] = field(default_factory=NO_POINTS.copy)
    """Objects on which a prediction is neither right nor wrong; such predictions are dropped before scoring."""
    read_mask: Callable[[], NDArray[np.bool_]] | None = None
    """Function that reads the mask of the pixels to score; None: all are scored."""
    notes: tuple[str, ...] = ()

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """Pixels, uint8, shape (height, width, 3)."""
        return read_rgb(self.path)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """Mask of the pixels to score, shape (height, width); None: all are scored."""
        return None if self.read_mask is None else self.read_mask()


@dataclass(frozen=True)
class PointSet:
    """A set of point-labelled images, with the function that reads it and the rules for scoring."""

    title: str
    radius_px: float
    """Largest distance between a prediction and its label, pixels."""
    diameter_px: float
    """Measured median diameter of a positive nucleus, pixels."""
    mpp: float
    """Assumed pixel size, um/px; no source documents one."""
    mpp_reason: str
    """Reason for the assumed pixel size."""
    read: Callable[[Path], list[PointImage]]
    """Function that finds the images in the set's folder and reads their labels, but not their pixels."""


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read the pixels of a plain 8-bit colour image.

    An alpha channel that is opaque everywhere is dropped. Transparent pixels, grey images and 16-bit images are
    refused, since their conversion would be a guess.

    Returns
    -------
    Array of shape (height, width, 3), uint8.

    Raises
    ------
    UsageError
        When the file is empty, no image, corrupt or too large, or has pixels of another kind.
    """
    with _open_image(path) as image:
        if _is_deep(image):
            raise UsageError(f"{path}: more than 8 bits a channel; 8-bit RGB is needed. Scale it to 8 bit first.")
        if image.mode in ("L", "LA", "1"):
            raise UsageError(f"{path}: a grey image; stains are told apart by colour, so 8-bit RGB is needed.")
        if image.mode not in ("RGB", "RGBA", "P", "YCbCr"):
            raise UsageError(f"{path}: pixels of kind {image.mode}; 8-bit RGB is needed. Convert the image.")
        pixels = _decode(path, image, "RGBA" if image.mode == "RGBA" or "transparency" in image.info else "RGB")
    if pixels.shape[-1] == 4:
        if (pixels[..., 3] < 255).any():
            raise UsageError(f"{path}: has transparent pixels; an opaque image is needed. Flatten it over white first.")
        pixels = np.ascontiguousarray(pixels[..., :3])
    return pixels


def read_size(path: Path) -> Size:
    """Read the size of an image from its header.

    Raises
    ------
    UsageError
        When the file is empty, no image or too large.
    """
    with _open_image(path) as image:
        return Size(*image.size)


def read_label_png(path: Path) -> NDArray[np.int32]:
    """Read an instance label image of 8 or 16 bit, in which 0 is background.

    Returns
    -------
    Array of shape (height, width), int32.

    Raises
    ------
    UsageError
        When the file is no such image.
    """
    with _open_image(path) as image:
        if image.mode not in ("L", "I", "I;16", "I;16B"):
            raise UsageError(
                f"{path}: pixels of kind {image.mode}; a label image, 16-bit grey with one number a nucleus, is needed."
            )
        return _decode(path, image, None).astype(np.int32)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask, shape (height, width), which is true for every pixel that is not 0.

    Raises
    ------
    UsageError
        When the file is no image.
    """
    with _open_image(path) as image:
        return _decode(path, image, "L") > 0


def crop_pixels(pixels: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
    """Crop an image to a box; without a box all of it is returned."""
    return pixels if box is None else pixels[box.y : box.bottom, box.x : box.right].copy()


def list_files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """List the files of a folder by their stem, without hidden ones, numbers in the order of their values.

    Raises
    ------
    UsageError
        When the folder cannot be read, or two files share a stem.
    """
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; a folder of the set is needed. Check the path.") from error
    found.sort(key=lambda p: (p.stem.zfill(12) if p.stem.isdigit() else p.stem, p.name))
    files: dict[str, Path] = {}
    for path in found:
        if path.stem in files:
            raise UsageError(
                f"{folder}: holds both {files[path.stem].name} and {path.name}; one file a name is needed. Remove one."
            )
        files[path.stem] = path
    return files


def check_pairs(folder: Path, images: Mapping[str, Path], annotations: Mapping[str, Path], kind: str) -> None:
    """Refuse a set in which an image lacks its annotation or an annotation its image.

    Parameters
    ----------
    folder
        Folder of the set, which the message names.
    images, annotations
        Files by stem.
    kind
        Name for an annotation in the message.

    Raises
    ------
    UsageError
        When a file lacks its partner; the message names all such files.
    """
    if not images:
        raise UsageError(f"{folder}: holds no image; the set as downloaded is needed. Check the path.")
    missing = [path.name for stem, path in images.items() if stem not in annotations]
    extra = [path.name for stem, path in annotations.items() if stem not in images]
    found = []
    if missing:
        found.append(f"no {kind} for {list_names(missing)}")
    if extra:
        found.append(f"no image for {list_names(extra)}")
    if found:
        raise UsageError(
            f"{folder}: {'; '.join(found)}; each image needs its {kind}, of the same name. "
            "Complete the download, or take these files out."
        )


def list_names(names: Iterable[str]) -> str:
    """Join names with commas; of a long list the first twelve are shown and the others counted."""
    names = list(names)
    shown = ", ".join(names[:_N_SHOWN_NAMES])
    return shown if len(names) <= _N_SHOWN_NAMES else f"{shown} and {len(names) - _N_SHOWN_NAMES} more"


def notes_on_points(path: Path, xy: NDArray[np.float64], size: Size) -> tuple[str, ...]:
    """Return a sentence on how many points lie outside the image, if any does."""
    outside = (xy < 0).any(1) | (xy[:, 0] > size.width) | (xy[:, 1] > size.height)
    n = int(outside.sum())
    if n == 0:
        return ()
    return (f"{path.name}: {n} of {len(xy)} points lie outside the image of {size.width} x {size.height} px.",)


def _open_image(path: Path) -> ImageFile:
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{path}: is empty; an image is needed. Download it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of a large image, whose size is checked below
            image = Image.open(path)
    except UnidentifiedImageError as error:
        raise UsageError(f"{path}: no image that can be read; a TIFF, PNG or JPEG is needed. Get it again.") from error
    except _DECODING_ERRORS as error:
        raise UsageError(f"{path}: {error}; an image is needed. Download it again.") from error
    width, height = image.size
    if width * height > MAX_IMAGE_PX:
        image.close()
        raise UsageError(f"{path}: {width} x {height} px; at most {MAX_IMAGE_PX:,} px can be scored. Cut it up.")
    return image


def _is_deep(image: ImageFile) -> bool:
    """Tell whether a channel has more than 8 bits, since Pillow reduces 16-bit RGB to 8 bits without a warning."""
    raw_modes = [tile[3] if isinstance(tile[3], str) else str(tile[3][0]) for tile in image.tile if tile[3]]
    return image.mode in ("I", "F") or any(";16" in mode for mode in (image.mode, *raw_modes))


def _decode(path: Path, image: ImageFile, mode: str | None) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(image if mode is None else image.convert(mode))
    except (*_DECODING_ERRORS, MemoryError) as error:
        raise UsageError(f"{path}: does not decode ({error}); a whole image is needed. Download it again.") from error
