"""Requests without cookies: what a browser withholds is still there, and a page may send several at once.

Over both protocols. A header `cookie: ""` is how a request goes out whose cookies the browser keeps back.
"""

import pytest
from support.clients import CLIENTS
from support.trackers import recording_tracker

FROM_ELSEWHERE = {
    "form": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "framed-form": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    "fetch": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    "old-browser": {"origin": "https://pay.example"},
    "widget": {
        "sec-fetch-site": "same-origin",
        "sec-fetch-mode": "cors",
        "sec-fetch-dest": "empty",
        "sec-fetch-storage-access": "none",
    },
    "inactive-widget": {
        "sec-fetch-site": "same-origin",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
        "sec-fetch-storage-access": "inactive",
    },
}
PAGE = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
CALL = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
WITHOUT = {"cookie": ""}


def shop(visitor):
    """A handler that does by the path what the visitor asks for."""
    _, action, user = (*visitor._scope.facts.path.split("/"), "")[:3]
    if action == "log-in":
        visitor.identify(user)
    if action == "log-out":
        visitor.reset()
    if action != "quiet":
        visitor.track(action or "home", known_as=visitor.user_id)


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a browser and its site, and the spool."""

    def build(**settings):
        tracker, spool = recording_tracker(durability="before-response", **settings)
        return CLIENTS[request.param](tracker, shop), spool

    return build


@pytest.fixture(params=["simplified", "original"])
def mode(request):
    """Return each way in turn in which a Mixpanel project merges IDs."""
    return request.param


@pytest.fixture(params=FROM_ELSEWHERE.values(), ids=list(FROM_ELSEWHERE))
def elsewhere(request):
    """Return the headers of each request in turn that a browser sends without our cookie."""
    return {**request.param, **WITHOUT}


def properties(spool, name):
    """The properties of the last event of this name."""
    return [event["properties"] for event in spool.events if event["event"] == name][-1]


def people(spool):
    """Who Mixpanel makes of what was sent: each is a set of distinct IDs; nobody's events are none's."""
    groups = []
    for event in spool.events:
        each = event["properties"]
        device = f"$device:{each['$device_id']}" if "$device_id" in each else each.get("$anon_id")
        ids = {name for name in (each["distinct_id"], device, each.get("$user_id")) if name}
        met = [group for group in groups if group & ids]
        groups = [group for group in groups if not group & ids] + ([ids.union(*met)] if ids else [])
    return groups


# --- what the browser withholds -----------------------------------------------------------------------


def test_a_payment_page_that_posts_back_leaves_the_visitor_as_he_was(make, mode, elsewhere):
    """Nothing is stored, the event is nobody's, and the next page has device and user as before."""
    client, spool = make(id_mode=mode)
    device = client.request("POST", "/log-in/anna", PAGE).text
    answer = client.request("POST", "/paid", elsewhere)
    assert answer.values("set-cookie") == []
    assert properties(spool, "paid")["distinct_id"] == ""
    assert "$device_id" not in properties(spool, "paid")
    assert client.request("GET", "/", PAGE).text == device
    assert properties(spool, "home")["known_as"] == "anna"
    assert len(people(spool)) == 1


def test_a_user_who_is_named_in_such_a_request_is_on_its_events(make, mode, elsewhere):
    """Without a device: that of the request is nobody's."""
    client, spool = make(id_mode=mode)
    client.request("POST", "/log-in/anna", elsewhere)
    event = properties(spool, "log-in")
    assert (event["distinct_id"], event["$user_id"]) == ("anna", "anna")
    assert "$device_id" not in event
    assert spool.names == ["log-in"]


def test_who_is_known_and_named_in_such_a_request_stays_the_same(make, mode, elsewhere):
    """A shop that names the buyer when the payment page posts back."""
    client, spool = make(id_mode=mode)
    device = client.request("POST", "/log-in/anna", PAGE).text
    client.request("POST", "/log-in/anna", elsewhere)
    assert client.request("GET", "/", PAGE).text == device
    assert properties(spool, "home")["known_as"] == "anna"
    assert len(people(spool)) == 1


@pytest.mark.parametrize("after", [PAGE, CALL], ids=["page", "call"])
def test_a_sign_in_by_such_a_request_lasts(make, mode, elsewhere, after):
    """`form_post`, SAML: the user is on the visitor's own device from the next request on, joined once."""
    client, spool = make(id_mode=mode)
    device = client.request("GET", "/", PAGE).text
    client.request("POST", "/log-in/anna", elsewhere)
    for _ in range(3):
        assert client.request("GET", "/", after).text == device
        assert properties(spool, "home")["known_as"] == "anna"
    assert len(people(spool)) == 1
    assert len(client.jar) == 2  # ours and the SDK's
    assert sum(name in ("$identify", "Visitor identified") for name in spool.names) == 1


def test_a_first_visit_that_is_such_a_sign_in_lasts(make, mode):
    """From an identity provider's own page: there is no device yet, so the next page makes one."""
    client, spool = make(id_mode=mode)
    client.request("POST", "/log-in/anna", {**FROM_ELSEWHERE["form"], **WITHOUT})
    client.request("GET", "/", PAGE)
    client.request("GET", "/", PAGE)
    assert properties(spool, "home")["known_as"] == "anna"
    assert len(people(spool)) == 1


def test_somebody_else_who_signs_in_by_such_a_request_gets_a_new_device(make, mode, elsewhere):
    """As by any other log-in."""
    client, spool = make(id_mode=mode)
    device = client.request("POST", "/log-in/anna", PAGE).text
    client.request("POST", "/log-in/bert", elsewhere)
    assert client.request("GET", "/", PAGE).text != device
    assert properties(spool, "home")["known_as"] == "bert"
    assert len(people(spool)) == 2


def test_a_log_out_by_such_a_request_is_one(make, elsewhere):
    """The application asks for a new visitor, so our cookie is replaced."""
    client, spool = make()
    device = client.request("POST", "/log-in/anna", PAGE).text
    client.request("POST", "/log-out", elsewhere)
    assert client.request("GET", "/", PAGE).text != device
    assert properties(spool, "home")["known_as"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {**PAGE, "sec-fetch-site": "cross-site"},
        {**PAGE, "sec-fetch-site": "same-site"},
        {"origin": "http://www.example.com"},
        {"origin": "null"},
        {**PAGE, "sec-fetch-storage-access": "active"},
    ],
    ids=str,
)
def test_a_link_from_elsewhere_is_a_first_visit(make, headers):
    """Our cookie would come with it, or may: so an answer without one makes a visitor."""
    client, spool = make()
    method = "GET" if headers.get("sec-fetch-site") == "cross-site" else "POST"
    answer = client.request(method, "/", {"host": "shop.example.com", **headers})
    assert answer.our_cookies
    assert properties(spool, "home")["$device_id"] == answer.text


# --- several at once --------------------------------------------------------------------------------------


def test_first_calls_at_once_end_as_one_person(make, mode):
    """A page that the application did not serve: no orphan before the log-in, and none after it."""
    client, spool = make(id_mode=mode)
    for name in ("one", "two", "three"):
        client.request("POST", f"/{name}", {**CALL, **WITHOUT})
        assert properties(spool, name)["distinct_id"] == ""
    assert people(spool) == []
    devices = {client.request("POST", f"/{name}", CALL).text for name in ("four", "five")}
    assert len(devices) == len(people(spool)) == 1
    client.request("POST", "/log-in/anna", CALL)
    assert {client.request("POST", "/six", CALL).text} == devices
    (person,) = people(spool)
    assert person == {"anna", f"$device:{devices.pop()}"}
    assert len(client.jar) == 1


def test_calls_that_follow_the_first_answers_agree_while_others_are_on_their_way(make, mode):
    """Browsers send the oldest cookie first, so whoever has more of them chooses the same."""
    client, spool = make(id_mode=mode)
    client.request("POST", "/one", {**CALL, **WITHOUT})
    first = dict(client.jar)
    client.request("POST", "/two", {**CALL, **WITHOUT})
    after_two = dict(client.jar)
    client.jar.clear()
    client.jar.update(first)
    device = client.request("POST", "/follows-one", CALL).text
    late = {**CALL, "cookie": "; ".join(f"{name}={value}" for name, value in after_two.items())}
    assert client.request("POST", "/follows-two", late).text == device
    client.jar.update({name: value for name, value in after_two.items() if name not in first})
    assert client.request("POST", "/later", CALL).text == device
    assert len(people(spool)) == 1


def test_a_log_in_among_the_first_calls_lasts(make, mode):
    """Its own cookie is ours, which those of the others do not touch."""
    client, spool = make(id_mode=mode)
    client.request("POST", "/one", {**CALL, **WITHOUT})
    client.request("POST", "/log-in/anna", {**CALL, **WITHOUT})
    client.request("POST", "/two", {**CALL, **WITHOUT})
    assert "$device_id" not in properties(spool, "log-in")
    device = client.request("POST", "/three", CALL).text
    assert client.request("POST", "/four", CALL).text == device
    assert properties(spool, "four")["known_as"] == "anna"
    assert len(people(spool)) == 1


def test_a_browser_that_sends_no_cookies_makes_no_people(make):
    """`credentials: "omit"`, or a frame whose cookies are blocked: each call looks like a first one."""
    client, spool = make()
    device = client.request("GET", "/", PAGE).text
    for _ in range(3):
        client.request("POST", "/omitted", {**CALL, **WITHOUT})
    assert properties(spool, "omitted")["distinct_id"] == ""
    assert client.request("GET", "/", PAGE).text == device
    assert len(people(spool)) == 1


def test_a_call_that_tracks_nothing_stores_nothing(make):
    """An image does not make visitors."""
    client, _ = make()
    client.request("GET", "/quiet", CALL)
    assert client.jar == {}


def test_the_first_campaign_is_that_of_the_first_event_that_is_somebodys(make):
    """What came before belongs to nobody, who has no profile."""
    client, spool = make()
    headers = {**CALL, "host": "shop.example.com", "referer": "http://shop.example.com/?utm_source=ad"}
    client.request("POST", "/one", headers)
    assert spool.messages("engage") == []
    device = client.request("POST", "/two", headers).text
    client.request("POST", "/three", headers)
    (update,) = spool.messages("engage")
    assert update["$set_once"]["initial_utm_source"] == "ad"
    assert update["$distinct_id"] == f"$device:{device}"


@pytest.mark.parametrize("first", [PAGE, {}], ids=["page", "no-fetch-metadata"])
def test_a_first_visit_is_somebodys_at_once(make, first):
    """A page, or a client that says nothing of what it asks for: there is one at a time."""
    client, spool = make()
    device = client.request("POST", "/one", first).text
    assert properties(spool, "one")["$device_id"] == device
    assert client.request("POST", "/two", CALL).text == device
