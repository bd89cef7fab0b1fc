"""mixpanel-browser: how we write a cookie that it takes over, for which Domain, and how it is removed."""

import pytest
from support.facts import VECTORS, facts
from support.mixpanel_cookies import DEVICE, NAME, OLD, OPT_OUT, TOKEN, YEAR_S, cookies, make_mixpanel_sdk

from mixpanel_visitor.core.identity.cookie_domain import MAX_HOST_CHARS
from mixpanel_visitor.core.identity.mixpanel_browser import (
    decode_uri_component,
    quoted_identity,
)
from mixpanel_visitor.core.policy import opted_out

# --- seeds and removals ------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["mixpanel_seed"], ids=lambda case: case["device_id"])
def test_seed_vectors(case):
    """The seed that Chromium and the SDK took over, byte for byte."""
    seeds = make_mixpanel_sdk(cross_subdomain=False).seed(
        case["device_id"], host="www.example.com", secure=True
    )
    assert seeds == [case["set_cookie"]]
    assert seeds[0].startswith(f"{case['cookie_name']}={case['cookie_value']};")


def test_a_seed_carries_the_sdks_domain(mixpanel_sdk):
    """Only so it takes effect on a page that is open, and is the same cookie as the SDK's."""
    assert mixpanel_sdk.seed(DEVICE, host="shop.example.com:8443", secure=False) == [
        f"{NAME}={quoted_identity(DEVICE)}; Domain=example.com; Path=/; Max-Age={YEAR_S}; SameSite=Lax"
    ]


def test_a_seed_of_ours_is_believed_when_it_comes_back(mixpanel_sdk):
    """What we write we can read."""
    for device_id in (DEVICE, "a:b", OLD):
        value = (
            mixpanel_sdk.seed(device_id, host="localhost", secure=False)[0]
            .partition("=")[2]
            .partition(";")[0]
        )
        assert mixpanel_sdk.claim(cookies(value), known_device_id=None).device_id == device_id


def test_a_bare_seed_lacks_the_prefix(mixpanel_sdk):
    """An old browser's ID is copied verbatim, never repaired."""
    value = (
        mixpanel_sdk.seed(OLD, unprefixed=True, host="localhost", secure=False)[0]
        .partition("=")[2]
        .partition(";")[0]
    )
    assert decode_uri_component(value) == f'{{"distinct_id":"{OLD}","$device_id":"{OLD}"}}'


def test_a_replacing_seed_removes_a_cookie_of_this_host(mixpanel_sdk):
    """Such a cookie would come first and shadow the new one."""
    removal, seed = mixpanel_sdk.seed(DEVICE, host="www.example.com", secure=True, replace=True)
    assert removal == f"{NAME}=; Path=/; Max-Age=0"
    assert [seed] == mixpanel_sdk.seed(DEVICE, host="www.example.com", secure=True)


def test_a_replacing_seed_for_this_host_alone_replaces_by_itself(mixpanel_sdk):
    """A removal of the same cookie in the same answer would be pointless."""
    assert len(mixpanel_sdk.seed(DEVICE, host="localhost", secure=False, replace=True)) == 1


@pytest.mark.parametrize(("max_age_s", "expected"), [(86_400, 86_400), (400 * 86_400, YEAR_S)])
def test_a_seed_lives_no_longer_than_the_sdks_own_cookie(max_age_s, expected):
    """365 days, or less where our own cookie is to live shorter."""
    seed = make_mixpanel_sdk(max_age_s=max_age_s).seed(DEVICE, host="localhost", secure=False)[0]
    assert f"; Max-Age={expected};" in seed


def test_the_cookie_is_removed_in_both_scopes(mixpanel_sdk):
    """It may be there for this host alone, and with the SDK's Domain."""
    assert mixpanel_sdk.expire(host="www.example.com") == [
        f"{NAME}=; Path=/; Max-Age=0",
        f"{NAME}=; Domain=example.com; Path=/; Max-Age=0",
    ]
    assert mixpanel_sdk.expire(host="localhost:8000") == [f"{NAME}=; Path=/; Max-Age=0"]


def test_an_opt_out_is_written_as_the_sdk_does(mixpanel_sdk):
    """`0` for a year with the SDK's Domain; a choice of this host alone goes, and so does the identity."""
    assert mixpanel_sdk.opt_out(host="www.example.com", secure=True) == [
        f"{OPT_OUT}=; Path=/; Max-Age=0",
        f"{OPT_OUT}=0; Domain=example.com; Path=/; Max-Age={YEAR_S}; SameSite=Lax; Secure",
        *mixpanel_sdk.expire(host="www.example.com"),
    ]


def test_an_opt_out_on_a_host_without_a_domain(mixpanel_sdk):
    """There is only one scope."""
    assert mixpanel_sdk.opt_out(host="localhost", secure=False) == [
        f"{OPT_OUT}=0; Path=/; Max-Age={YEAR_S}; SameSite=Lax",
        *mixpanel_sdk.expire(host="localhost"),
    ]


def test_an_opt_out_lasts_a_year_whatever_our_cookie_does():
    """A choice is not forgotten with the ID."""
    assert (
        f"=0; Path=/; Max-Age={YEAR_S};"
        in make_mixpanel_sdk(max_age_s=60).opt_out(host="localhost", secure=False)[0]
    )


def test_an_opt_in_removes_the_choice_in_both_scopes(mixpanel_sdk):
    """What is left is what the browser would say by itself."""
    assert mixpanel_sdk.opt_in(host="www.example.com") == [
        f"{OPT_OUT}=; Path=/; Max-Age=0",
        f"{OPT_OUT}=; Domain=example.com; Path=/; Max-Age=0",
    ]
    assert mixpanel_sdk.opt_in(host="localhost") == [f"{OPT_OUT}=; Path=/; Max-Age=0"]


def is_opted_out(header):
    return opted_out(facts({"cookie": header}), token=TOKEN, respect_dnt=True, respect_gpc=True)


@pytest.mark.parametrize("case", VECTORS["mixpanel_opt_cookie"], ids=lambda case: case["cookie"] or "none")
def test_opt_cookie_vectors(mixpanel_sdk, case):
    """The SDK's own choices are read as the SDK reads them."""
    assert is_opted_out(case["cookie"]) is case["state"].startswith("legacy opt-out")
    assert mixpanel_sdk.opt_out_name in case["cookie"] or case["state"] != "opted in"


def test_the_opt_out_that_we_write_is_one_that_we_read(mixpanel_sdk):
    """In a browser that keeps the last cookie of each name."""
    written = mixpanel_sdk.opt_out(host="localhost", secure=False)
    assert is_opted_out("; ".join(value.partition(";")[0] for value in written))
    taken_back = mixpanel_sdk.opt_in(host="localhost")
    assert not is_opted_out("; ".join(value.partition(";")[0] for value in taken_back))


def test_no_cookie_of_the_sdks_is_http_only(mixpanel_sdk):
    """The SDK could neither read nor replace it, and the two would disagree for ever."""
    written = [
        *mixpanel_sdk.seed(DEVICE, host="www.example.com", secure=True, replace=True),
        *mixpanel_sdk.expire(host="www.example.com"),
        *mixpanel_sdk.opt_out(host="www.example.com", secure=True),
        *mixpanel_sdk.opt_in(host="www.example.com"),
    ]
    assert not any("httponly" in value.lower() for value in written)


# --- the Domain --------------------------------------------------------------------------------


def domain(host, **options):
    """Return the Domain that a seed carries on this host; `""`: none."""
    seed = make_mixpanel_sdk(**options).seed(DEVICE, host=host, secure=True)[0]
    return seed.partition("; Domain=")[2].partition(";")[0]


@pytest.mark.parametrize("case", VECTORS["mixpanel_cookie_domain"], ids=lambda case: case["host"])
def test_cookie_domain_vectors(case):
    """The SDK's own expressions, with their mistakes: it has to be the same cookie."""
    assert domain(case["host"]) == case["domain"]
    assert domain(case["host"].upper() + ":8443") == case["domain"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8000", ""),
        ("[::1]:8000", ""),
        ("[::1", ""),
        ("", ""),
        (":", ""),
        ("example.com", "example.com"),
        ("www.oxford.ac.uk", "oxford.ac.uk"),
        ("a.b.example.info", "example.info"),
        ("www.x.info", "www.x.info"),
        ("www.x.photo", "x.photo"),
        ("www.vg.com", "vg.com"),
        ("www.vg.org", "vg.org"),
        ("www.vg.net", "www.vg.net"),
        ("foo_bar.com", ""),
        ("www.example.com, evil.test", ""),
        ("www.example.com; Domain=evil.test", ""),
        ("www.example.n\u017f", ""),
        ("www.example.mu\u017feum", ""),
        ("www.example.com\n", ""),
    ],
)
def test_the_domain_on_other_hosts(host, expected):
    """Addresses and junk have none, nor has a host that the SDK would cut in the middle of a label."""
    assert domain(host) == expected


def test_without_cross_subdomain_the_cookie_is_for_this_host():
    """`cross_subdomain_cookie: false`."""
    assert domain("www.example.com", cross_subdomain=False) == ""


@pytest.mark.parametrize(
    ("configured", "host", "expected"),
    [
        ("example.co.uk", "www.example.co.uk:8443", "example.co.uk"),
        (".Example.com", "WWW.example.com", "example.com"),
        ("shop.example.com", "shop.example.com", "shop.example.com"),
        ("shop.example.com", "a.shop.example.com", "shop.example.com"),
        ("shop.example.com", "www.example.com", ""),
        ("example.com", "example.com.evil.test", ""),
        ("example.com", "notexample.com", ""),
        ("example.com", "localhost:8000", ""),
        ("example.com", "", ""),
    ],
)
@pytest.mark.parametrize("cross_subdomain", [True, False])
def test_a_configured_domain(configured, host, expected, cross_subdomain):
    """It beats everything else, but only on hosts for which a browser would take it."""
    assert domain(host, cookie_domain=configured, cross_subdomain=cross_subdomain) == expected


def test_a_host_longer_than_host_names_is_not_searched():
    """The SDK's expressions are slow on long text, and no host is so long."""
    longest = "a." * ((MAX_HOST_CHARS - 11) // 2) + "example.com"
    assert len(longest) == MAX_HOST_CHARS
    assert domain(longest) == "example.com"
    assert domain("aa." + longest[1:]) == ""
