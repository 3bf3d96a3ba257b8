"""Locks by which only one command at a time works on a folder of results, also when machines share it.

The process that holds a lock rewrites its small file every few seconds. Another command that finds the file watches
whether it changes, so that no clocks are compared, and takes over a lock that a dead machine left behind. A cohort
holds its own folder and the folders of the slides that it works on. Only the lock of the cohort's folder is rewritten;
the locks of the slides hold as long as it does.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import orjson

from wsipsm.errors import UsageError
from wsipsm.paths import require_plain_name
from wsipsm.rundir import is_alive, output_error, read_json_object, write_aside

LOCK_NAME = "wsipsm.lock"
BEAT_S = 5.0
"""Seconds between two rewrites (beats) of a lock."""
PATIENCE_BEATS = 4
"""Beats that must pass without a change before a lock of another machine counts as left behind."""
_KINDS = (("host", str), ("pid", int), ("started", int), ("space", str), ("in_study", bool), ("beat", int))
"""Fields of a lock's file, and the type of each."""
_NEEDED = "one command at a time"
_MOST_TRIES = 20
"""Most times that a folder is made again when other commands remove it as empty."""


@dataclass(frozen=True, slots=True)
class LockNote:
    """The process that holds a lock. Fields are None where another version or a broken disk left them out."""

    host: str | None
    pid: int | None
    started: int | None
    """Start of the process, in ticks of its system; a later process may have the same number."""
    space: str | None
    """Namespaces of Linux in which the number and the start of the process are counted; empty elsewhere."""
    in_study: bool = False
    """Whether a cohort holds the folder of a slide; then the lock of the folder above shows whether it is alive."""
    beat: int | None = 0
    """Number of the last rewrite."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a lock; None where there is none, or its file cannot be understood."""
        values = read_json_object(path)
        return None if not values else cls(**{name: _known(values.get(name), kind) for name, kind in _KINDS})

    def to_bytes(self) -> bytes:
        """Return the content of the lock's file; ``in_study`` is left out where it is False."""
        return orjson.dumps({name: value for name, value in asdict(self).items() if value or name != "in_study"})

    @property
    def holder(self) -> tuple[str | None, int | None, int | None]:
        """Host, number and start, which identify the process."""
        return self.host, self.pid, self.started

    @property
    def name(self) -> str:
        """Name of the process in messages."""
        return f"process {'?' if self.pid is None else self.pid} on {self.host or 'an unknown host'}"


class FolderLock:
    """The lock of a folder that this command holds."""

    def __init__(self, path: Path, own: LockNote, note: str) -> None:
        self._path, self._own = path, own
        self.note = note
        """Sentence for the user where a lock that was left behind was taken over, else an empty text."""

    def check(self) -> None:
        """Check that this command still holds the folder.

        Raises
        ------
        UsageError
            When another command took the folder over, because this one did not rewrite its lock (its machine slept).
        """
        found = LockNote.read(self._path)
        if found and not _is_same(found, self._own):
            raise UsageError(
                f"{self._path.parent}: {found.name} took it over while this process gave no sign of life; one "
                "command at a time is needed. Wait for it, then run the same command again."
            )

    def beat(self, every_s: float, ended: threading.Event) -> None:
        """Write the lock again every ``every_s`` seconds, until the end or until another process holds the folder."""
        number = 0
        while not ended.wait(every_s):
            number += 1
            found = LockNote.read(self._path)
            if found and not _is_same(found, self._own):
                return
            # A network share may be absent for a while; the next beat tries again.
            with suppress(OSError), write_aside(self._path) as temporary:
                temporary.write_bytes(replace(self._own, beat=number).to_bytes())

    def release(self) -> None:
        """Remove the lock, if this command still holds it."""
        if _is_same(LockNote.read(self._path), self._own):
            with suppress(OSError):
                self._path.unlink()


@contextmanager
def hold_folder(folder: Path, beat_s: float = BEAT_S) -> Iterator[FolderLock]:
    """Hold a folder for one command.

    Parameters
    ----------
    folder
        Folder that is held. It is made if it is absent, and a folder made here is removed in the end if it is empty.
    beat_s
        Seconds between two rewrites of the lock.

    Raises
    ------
    UsageError
        When another command works on the folder (the message names host, process and age), or when the folder's
        path is not UTF-8.
    OutputError
        When the folder cannot be made, or the lock cannot be written.
    """
    require_plain_name(folder)
    path, own = folder / LOCK_NAME, _own_note()
    absent = _absent(folder)
    lock = FolderLock(path, own, _claim(path, own, beat_s))
    ended = threading.Event()
    beating = threading.Thread(target=lock.beat, args=(beat_s, ended), daemon=True)
    beating.start()
    try:
        yield lock
    finally:
        ended.set()
        beating.join(timeout=2 * beat_s)
        lock.release()
        _remove_empty(absent)


@contextmanager
def hold_in_cohort(folder: Path) -> Iterator[FolderLock]:
    """Hold the folder of a slide for a cohort that holds the folder above.

    Parameters
    ----------
    folder
        The same as in :func:`hold_folder`.

    Raises
    ------
    UsageError, OutputError
        When :func:`hold_folder` raises them.
    """
    path, own = folder / LOCK_NAME, replace(_own_note(), in_study=True)
    absent = _absent(folder)
    lock = FolderLock(path, own, _claim(path, own, BEAT_S))
    try:
        yield lock
    finally:
        lock.release()
        _remove_empty(absent)


def holder_of(folder: Path) -> str:
    """Describe who holds a folder and its last sign of life, without waiting; an empty text where there is no lock."""
    path = folder / LOCK_NAME
    found = LockNote.read(path)
    if found is None:
        return ""
    with suppress(OSError):
        return f"{found.name} works on it, last sign of life {_age_s(path):.0f} s ago"
    return ""


def _own_note() -> LockNote:
    pid = os.getpid()
    return LockNote(socket.gethostname(), pid, _start_of(pid), _space())


def _absent(folder: Path) -> list[Path]:
    """List the folders that must be made for a folder to exist, the innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # the folder is not empty
        for folder in folders:
            folder.rmdir()


def _claim(path: Path, own: LockNote, beat_s: float) -> str:
    """Create the lock, or take over one that was left behind."""
    note, n_tries = "", 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            n_tries += 1
            _create(path, own)
            return note
        except FileNotFoundError as error:  # the lock was removed in between
            if n_tries >= _MOST_TRIES:
                raise output_error(path, error) from error
        except FileExistsError as error:
            if path.parent.exists() and not path.parent.is_dir():
                raise output_error(path.parent, error) from error
            found = LockNote.read(path)
            if not _is_left_behind(path, found, own, beat_s):
                raise UsageError(
                    _refusal(path, found), path=path.parent, value=_name_of(found), needed=_NEEDED
                ) from None
            note = f"the lock of {_name_of(found)} was left behind and was taken over."
            _remove(path, found)
        except OSError as error:
            raise output_error(path, error) from error


def _create(path: Path, own: LockNote) -> None:
    """Write a lock where there is none; on a full disk nothing stays behind."""
    with open(path, "xb", buffering=0) as file:
        try:
            file.write(own.to_bytes())
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise


def _remove(path: Path, found: LockNote | None) -> None:
    """Remove the given lock and no newer one; it is renamed first, which only one of several commands can do."""
    aside = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return  # another command was faster
    if not _is_same(LockNote.read(aside), found):
        with suppress(OSError):  # the renamed file is a new lock; it is put back unless there is another
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _is_left_behind(path: Path, found: LockNote | None, own: LockNote, beat_s: float) -> bool:
    if found is not None and found.in_study:
        if own.in_study and _is_same(found, own):
            # A cohort never holds a slide's folder twice at a time. If its own lock is still there, the network share
            # was absent when it should have been removed.
            return True
        above = path.parent.parent / LOCK_NAME
        cohort = LockNote.read(above)
        return not _is_same(cohort, found) or _is_left_behind(above, cohort, own, beat_s)
    if found is not None and found.host == own.host and found.space in (None, own.space):
        # The process number may belong to another process by now, hence the start time.
        started = _start_of(found.pid)
        return started is None or started != found.started
    deadline = time.monotonic() + PATIENCE_BEATS * beat_s
    while time.monotonic() < deadline:
        time.sleep(min(0.5, beat_s))
        now = LockNote.read(path)
        if now != found:
            # A lock that is gone can be claimed; one that changed has a living holder; an empty one is being written.
            return not now and not path.exists()
    return True


def _known(value: Any, kind: type) -> Any:
    return value if type(value) is kind else None


def _is_same(found: LockNote | None, other: LockNote | None) -> bool:
    return (found and found.holder) == (other and other.holder)


def _start_of(pid: int | None) -> int | None:
    """Return the start of a process of this machine, in ticks of its system; None when there is no such process."""
    if pid is None:
        return None
    try:
        # psutil's create_time() adds the time of boot, which changes when the machine's clock is set.
        # The second field, the command, may hold blanks and brackets, but it ends at the last bracket.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        pass
    return 0 if is_alive(pid) else None


def _space() -> str:
    """Name the namespaces of process numbers and start times, in which containers with one host name may differ."""
    try:
        return f"{os.readlink('/proc/self/ns/pid')} {os.readlink('/proc/self/ns/time')}"
    except OSError:
        return ""


def _age_s(path: Path, now: float | None = None) -> float:
    return max(0.0, (time.time() if now is None else now) - path.stat().st_ctime)


def _time_there(folder: Path) -> float | None:
    """Read the clock that gives files in a folder their times, which may be a server's; None when it cannot be read."""
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_ctime
    except OSError:
        return None


def _name_of(found: LockNote | None) -> str:
    return "a process that its lock does not name" if found is None else found.name


def _refusal(path: Path, found: LockNote | None) -> str:
    folder = path.parent
    text = f"{folder}: {_name_of(found)} works on it"
    wait = f"{_NEEDED} is needed. Wait for it"
    if found is not None and found.in_study:
        # Only the lock of the cohort's folder is rewritten.
        folder = folder.parent
        text += f", for the cohort in {folder}"
        wait += f", or look with 'wsipsm status {folder}'"
    with suppress(OSError):
        text += f" (last sign of life {_age_s(folder / LOCK_NAME, _time_there(folder)):.0f} s ago)"
    return f"{text}; {wait}."
