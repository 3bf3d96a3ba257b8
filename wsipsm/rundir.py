"""The output folder of one slide: the places of its files, and writing that never leaves a part of a file.

Nothing is written under its final name: :func:`write_aside` writes a temporary file beside it, flushes it to the disk
and renames it. Temporary names hold host and process, so that files that a killed run left behind are recognised.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from wsipsm.errors import DiskFullError, OutputError
from wsipsm.keys import Artefact
from wsipsm.text import JsonObject, clean_json

if TYPE_CHECKING:  # tiling is above this room in the order of imports
    from typing import Protocol

    class _Placed(Protocol):
        @property
        def row(self) -> int: ...
        @property
        def column(self) -> int: ...


TEMPORARY_PREFIX = ".wsipsm-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_LARGE = frozenset({errno.EFBIG})
_BROKEN = frozenset({errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR})


def digest(value: Any) -> str:
    """Compute the digest of a value: the first 16 hex digits of the SHA-256 of its JSON with sorted keys."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return hashlib.sha256(text).hexdigest()[:16]


def output_error(path: Path, error: OSError) -> OutputError:
    """Make the error for a file that could not be written, with its cause and remedy in plain words.

    Parameters
    ----------
    path
        File or folder that was to be written.
    error
        Error of the operating system.
    """
    if error.errno in _FULL:
        full = _what_is_full(path, error)
        return DiskFullError(
            f"{path}: {full}; results need more room. "
            "Free some, or choose another disk with --out, then run the same command again: finished blocks are kept.",
            path=path,
            value=full,
            needed="more room",
            option="--out",
        )
    if error.errno in _TOO_LARGE:
        return DiskFullError(
            f"{path}: the file would be larger than allowed ({_size_limit()}); results need more. Raise the limit, or "
            "choose a file system for larger files with --out, then run the same command again: finished blocks are "
            "kept.",
            path=path,
            value=f"the file would be larger than allowed ({_size_limit()})",
            needed="a limit or a file system for larger files",
            option="--out",
        )
    reason = error.strerror or str(error)
    if error.errno in _BROKEN:
        return OutputError(
            f"{path}: the disk failed ({reason}); one that works is needed. Run the same command again, finished "
            "blocks are kept; where it fails again, choose another disk with --out.",
            path=path,
            value=reason,
            needed="a disk that works",
            option="--out",
        )
    return OutputError(
        f"{path}: cannot be written ({reason}); a writable folder is needed. Choose another with --out.",
        path=path,
        value=reason,
        needed="a writable folder",
        option="--out",
    )


def _what_is_full(path: Path, error: OSError) -> str:
    if error.errno == errno.EDQUOT:
        return "the quota on this disk is used up"
    folder = _existing_parent(path)
    try:
        if os.name == "posix" and (state := os.statvfs(folder)).f_files and not state.f_favail:
            return "the disk has no room for further files (no free inodes)"
        return f"the disk is full ({shutil.disk_usage(folder).free / 2**20:.1f} MiB free)"
    except OSError:
        return "the disk is full"


def _size_limit() -> str:
    try:
        import resource
    except ImportError:  # on Windows there is no such limit
        return "by the file system"
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return "by the file system; FAT32 ends at 4 GiB"
    return f"'ulimit -f' allows {limit:,} bytes"


def _existing_parent(path: Path) -> Path:
    for folder in (path, *path.parents):
        if folder.is_dir():
            return folder
    return Path.cwd()


def _temporary_sibling(path: Path) -> Path:
    # The final name is at the end, since some writers choose the format by the suffix.
    return path.with_name(f"{TEMPORARY_PREFIX}{socket.gethostname()}-{os.getpid()}-{path.name}")


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems do not flush folders
            raise
    finally:
        os.close(handle)


def flush_folder(folder: Path) -> None:
    """Write renames and removals in a folder to the disk, so that they survive a power cut, where the system can."""
    if os.name == "posix":
        _flush_to_disk(folder)


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, replacing a file of that name; copy it where the file system supports no links.

    Raises
    ------
    OutputError
        When the disk is full or the folder is not writable. Other errors pass through.
    """
    if target.exists() and os.path.samefile(source, target):
        return  # a rename onto itself would leave the temporary name
    temporary = _temporary_sibling(target)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        with write_aside(target) as copy:
            shutil.copy2(source, copy)
        return
    os.replace(temporary, target)


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Write a file so that it is always whole under its final name.

    Parameters
    ----------
    path
        Final name; its folder exists.

    Yields
    ------
    Temporary path in the same folder, which the body writes. After the body the file is flushed to the disk and
    renamed; when the body raises, it is removed and ``path`` stays as it was.

    Raises
    ------
    OutputError
        When the disk is full or fails, or the folder is not writable. Other errors pass through.
    """
    temporary = _temporary_sibling(path)
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno in _FULL | _TOO_LARGE | _BROKEN | _REFUSED:
            raise output_error(path, error) from error
        raise
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _left_by_dead_run(name: str) -> bool:
    """Check whether a temporary name belongs to a process of this host that has ended."""
    host = f"{TEMPORARY_PREFIX}{socket.gethostname()}-"
    if not name.startswith(host):
        return False  # a process on another host may be alive
    process = name[len(host) :].split("-", 1)[0]
    if not process.isdecimal():
        return False
    return int(process) == os.getpid() or not is_alive(int(process))


def is_alive(pid: int) -> bool:
    """Check whether a process of this host exists, also one of another user."""
    try:
        return bool(psutil.pid_exists(pid))
    except OverflowError:  # no process has so large a number
        return False


def read_json_object(path: Path) -> JsonObject | None:
    """Read a JSON object; None when the file is absent or holds anything else."""
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


class RunDir:
    """The folder of one slide's results.

    Parameters
    ----------
    path
        Path of the folder, which :meth:`create` makes.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.root)!r})"

    def path(self, artefact: Artefact) -> Path:
        """Return the path of an artefact, whether or not it exists."""
        return self.root / artefact.value

    def shard_path(self, key: str, block: _Placed) -> Path:
        """Return the path of a block's shard for a run key."""
        return self.path(Artefact.SHARDS) / f"{block.row:05d}-{block.column:05d}-{key}.parquet"

    def has_shards(self, key: str) -> bool:
        """Check whether any block has a shard for a run key, whole or not."""
        return next(self.path(Artefact.SHARDS).glob(f"*-{key}.parquet"), None) is not None

    def create(self) -> None:
        """Make the folders, check that they can be written, and remove temporary files that dead runs left.

        Raises
        ------
        OutputError
            When results could not be written here.
        """
        shards = self.path(Artefact.SHARDS)
        probe = _temporary_sibling(self.root / "probe")
        try:
            shards.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"wsipsm")
            probe.unlink()
            for folder in (self.root, shards):
                for entry in folder.iterdir():
                    if entry.name.startswith(TEMPORARY_PREFIX) and _left_by_dead_run(entry.name):
                        entry.unlink(missing_ok=True)
        except OSError as error:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            raise output_error(self.root, error) from error

    def write_json(self, artefact: Artefact, value: object) -> None:
        """Write a JSON artefact by `write_aside`, indented, with strings cleaned by `text.clean_json`."""
        path = self.path(artefact)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        with write_aside(path) as temporary:
            temporary.write_bytes(orjson.dumps(clean_json(value), option=options))

    def read_json(self, artefact: Artefact) -> JsonObject | None:
        """Read a JSON artefact; None when it is absent or not a JSON object."""
        return read_json_object(self.path(artefact))

    def remove(self, *artefacts: Artefact) -> None:
        """Remove artefacts that exist."""
        for artefact in artefacts:
            self.path(artefact).unlink(missing_ok=True)

    def remove_shards(self, keep: Iterable[Path] = ()) -> None:
        """Remove every shard except those to keep, and the folder of shards if it is then empty."""
        folder = self.path(Artefact.SHARDS)
        kept = set(keep)
        if not folder.is_dir():
            return
        for entry in folder.iterdir():
            if entry.suffix == ".parquet" and not entry.name.startswith(TEMPORARY_PREFIX) and entry not in kept:
                entry.unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()
