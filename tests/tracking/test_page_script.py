"""What `visitor_script` puts into a page, with a collector and without."""

import json
import re

import pytest
from support.trackers import TOKEN, recording_tracker

from mixpanel_visitor.core.collector.routes import own_names
from mixpanel_visitor.tracking.page_script import page_script
from mixpanel_visitor.tracking.tracker import engine_of


def of(settings, **given):
    """Return the script of a tracker with these settings."""
    return page_script(engine_of(recording_tracker(**settings)[0]), **given)


def options(text):
    """Return the options for the SDK that a page gets."""
    return json.loads(re.search(r"window\.visitorOptions=(\{.*?\})</script>", text)[1])


def test_without_a_collector_it_is_the_hand_over_alone():
    """Nothing is said of options, and no variable is set."""
    text = of({})
    assert text.count("<script>") == 1
    assert "visitorOptions" not in text


def test_with_a_collector_it_says_where_to_send():
    """Before all else, with the path that the application is mounted at."""
    text = of({"collector_path": "/m"}, root_path="/shop", nonce="n0nce")
    assert options(text) == {
        "api_host": "/shop/m",
        "api_routes": {route: f"{name}/" for route, name in own_names(TOKEN).items()},
    }
    assert text.count('<script nonce="n0nce">') == 2
    assert text.__html__() == text


@pytest.mark.parametrize("handover", [None, "/_visitor"])
def test_no_hand_over_is_needed(handover):
    """Each of the two stands alone."""
    text = of({"collector_path": "/m", "handover_path": handover})
    assert text.count("<script>") == (1 if handover is None else 2)
    assert of({"handover_path": None}) == ""


def test_a_mount_cannot_leave_its_text():
    """What a server says of its root is only text."""
    text = of({"collector_path": "/m"}, root_path="/</script><script>alert(1)//")
    assert "</script><script>alert" not in text
    assert options(text)["api_host"].startswith("/%3C")
