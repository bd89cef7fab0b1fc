"""ConfigProblem: a setting of a Redis server that would lose records. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST_VERSION = (6, 2)
"""The first Redis whose XPENDING knows IDLE, by which the entries of dead workers are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """A setting to change; `name` is its kind. With `refuses`, no worker starts with it."""

    name: str
    problem: str
    impact: str
    fix: str
    refuses: bool = False


def judge(info: Mapping[str, Any], *, wait: int) -> Iterator[ConfigProblem]:
    """Yield the problems that INFO shows; `wait` is how many replicas must have a record."""
    version = str(info.get("redis_version", ""))
    major_minor = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(major_minor) == len(OLDEST_VERSION) and major_minor < OLDEST_VERSION:
        yield ConfigProblem(
            name="version",
            problem=f"Redis {version} is too old",
            impact="what a dead worker had in hand cannot be found",
            fix=f"use Redis {'.'.join(map(str, OLDEST_VERSION))} or later",
            refuses=True,
        )
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-"):
        yield ConfigProblem(
            name="eviction",
            problem=f"maxmemory-policy is {policy}",
            impact="when its memory is full, Redis deletes whole streams of events that nobody has delivered",
            fix="set maxmemory-policy noeviction; what it then refuses waits on the hosts",
            refuses=True,
        )
    if info.get("aof_enabled") == 0:
        yield ConfigProblem(
            name="append-only",
            problem="appendonly is off",
            impact="a Redis that is killed or restarted has forgotten what came since its last snapshot",
            fix="set appendonly yes (appendfsync everysec loses a second at most, when power fails)",
        )
    replicas = int(info.get("connected_slaves", 0))
    if wait > replicas:
        yield ConfigProblem(
            name="replicas",
            problem=f"wait={wait} is asked for, and {replicas} replicas are connected",
            impact="Redis counts as away, so that everything waits on the hosts",
            fix="connect replicas, or ask for fewer",
        )
