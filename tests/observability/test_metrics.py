"""Metrics: Prometheus and OpenTelemetry see what the tracker counts."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.opentelemetry import observe
from mixpanel_visitor.prometheus import VisitorCollector
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:"}


@pytest.fixture
def tracker():
    """One with an event that was taken, one that was refused, and a lane that pauses."""

    def post(endpoint, bodies):
        if endpoint == "import":
            return Response(status=200, body=b'{"code":200}', sent=True)
        return Response(status=503, sent=True)

    tracker = Tracker(**SETTINGS, dependencies=Dependencies(post=post))
    with tracker.visitor("u") as visitor:
        visitor.track("Taken")
        visitor.track("")
        visitor.people_set({"plan": "pro"})
    assert wait_until(lambda: {200, 503} <= tracker.stats()["sender"]["http"].keys(), PATIENCE_S)
    assert wait_until(lambda: tracker.stats()["delivered"] == 1, PATIENCE_S)
    yield tracker
    tracker.close(timeout_s=0.1)


EXPECTED = {
    ("events.accepted", ""): 3,
    ("events.delivered", ""): 1,
    ("events.pending", ""): 1,
    ("events.refused", "bad_name"): 1,
    ("responses", "200"): 1,
    ("responses", "503"): 1,
    ("requests.retried", "server"): 1,
    ("paused", "engage"): 1,
    ("paused", "import"): 0,
    ("spool.records", ""): 1,
    ("spool.leader", ""): 1,
}


def test_prometheus_scrapes_the_figures(tracker):
    """By the real client's text format, read back by its own parser."""
    registry = CollectorRegistry()
    registry.register(VisitorCollector(tracker))
    text = generate_latest(registry).decode()
    seen = {
        (sample.name.removesuffix("_total"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for (name, label), value in EXPECTED.items():
        assert seen[f"mixpanel_visitor_{name.replace('.', '_')}", label] == value, name
    assert "mixpanel_visitor_spool_oldest_age_seconds" in text


def test_trackers_share_names_and_have_a_label(tracker):
    """The exposition is read back by Prometheus' own parser; with one tracker there is no label."""
    other = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=MemorySpool()))
    other.track("u", "Only one")
    registry = CollectorRegistry()
    registry.register(VisitorCollector({"shop": tracker, "blog": other}))
    text = generate_latest(registry).decode()
    seen = {
        (sample.labels["tracker"], sample.labels.get("reason", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("mixpanel_visitor_events_accepted_total", "mixpanel_visitor_events_refused_total")
    }
    assert seen == {("shop", ""): 3, ("blog", ""): 1, ("shop", "bad_name"): 1}
    assert text.count("# TYPE mixpanel_visitor_events_accepted_total") == 1


def test_opentelemetry_tells_trackers_apart(tracker):
    """By an attribute."""
    reader = InMemoryMetricReader()
    other = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=MemorySpool()))
    observe({"shop": tracker, "blog": other}, MeterProvider(metric_readers=[reader]))
    [resource] = reader.get_metrics_data().resource_metrics
    [scope] = resource.scope_metrics
    accepted = next(each for each in scope.metrics if each.name == "mixpanel_visitor.events.accepted")
    assert {point.attributes["tracker"]: point.value for point in accepted.data.data_points} == {
        "shop": 3,
        "blog": 0,
    }


def test_opentelemetry_reads_the_figures(tracker):
    """By the real SDK."""
    reader = InMemoryMetricReader()
    observe(tracker, MeterProvider(metric_readers=[reader]))
    [resource] = reader.get_metrics_data().resource_metrics
    [scope] = resource.scope_metrics
    seen = {
        (metric.name, next(iter(point.attributes.values()), "")): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    for (name, label), value in EXPECTED.items():
        assert seen[f"mixpanel_visitor.{name}", label] == value, name


def test_a_scrape_survives_figures_that_cannot_be_had():
    """The application's own metrics come all the same."""

    class Unreadable(MemorySpool):
        def counts(self):
            raise OSError("Input/output error")

    tracker = Tracker(**SETTINGS, dependencies=Dependencies(spool=Unreadable()))
    registry = CollectorRegistry()
    Gauge("other", "The application's own.", registry=registry).set(1)
    registry.register(VisitorCollector(tracker))
    assert "other 1.0" in generate_latest(registry).decode()


def test_an_export_is_one_look_at_the_spool():
    """Twenty instruments show one moment, and the spool is not surveyed for each."""
    looks = []

    class WatchedSpool(MemorySpool):
        def counts(self):
            looks.append(1)
            return super().counts()

    reader = InMemoryMetricReader()
    observe(
        Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=WatchedSpool())),
        MeterProvider(metric_readers=[reader]),
    )
    assert looks == []
    reader.get_metrics_data()
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("module", "package"), [("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")]
)
def test_a_missing_package_says_how_to_install_it(module, package):
    """The error names the extra."""
    script = f"import sys; sys.modules[{package!r}] = None; import mixpanel_visitor.{module}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"pip install 'mixpanel-visitor[{module}]'" in ended.stderr
