"""Transfer of a slide from its server through fsspec, in pieces of bounded size, and the errors of a transfer.

fsspec, and the libraries that it needs for a scheme, are imported only when an address is used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Generator
from typing import Any

from wsipsm.errors import SlideOpenError, UsageError
from wsipsm.remote.address import file_of, shown_url, without_secrets
from wsipsm.remote.reach import UnreachableError, open_client

CHUNK_BYTES = 8 * 2**20
_HTTP_BYTES = 2**16
"""Bytes that are read at a time over HTTP. When a connection breaks, aiohttp drops its buffer, of up to twice this
size, and the socket's (256 KiB). With pieces of 8 MiB, connections that break every 16 MiB could transfer nothing."""
_NEEDS = {"https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
_RETRIED_STATUS = (408, 425, 429)


class NoAnswerError(SlideOpenError):
    """The server could not be reached, or its connections broke."""


class RestartError(Exception):
    """The server sends the file only from its beginning."""


def open_system(url: str, allow_private: bool = False) -> tuple[Any, str]:
    """Open fsspec's file system for an address.

    Parameters
    ----------
    url
        Address of a slide.
    allow_private
        Whether HTTP connections to this machine and to private networks are allowed.

    Returns
    -------
    The file system, and the name by which it knows the file.

    Raises
    ------
    UsageError
        When the library for the scheme is not installed.
    """
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        if scheme in ("http", "https"):
            import aiohttp

            # aiohttp's default limit on the whole request would end every download after five minutes.
            timeout = aiohttp.ClientTimeout(total=None, connect=60, sock_read=60)
            client = functools.partial(open_client, scheme, allow_private)
            given = {"timeout": timeout, "trust_env": True, "read_bufsize": _HTTP_BYTES}
            return fsspec.filesystem(scheme, client_kwargs=given, get_client=client), url
        return fsspec.filesystem({"gs": "gcs"}.get(scheme, scheme)), str(file_of(url) or url)
    except ImportError as error:
        raise UsageError(
            f"{shown_url(url)}: {scheme}:// is read with {_NEEDS.get(scheme, 'fsspec')}, which is not installed; the "
            "extra 'remote' is needed. Install it with: pip install 'wsipsm[remote]'"
        ) from error


def read_pieces(url: str, size: int, offset: int, allow_private: bool = False) -> Generator[bytes]:
    """Read a file of known size from an offset on, a bounded number of bytes at a time.

    Raises
    ------
    RestartError
        When the server sends the file from its beginning although an offset was requested.
    Exception
        Any error that the protocol's library raises when a connection breaks.
    """
    system, place = open_system(url, allow_private)
    if _is_http(url):
        # The answer is read as it arrives, so that excess bytes of a server are never held in memory.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with system.open(place, "rb", block_size=0, size=size, headers=headers) as stream:
            if offset and not str(stream.r.headers.get("Content-Range", "")).startswith(f"bytes {offset}-"):
                raise RestartError("the server sends the file only from its beginning")
            while piece := stream.read(_HTTP_BYTES):
                yield piece
        return
    with system.open(place, "rb", block_size=CHUNK_BYTES, cache_type="none") as stream:
        stream.seek(offset)
        while piece := stream.read(min(CHUNK_BYTES, size - offset)):
            yield piece
            offset += len(piece)


def _status(url: str, error: Exception) -> int | None:
    """Return the status of a server's answer; None where there is none."""
    if _is_http(url):
        codes = [getattr(error, "status", None), getattr(error.__cause__, "status", None)]
    else:
        codes = [getattr(error, "code", None)]  # gcsfs
    return next((status for status in codes if isinstance(status, int) and status >= 100), None)


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http:", "https:"))


def _unreachable(error: BaseException) -> UnreachableError | None:
    """Find an UnreachableError among the causes of a library's error; None without one."""
    at: BaseException | None = error
    while at is not None and not isinstance(at, UnreachableError):
        at = at.__cause__ or at.__context__
    return at


def is_final(url: str, error: Exception) -> bool:
    """Check whether another try would fail in the same way."""
    if _unreachable(error) is not None:
        return True
    status = _status(url, error)
    if status is not None:
        return 400 <= status < 500 and status not in _RETRIED_STATUS
    if "Credentials" in type(error.__cause__ or error).__name__:
        return True
    # Over HTTP fsspec reports every failure as a missing file, even a server that does not answer.
    return not _is_http(url) and isinstance(error, (FileNotFoundError, PermissionError))


def failure_of(url: str, error: Exception) -> SlideOpenError:
    """Make the error for a slide that could not be fetched; a `NoAnswerError` when another try may succeed."""
    if (unreachable := _unreachable(error)) is not None:
        return SlideOpenError(
            f"{shown_url(url)}: {unreachable}, which is not followed; an address on the internet that stays with its "
            "scheme is needed. Copy the slide to a disk, or pass --allow-private-addresses for a server of your own."
        )
    status = _status(url, error)
    cause = error.__cause__ or error
    reason = f"HTTP status {status}" if status else f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    # A library's message may hold the address with its signature.
    reason = re.sub(r"\?[^\s'\")]+", "?...", without_secrets(reason))[:300]
    if is_final(url, error):
        return SlideOpenError(
            f"{shown_url(url)}: the server does not send it ({reason}); a slide that may be read is needed. Check the "
            "address, and the credentials of the storage."
        )
    return NoAnswerError(
        f"{shown_url(url)}: it could not be fetched ({reason}); a server that answers is needed. Check the network, "
        "then run the same command again: what was fetched is kept."
    )
