"""Staff who look at the site as another user, by django-hijack or django-loginas: they stay themselves."""

import pytest
from django.contrib.auth import user_logged_in
from django.contrib.auth.models import update_last_login
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path
from support.django_site import MIDDLEWARE, PASSWORD, SESSIONS, urls_of

APPS = ["django.contrib.admin", "django.contrib.messages", "hijack", "loginas"]
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"


def page(request):
    """Track, and say who Django takes the user to be."""
    request.visitor.track("Page")
    return HttpResponse(request.user.get_username())


@pytest.fixture
def staff(person, changed):
    """Log a member of staff in, in a browser; gives the browser, the member and a customer."""
    changed(
        MIDDLEWARE=[MIDDLEWARE, *SESSIONS, MESSAGES],
        LOGIN_REDIRECT_URL="/page/",
        LOGOUT_REDIRECT_URL="/page/",
        ROOT_URLCONF=urls_of(
            path("page/", page),
            path("login/", LoginView.as_view()),
            path("logout/", LogoutView.as_view()),
            path("hijack/", include("hijack.urls")),
            path("loginas/", include("loginas.urls")),
        ),
    )
    boss, customer = person("boss", is_staff=True, is_superuser=True), person("customer")
    client = Client()
    client.post("/login/", {"username": "boss", "password": PASSWORD})
    return client, boss, customer


def ways(customer):
    """Return the pages that begin and end an impersonation, by the packages that have them."""
    return {
        "hijack": (("/hijack/acquire/", {"user_pk": customer.pk}), "/hijack/release/"),
        "loginas": ((f"/loginas/login/user/{customer.pk}/", {}), "/loginas/logout/"),
    }


@pytest.mark.parametrize("way", ["hijack", "loginas"])
def test_an_impersonation_changes_nobody(staff, mixpanel_events, way):
    """Neither its begin nor its end: what staff do is theirs."""
    client, boss, customer = staff
    begin, end = ways(customer)[way]
    names = []
    for step in ((), begin, (end,)):
        if step:
            assert client.post(*step).status_code == 302
        names.append(client.get("/page/").content.decode())
    assert names == ["boss", "customer", "boss"]
    events = mixpanel_events.find("Page")
    assert {event.distinct_id for event in events} == {str(boss.pk)}
    assert len({event.properties["$device_id"] for event in events}) == 1


def test_a_log_out_from_an_impersonation_is_one(staff, mixpanel_events):
    """Nobody is logged in afterwards, and the visitor is a new one."""
    client, _, customer = staff
    client.post(*ways(customer)["hijack"][0])
    client.post("/logout/")
    client.get("/page/")
    assert mixpanel_events.find("Page")[-1].distinct_id.startswith("$device:")


def test_a_site_that_never_notes_last_log_ins(person, staff, mixpanel_events):
    """Its log-ins are log-ins all the same."""
    ann = person("ann")
    kept = {"receiver": update_last_login, "dispatch_uid": "update_last_login"}
    assert user_logged_in.disconnect(**kept)
    try:
        client = Client()
        client.post("/login/", {"username": "ann", "password": PASSWORD})
        client.get("/page/")
    finally:
        user_logged_in.connect(**kept)
    assert mixpanel_events.find("Page")[-1].distinct_id == str(ann.pk)
