"""The spool: a place that lasts, belongs to this user, has room, and is emptied."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mixpanel_visitor.cli.spool.location import inspect_all, locate_spool, user_name
from mixpanel_visitor.cli.spool.redis import is_redis, open_redis_spool, server_of
from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.journal.quota import MAX_BYTES, MAX_SHARE_OF_VOLUME, MIN_FREE_SHARE_OF_VOLUME
from mixpanel_visitor.delivery.spool import DirectorySpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.quoting import several
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.settings.spool import HAS_FILE_LOCKS, NO_FILE_LOCKS

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.delivery.journal.inspection import ProjectStatus

OLDEST_S = 3600.0
LOW_SHARE = 2 * MIN_FREE_SHARE_OF_VOLUME
"""With less of the volume, or of its files, free, it is time to look; below half of it events are refused."""

NEARLY_FULL = 0.8

_REDIS = {"version": "E074", "eviction": "E086", "append-only": "W087", "replicas": "W088"}
"""The IDs of what a Redis lacks."""

_NOT_WRITABLE, _NOT_LASTING = "E071", "W075"

_BEFORE_REDIS = {
    _NOT_WRITABLE: {"why": "requests wait for Redis, and events that it does not take are refused"},
    _NOT_LASTING: {
        "fix": "put it on a local volume (?journal=/a/directory), or set durability to before-response: then "
        "responses wait for Redis, and only what it does not take is here"
    },
}
"""What is different where the directory is but a journal from which events are forwarded."""

_MEMORY = "it is in memory and gone with the next boot"
_NETWORK = "locks and kill -9 mean less on a network file system, and several machines must not share a spool"
_FLEETING = {
    **dict.fromkeys(("tmpfs", "ramfs"), _MEMORY),
    **dict.fromkeys(("overlay", "aufs"), "it is a container's own layer and gone with the container"),
    **dict.fromkeys(
        (
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "9p",
            "afs",
            "ceph",
            "glusterfs",
            "lustre",
            "fuse.sshfs",
            "fuse.s3fs",
        ),
        _NETWORK,
    ),
    **dict.fromkeys(("fuse.glusterfs", "fuse.gcsfuse", "fuse.rclone", "virtiofs"), _NETWORK),
}


def check_spool(location: str, *, delivers: bool = True) -> Iterator[Finding]:
    """Check the spool at `location`; raise `SettingsError` where that names none.

    With `delivers=False` the application only stores, so another process has to deliver.
    """
    if is_redis(location):
        yield from _redis(location)
        return
    spool = open_spool(location)
    if not isinstance(spool, DirectorySpool):
        yield Finding(
            "W070",
            "the spool is in memory",
            "undelivered events are lost when the process ends",
            "set MIXPANEL_VISITOR_SPOOL to a directory on a disk that lasts"
            if HAS_FILE_LOCKS
            else f"this system has no file locks: {NO_FILE_LOCKS}",
        )
        return
    directory = Path(os.path.realpath(spool.directory))  # a link may lead to another file system
    existing = next(path for path in (directory, *directory.parents) if _exists(path))
    if not (os.access(existing, os.W_OK | os.X_OK) and _is_dir(existing)):
        yield Finding(
            _NOT_WRITABLE,
            f"the spool {directory} cannot be written: {existing} does not allow it",
            "every event is refused",
            "run this and the application as the user who owns it, or name another directory",
        )
        return
    yield Finding("ok", f"the spool {directory} can be written")
    yield from check_volume_kind(directory, file_system(existing))
    yield from check_free_space(os.statvfs(existing))
    if directory.is_dir():
        yield from _owner(directory)
        try:
            for project in inspect_all(locate_spool(str(directory), may_be_empty=True).projects, quiet=True):
                yield from check_project_spool(project, delivers=delivers)
        except click.ClickException as error:
            yield Finding(
                "E072",
                error.message,
                "a spool of another user takes no events from this one",
                "run this and the application as the user who owns it",
            )


def _redis(location: str) -> Iterator[Finding]:
    spool = open_redis_spool(location)
    journal_directory = spool.journal.directory if isinstance(spool, ForwardingSpool) else None
    try:
        shortcomings = server_of(spool).preflight()
    except SpoolUnavailableError as error:
        yield Finding(
            "E073",
            f"{without_secrets(location)} is not there: {error}",
            f"until it is, events wait in {journal_directory}"
            if journal_directory
            else "until it is, every event is refused",
            "start it, or correct the address",
        )
        return
    finally:
        spool.close()
    yield Finding("ok", f"the spool {without_secrets(location)} answers")
    for each in shortcomings:
        yield Finding(_REDIS[each.name], each.problem, each.impact, each.fix)
    if journal_directory is not None:
        for finding in check_spool(str(journal_directory), delivers=False):
            yield dataclasses.replace(finding, **_BEFORE_REDIS.get(finding.id, {}))


def check_volume_kind(directory: Path, kind: str) -> Iterator[Finding]:
    """Check the type of the file system, such as `nfs4`."""
    fleeting = _FLEETING.get(kind)
    if fleeting:
        fix = "put it on a local volume"
        yield Finding(_NOT_LASTING, f"the spool {directory} may not last", fleeting, fix)


def check_free_space(volume: os.statvfs_result) -> Iterator[Finding]:
    """Check what is free of a volume, in bytes and in files; some file systems do not report it."""
    for name, free, total, fix in (
        ("the spool's volume", volume.f_bavail, volume.f_blocks, "free space"),
        (
            "the files that the spool's volume can hold",
            volume.f_favail,
            volume.f_files,
            "remove files (df -i)",
        ),
    ):
        share = free / total if total else 1.0
        if share < MIN_FREE_SHARE_OF_VOLUME:
            yield Finding(
                "E076",
                f"less than {MIN_FREE_SHARE_OF_VOLUME:.0%} of {name} is free",
                "new events are refused; what is stored is kept",
                fix,
            )
        elif share < LOW_SHARE:
            yield Finding(
                "W077",
                f"less than {LOW_SHARE:.0%} of {name} is free",
                f"below {MIN_FREE_SHARE_OF_VOLUME:.0%} new events are refused",
                fix,
            )


def file_system(path: Path, mounts: str = "/proc/mounts") -> str:
    """Return the type of the file system that holds `path`; empty where the system does not say."""
    mounted, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines():
            _, mount_point, its_kind, *_ = line.split()
            mount_point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount_point)
            # Of two mounts at one place the later one is on top.
            holds_path = path == Path(mount_point) or Path(mount_point) in path.parents
            if holds_path and len(mount_point) >= len(mounted):
                mounted, kind = mount_point, its_kind
    return kind


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _is_dir(path: Path) -> bool:
    return stat.S_ISDIR(path.stat().st_mode)


def _owner(directory: Path) -> Iterator[Finding]:
    status = directory.stat()
    if status.st_uid != os.geteuid():
        owner = user_name(status.st_uid)
        yield Finding(
            "W078",
            f"the spool {directory} belongs to {owner}, not to {user_name(os.geteuid())}",
            "one of them may be unable to deliver what the other writes",
            f"run this as the application runs: sudo -u {owner} mixpanel-visitor doctor",
        )


def check_project_spool(project: ProjectStatus, *, delivers: bool = True) -> Iterator[Finding]:
    """Check one project's waiting records, dead letters and size."""
    name = project.path.name
    mode = project.path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding(
            "W079",
            f"others may look into {project.path} ({stat.filemode(mode)})",
            "it holds people's events and IDs",
            f"chmod 700 {project.path}",
        )
    if project.dead_letters:
        yield Finding(
            "E080",
            f"{several(project.dead_letters, 'dead letter')} in {name}",
            "Mixpanel has refused them",
            "mixpanel-visitor spool dead list",
        )
    for note in project.notes:
        yield Finding("W081", f"in {name}: {note}", "unreadable records are not delivered", "see the note")
    limit = min(MAX_BYTES, project.volume_bytes * MAX_SHARE_OF_VOLUME) if project.volume_bytes else MAX_BYTES
    if project.bytes > NEARLY_FULL * limit:
        yield Finding(
            "W082",
            f"{name} holds {project.bytes:,} of {int(limit):,} bytes",
            "when it is full, new events are refused",
            "deliver it: the next finding says what prevents that",
        )
    yield from _waiting(name, project)
    if not (delivers or project.waiting or project.led):
        yield Finding(
            "W083",
            f"deliver is False, and no process delivers {name}",
            "new records stay there until a process delivers them",
            "start a process with deliver=True on this spool",
        )


def _waiting(name: str, project: ProjectStatus) -> Iterator[Finding]:
    if project.oldest_age_s is not None and project.oldest_age_s > OLDEST_S:
        hours = f"{project.oldest_age_s / 3600:.1f} h"
        yield Finding(
            "E084",
            f"in {name} {several(project.waiting, 'record waits', 'records wait')}, the oldest for {hours}",
            "a process delivers, but does not reach Mixpanel" if project.led else "no process delivers",
            "see its log" if project.led else "start a process with deliver=True on this spool",
        )
    elif project.waiting and not project.led:
        yield Finding(
            "W085",
            f"in {name} {several(project.waiting, 'record waits', 'records wait')} and no process delivers",
            "they stay there until a process delivers them",
            "start the application, with deliver=True in one process at least",
        )
    else:
        yield Finding("ok", f"nothing waits too long in {name}")
