"""A Django site for each test: settings, pages and what was tracked."""

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.urls import path
from support.django_site import MIDDLEWARE, PASSWORD, urls_of

SETTINGS = {
    "MIDDLEWARE": [MIDDLEWARE],
    "MIXPANEL_TOKEN": "django",
    "MIXPANEL_VISITOR_SPOOL": "memory:",
    "MIXPANEL_VISITOR_DELIVER": False,
    "MIXPANEL_VISITOR_COLLECTOR_PATH": None,  # a harness of another module may still have one
}

_KEPT = ("django_migrations", "django_content_type", "auth_permission")


@pytest.fixture(scope="module")
def tables(request):
    """A database in memory, with the tables of Django's apps and of the module's own `APPS`.

    An app that wants a middleware before it starts has it in `APPS_MIDDLEWARE`.
    """
    apps = [*settings.INSTALLED_APPS, *getattr(request.module, "APPS", [])]
    middleware = getattr(request.module, "APPS_MIDDLEWARE", [])
    # Apart, and in this order: apps are started before the other settings hold.
    with override_settings(MIDDLEWARE=middleware), override_settings(INSTALLED_APPS=apps):
        call_command("migrate", verbosity=0, run_syncdb=True)
        yield
    connection.close()


@pytest.fixture
def person(tables):
    """Make a user, with the password `PASSWORD`; all of them go after the test."""
    users = get_user_model().objects
    yield lambda name, **more: users.create_user(name, password=PASSWORD, **more)
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table not in _KEPT:
                cursor.execute(f'DELETE FROM "{table}"')  # of apps that are gone again, too


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
