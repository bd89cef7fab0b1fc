"""`manage.py check`: each finding by its ID, red and silent, and its hint is the fix."""

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.middleware.cache import UpdateCacheMiddleware
from django.urls import path, re_path
from support.django_site import MIDDLEWARE, urls_of

CACHE = "django.middleware.cache.UpdateCacheMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"


class SiteCache(UpdateCacheMiddleware):
    """A cache of the site's own making."""


def messages():
    """Return what our checks say."""
    return run_checks(tags=["mixpanel_visitor"])


def ids():
    """Return the IDs of it."""
    return [message.id.rpartition(".")[2] for message in messages()]


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([MIDDLEWARE, CACHE], []),
        ([], ["W001"]),
        ([MIDDLEWARE, CACHE, MIDDLEWARE], ["W002"]),
        ([CACHE, MIDDLEWARE], ["W003"]),
        (["django.middleware.cache.FetchFromCacheMiddleware", MIDDLEWARE], ["W003"]),
        (["no.such.Middleware", MIDDLEWARE], []),
    ],
)
def test_the_place_of_the_middleware(changed, middleware, expected):
    """Once, and above every cache."""
    changed(MIDDLEWARE=middleware)
    assert ids() == expected


def test_a_cache_that_is_derived_from_djangos(changed):
    """It is one as well, and is named."""
    changed(MIDDLEWARE=[f"{__name__}.SiteCache", MIDDLEWARE])
    (message,) = messages()
    assert message.id.endswith("W003")
    assert "SiteCache" in message.msg


def test_wrong_settings(changed):
    """An error for each mistake, with its fix."""
    changed(MIXPANEL_REGION="mars", MIXPANEL_VISITOR_COOKIE_NAMES="x")
    assert ids() == ["E001", "E001"]
    hints = sorted(message.hint for message in messages())
    assert hints == ["did you mean MIXPANEL_VISITOR_COOKIE_NAME?", "must be 'us', 'eu' or 'in'"]


def test_no_token(changed):
    """It has an ID of its own; it can be switched off instead."""
    changed(MIXPANEL_TOKEN=None)
    (message,) = messages()
    assert message.id == "mixpanel_visitor.E002"
    assert "set MIXPANEL_TOKEN" in message.hint
    changed(MIXPANEL_VISITOR_ENABLED=False)
    assert ids() == []


@pytest.mark.parametrize(
    "django",
    [
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        {"USE_X_FORWARDED_HOST": True},
    ],
)
def test_a_proxy_that_we_were_not_given(changed, django):
    """Every visitor would have its address."""
    changed(**django)
    assert ids() == ["W004"]
    changed(MIXPANEL_VISITOR_TRUSTED_PROXIES=["10.0.0.0/8"])
    assert ids() == []


def page(_request, **_found):
    """Answer."""
    return HttpResponse()


ANY_PAGE = urls_of(path("<str:slug>/", page))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["W005"]),
        ({"MIDDLEWARE": [MIDDLEWARE, COMMON]}, []),
        ({"MIDDLEWARE": [COMMON]}, ["W001"]),
        ({"APPEND_SLASH": False}, []),
        ({"MIXPANEL_VISITOR_HANDOVER_PATH": None}, []),
        ({"MIXPANEL_VISITOR_HANDOVER_PATH": "/_/visitor"}, []),
        ({"ROOT_URLCONF": urls_of(re_path(r"^(?P<slug>[^/]+)/?$", page))}, []),
    ],
)
def test_append_slash_takes_the_hand_over(changed, changes, expected):
    """Where a pattern matches its path with a slash, and the middleware that redirects is above ours."""
    changed(MIDDLEWARE=[COMMON, MIDDLEWARE], ROOT_URLCONF=ANY_PAGE)
    changed(**changes)
    assert ids() == expected


def test_a_domain_for_the_session_alone(changed):
    """The hint is what is to be set."""
    changed(SESSION_COOKIE_DOMAIN=".example.com")
    (message,) = messages()
    assert message.id == "mixpanel_visitor.W006"
    assert message.hint == "Set MIXPANEL_VISITOR_COOKIE_DOMAIN = 'example.com'."
    changed(MIXPANEL_VISITOR_COOKIE_DOMAIN="example.com")
    assert ids() == []


def test_wrong_settings_are_said_once(changed):
    """What needs the settings is silent then."""
    changed(MIXPANEL_REGION="mars", SESSION_COOKIE_DOMAIN=".example.com")
    assert ids() == ["E001"]


def test_all_checks_of_django_run_beside_ours(changed):
    """With ours among them, as `manage.py check` runs them."""
    changed(MIDDLEWARE=[])
    assert "mixpanel_visitor.W001" in [message.id for message in run_checks()]
