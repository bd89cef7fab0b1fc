"""django-allauth: its own pages for sign-up, log-in and log-out, and its own signal."""

import pytest
from allauth.account.signals import user_signed_up
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from support.django_site import MIDDLEWARE, PASSWORD, SESSIONS, urls_of

APPS = ["allauth", "allauth.account"]
APPS_MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]


def page(request):
    """Track."""
    request.visitor.track("Page")
    return HttpResponse()


def signed_up(request, user, **_more):
    """Track the sign-up, for which allauth has a signal: it comes before the user is logged in."""
    request.visitor.identify(user.pk)
    request.visitor.track("Signed up", name=user.get_username())


@pytest.fixture
def client(changed, person):
    """Return the client of a site with allauth's pages."""
    changed(
        MIDDLEWARE=[MIDDLEWARE, *SESSIONS, *APPS_MIDDLEWARE],
        ROOT_URLCONF=urls_of(path("page/", page), path("accounts/", include("allauth.account.urls"))),
        AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
        ACCOUNT_SIGNUP_FIELDS=["username*", "password1*"],
        ACCOUNT_LOGIN_METHODS={"username"},
        ACCOUNT_EMAIL_VERIFICATION="none",
        LOGIN_REDIRECT_URL="/page/",
        ACCOUNT_LOGOUT_REDIRECT_URL="/page/",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    )
    user_signed_up.connect(signed_up)
    yield Client()
    user_signed_up.disconnect(signed_up)


def test_sign_up_log_out_log_in(client, mixpanel_events):
    """One person all along, but for the time after the log-out."""
    client.get("/page/")
    assert client.post("/accounts/signup/", {"username": "ann", "password1": PASSWORD}).status_code == 302
    client.get("/page/")
    assert client.post("/accounts/logout/").status_code == 302
    client.get("/page/")
    assert client.post("/accounts/login/", {"login": "ann", "password": PASSWORD}).status_code == 302
    client.get("/page/")
    before, signed_in, out, again = mixpanel_events.find("Page")
    assert before.properties["$device_id"] == signed_in.properties["$device_id"]
    assert out.distinct_id.startswith("$device:")
    assert out.properties["$device_id"] != before.properties["$device_id"]
    assert signed_in.distinct_id == again.distinct_id != out.distinct_id
    sign_up = mixpanel_events.assert_tracked("Signed up")
    assert sign_up.distinct_id == signed_in.distinct_id
