"""The door for Werkzeug: the visitor of a request, and the route of the application's own map."""

import runpy
from pathlib import Path

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import Map, Rule
from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Request, Response

from mixpanel_visitor import SettingsError, current_visitor
from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.werkzeug import VisitorMiddleware, get_visitor

EXAMPLES = Path(__file__).parent.parent / "examples"
HTML = {"accept": "text/html"}
URL_MAP = Map(
    [
        Rule("/tell", endpoint="tell"),
        Rule("/signup", endpoint="signup", methods=["POST"]),
        Rule("/shoes/<int:number>", endpoint="shoes"),
        Rule("/noted/<int:number>", endpoint="noted"),
        Rule("/branch/", endpoint="shoes"),
    ]
)


@Request.application
def site(request):
    """An application of rules, as Werkzeug's tutorial makes one."""
    try:
        endpoint, values = URL_MAP.bind_to_environ(request.environ).match()
    except HTTPException as error:
        return error
    if endpoint == "tell":
        return Response(f"{get_visitor(request).id} {current_visitor.id}")
    if endpoint == "signup":
        get_visitor(request).identify(request.form["user"])
        get_visitor(request).track("Signed up", plan="pro")
        return Response("hello")
    if endpoint == "noted":
        request.url_rule = Rule("/noted/<its own>")
    return Response(f"<h1>{values}</h1>", mimetype="text/html")


@pytest.fixture
def client(mixpanel_events):
    """Werkzeug's own client, and nothing is sent."""
    return Client(VisitorMiddleware(site, url_map=URL_MAP, page_views=True))


def routes(events):
    """What the page views say."""
    return [each.properties.get("route") for each in events.find("$mp_web_page_view")]


def test_the_shortest_complete_test(client, mixpanel_events):
    """An event is the visitor's, who is somebody from the log-in on."""
    client.post("/signup", data={"user": "user-42"})
    mixpanel_events.assert_tracked("Signed up", plan="pro", distinct_id="user-42")


def test_every_way_to_the_visitor_gives_the_same(client):
    """The accessor and the proxy, in one request and the next."""
    assert len({*client.get("/tell").text.split(), *client.get("/tell").text.split()}) == 1


def test_another_client_is_somebody_else(client):
    """The cookie makes the visitor."""
    assert client.get("/tell").text != Client(client.application).get("/tell").text


def test_a_page_view_has_the_rule_of_the_map(client, mixpanel_events):
    """Though the application tells nobody what it has matched."""
    client.get("/shoes/7", headers=HTML)
    assert routes(mixpanel_events) == ["/shoes/<int:number>"]


def test_what_the_application_has_noted_comes_first(client, mixpanel_events):
    """`request.url_rule`, as Flask sets it."""
    client.get("/noted/7", headers=HTML)
    assert routes(mixpanel_events) == ["/noted/<its own>"]


def test_the_rule_of_a_mounted_application_is_whole(client, mixpanel_events):
    """As the page's address is, whether it was wrapped inside or outside of the mount."""
    for app in (
        DispatcherMiddleware(Response("none"), {"/blog": client.application}),
        VisitorMiddleware(
            DispatcherMiddleware(Response("none"), {"/blog": site}), url_map=URL_MAP, page_views=True
        ),
    ):
        Client(app).get("/blog/shoes/7", headers=HTML)
    assert routes(mixpanel_events) == ["/blog/shoes/<int:number>"] * 2


def test_a_page_that_is_not_in_the_map_is_viewed_without_a_route(mixpanel_events):
    """And its visitor gets the cookie."""
    page = VisitorMiddleware(Response("<h1>", mimetype="text/html"), url_map=URL_MAP, page_views=True)
    for path in ("/elsewhere", "/branch"):
        assert "Set-Cookie" in Client(page).get(path, headers=HTML).headers
    assert routes(mixpanel_events) == [None, None]


def test_without_the_map_there_is_no_route(mixpanel_events):
    """The page view is there nevertheless."""
    Client(VisitorMiddleware(site, page_views=True)).get("/shoes/7", headers=HTML)
    assert routes(mixpanel_events) == [None]


def test_the_hand_over_answers(client):
    """Without a rule in the application's map."""
    assert client.get("/_visitor.js").status_code == 200


def test_without_the_middleware_the_accessor_says_what_to_do():
    """Whoever forgot the middleware learns its name."""
    with pytest.raises(NoVisitorError, match="VisitorMiddleware"):
        get_visitor(Request(EnvironBuilder().get_environ()))


def test_wrong_settings_raise_where_it_is_wrapped():
    """As everywhere; the map is no setting."""
    with pytest.raises(SettingsError, match="region"):
        VisitorMiddleware(site, url_map=URL_MAP, token="t", region="mars")


def test_the_example_runs_under_its_own_client(mixpanel_events):
    """It is what `python examples/werkzeug_app.py` serves."""
    client = Client(runpy.run_path(str(EXAMPLES / "werkzeug_app.py"))["app"])
    visitor_id = client.get("/").get_json()["visitor_id"]
    assert client.post("/login").get_json() == {"distinct_id": "user-42"}
    assert client.post("/logout").get_json()["visitor_id"] != visitor_id
    mixpanel_events.assert_order("Page viewed", "Logged in", "Logged out")
    assert client.get("/nowhere").status_code == 404
