"""The collector's values: routes, admission, decoding, ownership, rate."""

import base64
import contextlib
import gzip
import json
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.collecting import DEVICE, OTHER_DEVICE, event, form, plain, update
from support.facts import facts
from support.trackers import TOKEN

from mixpanel_visitor.core.collector.addresses import cleaned, has_no_address
from mixpanel_visitor.core.collector.admission import MAX_BODY_BYTES, CollectorError, check
from mixpanel_visitor.core.collector.decoding import MAX_CONTAINERS, MAX_ITEMS, decode, inflated
from mixpanel_visitor.core.collector.ownership import KnownVisitor
from mixpanel_visitor.core.collector.rate_limit import RateLimit, address_key, cost_of
from mixpanel_visitor.core.collector.routes import ROUTES, CollectorRoutes, own_names
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.identity.identity import Identity
from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie
from mixpanel_visitor.core.policy import is_same_origin

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def posted(**headers):
    """Return the facts of a post of the site's own page."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return facts(method="POST", headers={"sec-fetch-site": "same-origin", **names})


def read(body, facts):
    """Return what a body holds."""
    return decode(inflated(body, facts))


def refused(body, **headers):
    """Return the status with which a body is refused."""
    with pytest.raises(CollectorError) as caught:
        read(body, posted(**headers))
    return caught.value.status


# --- routes -------------------------------------------------------------------------------------------


def test_a_projects_own_names_are_dull():
    """Six that differ, the same each time, without a vowel; another project has others."""
    names = own_names(TOKEN)
    assert list(names) == list(ROUTES)
    assert len(set(names.values())) == 6
    assert not set("aeiou") & set("".join(names.values()))
    assert own_names(TOKEN) == names
    assert not set(own_names("another").values()) & set(names.values())
    assert len({name[-3:] for name in names.values()}) == 1


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_has_two_names(route):
    """The SDK's own, and that of the project; both end in a way that tells them from other paths."""
    routes = CollectorRoutes("/m", TOKEN)
    for name in (route, own_names(TOKEN)[route]):
        assert routes.find(f"/m/{name}/") == routes.find(f"/m/{name}") == route
        assert f"/m/{name}/".endswith(routes.endings)


@pytest.mark.parametrize("path", ["/m", "/m/", "/mtrack/", "/m/track//", "/x/m/track/", "/m/other/"])
def test_other_paths_are_the_applications(path):
    """Also those below the collector's own."""
    assert CollectorRoutes("/m", TOKEN).find(path) is None


@pytest.mark.parametrize(
    ("path", "flag_id"),
    [
        ("/m/flags/ab-12/first-time-events", "ab-12"),
        ("/m/flags//first-time-events", None),
        ("/m/flags/../first-time-events", None),
        ("/m/flags/a/b/first-time-events", None),
        ("/m/track/ab-12/first-time-events", None),
        ("/m/flags/", None),
    ],
)
def test_first_time_events_name_a_flag(path, flag_id):
    """Only an ID can come into the address that is asked for."""
    routes = CollectorRoutes("/m", TOKEN)
    assert routes.flag_id(path) == flag_id
    assert (routes.find(path) == "flags") is (flag_id is not None or path == "/m/flags/")


def test_the_options_for_the_page_name_all_six_routes():
    """And the path that the application is mounted at."""
    options = CollectorRoutes("/m", TOKEN).init_options(mount="/shop")
    assert options["api_host"] == "/shop/m"
    assert list(options["api_routes"]) == list(ROUTES)
    assert all(name.endswith("/") for name in options["api_routes"].values())


# --- admission ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost"}, False),
        ({"origin": "http://localhost"}, True),
        ({"origin": "http://LOCALHOST"}, True),
        ({"origin": "https://localhost"}, False),
        ({"origin": "http://localhost:81"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example", "referer": "http://localhost/"}, False),
        ({"referer": "http://localhost/a?b"}, True),
        ({"referer": "http://localhost.evil.example/"}, False),
        ({"referer": "http://["}, False),
        ({}, False),
    ],
)
def test_only_pages_of_this_origin_are_listened_to(headers, own):
    """By Sec-Fetch-Site; without it by Origin, without that by Referer; without all of them not."""
    asked = facts(method="POST", host="localhost", headers=headers)
    assert is_same_origin(asked, or_referer=True) is own


@pytest.mark.parametrize(
    ("route", "method", "headers", "status"),
    [
        ("track", "GET", {}, 405),
        ("settings", "POST", {}, 405),
        ("record", "POST", {}, 404),
        ("track", "POST", {"sec-fetch-site": "cross-site"}, 403),
        ("track", "POST", {"content-length": str(MAX_BODY_BYTES + 1)}, 413),
        ("flags", "POST", {"content-length": "65537"}, 413),
        ("track", "POST", {"content-length": "-1"}, 400),
        ("track", "POST", {"content-length": "\u0662"}, 400),
        ("track", "POST", {"content-length": "9" * 20}, 400),
    ],
)
def test_what_is_refused_before_its_body_is_read(route, method, headers, status):
    """Method, sender and size stand in the head."""
    with pytest.raises(CollectorError) as caught:
        check(route, facts(method=method, headers={"sec-fetch-site": "same-origin", **headers}))
    assert caught.value.status == status


# --- decoding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [form, plain, lambda items: json.dumps(items).encode()])
@given(items=st.lists(JSON_VALUES, max_size=4))
def test_what_the_sdk_sends_comes_out_as_it_was(encode, items):
    """As base64 or JSON in a form, and as JSON alone."""
    assert read(encode(items), posted()) == items


def test_one_event_need_not_be_in_a_list():
    """With `send_immediately` the SDK sends an object."""
    assert read(form(event()), posted()) == [event()]


def test_other_fields_of_the_form_are_left_alone():
    """`data` need not be the first one."""
    body = b"ip=1&" + form([event()]) + b"&verbose=1"
    assert read(body, posted()) == [event()]


def test_base64_that_nobody_has_escaped():
    """A plus sign that came as a blank, the letters for addresses, and missing signs at the end."""
    raw = json.dumps([{"event": "???>>>~~~"}]).encode()
    text = base64.b64encode(raw)
    for body in (text, text.replace(b"+", b" "), base64.urlsafe_b64encode(raw), text.rstrip(b"=")):
        assert read(b"data=" + body, posted()) == [{"event": "???>>>~~~"}]


def test_half_an_emoji():
    """The SDK cuts texts at 255 characters of JavaScript's."""
    (item,) = read(b'data=[{"event":"\\ud83d"}]', posted())
    assert item == {"event": "\ud83d"}


def test_gzip_is_unpacked():
    """Whatever is in it."""
    assert read(gzip.compress(form([event()])), posted(content_encoding="gzip")) == [event()]


def test_a_gzip_bomb_is_too_large():
    """45 MB of zeros, packed a thousandfold; no more than the limit is unpacked."""
    bomb = zlib.compress(bytes(45 * 2**20), level=9, wbits=31)
    assert refused(bomb, content_encoding="gzip") == 413


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"data", {}, 400),
        (b"date=W10=", {}, 400),
        (b"data=%%%", {}, 400),
        (b"data=W10", {"content_encoding": "br"}, 415),
        (b"data=W10", {"content_encoding": "gzip"}, 400),
        (gzip.compress(b"[]", mtime=0)[:-4], {"content_encoding": "gzip"}, 400),
        (b"[NaN]", {}, 400),
        (b"[1e999999", {}, 400),
        (b"[" + b"9" * 5_000 + b"]", {}, 400),
        (b'{"a":' * 20_000, {}, 400),
        (b"[" * (MAX_CONTAINERS + 1), {}, 413),
        (b"[" + b",".join([b"0"] * (MAX_ITEMS + 1)) + b"]", {}, 413),
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413),
    ],
)
def test_what_is_no_body_of_the_sdks(body, headers, status):
    """400, 413 for what is too much, 415 for a compression that no SDK uses."""
    assert refused(body, **headers) == status


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(body):
    """There is no third way, whatever they are."""
    for headers in ({}, {"content_encoding": "gzip"}):
        for sent in (body, b"data=" + body):
            with contextlib.suppress(CollectorError):
                assert isinstance(read(sent, posted(**headers)), list)


# --- ownership ----------------------------------------------------------------------------------------


def visitor(device=DEVICE, user=None, *, signed=True, now=None, **cookie):
    """Return whom a request is of: by our cookie, and `now` another device by the SDK's."""
    signed_cookie = VisitorCookie(device_id=device, issued_at_s=0, user_id=user, **cookie) if signed else None
    return KnownVisitor(Identity(device_id=now or device, user_id=user), signed_cookie)


@pytest.mark.parametrize(
    ("known", "sent", "mismatch"),
    [
        (visitor(), event(), ""),
        (visitor(), event(device=OTHER_DEVICE), "device"),
        (visitor(), event(distinct_id=f"$device:{OTHER_DEVICE}"), "device"),
        (visitor(), event(distinct_id=DEVICE), ""),
        (visitor(user="anna"), event(user="anna"), ""),
        (visitor(user="anna"), event(), ""),
        (visitor(user="42"), event(user=42), ""),
        (visitor(user="anna"), event(user="eve"), "user"),
        (visitor(user="anna"), event(distinct_id="eve"), "user"),
        (visitor(), event(user="anna"), "unknown-user"),
        (visitor(), event(distinct_id="anna"), "unknown-user"),
        (visitor(signed=False), event(), ""),
        (visitor(signed=False), event(user="anna"), "unknown-user"),
        (visitor(), event(user="anna", device=OTHER_DEVICE), "device"),
        (visitor(earlier_id=OTHER_DEVICE), event(device=OTHER_DEVICE), ""),
        (visitor(now=OTHER_DEVICE), event(device=OTHER_DEVICE), ""),
        (visitor(now=OTHER_DEVICE), event(), ""),
        (visitor(user="anna"), event("$create_alias", alias="eve"), "user"),
        (visitor(), event("$identify", **{"$identified_id": "anna"}), "unknown-user"),
        (visitor(), event("$identify", **{"$anon_distinct_id": f"$device:{OTHER_DEVICE}"}), "device"),
    ],
)
def test_an_event_is_compared_with_the_signed_visitor(known, sent, mismatch):
    """Each of its IDs is that of the device, now or before, or of the user who has logged in here."""
    assert known.of_event(sent["properties"]).mismatch == mismatch


def test_an_earlier_id_is_told_from_the_one_of_now():
    """Both are the visitor's."""
    known = visitor(now=OTHER_DEVICE)
    assert known.of_event(event()["properties"]).is_earlier
    assert not known.of_event(event(device=OTHER_DEVICE)["properties"]).is_earlier


@pytest.mark.parametrize(
    ("known", "sent", "own"),
    [
        (visitor(), update(), True),
        (visitor(user="anna"), update(user="anna"), True),
        (visitor(user="anna"), update(user="eve"), False),
        (visitor(), update(user="anna"), False),
        (visitor(signed=False), update(), False),
    ],
)
def test_whose_profile_it_is(known, sent, own):
    """Without a signed visitor it is nobody's own."""
    assert known.owns_profile(sent) is own


@given(
    st.dictionaries(
        st.sampled_from(["distinct_id", "$device_id", "$user_id", "alias", "$anon_id"]), JSON_VALUES
    )
)
def test_any_ids_can_be_compared(properties):
    """A browser may send whatever it likes."""
    for known in (visitor(), visitor(user="anna"), visitor(signed=False)):
        assert known.of_event(properties).mismatch in ("", "device", "user", "unknown-user")


# --- rate ---------------------------------------------------------------------------------------------


def test_a_bucket_fills_again():
    """What is taken out comes back with time, and never more than it holds."""
    limit = RateLimit(per_s=2.0, burst=3.0)
    assert [limit.take("a", 1.0, 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.take("b", 1.0, 0.0)
    assert [limit.take("a", 1.0, 0.5) for _ in range(2)] == [True, False]
    assert [limit.take("a", 1.0, 1_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing():
    """And takes nothing."""
    limit = RateLimit(per_s=1.0, burst=1.0)
    assert limit.take("a", 1.0, 10.0)
    assert not limit.take("a", 1.0, 5.0)
    assert limit.take("a", 1.0, 6.0)


def test_a_large_body_costs_more():
    """The largest one as much as sixty small ones."""
    assert (cost_of(0), cost_of(MAX_BODY_BYTES)) == (1.0, 65.0)


def test_it_remembers_a_bounded_number_of_keys():
    """Those that were silent for longest are forgotten, and begin anew."""
    limit = RateLimit(per_s=0.0, burst=1.0, max_keys=100)
    limit.take("first", 1.0, 0.0)
    for number in range(10_000):
        limit.take(str(number), 1.0, 0.0)
        limit.take("busy", 1.0, 0.0)
    assert len(limit) == 100
    assert not limit.take("busy", 1.0, 0.0)
    assert limit.take("first", 1.0, 0.0)


@pytest.mark.parametrize(
    ("client", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:50123", "192.0.2.7"),
        (None, ""),
        ("unix:", ""),
    ],
)
def test_an_ipv6_subscriber_is_one_address(client, key):
    """Who has a network has more addresses than anybody can count."""
    assert address_key(client) == key


# --- addresses ----------------------------------------------------------------------------------------

is_secret = Redactor().is_secret


def test_addresses_at_any_depth_lose_their_secrets():
    """In the page's address, its query, and in what autocapture says of a link."""
    given = {
        "$current_url": "https://shop.example/?token=abc&a=1",
        "current_url_search": "?password=hush",
        "$elements": [{"$attr-href": "/reset?access_token=abc", "$classes": ["a=b"]}],
        "note": "token=abc",
    }
    assert cleaned(given, is_secret) == {
        "$current_url": "https://shop.example/?token=REDACTED&a=1",
        "current_url_search": "?password=REDACTED",
        "$elements": [{"$attr-href": "/reset?access_token=REDACTED", "$classes": ["a=b"]}],
        "note": "token=abc",
    }


@given(JSON_VALUES)
def test_what_holds_no_address_is_the_same(value):
    """Cleaning twice is cleaning once."""
    once = cleaned(value, is_secret)
    assert cleaned(once, is_secret) == once


@given(
    st.dictionaries(
        st.text(), JSON_VALUES | st.sampled_from(["https://a/?token=b", "//a:b@c", "%3Ftoken%3Db"])
    )
)
def test_where_there_is_no_address_there_is_no_secret(properties):
    """Asked before each value is looked at."""
    if has_no_address(properties):
        assert cleaned(properties, is_secret) is properties


@pytest.mark.parametrize("value", ["\ud83d https://a/?token=b", 2**70, "https://a/?token=b", ["a@b"]])
def test_what_may_be_an_address_is_looked_at(value):
    """And so is what is not known: half a character, a large number."""
    assert not has_no_address({"value": value})
    assert has_no_address({"value": "tea", "size": 3, "more": [{"a": None}]})


def test_depth_is_bounded():
    """What no event may have is not followed for ever."""
    deep = value = {}
    for _ in range(sys.getrecursionlimit() * 2):
        value["a"] = value = {}
    assert cleaned(deep, is_secret) is deep
