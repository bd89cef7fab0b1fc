"""Workers of Celery and RQ that are killed with SIGKILL among 200 jobs, and started again."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import celery
import rq
from processes import Result, say
from support.inbox import Inbox
from support.job_sites import working
from support.redis_servers import RedisServer, running
from support.trackers import SECRET_KEY, TOKEN
from support.waiting import wait_until

from mixpanel_visitor import Tracker
from mixpanel_visitor.celery import install
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.rq import VisitorJob

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    import redis as redis_client

JOBS = 200
KILLS = 4
TIMEOUT_S = 300.0


def run(options: Namespace) -> Result:
    """Run `--requests` jobs (200) with each kind of worker; count what Mixpanel has of them."""
    jobs = options.requests or JOBS
    chance = random.Random(options.seed)
    columns = (
        "worker", "jobs", "kill -9", "jobs run more than once", "jobs without an event",
        "counted twice by time and insert ID", "sent twice", "of another visitor", "seconds",
    )  # fmt: skip
    result = Result("jobs", columns, [])
    for kind in ("celery-prefork", "celery-threads", "rq"):
        with tempfile.TemporaryDirectory() as place, running(Path(place) / "redis") as redis:
            row = _kind(kind, Path(place), redis, jobs, chance)
        say(str(row))
        result.rows.append(row)
        _, _, kills, _, lost, twice, _, others, _ = row
        if kills < KILLS or lost or twice or others:
            result.missed.append(f"{kind}: {kills} kills, {lost} lost, {twice} twice, {others} of others")
    return result


def _kind(kind: str, directory: Path, redis: RedisServer, jobs: int, chance: random.Random) -> tuple:
    began_s = time.monotonic()
    tracker = Tracker(token=TOKEN, secret_key=SECRET_KEY, spool=str(directory / "spool"), deliver=False)
    install(tracker)
    with LocalMixpanel() as mixpanel, redis.client() as client:
        inbox = Inbox(mixpanel.url)
        enqueue, give_again = _rq(client) if kind == "rq" else _celery(redis.url)
        for number in range(jobs):
            with tracker.visitor(f"user-{number}"):
                enqueue(number, time.time())

        def counted() -> int:
            return len({each["properties"]["n"] for each in inbox.events() if each["event"] == "Counted"})

        kills = 0
        addresses = {"broker": redis.url, "redis_url": redis.url, "mixpanel_url": mixpanel.url}
        while counted() < jobs and time.monotonic() - began_s < TIMEOUT_S:
            with working(kind, directory, **addresses) as worker:
                if kills < KILLS:
                    goal = counted() + chance.randrange(5, jobs // (KILLS + 2))
                    wait_until(lambda goal=goal: counted() >= goal, TIMEOUT_S / KILLS)
                    kills += 1  # the end of the block kills it, with all its processes
                else:
                    wait_until(lambda: counted() >= jobs, TIMEOUT_S)
                    worker.end()
            give_again()
        events, inbox_stats = inbox.events(), inbox.stats()
    tracker.close()
    runs = Counter(each["properties"]["n"] for each in events if each["event"] == "Ran")
    unique = Counter(each["properties"]["n"] for each in events if each["event"] == "Counted")
    return (
        kind,
        jobs,
        kills,
        sum(count > 1 for count in runs.values()),
        jobs - len(unique),
        sum(count > 1 for count in unique.values()),
        inbox_stats["duplicates"],
        sum(each["properties"]["distinct_id"] != f"user-{each['properties']['n']}" for each in events),
        round(time.monotonic() - began_s),
    )


def _celery(url: str) -> tuple[Callable[[int, float], object], Callable[[], None]]:
    app = celery.Celery("sites", broker=url, set_as_current=False)
    # Redis gives a message again by itself, `visibility_timeout` after its worker was killed.
    return lambda number, at_s: app.send_task("count", args=[number, at_s]), lambda: None


def _rq(client: redis_client.Redis) -> tuple[Callable[[int, float], object], Callable[[], None]]:
    queue = rq.Queue("jobs", connection=client, job_class=VisitorJob)

    def enqueue(number: int, at_s: float) -> object:
        return queue.enqueue("support.job_tasks.count_in_rq", number, at_s, retry=rq.Retry(max=KILLS + 1))

    def give_again() -> None:
        """Do now what RQ's maintenance does minutes later: enqueue the jobs of killed workers again."""
        queue.started_job_registry.cleanup(time.time() + 3600)
        waiting = set(queue.get_job_ids())
        for job_id in client.lrange(queue.intermediate_queue_key, 0, -1):
            client.lrem(queue.intermediate_queue_key, 1, job_id)
            if job_id.decode() not in waiting:
                queue.push_job_id(job_id.decode())

    return enqueue, give_again
