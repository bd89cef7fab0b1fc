"""One visit under two IDs is found, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from mixpanel_visitor.emulator.split_identities import (
    MAX_PAIRS,
    NEW_TOGETHER_MS,
    TOGETHER_MS,
    SplitIdentities,
    source_of,
)

PAGE = {"$current_url": "https://shop.example/tea", "$browser": "Chrome", "$os": "Linux"}
BROWSER = {**PAGE, "mp_lib": "web"}
SERVER = {**PAGE, "mp_lib": "python"}


def found(*events):
    """Note events (properties, own ID, milliseconds) and give the pairs of IDs."""
    visits = SplitIdentities()
    for number, (properties, own_id, at_ms) in enumerate(events, 1):
        visits.add(number, properties, own_id, at_ms)
    return [(each.browser_id, each.server_id) for each in visits.two_ids()]


@pytest.mark.parametrize(("library", "lane"), [("web", "browser"), ("python", "server"), (None, "server")])
def test_who_sent_an_event_is_told_by_its_library(library, lane):
    """What says nothing comes from a server."""
    assert source_of({"mp_lib": library}) == lane


@pytest.mark.parametrize("server_first", [True, False])
def test_a_page_that_both_saw_at_once_is_one_visit(server_first):
    """Whichever came first."""
    events = [(SERVER, "s", 0), (BROWSER, "b", 5)]
    assert found(*(events if server_first else events[::-1])) == [("b", "s")]


def test_one_id_is_as_it_should_be():
    """Nothing is found."""
    assert found((SERVER, "d", 0), (BROWSER, "d", 5)) == []


def test_an_id_that_the_other_side_knows_is_shared():
    """Two visitors on one page at a time are no mistake, once both sides have named one of them."""
    assert found((SERVER, "s", 0), (BROWSER, "b", 5), (SERVER, "b", 9)) == []
    assert found((SERVER, "s", 0), (BROWSER, "b", 5), (BROWSER, "s", 9)) == []


def test_a_device_that_has_logged_in_is_known_all_the_same():
    """The browser says who it was before in $device_id."""
    logged_in = {**BROWSER, "$device_id": "D"}
    assert found((SERVER, "$device:D", 0), (logged_in, "anna", 5)) == []


@pytest.mark.parametrize("name", ["$current_url", "$browser", "$os"])
def test_another_page_or_browser_is_another_visit(name):
    """All three must be the same."""
    assert found((SERVER, "s", 0), ({**BROWSER, name: "other"}, "b", 5)) == []


def test_later_is_another_visit():
    """After ten seconds."""
    assert found((SERVER, "s", 0), (BROWSER, "b", TOGETHER_MS)) == [("b", "s")]
    assert found((SERVER, "s", 0), (BROWSER, "b", TOGETHER_MS + 1)) == []


def test_the_fragment_is_no_part_of_the_page():
    """Servers do not get it."""
    assert found((SERVER, "s", 0), ({**BROWSER, "$current_url": PAGE["$current_url"] + "#cup"}, "b", 5)) != []


PAGELESS = {"mp_lib": "python"}
NEW = (BROWSER, "b", 5)


@pytest.mark.parametrize("server_first", [True, False])
def test_two_new_ids_at_once_are_one_visit_although_the_server_names_no_page(server_first):
    """The official libraries name none; somebody who tries an application is alone."""
    events = [(PAGELESS, "s", 0), NEW]
    assert found(*(events if server_first else events[::-1])) == [("b", "s")]


def test_two_new_ids_of_different_times_are_two_visits():
    """After three seconds."""
    later_ms = 5 + NEW_TOGETHER_MS
    assert found(NEW, (PAGELESS, "s", later_ms)) == [("b", "s")]
    assert found(NEW, (PAGELESS, "s", later_ms + 1)) == []


def test_an_id_that_is_not_new_says_nothing_without_a_page():
    """A job that tracks now and then is not the visit that just begins."""
    assert found((PAGELESS, "s", 0), (PAGELESS, "s", 9_000), (BROWSER, "b", 9_001)) == []


@pytest.mark.parametrize("third", [(PAGELESS, "s2", 6), ({**BROWSER, "$current_url": "/mug"}, "b2", 6)])
def test_with_a_third_new_id_nothing_tells_who_belongs_together(third):
    """Wherever it comes from, before the two or after them."""
    assert found((PAGELESS, "s", 0), NEW, third) == []
    assert found(third, (PAGELESS, "s", 7), (BROWSER, "b", 8)) == []


def test_two_new_ids_of_a_device_that_logged_in_are_one():
    """The server's ID was the browser's device before: that is shared."""
    assert found(({**PAGELESS, "$device_id": "D"}, "anna", 0), (BROWSER, "$device:D", 5)) == []


@pytest.mark.parametrize("junk", [{}, {"$current_url": 5}, {**PAGE, "$browser": ["Chrome"]}])
def test_junk_is_no_visit(junk):
    """Nor does it raise."""
    assert found((junk, "s", 0), ({**junk, "mp_lib": "web"}, "b", 5)) == []
    assert found((junk, None, 0)) == []


def test_what_is_remembered_is_bounded():
    """The last pairs stay."""
    events = []
    for number in range(MAX_PAIRS + 10):
        page = {"$current_url": f"https://shop.example/{number}"}
        events += [({**SERVER, **page}, f"s{number}", number), ({**BROWSER, **page}, f"b{number}", number)]
    pairs = found(*events)
    assert len(pairs) == MAX_PAIRS
    assert pairs[-1] == (f"b{MAX_PAIRS + 9}", f"s{MAX_PAIRS + 9}")
