"""ConfigProblem: what in a Redis' own settings would lose records. Pure, but for the command that asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = (6, 2)
"""The first Redis whose XPENDING knows IDLE, which is how dead workers' entries are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """A setting to change; `name` says of which kind. With `refuses`, no worker starts on it."""

    name: str
    problem: str
    impact: str
    fix: str
    refuses: bool = False


def judge(info: Mapping[str, Any], *, wait: int) -> Iterator[ConfigProblem]:
    """Yield what is wrong by INFO, whose omissions are right; `wait`: replicas that must have a record."""
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == len(OLDEST) and numbers < OLDEST:
        yield ConfigProblem(
            name="version",
            problem=f"Redis {version} is too old",
            impact="what a dead worker had in hand cannot be found",
            fix=f"use Redis {'.'.join(map(str, OLDEST))} or later",
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
