"""Settings one by one: what each takes, what it becomes, and what it refuses."""

import dataclasses
import datetime as dt

import pytest
from support.resolving import KEY, TOKEN, problem, resolve

from mixpanel_visitor.settings import Settings

# --- switches and browser SDKs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(text, True) for text in ("1", "true", "YES", "On", " true ", True, 1)]
    + [(text, False) for text in ("0", "false", "No", "OFF", False, 0)],
)
def test_booleans_have_the_usual_words(value, expected):
    """From any source, in any case."""
    assert resolve(mapping={"MIXPANEL_VISITOR_DRY_RUN": value}).dry_run is expected


@pytest.mark.parametrize("value", ["maybe", "2", 2, 1.0, []])
def test_other_words_are_no_booleans(value):
    """`bool("false")` is how events get sent by accident."""
    assert "true or false" in problem(dry_run=value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mixpanel", ("mixpanel",)),
        (("mixpanel", "spid"), ("mixpanel", "spid")),
        ("spid,mixpanel,spid", ("spid", "mixpanel")),
        ({"spid", "mixpanel"}, ("mixpanel", "spid")),
        (None, ()),
        ("none", ()),
        ((), ()),
    ],
)
def test_browser_sdks_come_out_as_a_tuple(given, expected):
    """One, both or none."""
    assert resolve(browser_sdk=given, spid_client_id="c").browser_sdk == expected


def test_an_unknown_browser_sdk_is_refused():
    """There are two."""
    assert "None is no SDK" in problem(browser_sdk="segment")


@pytest.mark.parametrize("given", [{"browser_sdk": "spid"}, {"id_mode": "spid"}])
@pytest.mark.parametrize("client", [{}, {"spid_client_id": None}])
def test_spid_needs_a_client_id(given, client):
    """The cookie's name is made of it."""
    line = problem(**given, **client)
    assert line.startswith("spid_client_id: is missing")
    assert "MIXPANEL_VISITOR_SPID_CLIENT_ID" in line


def test_a_bad_client_id_is_one_problem():
    """It is wrong, not also missing."""
    assert problem(id_mode="spid", spid_client_id="a b").startswith("spid_client_id='a b'")


# --- our cookie --------------------------------------------------------------------------------


def test_the_cookie_is_called_after_the_project():
    """Two projects on one host have cookies of their own; a name that was given stays as it is."""
    assert resolve().cookie_name == "mpv_3eb1bd43"
    assert resolve(token="another").cookie_name == "mpv_ae448ac8"
    assert resolve(cookie_name="mpv").cookie_name == "mpv"
    assert Settings(token=TOKEN, secret_key=KEY, spool="memory:").cookie_name == "mpv_3eb1bd43"


@pytest.mark.parametrize("name", ["__Host-mpv", "__secure-mpv", "a b", "a=b", "a;", "", "é", "x" * 65])
def test_a_cookie_name_is_a_token_without_prefix(name):
    """The prefix is ours to add (RFC 6265bis, 4.1.3)."""
    assert problem(cookie_name=name).startswith("cookie_name=")


@pytest.mark.parametrize(
    ("given", "expected"), [(".Example.COM", "example.com"), ("shop.example.co.uk", "shop.example.co.uk")]
)
def test_a_cookie_domain_is_normalised(given, expected):
    """Browsers ignore the dot."""
    assert resolve(cookie_domain=given).cookie_domain == expected


@pytest.mark.parametrize(
    "domain",
    ["localhost", "192.0.2.1", "::1", "https://example.com", "example.com:80", "-a.com", "a..b", "bücher.de",
     "x" * 64 + ".com", "a." * 130 + "com", "", "example.com/"],
)  # fmt: skip
def test_a_cookie_domain_looks_like_one(domain):
    """A browser would drop the cookie silently."""
    assert problem(cookie_domain=domain).startswith("cookie_domain=")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(60, 60), (34_560_000, 34_560_000), ("3600", 3600), (dt.timedelta(days=30), 2_592_000), (3600.0, 3600)],
)
def test_a_cookies_life_is_in_seconds(given, expected):
    """Up to 400 days."""
    assert resolve(cookie_max_age_s=given).cookie_max_age_s == expected


@pytest.mark.parametrize("given", [59, 34_560_001, "a year", "", True, 60.5, float("nan"), float("inf"), []])
def test_a_bad_life_is_refused(given):
    """Browsers would cut or drop the cookie."""
    assert "seconds" in problem(cookie_max_age_s=given)


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["visitor", "/", "", "/a b", "/a?b", "/a#b", 7])
def test_the_handover_path_is_below_the_root(path):
    """It must not swallow the front page."""
    assert problem(handover_path=path).startswith("handover_path=")


@pytest.mark.parametrize(
    "path",
    ["//evil.example/x", "/\\evil.example/x", "/\t/evil.example/x", "/\n/evil.example/x", "///evil.example"],
)
def test_the_handover_path_is_on_this_host(path):
    """What browsers read as the address of another host would send visitors' IDs there."""
    assert problem(handover_path=path).startswith("handover_path=")


@pytest.mark.parametrize(
    ("given", "meant"), [("/m", "/m"), ("/m/", "/m"), ("/a/b", "/a/b"), ("none", None), (None, None)]
)
def test_the_collector_path_has_no_slash_at_its_end(given, meant):
    """The names of its routes are added to it."""
    assert resolve(collector_path=given).collector_path == meant


@pytest.mark.parametrize("path", ["m", "//m", "/", "/m?x", "/m#x", "/a b", "/%6d", 7, True])
def test_the_collector_path_is_one_of_this_host(path):
    """Anything else is a mistake."""
    assert problem(collector_path=path).startswith("collector_path=")


def test_a_collector_path_of_the_projects_own():
    """The same each time, and another for another project."""
    path = resolve(collector_path="auto").collector_path
    assert path.startswith("/")
    assert len(path) == 7
    assert resolve(collector_path=" AUTO ").collector_path == path
    assert dataclasses.replace(resolve(collector_path="auto")).collector_path == path
    assert resolve(collector_path="auto", token="another").collector_path != path


# --- functions, properties and choices ---------------------------------------------------------


@pytest.mark.parametrize("name", ["consent", "before_send", "request_filter", "extra_properties"])
def test_hooks_are_plain_functions(name):
    """An async one would return a coroutine that nobody awaits."""

    async def hook(facts):
        return "granted"

    assert "not an async one" in problem(**{name: hook})
    assert "not str" in problem(**{name: "myapp.hook"})
    assert getattr(resolve(**{name: repr}), name) is repr


@pytest.mark.parametrize(
    ("value", "meant"), [(True, True), ("off", False), (repr, repr), ("shop.ids.of", "shop.ids.of")]
)
def test_identify_users_is_a_switch_or_a_function(value, meant):
    """Or the dotted name of one, which is imported where log-ins are told of."""
    assert resolve(identify_users=value).identify_users is meant or value == meant


@pytest.mark.parametrize("value", ["sometimes", "shop..ids", 7, b"x"])
def test_identify_users_is_nothing_else(value):
    """It says what it may be."""
    assert "dotted name" in problem(identify_users=value)


def test_extra_properties_are_a_copy():
    """Settings do not change behind our back."""
    properties = {"app": "shop"}
    settings = resolve(extra_properties=properties)
    properties["app"] = "other"
    assert settings.extra_properties == {"app": "shop"}


def test_extra_properties_have_names():
    """A number is none."""
    assert "property names" in problem(extra_properties={1: 2})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("region", ["us", "eu", "in"]),
        ("durability", ["after-response", "before-response", "delivered"]),
        ("id_mode", ["simplified", "original", "legacy", "spid"]),
        ("bots", ["drop", "tag", "keep"]),
        ("on_ambiguous", ["dead-letter", "retry"]),
        ("on_error", ["log", "raise"]),
    ],
)
def test_a_choice_takes_its_words_and_lists_them(name, words):
    """In any case; everything else is told what there is."""
    for word in words:
        assert getattr(resolve(**{name: word.upper()}, spid_client_id="c"), name) == word
    line = problem(**{name: "xyzzy"})
    assert all(repr(word) in line for word in words)
    assert repr(words[0]) in problem(**{name: 7})
