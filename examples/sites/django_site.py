"""A small shop with Django and its users, whose log-in and log-out are the visitor's by themselves.

    pip install 'mixpanel-visitor[django]'
    MIXPANEL_TOKEN=... python examples/sites/django_site.py

Then http://127.0.0.1:8000, as anna ("earl grey") or bert ("darjeeling"). Without a Mixpanel account:
`mixpanel-visitor dev` in another terminal, and MIXPANEL_API_HOST as it says.

A whole site in one file: settings, views, addresses, and `manage.py runserver` with a database that is gone
when it ends.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from shop import PAGE, PASSWORDS, PRODUCTS, SECRET_KEY

from mixpanel_visitor import current_visitor

directory = tempfile.TemporaryDirectory(prefix="django-site-")
settings.configure(
    DEBUG=True,
    SECRET_KEY=SECRET_KEY,
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "mixpanel_visitor.django",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "mixpanel_visitor.django.VisitorMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(directory.name) / "shop.sqlite3"}
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "templates"],
            "OPTIONS": {
                "context_processors": [
                    "mixpanel_visitor.django.context_processors.visitor",
                    f"{__name__}.page_context",
                ]
            },
        }
    ],
    LOGIN_URL="/login",
    LOGIN_REDIRECT_URL="/account",
    LOGOUT_REDIRECT_URL="/",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

# These need the settings.
from django.contrib.auth import get_user, get_user_model  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.views import LoginView, LogoutView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.urls import path  # noqa: E402


def page_context(request: HttpRequest) -> dict[str, Any]:
    return {"user_name": get_user(request).get_username(), **PAGE}


def front_page(request: HttpRequest) -> HttpResponse:
    current_visitor.track("Front page viewed")
    return render(request, "shop.html", {"title": "The shop"})


def product(request: HttpRequest, name: str) -> HttpResponse:
    if name not in PRODUCTS:
        raise Http404
    current_visitor.track("Product viewed", product=name)
    return render(request, "shop.html", {"title": name})


@login_required
def account(request: HttpRequest) -> HttpResponse:
    current_visitor.track("Account opened")
    return render(request, "shop.html", {"title": "Your account"})


urlpatterns = [
    path("", front_page),
    path("product/<name>", product),
    path("login", LoginView.as_view(template_name="shop.html", extra_context={"title": "Log in"})),
    path("account", account),
    path("logout", LogoutView.as_view()),
]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    for name, password in PASSWORDS.items():
        get_user_model().objects.create_user(name, password=password)
    call_command("runserver", *sys.argv[1:], use_reloader=False)
