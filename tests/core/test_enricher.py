"""Enrichment: what a request says about its visitor, as the page's own SDK would say it."""

import ipaddress
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH, facts

from mixpanel_visitor.core.enrichment.client_address import ClientAddresses
from mixpanel_visitor.core.enrichment.enricher import REMEMBERED, REMEMBERED_CHARS, Enricher
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser
from mixpanel_visitor.core.request import facts_from_environ, facts_from_scope

TOKEN = "0123456789abcdef0123456789abcdef"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.fixture
def enricher():
    mixpanel = MixpanelBrowser(
        TOKEN,
        persistence_name=None,
        cross_subdomain=True,
        cookie_domain=None,
        max_age_s=1,
        count=lambda name: None,
    )
    addresses = ClientAddresses([ipaddress.ip_network("10.0.0.0/8")], mode="send")
    return Enricher(addresses=addresses, redactor=Redactor(), mixpanel=mixpanel)


@pytest.fixture
def read(enricher):
    """Return the properties of a request."""

    def properties(headers=None, *, is_new=False, is_bot=False, **more):
        return enricher.properties(facts(headers or BROWSER_DOCUMENT, **more), is_new=is_new, is_bot=is_bot)

    return properties


def persisted(**properties):
    """The SDK's cookie with these super properties."""
    cookie = {"distinct_id": "$device:x", "$device_id": "x", **properties}
    return f"mp_{TOKEN}_mixpanel={quote(orjson.dumps(cookie))}"


def test_a_page_speaks_of_its_own_address_and_of_the_one_before(read):
    """As `location.href` and `document.referrer` do there."""
    found = read(
        {**BROWSER_DOCUMENT, "referer": "https://www.google.com/", "user-agent": MAC},
        scheme="https",
        path="/shoes",
        query="utm_source=ad&gclid=7&x=1",
        client="203.0.113.7",
    )
    assert found == {
        "ip": "203.0.113.7",
        "$browser": "Firefox",
        "$browser_version": 128,
        "$os": "Mac OS X",
        "$current_url": "https://shop.example.com/shoes?utm_source=ad&gclid=7&x=1",
        "utm_source": "ad",
        "gclid": "7",
        "$referrer": "https://www.google.com/",
        "$referring_domain": "www.google.com",
        "$search_engine": "google",
    }


def test_what_a_page_fetches_speaks_of_the_page(read):
    """Its own address is nobody's page, and its Referer is no referrer."""
    headers = {**BROWSER_FETCH, "referer": "http://shop.example.com/cart?utm_source=ad"}
    found = read(headers, path="/api/cart", is_new=True)
    assert found["$current_url"] == "http://shop.example.com/cart?utm_source=ad"
    assert found["utm_source"] == "ad"
    assert not {"$referrer", "$referring_domain", "$initial_referrer"} & found.keys()


def test_of_a_page_elsewhere_nothing_is_known(read):
    """Browsers tell only its origin, and that is no page."""
    found = read({**BROWSER_FETCH, "referer": "https://elsewhere.test/"}, path="/api")
    assert "$current_url" not in found


def test_a_client_without_fetch_metadata_speaks_of_what_it_asks_for(read):
    """curl, a test client, an old browser."""
    found = read({"accept": "*/*"}, path="/a")
    assert found["$current_url"] == "http://shop.example.com/a"


def test_a_socket_has_no_page(read):
    """A browser does not say which page has opened it."""
    assert "$current_url" not in read({"origin": "http://shop.example.com"}, protocol="websocket")


def test_the_first_referrer_is_told_for_a_new_visitor(read):
    """As the SDK will remember it; `$direct` where there was none."""
    direct = read(is_new=True)
    assert (direct["$initial_referrer"], direct["$initial_referring_domain"]) == ("$direct", "$direct")
    assert "$referrer" not in direct
    referred = read({**BROWSER_DOCUMENT, "referer": "https://a.test/b"}, is_new=True)
    assert (referred["$initial_referrer"], referred["$initial_referring_domain"]) == (
        "https://a.test/b",
        "a.test",
    )


def test_what_the_sdk_remembers_of_the_first_referrer_counts(read):
    """Also for a known visitor, for whom nothing else is known of it."""
    memory = {"$initial_referrer": "https://first.test/", "$initial_referring_domain": "first.test"}
    cookie = persisted(
        **memory, **{"$search_engine": "bing", "mp_keyword": "old", "plan": "pro", "utm_term": "x"}
    )
    found = read({**BROWSER_DOCUMENT, "cookie": cookie, "referer": "https://duckduckgo.com/"}, is_new=True)
    assert {name: found[name] for name in memory} == memory
    assert (found["$search_engine"], found["mp_keyword"]) == ("duckduckgo", "old")
    assert not {"plan", "utm_term"} & found.keys()


@pytest.mark.parametrize("value", ["%", "[]", "{}", '{"$initial_referrer":7}', "null"])
def test_a_cookie_that_says_nothing_adds_nothing(read, value):
    """Whatever stands in it."""
    assert "$initial_referrer" not in read({**BROWSER_DOCUMENT, "cookie": f"mp_{TOKEN}_mixpanel={value}"})


def test_secrets_are_taken_out_of_addresses(read):
    """A token in a query is nobody's business."""
    found = read(
        {**BROWSER_DOCUMENT, "referer": "https://ann:pw@a.test/?password=x"},
        query="token=abc&n=1",
    )
    assert found["$current_url"] == "http://shop.example.com/?token=REDACTED&n=1"
    assert found["$referrer"] == "https://a.test/?password=REDACTED"


def test_texts_are_cut_where_the_sdk_cuts_them(read):
    """At 255 characters."""
    found = read({**BROWSER_DOCUMENT, "referer": "https://a.test/" + "x" * 300}, path="/" + "y" * 300)
    assert len(found["$current_url"]) == len(found["$referrer"]) == 255


def test_a_bot_is_tagged(read):
    """With `bots="tag"` reports can leave it out."""
    assert read(is_bot=True)["is_bot"] is True
    assert "is_bot" not in read()


def test_a_page_view_has_the_sdks_properties(enricher):
    """But for the title, which only the page knows; and with the template of its route."""
    page = facts(
        BROWSER_DOCUMENT, scheme="https", host="Shop.example.com:8443", path="/shoes/7", query="a=1&token=x"
    )
    assert enricher.page_view(page, "/shoes/{number}") == {
        "current_domain": "shop.example.com",
        "current_url_path": "/shoes/7",
        "current_url_protocol": "https:",
        "current_url_search": "?a=1&token=REDACTED",
        "route": "/shoes/{number}",
    }
    assert enricher.page_view(facts(host="[::1]:80"), None)["current_domain"] == "[::1]"


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "user-agent",
                "referer",
                "cookie",
                "host",
                "sec-fetch-dest",
                "accept",
                "x-forwarded-for",
                "purpose",
            ]
        ),
        st.binary().map(lambda raw: raw.decode("latin-1")),
    ),
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.booleans(),
)
def test_any_bytes_in_any_header_give_properties_that_can_be_sent(headers, text, is_new):
    """None raises, and what is said is text or a number."""
    request = facts(headers, path="/" + text, query=text, host=headers.get("host", text), client=text)
    enricher = Enricher(addresses=ClientAddresses((), mode="truncate"), redactor=Redactor(), mixpanel=None)
    found = enricher.properties(request, is_new=is_new, is_bot=False) | enricher.page_view(request, text)
    orjson.dumps(found | dict(enricher.first_touch(request)))


REQUESTS = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["/", "/a"]),
        "query": st.sampled_from(["", "utm_source=x", "q=" + "x" * REMEMBERED_CHARS]),
        "client": st.sampled_from([None, "203.0.113.7"]),
        "headers": st.fixed_dictionaries(
            {},
            optional={
                "user-agent": st.sampled_from([MAC, "curl/8"]),
                "referer": st.sampled_from(
                    ["https://www.google.com/search?q=a", "http://shop.example.com/a"]
                ),
                "sec-fetch-dest": st.sampled_from(["document", "empty"]),
                "accept": st.sampled_from(["text/html", "*/*"]),
                "sec-purpose": st.just("prefetch"),
                "cookie": st.sampled_from(
                    [
                        persisted(mp_keyword="b", **{"$initial_referrer": "c"}),
                        persisted(x="y" * 2000),
                        "mp_=1",
                    ]
                ),
            },
        ),
    }
)


@settings(max_examples=50)
@given(st.lists(st.tuples(REQUESTS, st.booleans(), st.booleans()), min_size=2, max_size=4))
def test_what_is_remembered_changes_nothing(requests):
    """Whatever other requests have said before, a request says the same, read by either server."""
    addresses = ClientAddresses([], mode="send")
    mixpanel = MixpanelBrowser(
        TOKEN, persistence_name=None, cross_subdomain=True, cookie_domain=None, max_age_s=1, count=print
    )
    old = Enricher(addresses=addresses, redactor=Redactor(), mixpanel=mixpanel)
    for request, is_new, is_bot in [*requests, *requests]:
        for read in (facts, from_scope, from_environ):
            new = Enricher(addresses=addresses, redactor=Redactor(), mixpanel=mixpanel)
            said = [each.properties(read(**request), is_new=is_new, is_bot=is_bot) for each in (old, new)]
            assert said[0] == said[1]


def from_scope(headers, *, path, query, client):
    """The request as ASGI has it."""
    raw = [
        (name.encode(), value.encode()) for name, value in [("host", "shop.example.com"), *headers.items()]
    ]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": raw}
    return facts_from_scope({**scope, "client": None if client is None else (client, 1)})


def from_environ(headers, *, path, query, client):
    """The request as WSGI has it."""
    given = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    said = {"HTTP_HOST": "shop.example.com", "PATH_INFO": path, "QUERY_STRING": query}
    return facts_from_environ({**said, **given, **({} if client is None else {"REMOTE_ADDR": client})})


def test_no_more_pages_are_remembered_than_come_soon(enricher):
    """Somebody who asks for another page each time fills no memory, and a long address is not kept."""
    for number in range(REMEMBERED + 10):
        enricher.properties(facts(path=f"/{number}"), is_new=False, is_bot=False)
    enricher.properties(facts(path="/" + "x" * REMEMBERED_CHARS), is_new=False, is_bot=False)
    assert len(enricher._pages) == 10


def test_a_header_of_a_type_of_the_servers_own_is_read_each_time(enricher):
    """What cannot be looked up is not remembered."""
    raw = [
        (b"host", b"shop.example.com"),
        (b"referer", bytearray(b"https://a.test/")),
        (b"accept", b"text/html"),
    ]
    request = facts_from_scope({"type": "http", "method": "GET", "path": "/", "headers": raw})
    assert enricher.properties(request, is_new=False, is_bot=False)["$referrer"] == "https://a.test/"
