"""`manage.py check`: each finding by its ID."""

import pytest
from django.core.checks import run_checks
from support.django_site import MIDDLEWARE

CACHE = "django.middleware.cache.UpdateCacheMiddleware"


def found():
    """Give the IDs of what our checks find."""
    return [message.id.rpartition(".")[2] for message in run_checks(tags=["mixpanel_visitor"])]


@pytest.mark.parametrize(
    ("middleware", "ids"),
    [
        ([MIDDLEWARE, CACHE], []),
        ([], ["W001"]),
        ([MIDDLEWARE, CACHE, MIDDLEWARE], ["W002"]),
        ([CACHE, MIDDLEWARE], ["W003"]),
        (["no.such.Middleware", MIDDLEWARE], []),
    ],
)
def test_the_place_of_the_middleware(changed, middleware, ids):
    """Once, and above every cache."""
    changed(MIDDLEWARE=middleware)
    assert found() == ids


def test_wrong_settings(changed):
    """An error for each mistake, with its fix."""
    changed(MIXPANEL_TOKEN=None, MIXPANEL_REGION="mars")
    assert found() == ["E001", "E001"]
