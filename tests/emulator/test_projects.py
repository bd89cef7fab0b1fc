"""Several projects at one local Mixpanel: a token is a project, and nobody spans two."""

from __future__ import annotations

from mixpanel_visitor.emulator.projects import MAX_PROJECTS, OTHERS, Projects


def people(client, query=""):
    """Return (token, person, events) of everybody who is listed."""
    listed = client.get("/_local/people" + query).json()["people"]
    return [(each["token"], each["person"], each["events"]) for each in listed]


def test_the_same_id_in_two_projects_is_two_people(client, event):
    """User 1 of one application is not user 1 of the next."""
    client.post("/track", [event(distinct_id="1", token="a"), event(distinct_id="1", token="b")])
    assert people(client) == [("a", "1", 1), ("b", "1", 1)]


def test_a_device_is_joined_in_its_own_project_only(client, event):
    """A log-in in one project says nothing about the other."""
    device = {"distinct_id": "$device:D", "$device_id": "D"}
    client.post("/track", [event(**device, token="a"), event(**device, token="b")])
    client.post("/track", [event(**device, **{"$user_id": "anna"}, token="a")])
    assert people(client) == [("b", "$device:D", 1), ("a", "anna", 2)]


def test_the_same_event_in_two_projects_is_no_duplicate(client, event):
    """Projects deduplicate by themselves."""
    one = event(token="a")
    other = {**one, "properties": {**one["properties"], "token": "b"}}
    client.post("/track", [one, other, one])
    stats = client.get("/_local/stats").json()
    assert (stats["unique"], stats["duplicates"]) == (2, 1)


def test_an_import_without_a_token_belongs_to_its_credentials_project(client, event):
    """`/import` names the project by its credentials."""
    client.import_([event(token=None)], user="a:")
    client.post("/track", [event(token="a")])
    assert people(client) == [("a", "u-1", 2)]


def test_events_are_listed_by_project(client, event):
    """The filter goes together with the others."""
    client.post("/track", [event("x", token="a"), event("x", token="b"), event("y", token="b")])
    found = client.get("/_local/events?token=b").json()["events"]
    assert [(each["token"], each["event"]) for each in found] == [("b", "x"), ("b", "y")]
    assert client.get("/_local/count?token=b&event=x").json() == {"count": 1}
    assert client.get("/_local/count?token=c").json() == {"count": 0}


def test_ids_of_two_projects_are_not_two_ids_of_one_visit(client, event):
    """One page with two projects on it is no fault; within a project it is."""
    page = {"$current_url": "https://shop.example/tea", "$browser": "Chrome", "$os": "Linux"}
    client.post("/track", [event(distinct_id="b", token="a", mp_lib="web", **page)])
    client.post("/track", [event(distinct_id="s", token="b", **page)])
    assert client.get("/_local/two-ids").json()["two_ids"] == []
    client.post("/track", [event(distinct_id="s", token="a", **page)])
    (found,) = client.get("/_local/two-ids").json()["two_ids"]
    assert (found["browser_id"], found["server_id"]) == ("b", "s")


def test_tokens_beyond_the_bound_share_a_project():
    """Whoever invents tokens fills no memory."""
    projects = Projects("simplified")
    tokens = [projects.of(str(number)).token for number in range(MAX_PROJECTS + 5)]
    assert tokens[:MAX_PROJECTS] == [str(number) for number in range(MAX_PROJECTS)]
    assert set(tokens[MAX_PROJECTS:]) == {OTHERS}
    assert len(list(projects)) == MAX_PROJECTS + 1


def test_a_token_that_is_no_text_is_none(client, event):
    """Such an event is still somebody's."""
    client.import_([event(token=5)], user="a:")
    assert people(client) == [("a", "u-1", 1)]
