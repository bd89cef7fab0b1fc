"""Addresses of pages and referrers: what mixpanel-browser's own code makes of them, and no secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.browser_vocabulary import Place, ask
from support.components import needs

from mixpanel_visitor.core.enrichment import url_properties
from mixpanel_visitor.core.events.redaction import Redactor

QUERIES = [
    "",
    "?",
    "?utm_source=google&utm_medium=cpc&utm_campaign=spring%20sale&utm_content=a&utm_term=b",
    "?utm_id=1&utm_source_platform=x&utm_campaign_id=2&utm_creative_format=y&utm_marketing_tactic=z",
    "?utm_source=a+b%2Bc&utm_source=second",
    "?utm_source=",
    "?utm_source",
    "?utm_source=%E2%82%AC%F0%9F%98%80",
    "?utm_source=%E2%82",
    "?utm_source=100%",
    "?utm_source=%zz&utm_medium=ok",
    "?utm_source=%ed%a0%80",
    "?UTM_SOURCE=loud&utm_Source=mixed",
    "?xutm_source=no&amp;utm_medium=entity",
    "?a=?utm_source=within",
    "#utm_source=fragment",
    "?x=1#?utm_source=in-fragment&gclid=7",
    "?dclid=1&fbclid=2&gclid=3&ko_click_id=4&li_fat_id=5&msclkid=6&sccid=7&ttclid=8&twclid=9&wbraid=10",
    "?gclid=a;b&gbraid=none",
    "?utm_source=a=b&utm_medium==",
    "?utm_term=%00%0a",
]
REFERRERS = [
    "",
    "https://www.google.com/",
    "https://www.google.co.uk/search?q=red+shoes",
    "http://google.de?q=x",
    "https://www.bing.com/search?q=a%20b",
    "https://de.search.yahoo.com/search?p=caf%C3%A9&q=no",
    "https://duckduckgo.com/?q=",
    "https://duckduckgo.com/?q=%E2%82",
    "https://shop.test/?from=google.com",
    "https://not-google.test/",
    "android-app://com.google.android.gm/",
    "https://user@host.test:8080/path",
    "about:blank",
    "nonsense",
    "https://",
    "//host/x",
]


@pytest.fixture(scope="module")
def said():
    places = [Place(url=f"https://shop.test/a{query}") for query in QUERIES]
    answers = ask(places + [Place(referrer=referrer) for referrer in REFERRERS])
    return dict(zip(QUERIES + REFERRERS, answers, strict=False)), answers[: len(QUERIES)]


@needs("npm")
@needs("node")
@pytest.mark.parametrize("number", range(len(QUERIES)), ids=QUERIES)
def test_campaigns_and_clicks_are_what_the_sdk_reads(said, number):
    """All ten names of each, with its own rules for signs, repetition and broken escapes."""
    url = f"https://shop.test/a{QUERIES[number]}"
    answer = said[1][number]
    assert url_properties.campaign(url) == answer["campaign"]
    assert url_properties.clicks(url) == answer["clicks"]


@needs("npm")
@needs("node")
@pytest.mark.parametrize("referrer", REFERRERS)
def test_referrers_are_what_the_sdk_reads(said, referrer):
    """The domain, the search engine and its keyword."""
    answer = said[0][referrer]
    assert url_properties.referring_domain(referrer) == answer["properties"].get("$referring_domain", "")
    assert url_properties.search_info(referrer) == answer["search"]


def test_a_first_touch_names_what_is_missing_as_well():
    """So that a later campaign cannot fill it in."""
    touch = url_properties.first_touch("https://shop.test/?utm_source=a")
    assert touch.pop("initial_utm_source") == "a"
    assert len(touch) == 9
    assert set(touch.values()) == {None}
    assert url_properties.first_touch("https://shop.test/?gclid=1") == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.test/a?b=c", "https://shop.test/a?b=c"),
        ("https://shop.test/?token=abc&x=1", "https://shop.test/?token=REDACTED&x=1"),
        (
            "https://shop.test/?x=1&token=abc#token=abc",
            "https://shop.test/?x=1&token=REDACTED#token=REDACTED",
        ),
        ("https://shop.test/?token=", "https://shop.test/?token="),
        ("https://shop.test/?token", "https://shop.test/?token"),
        ("https://shop.test/?a=b;token=c", "https://shop.test/?a=b;token=REDACTED"),
        ("https://ann:secret@shop.test/?mail=a@b", "https://shop.test/?mail=a@b"),
        ("https://shop.test/a@b/?c=d@e", "https://shop.test/a@b/?c=d@e"),
        ("https://ann:p@ss@shop.test/", "https://shop.test/"),
        (
            "https://shop.test/?next=https%3A%2F%2Fann%3Apw%40a.test%2F",
            "https://shop.test/?next=https%3A%2F%2Fa.test%2F",
        ),
        (
            "https://shop.test/?next=https://ann:pw@a.test/&mail=a@b",
            "https://shop.test/?next=https://a.test/&mail=a@b",
        ),
        ("https://shop.test/?next=%2F%3Ftoken%3Dabc", "https://shop.test/?next=%2F%3Ftoken%3DREDACTED"),
        (
            "https://shop.test/?next=/a%3Fb%3Dc%26token%3Dabc%26d%3De&token=f",
            "https://shop.test/?next=/a%3Fb%3Dc%26token%3DREDACTED%26d%3De&token=REDACTED",
        ),
        ("", ""),
    ],
)
def test_secrets_are_taken_out_of_an_address(url, expected):
    """Only the values; the rest keeps its bytes."""
    assert url_properties.without_secrets(url, lambda name: name == "token") == expected


@pytest.mark.parametrize("query", ["?%74oken=abc", "?tok%65n=abc", "?user%5Btoken%5D=abc", "?a=?token=abc"])
def test_escapes_hide_no_secret(query):
    """Servers decode names before they look at them."""
    found = url_properties.without_secrets("https://shop.test/" + query, Redactor().is_secret)
    assert "abc" not in found
    assert found.endswith("=REDACTED")


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_address_raises(text):
    """Whatever a client sends."""
    for function in (
        url_properties.campaign,
        url_properties.clicks,
        url_properties.first_touch,
        url_properties.referring_domain,
        url_properties.search_info,
    ):
        function("https://www.google.com/?utm_source=" + text)
        function(text)
    url_properties.without_secrets(text, lambda name: True)
