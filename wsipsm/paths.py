"""Checks of paths that users give: what is there in place of a file, and which names cannot be written as UTF-8."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.text import clean_text, is_writable_text

CHECK_THE_PATH = "Check the path."
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SHARE = re.compile(r"(\\\\|//)[^\\/]+[\\/]")
_QUOTES = "'\"\u201c\u201d\u2018\u2019\u00ab\u00bb"
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def find_no_file(path: Path) -> tuple[str, str] | None:
    """Describe what is at a path in place of an ordinary file.

    Nothing is opened, because opening a pipe to which nobody writes would block the command.

    Returns
    -------
    What was found and what to do, in the words of an error; None where there is a file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return _why_absent(path, error)
    except ValueError:
        return "a path with a NUL character", CHECK_THE_PATH
    if stat.S_ISREG(mode):
        return None
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no ordinary file")
    return kind, CHECK_THE_PATH


def find_bad_name(path: str | Path) -> str | None:
    """Describe a path that cannot be written as UTF-8, which results need; None where it can."""
    if is_writable_text(os.path.abspath(path)):
        return None
    return (
        f"{clean_text(path)}: bytes in the path that are not UTF-8, shown as \\x..; a name in UTF-8 is needed. "
        "Rename the file or folder, for example with convmv or mv."
    )


def require_plain_word(word: str) -> None:
    """Refuse an argument of a command that results could not hold.

    Raises
    ------
    UsageError
        When it is not UTF-8.
    """
    if not is_writable_text(word):
        raise UsageError(find_bad_name(word))


def require_plain_name(path: str | Path) -> None:
    """Refuse a path that results could not hold.

    Raises
    ------
    UsageError
        When it is not UTF-8.
    """
    reason = find_bad_name(path)
    if reason is not None:
        raise UsageError(reason)


def _why_absent(path: Path, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ELOOP:
        return "a link that leads back to itself", "Name the file itself."
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return error.strerror or str(error), "Check its rights and the path."
    if os.path.islink(path):
        return f"a link to {clean_text(os.readlink(path))}, where nothing is", "Name the file itself."
    text = str(path)
    if text.startswith("~"):
        return "no such file, and ~ stands for itself here", "Write the whole path, or leave ~ outside of quotes."
    if os.name != "nt":
        if _DRIVE.match(text):
            place = text[3:].replace("\\", "/")
            found = "no such file: a path of Windows, and this system is another"
            return found, f"Name it as this system does; in WSL it is /mnt/{text[0].lower()}/{place}."
        if _SHARE.match(text):
            return "no such file: a network path of Windows", "Mount the share and name the file where it is mounted."
        if "\\" in text:
            return "no such file, and \\ does not divide folders here", "Write / between folders."
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return "no such file, and the quotes are a part of the name here", "Leave them out."
    return "no such file", CHECK_THE_PATH
