"""SharedFlagsFile: definitions of feature flags in a file beside the records, replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from .directory import check_private
from .segments import NO_LINKS, create_temporary

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 32 * 2**20


class SharedFlagsFile:
    """The file `flags.json` of a directory; one process writes it, all others read it when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "flags.json"
        self._last_stamp: tuple[int, int, int] | None = None

    def read_if_changed(self) -> bytes | None:
        """Return the contents; None: there is no file, or it has not changed since the last call.

        Raise OSError where it cannot be read, or where any user could have put it there.
        """
        try:
            status = self._path.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp == self._last_stamp or not stat.S_ISREG(status.st_mode):
            return None
        check_private(self._directory)
        fd = os.open(self._path, os.O_RDONLY | NO_LINKS | os.O_NONBLOCK)
        with open(fd, "rb") as file:  # noqa: PTH123  # a Path cannot be opened with flags of its own
            document = file.read(MAX_BYTES)
        self._last_stamp = stamp
        return document

    def write(self, document: bytes) -> None:
        """Replace the file; where that fails, leave the old one and raise OSError."""
        fd, temporary = create_temporary(self._path)
        try:
            with open(fd, "wb") as file:  # noqa: PTH123
                file.write(document)
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
