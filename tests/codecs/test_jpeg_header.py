"""What the headers of JPEG and JPEG 2000 streams say, and headers that are none."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from wsipsm.codecs.jpeg_header import read_jpeg2000_header, read_jpeg_header, read_scan_header


def test_jpeg_headers() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)
    header = read_jpeg_header(imagecodecs.jpeg8_encode(pixels, subsampling="420"))
    assert (header.width, header.height, header.n_components, header.colour) == (72, 40, 3, "ycbcr")
    for bad in (b"", b"\xff\xd8", b"\xff\xd8\x00\x00\x00\x00", b"\xff\xd8\xff\xda\x00\x02", b"\x89PNG"):
        with pytest.raises(ValueError, match="JPEG"):
            read_jpeg_header(bad)
    header2000 = read_jpeg2000_header(imagecodecs.jpeg2k_encode(pixels, level=80, mct=True))
    assert (header2000.width, header2000.height, header2000.n_components) == (72, 40, 3)
    assert not header2000.is_subsampled
    with pytest.raises(ValueError, match="codestream"):
        read_jpeg2000_header(b"abc")


def test_headers_before_a_scan() -> None:
    for bad in (b"", b"\xff\xd8\xff\xda\x00\x0c\x03" + bytes(9), b"\xff\xd8\xff\xdd\x00\x04\x00"):
        with pytest.raises(ValueError, match="JPEG"):
            read_scan_header(bad)
