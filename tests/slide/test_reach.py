"""Where addresses may lead: not to this machine, private networks or from https to http, and no secret is written."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.errors import SlideOpenError, UsageError
from wsipsm.remote.address import shown_url, without_secrets
from wsipsm.remote.cache import SlideCache
from wsipsm.remote.reach import UnreachableError, is_private, open_client

needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
BYTES = bytes(range(256)) * 40


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_private_addresses(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet(address: str) -> None:
    assert not is_private(address)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves BYTES, and redirects to where the path says."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(BYTES)

    def _answer(self, body: bytes) -> None:
        type(self).asked.append(self.path)
        target = self.path.partition("to=")[2]
        if target:
            self.send_response(302)
            self.send_header("Location", target.replace("PORT", str(self.server.server_address[1])))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BYTES)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving.server_port
        serving.shutdown()


def cache(folder: Path, **options: object) -> SlideCache:
    return SlideCache(folder / "cache", 10**9, pauses_s=(0.0,), **options)  # type: ignore[arg-type]


@needs_aiohttp
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0"],
)
def test_this_machine_is_asked_for_nothing(tmp_path: Path, port: int, host: str) -> None:
    with pytest.raises(SlideOpenError, match="this machine or a private network") as caught:
        cache(tmp_path).size_of(f"http://{host}:{port}/case.svs?token=secret")
    assert "--allow-private-addresses" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert Handler.asked == []


@needs_aiohttp
def test_with_the_option_it_is(tmp_path: Path, port: int) -> None:
    with cache(tmp_path, allow_private=True).fetch(f"http://127.0.0.1:{port}/case.svs?token=secret") as path:
        assert path.read_bytes() == BYTES
    written = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert written
    assert not any(b"secret" in content for content in written)


@needs_aiohttp
def test_a_redirect_to_another_host_is_said_once(tmp_path: Path, port: int) -> None:
    said: list[str] = []
    held = cache(tmp_path, allow_private=True, announce=said.append)
    url = f"http://127.0.0.1:{port}/a.svs?to=http://localhost:PORT/case.svs?token=secret"
    with held.fetch(url) as path:
        assert path.read_bytes() == BYTES
    (sentence,) = said
    assert "another host, localhost" in sentence
    assert "secret" not in sentence


@needs_aiohttp
@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.svs", "s3://bucket/a.svs"])
def test_a_redirect_stays_within_the_scheme(tmp_path: Path, port: int, target: str) -> None:
    with pytest.raises(SlideOpenError) as caught:
        cache(tmp_path, allow_private=True).size_of(f"http://127.0.0.1:{port}/a.svs?to={target}")
    assert "root:" not in str(caught.value)


@needs_aiohttp
@pytest.mark.parametrize(
    ("scheme", "allow_private", "url", "said"),
    [
        ("https", True, "http://127.0.0.1:PORT/a.svs", "from https to http://127.0.0.1"),
        ("http", False, "http://169.254.169.254/latest/meta-data", "169.254.169.254 on this machine or a private"),
        ("http", False, "http://[fd00::1]/a.svs", "fd00::1 on this machine or a private network"),
    ],
)
def test_the_client_refuses_before_it_asks(port: int, scheme: str, allow_private: bool, url: str, said: str) -> None:
    async def ask() -> None:
        client = await open_client(scheme, allow_private)
        async with client, client.get(url.replace("PORT", str(port))):
            pass

    with pytest.raises(OSError, match=r"\w") as caught:
        asyncio.run(ask())
    chain: list[BaseException | None] = [caught.value, caught.value.__cause__]
    assert any(isinstance(one, UnreachableError) and said in str(one) for one in chain)
    assert Handler.asked == []


@needs_aiohttp
def test_another_answer_of_the_name_server_is_looked_at_too() -> None:
    """The name was public when it was looked at, and is this machine's when it is connected to."""

    async def connect() -> None:
        client = await open_client("http", False)
        async with client:
            factory = client.connector._socket_factory
            factory((2, 1, 6, "", ("127.0.0.1", 80)))

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        asyncio.run(connect())


SECRETS = [
    "https://user:secret@host/a.svs",
    "https://user:sec/secret@host/a.svs",
    "https://secret@host/a.svs",
    "https://host/a.svs?token=secret",
    "https://host/a.svs?X-Amz-Signature=secret&X-Amz-Credential=secret",
    "https://host/a.svs?sv=2024&sig=secret",
    "https://host/a.svs#access_token=secret",
    "https://host?token=secret",
    "s3://bucket/a.svs?X-Amz-Signature=secret",
    "gs://bucket/a.svs?access_token=secret",
    "HTTPS://host/a.svs?t=secret",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_secret_is_shown(url: str) -> None:
    assert "secret" not in shown_url(url)
    assert "host" in shown_url(url) or "bucket" in shown_url(url)
    assert "secret" not in without_secrets(f"Cannot connect to <{url}> ({url}), see '{url}'")


@pytest.mark.parametrize("command", ["info", "run", "score", "cohort", "status", "agree"])
@pytest.mark.parametrize("url", [url for url in SECRETS if url.startswith("https")])
def test_no_command_repeats_a_secret(tmp_path: Path, command: str, url: str) -> None:
    url = url.replace("host", "127.0.0.1")  # refused at once, where a name that nobody knows is tried for a minute
    result = CliRunner().invoke(app, [command, url, *(["--out", str(tmp_path / "out")] if command == "cohort" else [])])
    assert result.exit_code != 0
    assert "secret" not in result.output


@needs_aiohttp
@pytest.mark.parametrize("url", [url.replace("host", "host.invalid") for url in SECRETS if url.startswith("https")])
def test_a_server_that_is_not_found_is_named_without_the_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises((SlideOpenError, UsageError)) as caught:
        SlideCache(tmp_path, pauses_s=()).size_of(url)
    assert "secret" not in str(caught.value)


@needs_aiohttp
def test_a_cohort_by_address_writes_no_secret(tmp_path: Path, port: int) -> None:
    """The slide is none, so it fails; what is looked at is what the cohort's folder says of it."""
    out = tmp_path / "out"
    url = f"http://127.0.0.1:{port}/a.svs?to=http://localhost:PORT/case.svs?token=secret"
    command = ["cohort", url, "--workers", "0", "--retry", "0", "--skip-bad", "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert "a private network" in refused.output
    result = CliRunner().invoke(app, [*command, "--allow-private-addresses"])
    assert result.exit_code == 5
    assert "a private network" not in result.output
    assert "another host, localhost" in (out / "journal.jsonl").read_text()
    assert "secret" not in refused.output + result.output
    assert not [path for path in out.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_what_is_shown_names_the_slide() -> None:
    assert shown_url("https://host:8443/a/b.svs?sig=1") == "https://host:8443/a/b.svs"
    assert shown_url("s3://bucket/deep/a#1.ndpi") == "s3://bucket/deep/a#1.ndpi"
    assert shown_url("file:///a/b?c.svs") == "file:///a/b?c.svs"
    assert shown_url("http://[::1]:80/a.svs") == "http://[::1]:80/a.svs"


def test_a_request_that_is_kept_holds_no_secret(tmp_path: Path) -> None:
    from wsipsm.cohort.request import REQUEST_NAME, CohortOptions, keep_request, read_request
    from wsipsm.config import RunOptions

    keep_request(tmp_path, ["https://host/a.svs"], RunOptions(), CohortOptions())
    assert read_request(tmp_path).sources == ("https://host/a.svs",)
    keep_request(tmp_path, ["https://host/a.svs?token=secret"], RunOptions(), CohortOptions())
    assert json.loads((tmp_path / REQUEST_NAME).read_text())["sources"] == ["https://host/a.svs?..."]
    with pytest.raises(UsageError, match="the whole command with it is needed"):
        read_request(tmp_path)
    assert "secret" not in (tmp_path / REQUEST_NAME).read_text()
