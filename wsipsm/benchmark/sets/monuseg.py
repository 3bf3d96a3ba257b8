"""Reads MoNuSeg as downloaded, and the part of it that the published PSM code scores.

Known layouts are folders "Tissue Images" and "Annotations" (training set; TIFF and Aperio XML), TIFF and XML side by
side (test set), and ``images/`` with ``labels_png/`` (label images) or ``xml/``. Outlines are drawn as the organisers'
MATLAB script does, by ``poly2mask`` with X and Y as written in the file; of overlapping regions the earliest wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.benchmark.images import (
    LabelledImage,
    Truth,
    check_pairs,
    list_files,
    list_names,
    read_label_png,
    read_size,
)
from wsipsm.errors import UsageError
from wsipsm.geometry import Box, Size
from wsipsm.metrics.labels import aperio_labels, read_aperio_xml

MPP = 0.25
"""Pixel size of all images, um/px: they are cut from 40x scans."""
PAPER_CROP_PX = 512
IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
ORGANS = {
    **dict.fromkeys(("18", "21", "38", "44", "49", "50", "69"), "lung"),
    **dict.fromkeys(("2Z", "B0", "GL", "HE", "IZ"), "kidney"),
    **dict.fromkeys(("A7", "AC", "AO", "AR", "E2"), "breast"),
    **dict.fromkeys(("CH", "EJ", "G9", "HC"), "prostate"),
    **dict.fromkeys(("CU", "DK", "G2", "ZF"), "bladder"),
    **dict.fromkeys(("A6", "AY", "NH"), "colon"),
    **dict.fromkeys(("KB", "RD"), "stomach"),
    **dict.fromkeys(("FG", "HT"), "brain"),
}
"""Organs by the tissue source site of TCGA, the second part of an image's name. Kumar et al. (2017) list sites 18 to 50
as liver, but TCGA lists them as lung."""
_IMAGE_FOLDERS = ("tissue images", "images")
_LABEL_FOLDERS = (("annotations", (".xml", ".png")), ("labels_png", (".png",)), ("xml", (".xml",)))
"""Folders of annotations with their suffixes; the first that exists is used."""


def monuseg_images(folder: Path) -> list[LabelledImage]:
    """Find the images and their annotations; neither is read yet.

    Raises
    ------
    UsageError
        When the layout is unknown, an image lacks its annotation or an annotation its image, or sizes differ; the
        message names all such files.
    """
    images, annotations, kind = _find_files(folder)
    check_pairs(folder, images, annotations, kind)
    sizes = {name: read_size(path) for name, path in images.items()}
    wrong = [
        f"{path.name} ({size.width} x {size.height}, image {sizes[name].width} x {sizes[name].height})"
        for name, path in annotations.items()
        if path.suffix.lower() == ".png" and (size := read_size(path)) != sizes[name]
    ]
    if wrong:
        raise UsageError(
            f"{folder}: label images of another size than their image: {list_names(wrong)}; take them out."
        )
    return [
        LabelledImage(name, path, partial(read_truth, annotations[name], sizes[name]), organ=organ_of(name))
        for name, path in images.items()
    ]


def organ_of(name: str) -> str:
    """Find the organ of an image by its TCGA barcode; empty when its name is no barcode."""
    parts = name.split("-")
    return ORGANS.get(parts[1], "") if len(parts) > 2 and parts[0] == "TCGA" else ""


def read_truth(path: Path, size: Size) -> Truth:
    """Read the true instances of one image.

    Parameters
    ----------
    path
        Aperio XML or a label image.
    size
        Width and height of the image, pixels.

    Raises
    ------
    UsageError
        When the file cannot be used.
    """
    if path.suffix.lower() == ".xml":
        regions = read_aperio_xml(path)
        labels = aperio_labels(regions, size)
        return Truth(labels, notes_on_regions(path, regions, labels))
    labels = read_label_png(path)
    if labels.max() == labels[labels > 0].min(initial=labels.max()) and ndimage.label(labels)[1] > 1:
        raise UsageError(f"{path}: a mask of one value; a label image with one number a nucleus is needed.")
    return Truth(labels)


def notes_on_regions(path: Path, regions: list[NDArray[np.float64]], labels: NDArray[np.int32]) -> tuple[str, ...]:
    """Return a sentence on faults of a file's regions, if it has any.

    Parameters
    ----------
    path
        Path of the annotation file.
    regions
        Outlines as `read_aperio_xml` returns them.
    labels
        Label image that `aperio_labels` drew of them.
    """
    height, width = labels.shape
    n_short = n_crossing = n_outside = 0
    for vertices in regions:
        if len(vertices) < 3:
            n_short += 1
            continue
        low, high = vertices.min(0) - 0.5, vertices.max(0) - 0.5
        n_outside += bool((high <= 0).any() or low[0] >= width or low[1] >= height)
        n_crossing += not shapely.is_valid(shapely.Polygon(vertices))
    n_hidden = len(regions) - int(labels.max(initial=0)) - n_short - n_outside
    counts = {
        "with fewer than three vertices, dropped": n_short,
        "outside the image, dropped": n_outside,
        "without a pixel of their own, dropped": n_hidden,
        "crossing themselves, drawn by parity": n_crossing,
    }
    oddities = [f"{n} {what}" for what, n in counts.items() if n]
    return (f"{path.name}: of {len(regions)} regions {'; '.join(oddities)}.",) if oddities else ()


def paper_view(image: LabelledImage) -> LabelledImage:
    """Return an image as the published PSM code scores it.

    Only the central 512 px square is scored, and true instances are the 8-connected components of the binary mask, so
    touching nuclei count as one.

    Raises
    ------
    UsageError
        When the image is smaller than that square.
    """
    size = read_size(image.path)
    if min(size.width, size.height) < PAPER_CROP_PX:
        raise UsageError(
            f"{image.path}: {size.width} x {size.height} px; --protocol paper crops {PAPER_CROP_PX} px. "
            "Use --protocol whole."
        )
    box = Box(
        round((size.width - PAPER_CROP_PX) / 2), round((size.height - PAPER_CROP_PX) / 2), PAPER_CROP_PX, PAPER_CROP_PX
    )
    return replace(image, read_truth=partial(_paper_truth, image.read_truth, box), crop=box)


def _paper_truth(read: Callable[[], Truth], box: Box) -> Truth:
    truth = read()
    mask = truth.labels[box.y : box.bottom, box.x : box.right] > 0
    return Truth(ndimage.label(mask, np.ones((3, 3)))[0].astype(np.int32), truth.notes)


def _find_files(folder: Path) -> tuple[dict[str, Path], dict[str, Path], str]:
    """Find images and annotations by stem; return them with the name of the annotations for messages."""
    subfolders = {p.name.lower(): p for p in _subfolders(folder)}
    pixels = next((subfolders[name] for name in _IMAGE_FOLDERS if name in subfolders), None)
    labels = next(((subfolders[name], suffixes) for name, suffixes in _LABEL_FOLDERS if name in subfolders), None)
    if pixels is not None and labels is not None:
        place, suffixes = labels
        return list_files(pixels, IMAGE_SUFFIXES), list_files(place, suffixes), f"annotation in {place.name}"
    images, annotations = list_files(folder, (".tif", ".tiff")), list_files(folder, (".xml",))
    if images or annotations:
        return images, annotations, ".xml"
    # An archive unpacks into a folder of its name, which may contain another such folder.
    if len(subfolders) == 1:
        return _find_files(next(iter(subfolders.values())))
    raise UsageError(
        f"{folder}: no layout of MoNuSeg (found {list_names(sorted(p.name for p in folder.iterdir())) or 'nothing'}); "
        '"Tissue Images" and "Annotations", images and labels_png or xml, or .tif and .xml side by side are needed. '
        "Name the folder that holds them."
    )


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; MoNuSeg's folder is needed. Check the path.") from error
