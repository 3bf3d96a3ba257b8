"""What users give in place of a slide is named for what it is, at once."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from drawn_images import flat, write_pages
from PIL import Image

from wsipsm.errors import SlideOpenError
from wsipsm.slide.open import open_slide


def zipped() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("slide.svs", b"x" * 1000)
    return whole.getvalue()


def tarred() -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("slide.svs"))
    return whole.getvalue()


FORMS = {
    "text": (b"Please contact the lab for this slide.\n", "a text file"),
    "latin text": ("Schnitt f\xe4rbung, gro\xdf und sch\xf6n".encode("latin-1") + b" " * 60, "a text file"),
    "utf-16 text": ("A note about this slide".encode("utf-16"), "a text file"),
    "csv": (b"slide,mpp\na.svs,0.25\n", "wsipsm cohort"),
    "html": (b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", "an HTML page"),
    "html without doctype": (b"\xef\xbb\xbf \r\n<HTML><body>404</body></HTML>", "an HTML page"),
    "xml": (b'<?xml version="1.0"?><Annotations/>', "an XML file"),
    "json": (b'{"type": "FeatureCollection", "features": []}', "--roi"),
    "server error": (b'{"message": "Not Found"}', "JSON text"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n", "git lfs pull"),
    "annex": (b"/annex/objects/MD5E-s12--34.svs\n", "git annex get"),
    "zip": (zipped(), "a zip archive"),
    "tar": (tarred(), "a tar archive"),
    "gzip": (gzip.compress(b"II*\0" + bytes(100)), "gunzip"),
    "bzip2": (bz2.compress(b"II*\0"), "bunzip2"),
    "xz": (lzma.compress(b"II*\0"), "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(50), "unzstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(50), "rar archive"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF file"),
    "apple double": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(100), "AppleDouble"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "parquet": (b"PAR1" + bytes(100), "a Parquet table"),
    "zeros": (bytes(10_000), "zeros where a header should be"),
    "empty": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", ["slide.svs", "slide.ome.tif", "slide.ndpi", "slide.png", "slide"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_slide_is_named_for_what_it_is(tmp_path: Path, form: str, name: str) -> None:
    content, words = FORMS[form]
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SlideOpenError) as caught:
        open_slide(tmp_path / name)

    assert words in str(caught.value)
    assert "Check that the copy is complete" not in str(caught.value)


def test_pipes_devices_loops_and_folders_do_not_stop_the_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.svs")
    (tmp_path / "loop.svs").symlink_to("loop.svs")
    (tmp_path / "dangling.svs").symlink_to("gone.svs")
    (tmp_path / "folder.svs").mkdir()
    for name, words in (
        ("pipe.svs", "a named pipe"),
        ("loop.svs", "leads back to itself"),
        ("dangling.svs", "a link to gone.svs"),
        ("folder.svs", "a folder without DICOM"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(SlideOpenError, match=words):
            open_slide(tmp_path / name)


def test_a_name_that_is_not_utf8_is_refused_and_shown(tmp_path: Path) -> None:
    plain = write_pages(tmp_path / "a.tif", [flat(128, 96, 10)])
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tif")
    os.rename(plain, bad)

    with pytest.raises(SlideOpenError, match=r"caf\\xe9\.tif: .*not UTF-8"):
        open_slide(bad)


def test_sound_slides_pass(tmp_path: Path) -> None:
    write_pages(tmp_path / "a b\u00e9\u540d.tif", [flat(128, 96, 10)]).rename(tmp_path / "no suffix")
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "black.bmp")
    for name in ("no suffix", "black.bmp"):
        open_slide(tmp_path / name).close()
