"""Whether a directory is fit for a spool, and what to do when an operation in it fails."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FIX_UNTRUSTED = "Give the application a directory of its own, which only it may write to (chmod 700)."
_FIXES = {
    errno.ENOSPC: "Free space on the volume.",
    errno.EDQUOT: "Free space, or raise this user's quota.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f).",
    errno.EMFILE: "This process has too many open files: find the leak, or raise the limit (ulimit -n).",
    errno.ENFILE: "This machine has too many open files: find the leak.",
    errno.EACCES: "See that this process may read and write there.",
    errno.EPERM: "See that this process may read and write there.",
    errno.EROFS: "It is mounted read-only: mount it for writing, or put the spool elsewhere.",
    errno.EIO: "Check the disk.",
    errno.ELOOP: "A symbolic link is in the place of a file: remove it, and see who has made it.",
}
_NO_LOCK_ERRNOS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


def fix_for(error: OSError) -> str:
    """Return what to do about this error."""
    if isinstance(error, UntrustedError):
        return _FIX_UNTRUSTED
    if error.errno in _NO_LOCK_ERRNOS:
        return (
            "This file system has no file locks, which a spool needs: put it on a local disk "
            "(MIXPANEL_VISITOR_SPOOL), or take a Redis."
        )
    return _FIXES.get(error.errno or 0, "Check the volume, and that this process may write there.")


def is_transient(error: OSError) -> bool:
    """Return whether the error is not the file's: there were no descriptors left, or the disk hung."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.EINTR, errno.ENOMEM)


class UntrustedError(PermissionError):
    """Another user can put files into the directory."""


def check_private(directory: Path) -> str:
    """Return why other users may read or change files in the directory; empty: they cannot.

    Raise `UntrustedError` where the directory must not be used: it is another user's and open to everybody,
    or is reached by such a user's symbolic link. Root's directories and those of a group are trusted.
    """
    link, target = directory.lstat(), directory.stat()
    trusted_uids = (os.geteuid(), 0)
    if link.st_uid not in trusted_uids and (
        stat.S_ISLNK(link.st_mode) or (target.st_uid not in trusted_uids and target.st_mode & stat.S_IWOTH)
    ):
        raise UntrustedError(
            errno.EPERM,
            f"it belongs to another user (uid {link.st_uid}) and is open to everybody, "
            "who could read and change what waits there",
        )
    if target.st_mode & stat.S_IWOTH:
        return f"every user of this machine may write to {directory} (mode {stat.S_IMODE(target.st_mode):o})"
    if target.st_uid not in trusted_uids:
        return f"{directory} belongs to another user (uid {target.st_uid})"
    parent = directory.parent.stat()
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(parent.st_mode)
        return f"every user of this machine may write to {directory.parent} (mode {mode:o})"
    return ""
