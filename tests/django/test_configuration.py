"""Django's settings: where ours are, and what becomes of them."""

import pytest
from django.test import Client, override_settings

from mixpanel_visitor.django import get_tracker
from mixpanel_visitor.errors import SettingsError


def quiet(_facts):
    """Leave every request alone."""
    return True


def test_settings_are_module_attributes(changed):
    """With the names that they have in the environment."""
    changed(MIXPANEL_REGION="eu", MIXPANEL_VISITOR_COOKIE_NAME="who", MIXPANEL_VISITOR_HANDOVER_PATH=None)
    settings = get_tracker().settings
    assert (settings.region, settings.cookie_name, settings.handover_path) == ("eu", "who", None)


def test_the_environment_says_what_the_settings_do_not(changed, monkeypatch):
    """As everywhere."""
    monkeypatch.setenv("MIXPANEL_VISITOR_COOKIE_NAME", "env")
    assert get_tracker().settings.cookie_name == "env"


def test_djangos_key_signs_and_its_fallbacks_are_accepted(changed):
    """Django has the latest fallback first; with us the last one signs."""
    changed(SECRET_KEY="now" * 9, SECRET_KEY_FALLBACKS=["before" * 4, "long-ago" * 3])
    assert get_tracker().settings.secret_key == ("long-ago" * 3, "before" * 4, "now" * 9)


def test_a_visitor_survives_a_new_key(urls, changed):
    """When the old one is among the fallbacks."""
    seen = []
    urls(page=lambda request: seen.append(request.visitor_id) or _empty())
    client = Client()
    changed(SECRET_KEY="old" * 9)
    client.get("/page/")
    changed(SECRET_KEY="new" * 9, SECRET_KEY_FALLBACKS=["old" * 9])
    client.get("/page/")
    assert seen[0] == seen[1]


def test_a_key_of_our_own(changed):
    """Django's then plays no part, not even where it is empty."""
    changed(SECRET_KEY="", MIXPANEL_VISITOR_SECRET_KEY="our own key, long enough")
    assert get_tracker().settings.secret_key == ("our own key, long enough",)


@pytest.mark.parametrize("name", ["CONSENT", "BEFORE_SEND", "EXTRA_PROPERTIES", "REQUEST_FILTER"])
def test_functions_by_their_dotted_names(changed, name):
    """Settings modules should not import the application."""
    changed(**{f"MIXPANEL_VISITOR_{name}": "os.path.basename"})
    value = getattr(get_tracker().settings, name.lower())
    assert getattr(value, "__name__", "") in ("basename", "<lambda>")


def test_a_dotted_name_that_leads_nowhere(changed):
    """It is said which setting, and why."""
    changed(MIXPANEL_VISITOR_CONSENT="os.path.nothing", MIXPANEL_VISITOR_BEFORE_SEND="no_such_module.f")
    with pytest.raises(SettingsError) as caught:
        get_tracker()
    before_send, consent = caught.value.problems
    assert "MIXPANEL_VISITOR_BEFORE_SEND='no_such_module.f'" in before_send
    assert "nothing" in consent


def test_override_settings_makes_another_tracker(changed):
    """And the former settings hold again afterwards; other settings change nothing."""
    before = get_tracker()
    with override_settings(LANGUAGE_CODE="de"):
        assert get_tracker() is before
    with override_settings(MIXPANEL_TOKEN="another"):
        assert get_tracker().settings.token == "another"
    assert get_tracker().settings.token == "django"


def test_a_client_that_is_older_than_the_settings(urls, changed, mixpanel_events):
    """Handlers load their middleware once; it goes by the settings of the moment."""
    urls(page=lambda request: request.visitor.track("Page") or _empty())
    client = Client()
    client.get("/page/")
    with override_settings(MIXPANEL_TOKEN="another"):
        client.get("/page/")
    assert [event.properties["token"] for event in mixpanel_events] == ["django", "another"]


def test_switched_off_nothing_needs_to_be_given(changed, urls):
    """`MIXPANEL_VISITOR_ENABLED = False` in the settings of tests."""
    changed(MIXPANEL_TOKEN=None, MIXPANEL_VISITOR_ENABLED=False)
    urls(page=lambda request: request.visitor.track("Page") or _empty())
    assert Client().get("/page/").status_code == 200


def _empty():
    from django.http import HttpResponse

    return HttpResponse()
