"""Log-in and log-out by Flask-Login: whom the events are of."""

from __future__ import annotations

import sys
from pathlib import Path

import flask
import flask_login
import pytest
from support.spools import RecordingSpool
from support.trackers import tracker_into

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.flask import MixpanelVisitor, current_visitor


class User(flask_login.UserMixin):
    """A user as Flask-Login has them, with an integer for a key."""

    def __init__(self, key, *, is_staff=False):
        self.id = key
        self.is_staff = is_staff


class UserWithToken(User):
    """One whose session ends when the password changes, as Flask-Login's pages advise."""

    def get_id(self):
        """Return what is in the session."""
        return f"token-of-{self.id}"


class UserWithoutKey:
    """One who has nothing but what Flask-Login asks for."""

    is_active = is_authenticated = True
    is_anonymous = False

    def get_id(self):
        """Return what is in the session."""
        return "ann@example.com"


class UserOfALostSession(flask_login.UserMixin):
    """One whose columns are in the database, which is gone."""

    def __getattr__(self, name):
        """Fail, as a column does that has to be loaded."""
        raise RuntimeError(f"{name}: the session is closed")

    def get_id(self):
        """Return what is in the session."""
        return "7"


def by_name(user, request):
    """Identify by a name of our own, and nobody in staff, nor whom they impersonate."""
    assert isinstance(request, flask.Request)
    if user.is_staff or flask.session.get("impersonated_by"):
        return None
    return f"name:{user.id}"


def broken(_user, _request):
    """Fail."""
    raise RuntimeError("no such user")


USERS = {
    "ann": User(1),
    "bob": User(2),
    "boss": User(3, is_staff=True),
    "token": UserWithToken(4),
    "no-key": UserWithoutKey(),
    "lost": UserOfALostSession(),
}


@pytest.fixture
def spool():
    """What the trackers have stored."""
    return RecordingSpool()


@pytest.fixture
def site(spool):
    """Make an application with Flask-Login, and with visitors unless it is to have none; give its client."""

    def site(*, visitors=True, **settings):
        app = flask.Flask(__name__)
        app.secret_key = "of the session, and long"
        manager = flask_login.LoginManager(app)
        manager.user_loader(
            lambda key: next((user for user in USERS.values() if str(user.get_id()) == key), None)
        )
        if visitors:
            MixpanelVisitor(app, tracker=tracker_into(spool, **settings))

        @app.get("/")
        def page():
            current_visitor.track("Page")
            return current_visitor.id or ""

        @app.post("/login/<name>")
        def login(name):
            flask_login.login_user(USERS[name])
            return name

        @app.post("/impersonate/<name>")
        def impersonate(name):
            flask.session["impersonated_by"] = flask_login.current_user.get_id()
            flask_login.login_user(USERS[name])
            return name

        @app.post("/logout")
        def logout():
            flask_login.logout_user()
            return "bye"

        return app.test_client()

    return site


def visit(client):
    """Open the page and read all of it; return the visitor's ID."""
    with client.get("/") as response:
        return response.text


def distinct_ids(spool):
    """Return whose the page views are, in order."""
    return [each["properties"]["distinct_id"] for each in spool.events if each["event"] == "Page"]


def test_two_people_on_one_browser(site, spool):
    """First visit, log-in, log-out, the next user: each event is of the right one."""
    client = site()
    first = visit(client)
    client.post("/login/ann")
    visit(client)
    client.post("/logout")
    second = visit(client)
    client.post("/login/bob")
    visit(client)
    assert distinct_ids(spool) == [f"$device:{first}", "1", f"$device:{second}", "2"]
    assert first != second


def test_a_log_out_of_nobody_changes_nothing(site):
    """Who was anonymous keeps his device ID."""
    client = site()
    first = visit(client)
    client.post("/logout")
    assert visit(client) == first


def test_a_function_is_not_asked_who_nobody_is(site):
    """It may know an ID for whomever it is asked of; a log-out of nobody changes nothing all the same."""
    client = site(identify_users=lambda _user, _request: "somebody")
    first = visit(client)
    client.post("/logout")
    assert visit(client) == first


def test_a_user_is_his_key_and_not_his_token(site, spool):
    """What `get_id` gives may change with the password; the person is the same."""
    client = site()
    client.post("/login/token")
    visit(client)
    assert distinct_ids(spool) == ["4"]


def test_a_user_without_a_key(site, spool):
    """The ID is what Flask-Login keeps in the session."""
    client = site()
    client.post("/login/no-key")
    visit(client)
    assert distinct_ids(spool) == ["ann@example.com"]


def test_a_log_in_without_visitors(site):
    """The signal also comes from other applications of the process, and outside of requests that we saw."""
    site()
    other = site(visitors=False)
    assert other.post("/login/ann").status_code == 200
    assert other.post("/logout").status_code == 200


def test_a_log_in_in_a_request_context_of_a_test(site, spool):
    """`test_request_context` passes through no middleware; the log-in is the visitor's all the same."""
    with site().application.test_request_context("/"):
        flask_login.login_user(USERS["ann"])
        current_visitor.track("Page")
        flask_login.logout_user()
    assert distinct_ids(spool) == ["1"]


@pytest.mark.parametrize("setting", [by_name, "test_flask_login.by_name"], ids=["function", "dotted name"])
def test_a_function_says_which_id(site, spool, setting, monkeypatch):
    """And whom not to identify; the log-out of such a one changes nothing either."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(sys.modules, "test_flask_login", sys.modules[__name__])
    client = site(identify_users=setting)
    device = visit(client)
    client.post("/login/boss")
    visit(client)
    client.post("/logout")
    visit(client)
    client.post("/login/ann")
    visit(client)
    assert distinct_ids(spool) == [*[f"$device:{device}"] * 3, "name:1"]


def test_an_impersonation_that_says_so(site, spool):
    """It is neither a log-in of the impersonated one, nor is its end a log-out of the visitor."""
    client = site(identify_users=by_name)
    device = visit(client)
    client.post("/login/boss")
    client.post("/impersonate/ann")
    visit(client)
    client.post("/logout")
    visit(client)
    assert distinct_ids(spool) == [f"$device:{device}"] * 3


def test_a_function_that_fails(site, spool, caplog):
    """The log-in succeeds, and the log says what is to be mended."""
    client = site(identify_users=broken)
    device = visit(client)
    assert client.post("/login/ann").status_code == 200
    visit(client)
    assert distinct_ids(spool) == [f"$device:{device}"] * 2
    assert "identify_users" in caplog.text
    assert "no such user" in caplog.text


def test_a_user_who_cannot_be_read(site, spool):
    """The log-in succeeds, and the visitor stays who he was."""
    client = site()
    device = visit(client)
    assert client.post("/login/lost").status_code == 200
    visit(client)
    assert distinct_ids(spool) == [f"$device:{device}"] * 2


def test_it_can_be_switched_off(site, spool):
    """For who calls `identify` himself."""
    client = site(identify_users=False)
    client.post("/login/ann")
    visit(client)
    client.post("/logout")
    visit(client)
    assert len(set(distinct_ids(spool))) == 1
    assert spool.names == ["Page", "Page"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_module.of", "no_such_module"),
        ("flask.no_such_function", "no_such_function"),
        ("flask.__version__", "must be a function"),
        ("asyncio.sleep", "async"),
    ],
)
@pytest.mark.filterwarnings("ignore:The '__version__' attribute is deprecated:DeprecationWarning")
def test_a_dotted_name_that_leads_nowhere(site, name, problem):
    """The start says so, not the first log-in."""
    with pytest.raises(SettingsError, match=f"identify_users='{name}'.*{problem}"):
        site(identify_users=name)
