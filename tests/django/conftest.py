"""A Django site for each test: settings, pages and what was tracked."""

import pytest
from django.test import override_settings
from django.urls import path
from support.django_site import MIDDLEWARE, urls_of

SETTINGS = {
    "MIDDLEWARE": [MIDDLEWARE],
    "MIXPANEL_TOKEN": "django",
    "MIXPANEL_VISITOR_SPOOL": "memory:",
    "MIXPANEL_VISITOR_DELIVER": False,
}


@pytest.fixture
def changed():
    """Change settings for the rest of the test."""
    running = []

    def change(**more):
        override = override_settings(**more)
        override.enable()
        running.append(override)

    change(**SETTINGS)
    yield change
    for override in reversed(running):
        override.disable()


@pytest.fixture
def urls(changed):
    """Serve these views, each under its pattern; gives the function that takes them."""

    def serve(**views):
        serve_at({f"{name}/": view for name, view in views.items()})

    def serve_at(views):
        changed(ROOT_URLCONF=urls_of(*(path(*each) for each in views.items())))

    serve.at = serve_at
    return serve
