"""A cache of slides by address (s3://, gs://, https://): a folder of bounded size that holds whole downloaded slides.

Readers need files, because OpenSlide seeks in them and a slide is read many times. fsspec and the libraries that it
needs are imported only when an address is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from wsipsm.errors import BudgetError, OutputError, SlideOpenError, WsipsmError
from wsipsm.remote.address import SCHEMES, check_url, shown_url, url_name
from wsipsm.remote.transfer import NoAnswerError, RestartError, failure_of, is_final, open_system, read_pieces

if TYPE_CHECKING:
    from filelock import BaseFileLock

DEFAULT_CACHE_BYTES = 100 * 2**30
"""Default size of the cache, which holds about fifty slides."""
PAUSES_S = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds before each further try after a connection that transferred almost nothing."""

_ENOUGH_BYTES = 2**20
"""Bytes from which a connection counts as one that works, so that the count of failures begins again."""
_KEY = re.compile(r"[0-9a-f]{32}")
_ENTRY, _PART, _WHOLE_LOCK = ".entry.json", ".part", "cache.lock"
_VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "Content-MD5",
    "generation",
    "Last-Modified",
    "LastModified",
    "mtime",
    "created",
)


@dataclass(frozen=True, slots=True)
class _Remote:
    """The facts that a server states about a slide."""

    url: str
    size: int
    version: str
    """Value by which the server distinguishes contents, such as an ETag; empty when it states none."""

    @property
    def entry(self) -> _Entry:
        """Return the entry that the cache stores; it holds no address, which may hold a token."""
        key = hashlib.sha256(json.dumps([self.url, self.size, self.version]).encode()).hexdigest()[:32]
        return _Entry(key, _digest(self.url), self.size)


@dataclass(frozen=True, slots=True)
class _Entry:
    """The facts that the cache stores about a slide."""

    key: str
    """Name of its folder; another content at the same address has another key."""
    address: str
    """SHA-256 digest of the address."""
    size: int


class SlideCache:
    """A folder that holds slides downloaded from servers; the least recently used ones are removed to make room.

    Several processes may share it, also on several machines if its file system supports locks.

    Parameters
    ----------
    folder
        Folder of the cache, created when absent. Files in it that are not the cache's own are never touched.
    max_bytes
        Largest size of all slides in the cache together, bytes.
    schemes
        Schemes of the addresses that are followed.
    pauses_s
        Seconds before each further try after a connection that transferred almost nothing.
    allow_private
        Whether connections to this machine and to private networks are allowed.
    announce
        Function that is called with a sentence when a server redirects to another host.
    """

    def __init__(
        self,
        folder: str | Path,
        max_bytes: int = DEFAULT_CACHE_BYTES,
        schemes: Collection[str] = SCHEMES,
        pauses_s: tuple[float, ...] = PAUSES_S,
        allow_private: bool = False,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._schemes = tuple(schemes)
        self._pauses_s = pauses_s
        self._allow_private = allow_private
        self._announce = announce
        self._announced: set[str] = set()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the downloads of other threads soon; the bytes that they transferred are kept for the next command."""
        self._stopped.set()

    def size_of(self, url: str) -> int:
        """Fetch the size of a slide, in bytes, from its server.

        Raises
        ------
        UsageError, SlideOpenError, BudgetError
            In the cases of :meth:`fetch`.
        """
        return self._ask(url, self._pauses_s).size

    @contextmanager
    def fetch(self, url: str) -> Iterator[Path]:
        """Fetch a slide as a local file, which is downloaded when absent and not removed until the context ends.

        The context may end in another thread than the one in which it began.

        Parameters
        ----------
        url
            Address of a slide of one file.

        Yields
        ------
        Path of the whole file, of the size that the server states.

        Raises
        ------
        UsageError
            For an address that is not read, or when the library for its scheme is not installed.
        SlideOpenError
            When the server does not send the slide.
        BudgetError
            When the slide does not fit the cache.
        OutputError
            When the cache cannot be written.
        """
        with ExitStack() as stack:
            with self._writing():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept, remote = None, None
            try:
                remote = self._ask(url, ())
            except NoAnswerError:
                kept = self._kept(url)
            remote = remote if remote or kept else self._ask(url, self._pauses_s)
            entry = remote.entry if remote else kept
            assert entry is not None
            path = self.folder / entry.key / _safe_name(url_name(url))
            with self._writing():
                self._hold(entry.key, stack)
                with self._lock(f"{entry.key}.lock"):
                    if not _is_whole(path, entry.size):
                        remote = remote or self._ask(url, self._pauses_s)
                        self._make_room(remote)
                        self._download(remote, path)
                os.utime(path.parent / _ENTRY)  # the time of its last use
            yield path

    def _kept(self, url: str) -> _Entry | None:
        """Find the whole slide that the cache holds for an address whose server does not answer; None without one."""
        with self._writing(), self._lock(_WHOLE_LOCK):
            for _, entry in self._entries():
                path = self.folder / entry.key / _safe_name(url_name(url))
                if entry.address == _digest(url) and _is_whole(path, entry.size):
                    return entry
        return None

    def _ask(self, url: str, pauses_s: tuple[float, ...]) -> _Remote:
        """Fetch the facts of a slide from its server."""
        check_url(url, self._schemes)
        system, place = open_system(url, self._allow_private)
        for pause_s in (*pauses_s, None):
            try:
                info = system.info(place)
                break
            except Exception as error:  # every protocol has its own errors
                if pause_s is None or is_final(url, error) or self._stopped.is_set():
                    raise failure_of(url, error) from error
            self._stopped.wait(pause_s)
        self._announce_redirect(url, str(info.get("url") or url))
        size = info.get("size")
        if info.get("type") == "directory" or not isinstance(size, int) or size <= 0:
            raise SlideOpenError(
                f"{shown_url(url)}: the server states no size; the address of a file is needed. Copy the slide to a "
                "disk and name it by its path."
            )
        if size > self.max_bytes:
            raise BudgetError(
                f"{shown_url(url)}: {size:,} bytes; the cache may hold {self.max_bytes:,}. Raise --cache-bytes.",
                path=shown_url(url),
                value=self.max_bytes,
                needed=size,
                option="--cache-bytes",
            )
        version = next((f"{name} {info[name]}" for name in _VERSION_FIELDS if info.get(name)), "")
        return _Remote(url, size, version)

    def _announce_redirect(self, url: str, final: str) -> None:
        host, before = urlsplit(final).hostname, urlsplit(url).hostname
        if (
            self._announce is not None
            and url.lower().startswith("http")
            and host != before
            and url not in self._announced
        ):
            self._announced.add(url)
            self._announce(
                f"{shown_url(url)}: the server redirects to another host, {host}; the slide is fetched from there."
            )

    def _download(self, remote: _Remote, path: Path) -> None:
        part = path.parent / _PART
        # Bytes of an earlier try can be used only if the server states a version of the content.
        offset = part.stat().st_size if part.exists() and remote.version else 0
        with open(part, "r+b" if 0 < offset <= remote.size else "wb") as file:
            self._pull(remote, file)
            file.flush()
            os.fsync(file.fileno())
        if part.stat().st_size != remote.size or self._ask(remote.url, self._pauses_s).entry != remote.entry:
            part.unlink()
            raise NoAnswerError(
                f"{shown_url(remote.url)}: it changed on its server during the download; a slide that does not change "
                "is needed. Run the same command again."
            )
        os.replace(part, path)

    def _pull(self, remote: _Remote, file: IO[bytes]) -> None:
        """Append the missing bytes, over as many connections as needed while these transfer something."""
        offset = farthest = file.seek(0, os.SEEK_END)
        n_failures = 0
        while True:
            offset, problem = _pull_once(remote, file, offset, self._allow_private, self._stopped)
            if offset == remote.size:
                return
            n_failures = 0 if offset >= farthest + _ENOUGH_BYTES else n_failures + 1
            farthest = max(farthest, offset)
            if n_failures > len(self._pauses_s) or is_final(remote.url, problem) or self._stopped.is_set():
                raise failure_of(remote.url, problem) from problem
            self._stopped.wait(self._pauses_s[max(0, n_failures - 1)] if self._pauses_s else 0.0)

    def _make_room(self, remote: _Remote) -> None:
        """Reserve the bytes of a slide, and remove the least recently used slides that are not in use."""
        entry = remote.entry
        with self._lock(_WHOLE_LOCK):
            others = [(used, other) for used, other in self._entries() if other.key != entry.key]
            n_bytes = remote.size + sum(other.size for _, other in others)
            for _, other in sorted(others, key=lambda pair: (pair[0], pair[1].key)):
                if n_bytes > self.max_bytes and not self._is_held(other.key):
                    self._remove(other.key)
                    n_bytes -= other.size
            if n_bytes > self.max_bytes:
                raise BudgetError(
                    f"{shown_url(remote.url)}: {remote.size:,} bytes, {n_bytes - remote.size:,} of slides in use; the "
                    f"cache may hold {self.max_bytes:,}. Raise --cache-bytes, or use fewer slides at a time.",
                    path=shown_url(remote.url),
                    value=self.max_bytes,
                    needed=n_bytes,
                    option="--cache-bytes",
                )
            folder = self.folder / entry.key
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / _ENTRY).write_text(json.dumps(asdict(entry)), encoding="utf-8")
            part = folder / _PART
            missing = remote.size - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise OutputError(
                f"{self.folder}: {free:,} bytes free; {shown_url(remote.url)} needs {missing:,} more. Free some, or "
                "choose another disk with --cache.",
                path=self.folder,
                value=f"{free:,} bytes free",
                needed=f"{missing:,} more",
                option="--cache",
            )

    def _entries(self) -> Iterator[tuple[float, _Entry]]:
        """Yield the time of last use and the facts of each entry; other files in the folder are left alone."""
        for folder in self.folder.iterdir():
            if not _KEY.fullmatch(folder.name):
                continue
            try:
                facts = json.loads((folder / _ENTRY).read_bytes())
                entry = _Entry(str(facts["key"]), str(facts["address"]), int(facts["size"]))
                used = (folder / _ENTRY).stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if entry.key == folder.name:
                yield used, entry

    def _remove(self, key: str) -> None:
        folder = self.folder / key
        # The facts are removed last: an entry without them would no longer be recognised and would stay.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == _ENTRY):
            path.unlink()
        folder.rmdir()

    def _hold(self, key: str, stack: ExitStack) -> None:
        """Lock an entry against removal; the system releases the lock when the process dies."""
        path = self.folder / f"{key}.{uuid.uuid4().hex}.use"
        with self._lock(_WHOLE_LOCK):
            lock = self._lock(path.name)
            lock.acquire()
        stack.callback(path.unlink, missing_ok=True)
        stack.callback(lock.release)

    def _is_held(self, key: str) -> bool:
        for path in self.folder.glob(f"{key}.*.use"):
            lock = self._lock(path.name)
            try:
                lock.acquire(timeout=0)
            except TimeoutError:
                return True
            lock.release()
            path.unlink(missing_ok=True)  # its process has died
        return False

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        return FileLock(self.folder / name, thread_local=False)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn errors of the file system into an OutputError that names the cache and ``--cache``."""
        try:
            yield
        except WsipsmError:
            raise
        except (OSError, NotImplementedError) as error:
            raise OutputError(
                f"{self.folder}: the cache cannot be written ({getattr(error, 'strerror', None) or error}); a folder "
                "with room, on a disk that supports locks, is needed. Choose another with --cache."
            ) from error


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def _safe_name(name: str) -> str:
    """Make the name of a slide's file in its entry, without separators or a leading dot and with its suffix."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")
    return safe[-100:].lstrip(".") or "slide"


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _pull_once(
    remote: _Remote, file: IO[bytes], offset: int, allow_private: bool, stopped: threading.Event
) -> tuple[int, Exception]:
    """Append the bytes of one connection; return the number of bytes in the file, and the reason for its end."""
    pieces = read_pieces(remote.url, remote.size, offset, allow_private)
    while offset < remote.size and not stopped.is_set():
        try:
            piece = next(pieces, b"")
        except RestartError as error:
            file.truncate(0)
            return file.seek(0), error
        except Exception as error:  # noqa: BLE001  every protocol has its own errors
            return offset, error
        if not piece:
            break
        file.write(piece[: remote.size - offset])
        offset = file.tell()
    pieces.close()
    return offset, EOFError("the connection ended early")
