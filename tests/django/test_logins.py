"""Log-in and log-out by Django's own means: whom the events are of."""

import asyncio

import pytest
from django.contrib.auth import login, logout
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from support.django_site import MIDDLEWARE, PASSWORD, SESSIONS

from mixpanel_visitor.errors import SettingsError


def by_name(user, request):
    """Identify by the name, and nobody in staff."""
    assert isinstance(request, HttpRequest)
    return None if user.is_staff else f"name:{user.username}"


def broken(_user, _request):
    """Fail."""
    raise RuntimeError("no such user")


@pytest.fixture
def site(tables, urls, changed):
    """A site with Django's own log-in and log-out, and a page that tracks."""

    def page(request):
        request.visitor.track("Page")
        return HttpResponse(request.visitor_id)

    changed(
        MIDDLEWARE=[MIDDLEWARE, *SESSIONS],
        LOGIN_REDIRECT_URL="/page/",
        LOGOUT_REDIRECT_URL="/page/",
    )
    urls(page=page, login=LoginView.as_view(), logout=LogoutView.as_view())
    return changed


def log_in(client, user):
    """Send the form."""
    answer = client.post("/login/", {"username": user.username, "password": PASSWORD})
    assert answer.status_code == 302


def test_two_people_on_one_browser(site, person, mixpanel_events):
    """First visit, log-in, log-out, the next user: each event is of the right one."""
    ann, bob = person("ann"), person("bob")
    client = Client()
    first = client.get("/page/").content.decode()
    log_in(client, ann)
    client.get("/page/")
    client.post("/logout/")
    second = client.get("/page/").content.decode()
    log_in(client, bob)
    client.get("/page/")
    ids = [(event.distinct_id, event.properties["$device_id"]) for event in mixpanel_events.find("Page")]
    assert ids == [
        (f"$device:{first}", first),
        (str(ann.pk), first),
        (f"$device:{second}", second),
        (str(bob.pk), second),
    ]
    assert first != second


def test_a_log_in_in_async_code(site, person, urls, mixpanel_events):
    """`alogin` tells as `login` does."""
    from django.contrib.auth import alogin

    ann = person("ann")

    async def view(request):
        await alogin(request, ann)
        request.visitor.track("Logged in")
        return HttpResponse()

    async def ask():
        await AsyncClient().get("/enter/")

    urls(enter=view)
    asyncio.run(ask())
    assert mixpanel_events.assert_tracked("Logged in").distinct_id == str(ann.pk)


def test_a_log_out_of_nobody_changes_nothing(site):
    """Who was anonymous keeps his device ID."""
    client = Client()
    first = client.get("/page/").content
    client.post("/logout/")
    assert client.get("/page/").content == first


def test_a_log_in_without_our_middleware(site, person):
    """`force_login` sends the signal with a bare request; so may anybody."""
    ann = person("ann")
    Client().force_login(ann)
    Client().logout()
    request = HttpRequest()
    request.session, request.user = Client().session, AnonymousUser()
    login(request, ann)
    logout(request)


@pytest.mark.parametrize("setting", [by_name, "test_logins.by_name"], ids=["function", "dotted name"])
def test_a_function_says_which_id(site, person, mixpanel_events, setting, monkeypatch):
    """And whom not to identify; the log-out of such a one changes nothing either."""
    monkeypatch.syspath_prepend(str(__import__("pathlib").Path(__file__).parent))
    ann, boss = person("ann"), person("boss", is_staff=True)
    site(MIXPANEL_VISITOR_IDENTIFY_USERS=setting)
    client = Client()
    device = client.get("/page/").content.decode()
    log_in(client, boss)
    client.get("/page/")
    client.post("/logout/")
    log_in(client, ann)
    client.get("/page/")
    ids = [event.distinct_id for event in mixpanel_events.find("Page")]
    assert ids == [f"$device:{device}", f"$device:{device}", "name:ann"]


def test_a_function_that_fails(site, person, caplog):
    """The log-in succeeds, and the log says what is to be mended."""
    ann = person("ann")
    site(MIXPANEL_VISITOR_IDENTIFY_USERS=broken)
    log_in(Client(), ann)
    assert "identify_users: the user's ID could not be had" in caplog.text


def test_it_can_be_switched_off(site, person, mixpanel_events):
    """For who calls `identify` himself."""
    ann = person("ann")
    site(MIXPANEL_VISITOR_IDENTIFY_USERS=False)
    client = Client()
    log_in(client, ann)
    client.get("/page/")
    client.post("/logout/")
    client.get("/page/")
    assert len({event.distinct_id for event in mixpanel_events.find("Page")}) == 1
    assert mixpanel_events.names == ["Page", "Page"]


def test_a_dotted_name_that_leads_nowhere(site):
    """The start says so, not the first log-in."""
    site(MIXPANEL_VISITOR_IDENTIFY_USERS="no_such_module.of")
    with pytest.raises(SettingsError, match="no_such_module"):
        Client().get("/page/")
