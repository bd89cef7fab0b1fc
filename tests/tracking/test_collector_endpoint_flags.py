"""The collector over both protocols: flags and settings, which are asked for at Mixpanel."""

import json

import pytest
from support.collector_sites import assert_refused
from support.trackers import TOKEN


@pytest.fixture
def mixpanel():
    """Return a local Mixpanel."""
    from mixpanel_visitor.emulator import LocalMixpanel

    with LocalMixpanel() as local:
        yield local


def asking(make, mixpanel, **settings):
    return make(deliver=True, api_host=mixpanel.url, **settings)


def test_flags_are_asked_for(make, mixpanel):
    """And Mixpanel's answer is the answer."""
    site = asking(make, mixpanel)
    answer = site.send(b"", "flags", query=f"context=%7B%7D&token={TOKEN}&mp_lib=web", method="GET")
    assert (answer.status, json.loads(answer.body)["code"]) == (200, 200)
    assert mixpanel.store.stats()["requests"]["/flags"]["200"] == 1


def test_settings_are_asked_for_once_a_minute(make, mixpanel):
    """They are the same for everybody."""
    site = asking(make, mixpanel)
    for _ in range(3):
        answer = site.send(b"", "settings", query="$lib_version=2.83.0&mp_lib=web&sdk_config=1", method="GET")
        assert (answer.status, json.loads(answer.body)) == (200, {})
    assert mixpanel.store.stats()["requests"]["/settings"]["200"] == 1


@pytest.mark.parametrize("headers", [{"dnt": "1"}, {"user-agent": "Googlebot/2.1"}])
def test_nothing_is_asked_for_who_is_not_tracked(make, mixpanel, headers):
    """There are no flags then, and Mixpanel learns nothing."""
    site = asking(make, mixpanel)
    answer = site.send(b"", "flags", headers, query=f"context=%7B%7D&token={TOKEN}", method="GET")
    assert json.loads(answer.body) == {"code": 200, "flags": {}}
    assert "/flags" not in mixpanel.store.stats()["requests"]


def test_another_projects_flags(make, mixpanel):
    """It is no open relay."""
    site = asking(make, mixpanel)
    assert site.send(b"", "flags", query="token=other", method="GET").status == 403
    assert "/flags" not in mixpanel.store.stats()["requests"]


def test_mixpanel_is_away(make, mixpanel):
    """503: the SDK goes on with what the page says itself."""
    site = asking(make, mixpanel)
    mixpanel.stop()
    answer = site.send(b"", "flags", query=f"verbose=1&token={TOKEN}", method="GET")
    assert_refused(answer, 503)
