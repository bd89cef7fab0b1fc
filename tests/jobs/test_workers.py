"""Real workers of every kind, a real Redis between them and two sites, and a local Mixpanel."""

import time
import uuid

import pytest
from redis import Redis
from support import rabbitmq
from support.inbox import Inbox
from support.job_sites import COMMANDS, Sites, celery_enqueues, rq_enqueues, working
from support.redis_servers import running
from support.trackers import TOKEN, known
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.servers

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A real Redis, as broker and for results."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def mixpanel():
    """A local Mixpanel."""
    with LocalMixpanel() as mixpanel:
        yield mixpanel


@pytest.fixture
def sites(redis, tmp_path, kind):
    """The two sites; what is tracked there waits in a directory."""
    with Redis.from_url(redis.url, socket_timeout=2 * PATIENCE_S) as client:
        client.flushall()
        enqueue = rq_enqueues(client) if kind.startswith("rq") else celery_enqueues(redis.url, redis.url)
        sites = Sites(tmp_path / "spool", enqueue)
        yield sites
        sites.tracker.close()


def device_of(name):
    """Return the device ID of somebody's phone."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.example"))


def person(name):
    """Return the headers of somebody's browser who has logged in."""
    cookie = known(device_of(name), user_id=name, issued_at_s=int(time.time()))["cookie"]
    return {"cookie": cookie, "user_agent": FIREFOX}


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_events_of_a_job_are_those_of_its_visitor(kind, sites, redis, mixpanel, tmp_path):
    """Persons, browser and page as in the request; nothing of who may not be tracked, and each says why.

    Nobody but the worker delivers, so at its end it has delivered all that it could.
    """
    sites.post("flask", **person("ann"))
    sites.post("fastapi", **person("bob"))
    sites.post("flask", **person("dan"), dnt="1")
    sites.post("fastapi", **person("gil"), sec_gpc="1")
    sites.post("flask", **{**person("rob"), "user_agent": GOOGLEBOT})
    out = person("oli")
    sites.post("fastapi", **{**out, "cookie": f"{out['cookie']}; __mp_opt_in_out_{TOKEN}=0"})
    sites.post("flask", **person("eve"))
    sites.post("flask", "/opt-out", **person("eve"))  # while the job waits
    notes = sites.tracker.stats()["notes"]
    assert (notes["export_consent_denied"], notes["export_bot"]) == (3, 1)

    addresses = {"broker": redis.url, "redis_url": redis.url, "mixpanel_url": mixpanel.url}
    with working(kind, tmp_path, **addresses) as worker:
        reasons = [result() for result in sites.results]
        assert worker.end() == 0, worker.log_path.read_text()
    assert reasons == [None, None, *["resume_empty"] * 4, "consent_denied"]

    events = Inbox(mixpanel.url).events()
    ordered, paid = (
        {each["properties"]["$user_id"]: each["properties"] for each in events if each["event"] == name}
        for name in ("Ordered", "Invoice paid")
    )
    assert sorted(paid) == ["ann", "bob"]
    own = {"time": 0, "$insert_id": ""}
    for user in paid:
        assert paid[user] | own == ordered[user] | own | {"amount": 12}
        assert (paid[user]["$device_id"], paid[user]["$browser"]) == (device_of(user), "Firefox")
    assert sum(each["event"] == "Invoice paid" for each in events) == 2


@pytest.mark.skipif(not rabbitmq.SERVER.exists(), reason="RabbitMQ is not installed")
@pytest.mark.parametrize("kind", ["celery-prefork"])
def test_the_header_travels_over_amqp(kind, redis, mixpanel, tmp_path):
    """Through a real RabbitMQ, as a header of the message."""
    with rabbitmq.running(tmp_path / "rabbitmq") as broker:
        sites = Sites(tmp_path / "spool", celery_enqueues(broker, redis.url))
        sites.post("flask", **person("ann"))
        sites.post("fastapi", **person("dan"), dnt="1")
        addresses = {"broker": broker, "redis_url": redis.url, "mixpanel_url": mixpanel.url}
        with working(kind, tmp_path, **addresses) as worker:
            assert [result() for result in sites.results] == [None, "resume_empty"]
            assert worker.end() == 0, worker.log_path.read_text()
        sites.tracker.close()
    paid = [each for each in Inbox(mixpanel.url).events() if each["event"] == "Invoice paid"]
    assert [each["properties"]["$user_id"] for each in paid] == ["ann"]
