"""Slides by address: whole or not at all, bounded, kept while in use, and out of reach of hostile addresses."""

from __future__ import annotations

import http.server
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.errors import BudgetError, OutputError, SlideOpenError, UsageError
from wsipsm.remote.address import check_url, file_of, is_url, shown_url, url_name
from wsipsm.remote.cache import SlideCache
from wsipsm.remote.transfer import read_pieces

BYTES = bytes(range(256)) * 4000
needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")


def store(name: str, content: bytes = BYTES) -> str:
    """Put a file on the server in memory; gives its address."""
    with fsspec.filesystem("memory").open(f"/bucket/{name}", "wb") as file:
        file.write(content)
    return f"memory://bucket/{name}"


def cache(folder: Path, max_bytes: int = 10**9, pauses_s: tuple[float, ...] = (0.0, 0.0)) -> SlideCache:
    return SlideCache(folder / "cache", max_bytes, ("memory", "file", "http"), pauses_s, allow_private=True)


def slides_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").glob("*/*") if not path.name.startswith("."))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.svs",
        "memory://a.svs",
        "simplecache::s3://bucket/a.svs",
        "zip://a.svs::https://host/b.zip",
        "https://host/zip://a::b.svs",
        "https://user:secret@host/a.svs",
        "https://host/a\n.svs",
        "https://host/a\0.svs",
        "https:///a.svs",
        "https://host/",
        "https://host/folder",
        "s3://bucket/*.svs",
        "s3://bucket/a.mrxs",
        "s3://bucket/series/",
        "gs://bucket/a.zarr",
        "https://host/a.VSI?x=1",
        "https://host/a.dcm",
        "file://elsewhere/share/a.svs",
        "https://host/" + "a" * 5000 + ".svs",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    assert is_url(url)
    with pytest.raises(UsageError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_that_are_read() -> None:
    for url in ("https://host:8080/a/b.svs?sig=1", "s3://bucket/deep/a#1.ndpi", "gs://b/x.ome.tif", "file:///a/b.mrxs"):
        check_url(url)
    assert not any(is_url(path) for path in ("slides/a.svs", "C:\\slides\\a.svs", "a::b.svs", "s3:/bucket/a.svs"))
    assert shown_url("https://u:p@host/a.svs?signature=secret") == "https://host/a.svs"
    assert url_name("https://host/a/b%20c.svs?x=/d.svs") == "b c.svs"
    assert file_of("file:///a/b%20c.svs") == Path("/a/b c.svs")


@given(st.text(max_size=60))
def test_no_name_leaves_the_folder(name: str) -> None:
    from wsipsm.remote.cache import _safe_name

    safe = _safe_name(url_name(f"https://host/{name}"))
    assert safe == Path(safe).name
    assert 0 < len(safe) <= 100
    assert not safe.startswith(".")
    assert safe.isascii()


def test_fetched_once_whole_and_kept(tmp_path: Path) -> None:
    held = cache(tmp_path)
    url = store("once/case 1.svs")
    assert held.size_of(url) == len(BYTES)
    with held.fetch(url) as path:
        assert path.read_bytes() == BYTES
        assert path.name == "case_1.svs"
        inode = path.stat().st_ino
    with held.fetch(url) as path:
        assert path.stat().st_ino == inode
    assert not list((tmp_path / "cache").glob("*/.part"))
    assert not list((tmp_path / "cache").glob("*.use"))


def test_a_file_by_address_is_copied(tmp_path: Path) -> None:
    (tmp_path / "with blank.svs").write_bytes(BYTES)
    with cache(tmp_path).fetch((tmp_path / "with blank.svs").as_uri()) as path:
        assert path.read_bytes() == BYTES
    for absent in (tmp_path / "gone.svs", tmp_path):
        with pytest.raises(SlideOpenError), cache(tmp_path).fetch(absent.as_uri()):
            pass


def test_content_that_changed_is_fetched_anew(tmp_path: Path) -> None:
    held = cache(tmp_path)
    url = store("changed.svs")
    with held.fetch(url) as before:
        store("changed.svs", BYTES[::-1])
        with held.fetch(url) as after:
            assert (before.read_bytes(), after.read_bytes()) == (BYTES, BYTES[::-1])


def test_the_least_recently_used_makes_room_but_nothing_in_use(tmp_path: Path) -> None:
    held = cache(tmp_path, max_bytes=3 * len(BYTES))
    urls = [store(f"lru/{name}.svs") for name in "abcd"]
    foreign = tmp_path / "cache" / "0123456789abcdef0123456789abcdef" / "mine.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("not the cache's")
    for n, url in enumerate(urls[:3]):
        with held.fetch(url) as path:
            pass
        os.utime(path.parent / ".entry.json", (n, n))
    with held.fetch(urls[0]):  # used again
        pass
    with held.fetch(urls[3]):
        assert slides_in(tmp_path) == ["a.svs", "c.svs", "d.svs", "mine.txt"]
    with held.fetch(urls[0]), held.fetch(urls[2]), held.fetch(urls[3]):
        with pytest.raises(BudgetError, match="--cache-bytes"), held.fetch(urls[1]):
            pass
        assert slides_in(tmp_path) == ["a.svs", "c.svs", "d.svs", "mine.txt"]
    with held.fetch(urls[1]):
        pass
    with pytest.raises(BudgetError, match="--cache-bytes"):
        cache(tmp_path, max_bytes=len(BYTES) - 1).size_of(urls[0])


def hold(folder: Path, url: str, ready: Any, done: Any) -> None:
    with cache(folder, max_bytes=len(BYTES)).fetch(url):
        ready.set()
        done.wait(60)


def test_what_another_process_uses_stays_until_it_ends_or_dies(tmp_path: Path) -> None:
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).write_bytes(BYTES)
    first, second = ((tmp_path / name).as_uri() for name in ("a.svs", "b.svs"))
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, first, ready, done))
    holder.start()
    assert ready.wait(60)
    held = cache(tmp_path, max_bytes=len(BYTES))
    with pytest.raises(BudgetError, match="in use"), held.fetch(second):
        pass
    holder.kill()
    holder.join()
    with held.fetch(second) as path:
        assert path.read_bytes() == BYTES
    assert slides_in(tmp_path) == ["b.svs"]


class Reader:
    """Stands between fsspec's memory server and its reader, and breaks connections."""

    def __init__(self, file: Any, budget: list[int]) -> None:
        self._file, self._budget = file, budget

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def read(self, n: int) -> bytes:
        piece: bytes = self._file.read(min(n, 300_000))
        if self._budget and self._budget[0] < len(piece):
            self._budget.pop(0)
            raise ConnectionResetError("connection reset by peer")
        if self._budget:
            self._budget[0] -= len(piece)
        return piece

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes after which each next connection to the memory server breaks."""
    budget: list[int] = []
    kind = type(fsspec.filesystem("memory"))
    real = kind.open
    monkeypatch.setattr(
        kind,
        "open",
        lambda self, path, mode="rb", **options: (
            Reader(real(self, path, mode, **options), budget) if mode == "rb" else real(self, path, mode, **options)
        ),
    )
    return budget


def test_broken_connections_go_on_where_they_broke(tmp_path: Path, breaking: list[int]) -> None:
    url = store("breaking.svs")
    breaking += [700_000, 0, 10**9]
    with cache(tmp_path).fetch(url) as path:
        assert path.read_bytes() == BYTES
    assert breaking == [10**9 - (len(BYTES) - 600_000)]


def test_a_connection_that_brings_nothing_is_given_up_and_continued_by_the_next_command(
    tmp_path: Path, breaking: list[int]
) -> None:
    url = store("dead.svs")
    breaking += [700_000, 0, 0, 0, 0, 0]
    with pytest.raises(SlideOpenError, match="ConnectionResetError"), cache(tmp_path).fetch(url):
        pass
    assert slides_in(tmp_path) == []
    breaking[:] = [10**9]
    with cache(tmp_path).fetch(url) as path:
        assert path.read_bytes() == BYTES
    assert breaking == [10**9 - (len(BYTES) - 600_000)]


def test_threads_and_processes_fetch_a_slide_once(tmp_path: Path) -> None:
    url = store("shared.svs")

    def fetch(_: int) -> int:
        with cache(tmp_path).fetch(url) as path:
            assert path.read_bytes() == BYTES
            return path.stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fetch, range(16)))) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="--cache"), cache(tmp_path).fetch(store("a.svs")):
        pass


def test_without_its_library_a_scheme_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from wsipsm.remote.cache import SlideCache\n"
        "assert 'fsspec' not in sys.modules\n"
        f"SlideCache({str(tmp_path)!r}).size_of('https://host.invalid/a.svs')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'wsipsm[remote]'" in result.stderr


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a slide, with or without ranges, and breaks off where told."""

    content: ClassVar[bytes] = BYTES
    ranges: ClassVar[bool] = True
    breaks: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if "case" not in self.path:
            self.send_error(403 if "forbidden" in self.path else 404)
            return
        content, status = self.content, 200
        asked = self.headers.get("Range", "")
        if body:
            type(self).asked.append(asked)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and self.ranges else 0
        if start:
            content, status = content[start:], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"one"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if body:
            self.wfile.write(content[: self.breaks.pop(0)] if self.breaks else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.content, Handler.ranges, Handler.breaks, Handler.asked = BYTES, True, [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@needs_aiohttp
@pytest.mark.parametrize("ranges", [True, False])
def test_over_http_with_and_without_ranges(tmp_path: Path, server: str, ranges: bool) -> None:
    Handler.ranges, Handler.breaks = ranges, [500_000]
    with cache(tmp_path).fetch(f"{server}/case.svs?sig=secret") as path:
        assert path.read_bytes() == BYTES
    assert Handler.asked[0] == ""
    assert all(asked.startswith("bytes=") for asked in Handler.asked[1:2])
    assert len(Handler.asked) == (2 if ranges else 3)


@needs_aiohttp
def test_a_slow_reader_loses_little_of_a_connection_that_breaks(server: str) -> None:
    Handler.content, Handler.breaks = BYTES * 9, [8_000_000]
    pieces = read_pieces(f"{server}/case.svs", len(Handler.content), 0, allow_private=True)
    got = next(pieces)
    threading.Event().wait(0.5)  # meanwhile all that is read ahead arrives
    with pytest.raises(Exception, match=r"[Pp]ayload"):  # noqa: PT012  each piece is kept until one cannot be read
        for piece in pieces:
            got += piece
    assert 8_000_000 - 2**19 < len(got) <= 8_000_000
    assert Handler.content.startswith(got)


@needs_aiohttp
def test_http_servers_that_refuse_or_are_gone(tmp_path: Path, server: str) -> None:
    held = cache(tmp_path)
    for name, status in (("forbidden", 403), ("absent", 404)):
        with (
            pytest.raises(SlideOpenError, match=f"HTTP status {status}") as caught,
            held.fetch(f"{server}/{name}.svs?s=x"),
        ):
            pass
        assert "s=x" not in str(caught.value)
    with held.fetch(f"{server}/case.svs"):
        pass
    gone = cache(tmp_path)
    with pytest.raises(SlideOpenError, match="could not be fetched"):
        gone.size_of("http://127.0.0.1:9/case.svs")


@needs_aiohttp
def test_a_kept_slide_is_of_use_when_its_server_is_gone(tmp_path: Path, server: str) -> None:
    held = cache(tmp_path, pauses_s=())
    url = f"{server}/case.svs"
    with held.fetch(url):
        pass
    Handler.do_HEAD, Handler.do_GET, kept = Handler.log_message, Handler.log_message, (Handler.do_HEAD, Handler.do_GET)  # type: ignore[method-assign,assignment]
    try:
        with held.fetch(url) as path:
            assert path.read_bytes() == BYTES
    finally:
        Handler.do_HEAD, Handler.do_GET = kept  # type: ignore[method-assign]


def test_a_download_ends_soon_when_the_command_does(tmp_path: Path, breaking: list[int]) -> None:
    held = cache(tmp_path, pauses_s=(300.0, 300.0))
    url = store("stopped.svs")
    breaking += [300_000, 0]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: held.fetch(url).__enter__())
        while breaking != [0] and len(breaking) > 1:
            threading.Event().wait(0.01)
        held.stop()
        with pytest.raises(SlideOpenError):
            coming.result(timeout=60)
    assert list((tmp_path / "cache").glob("*/.part"))
