"""Whatever a client sends: no parser of ours raises, and what it gives is nothing or well-formed.

Bytes become text as latin-1, as both adapters decode them. How long junk takes is no assertion: that is what
`python tests/benchmarks/junk.py` prints.
"""

import base64
import hashlib
import hmac
import json
import re
from urllib.parse import quote

import pytest
from benchmarks.junk import (
    CODEC,
    COOKIES,
    DEVICE_ID,
    MIXPANEL,
    NOW_S,
    PARSERS,
    SIGNED,
    SPID,
    TOKEN,
    UPGRADED,
    environ,
    facts,
    kinds,
    scope,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.core import policy
from mixpanel_visitor.core.enrichment import bots
from mixpanel_visitor.core.identity.identity import id_refusal
from mixpanel_visitor.core.identity.mixpanel_browser import (
    BrowserClaim,
    decode_uri_component,
    quoted_identity,
)
from mixpanel_visitor.core.identity.spid_browser import SpidVisitor, is_fresh, js_unescape
from mixpanel_visitor.core.request import (
    MAX_CANDIDATES,
    RequestFacts,
    all_cookie_values,
    cookie_values,
    facts_from_environ,
    facts_from_scope,
)

fixed = settings(max_examples=150, deadline=None, derandomize=True, database=None)

OLD_ID = "186a0f1c2d3e4-0b1c2d3e4f5a6b-1d525635-1fa400-186a0f1c2d3f5"
UID = "1ab2c3Xt3n8cgX0zk9m4"
NAMES = [
    MIXPANEL.name,
    MIXPANEL.opt_out_name,
    "spid_js_4321abc0000",
    "vgs_js_4321abc0000",
    "mpv",
    "__Host-mpv",
]

# Bytes alone never get past the first check, so names, separators and the parts of good values are mixed in.
fragments = st.sampled_from(
    [
        *(f"{name}=" for name in NAMES),
        *(
            "; ",
            ";",
            ",",
            " ",
            "\t",
            "=",
            '"',
            "%",
            "%22",
            "%2",
            "%u",
            "%ud83d",
            "%u0141",
            "%C3",
            "%00",
            "\0",
            "\n",
        ),
        *("%7B", "{", "}", "%7D", "[", "%5B", ":", "null", "true", "9" * 400, "1e999", "NaN", '"\\ud83d"'),
        *(
            "%22distinct_id%22%3A",
            "%22%24device_id%22%3A",
            "%24device%3A",
            "$device:",
            DEVICE_ID,
            OLD_ID,
            UID,
        ),
        *(
            quoted_identity(DEVICE_ID),
            quoted_identity(OLD_ID, unprefixed=True),
            '"visitor":{"uid":"',
            '"sig":"',
            SIGNED,
        ),
        *(
            "googlebot",
            "prefetch",
            "max-age=",
            's-maxage="',
            "private",
            "Wed, 21 Oct 2037 07:28:00 GMT",
            "example.com",
        ),
    ]
)
wire = st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))
headers = st.one_of(wire, st.lists(fragments | wire, max_size=12).map("".join))
texts = headers | st.text(max_size=200)

ids = st.sampled_from([DEVICE_ID, f"$device:{DEVICE_ID}", OLD_ID, f"$device:{OLD_ID}", "user-1", 5])
good_pairs = st.sampled_from([(f"$device:{DEVICE_ID}", DEVICE_ID), (OLD_ID, OLD_ID), ("user-1", DEVICE_ID)])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**53, NOW_S, NOW_S - 100])
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(
        [DEVICE_ID, f"$device:{DEVICE_ID}", OLD_ID, f"$device:{OLD_ID}", UID, "user-1", "null", "HMAC-SHA256"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("uid"), inner, max_size=3)
    ),
    max_leaves=6,
)


def stringified(value):
    """Return JSON as a client may write it: whatever Python's encoder writes, NaN included."""
    return json.dumps(value, separators=(",", ":"))


def check_claim(claim):
    """A claim is nothing, or its IDs are fit for cookies, logs and Mixpanel."""
    if claim is None:
        return
    assert isinstance(claim, BrowserClaim)
    assert re.fullmatch(r"[0-9A-Za-z_.:-]{1,64}", claim.device_id)
    assert id_refusal(claim.device_id) is None
    assert not claim.unprefixed or re.fullmatch(r"(?:[0-9a-fA-F]+-){4}[0-9a-fA-F]+", claim.device_id)
    assert claim.user_id is None or (claim.user_id.isprintable() and id_refusal(claim.user_id) is None)


def check_visitor(visitor):
    """A visitor is nobody, or his uid is fit for cookies, logs and Mixpanel."""
    if visitor is None:
        return
    assert isinstance(visitor, SpidVisitor)
    assert re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_-]{7,63}", visitor.uid)
    assert id_refusal(visitor.uid) is None
    assert visitor.user_id is None or type(visitor.user_id) is int


def check_set_cookie(value, host):
    """A Set-Cookie value is one cookie in visible ASCII, and its Domain covers the host."""
    pair, _, attributes = value.partition("; ")
    assert re.fullmatch(r"[0-9A-Za-z_]+=[0-9A-Za-z%_.-]*", pair)
    found = re.fullmatch(
        r"(?:Domain=([a-z0-9.-]+); )?Path=/; Max-Age=[0-9]+(?:; SameSite=Lax)?(?:; Secure)?", attributes
    )
    assert found
    name = host.partition(":")[0].lower()
    assert found[1] is None or name == found[1] or name.endswith(f".{found[1]}")


# --- the junk of the benchmark -----------------------------------------------------------------


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.title)
def test_no_kind_of_junk_raises(parser):
    """64 KiB of each, at every parser."""
    for _, junk in kinds(parser.name):
        parser.run(junk)


# --- request -----------------------------------------------------------------------------------


@given(texts, st.sampled_from(NAMES), st.booleans())
@fixed
def test_cookie_values_are_parts_of_the_header(header, name, commas):
    """They hold no separator and no blanks around them; and the short list begins as the long one does."""
    values = cookie_values(header, name, commas=commas)
    assert values == all_cookie_values(header, name, commas=commas)[:MAX_CANDIDATES]
    for value in values:
        assert f"{name}=" in header
        assert value in header
        assert ";" not in value
        assert value == value.strip(" \t")


def check_facts(found):
    assert isinstance(found, RequestFacts)
    assert found.scheme in ("http", "https")
    for text in (
        found.method,
        found.host,
        found.path,
        found.query,
        found.cookies,
        found.header("cookie"),
        repr(found),
    ):
        assert isinstance(text, str)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"cookie", b"Cookie", b"host"]) | st.binary(max_size=9), st.binary())
    ),
    st.sampled_from(["http", "websocket"]),
    st.binary(),
    st.text(),
)
@fixed
def test_any_scope_is_read(pairs, kind, raw, path):
    """Any bytes in its headers, path and query."""
    check_facts(facts_from_scope({"type": kind, "headers": pairs, "raw_path": raw, "query_string": raw}))
    check_facts(
        facts_from_scope({"type": kind, "headers": pairs, "path": path.encode("utf-8", "replace").decode()})
    )


@given(headers)
@fixed
def test_any_environ_is_read(text):
    """Any bytes in its variables."""
    check_facts(facts_from_environ(environ(text)))
    check_facts(facts_from_scope(scope(text)))


# --- anchor ------------------------------------------------------------------------------------


@given(texts, st.booleans())
@fixed
def test_nothing_but_a_signed_anchor_is_found(text, secure):
    """What comes out was signed by us, whatever stands around it."""
    for visitor_cookie in (
        CODEC.find(text, secure=secure, now_s=NOW_S),
        CODEC.decode(text, now_s=NOW_S),
        UPGRADED.find(text, secure=secure, now_s=NOW_S),
    ):
        assert visitor_cookie is None or (visitor_cookie.device_id == DEVICE_ID and SIGNED in text)


@given(texts, st.booleans(), st.booleans())
@fixed
def test_only_a_cookie_that_is_there_is_removed(text, secure, succeeded):
    """Of release 0.1, by its own name and never with anything of the request in it."""
    removed = UPGRADED.expire_former(text, secure=secure, succeeded=succeeded)
    name = "__Host-mpv" if secure else "mpv"
    assert not removed or (len(removed) == 1 and removed[0].startswith(f"{name}=; Max-Age=0; Path=/"))
    assert not removed or f"{name}=" in text
    assert COOKIES.has_opted_out(facts(text)) in (True, False)


# --- policy ------------------------------------------------------------------------------------


@given(headers)
@fixed
def test_any_request_can_be_judged(text):
    """Every question has an answer."""
    request = facts(text)
    answers = [
        policy.opted_out(request, token=TOKEN, respect_dnt=True, respect_gpc=True),
        policy.is_prefetch(request),
        policy.is_document(request),
        policy.may_set_cookie(request, tracked=True),
        policy.shared_cacheable(
            [(name, text) for name in ("cdn-cache-control", "cache-control", "expires")], now_s=NOW_S
        ),
    ]
    assert {type(answer) for answer in answers} == {bool}
    assert bots.by_user_agent(text) in ("", "crawler", "tool")


# --- mixpanel-browser --------------------------------------------------------------------------


@given(texts, st.none() | st.sampled_from([DEVICE_ID, OLD_ID]))
@fixed
def test_any_header_claims_nothing_or_a_well_formed_id(text, known):
    """A browser's word is checked before it is believed."""
    check_claim(MIXPANEL.claim(text, known_device_id=known))
    check_claim(MIXPANEL.claim(f"{MIXPANEL.name}={text}", known_device_id=known))
    assert MIXPANEL.occupied(text) in (True, False)


@given(
    st.tuples(ids, ids) | good_pairs | st.tuples(values, values),
    st.dictionaries(st.sampled_from(["$user_id", "$had_persisted_distinct_id", "x", "visitor"]), values),
    st.sampled_from(["!~*'()", "", "!~*'(){}[]:,\""]),
)
@fixed
def test_any_properties_claim_nothing_or_a_well_formed_id(both, more, safe):
    """Also those that JSON.stringify would never write."""
    properties = {"distinct_id": both[0], "$device_id": both[1], **more}
    header = f"{MIXPANEL.name}={quote(stringified(properties), safe=safe)}"
    claim = MIXPANEL.claim(header, known_device_id=None)
    check_claim(claim)
    if claim is None:
        return
    assert MIXPANEL.occupied(header)
    # The short way comes to the same as the long one.
    short = MIXPANEL.claim(header, known_device_id=claim.device_id)
    assert short is not None
    assert (short.device_id, short.unprefixed, short.settled) == (
        claim.device_id,
        claim.unprefixed,
        claim.settled,
    )


@given(
    st.sampled_from([DEVICE_ID, OLD_ID]),
    st.sampled_from([f"$device:{DEVICE_ID}", DEVICE_ID, f"$device:{OLD_ID}", OLD_ID, "user-1", "", 'a"', 5]),
    st.sampled_from([DEVICE_ID, OLD_ID, f"{DEVICE_ID}0", "", None]),
)
@fixed
def test_a_known_device_is_never_recognised_where_decoding_would_refuse_it(known, distinct_id, device_id):
    """The short way believes nothing that the long one would not."""
    properties = {"distinct_id": distinct_id, "$device_id": device_id}
    header = f"{MIXPANEL.name}={quote(stringified(properties), safe='')}"
    short = MIXPANEL.claim(header, known_device_id=known)
    long = MIXPANEL.claim(header, known_device_id=None)
    assert (short is None) is (long is None)
    if short is not None and long is not None:
        assert (short.device_id, short.unprefixed) == (long.device_id, long.unprefixed)


@given(
    headers
    | st.text(alphabet="ab.-:[]_\u017f\u212a\n; ", max_size=80).map(lambda text: f"{text}example.com"),
    st.booleans(),
)
@fixed
def test_any_host_gives_well_formed_cookies(host, secure):
    """A Host header does not get into a Set-Cookie but for its domain."""
    written = [
        *MIXPANEL.seed(DEVICE_ID, host=host, secure=secure, replace=True),
        *MIXPANEL.expire(host=host),
        *MIXPANEL.opt_out(host=host, secure=secure),
        *MIXPANEL.opt_in(host=host),
    ]
    for value in written:
        check_set_cookie(value, host)


@given(texts)
@fixed
def test_any_text_is_decoded_or_refused(text):
    """What encodeURIComponent wrote comes back; what it could not have written raises nothing."""
    assert decode_uri_component(quote(text, safe="!~*'()")) == text
    decoded = decode_uri_component(text)
    assert decoded is None or not re.search("[\ud800-\udfff]", decoded)


# --- SPiD --------------------------------------------------------------------------------------


@given(texts)
@fixed
def test_any_header_names_nobody_or_a_well_formed_visitor(text):
    """A session is checked before it is believed."""
    check_visitor(SPID.find(text, now_s=NOW_S))
    check_visitor(SPID.find(f"spid_js_4321abc0000={text}", now_s=NOW_S))
    check_visitor(SPID.verified(text, now_s=NOW_S))
    check_visitor(SPID.unsigned(text))


@given(values)
@fixed
def test_anything_can_be_handed_over(value):
    """A body of JSON may hold anything."""
    check_visitor(SPID.unsigned(value))
    check_visitor(SPID.verified(value, now_s=NOW_S))


@given(
    st.dictionaries(
        st.sampled_from(["visitor", "sig", "userId", "serverTime"]), values | st.just({"uid": UID})
    )
)
@fixed
def test_any_session_names_nobody_or_a_well_formed_visitor(session):
    """Also those that JSON.stringify would never write."""
    check_visitor(SPID.find(f"vgs_js_4321abc0000={quote(stringified(session), safe='')}", now_s=NOW_S))


def signed(raw):
    """Sign any bytes with SPiD's secret."""
    payload = base64.urlsafe_b64encode(raw).rstrip(b"=")
    mac = hmac.digest(b"foobar-sign-secret", payload, hashlib.sha256)
    return f"{base64.urlsafe_b64encode(mac).decode().rstrip('=')}.{payload.decode()}"


@given(st.binary() | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
@fixed
def test_any_signed_bytes_name_nobody_or_a_well_formed_visitor(raw):
    """The key may be known to more people than one thinks."""
    check_visitor(SPID.verified(signed(raw), now_s=NOW_S))


@given(
    st.fixed_dictionaries(
        {
            "algorithm": st.just("HMAC-SHA256"),
            "serverTime": values | st.just(NOW_S),
            "visitor": st.just({"uid": UID}),
        },
        optional={"expiresIn": values, "userId": values, "x": values},
    )
)
@fixed
def test_any_signed_session_names_nobody_or_a_well_formed_visitor(session):
    """Whatever it says about its time and its user."""
    visitor = SPID.verified(signed(stringified(session).encode()), now_s=NOW_S)
    check_visitor(visitor)
    if visitor is not None:
        assert visitor.signed
        assert visitor.issued_at_s is not None
        assert abs(visitor.issued_at_s - NOW_S) <= 7200 + 60
    assert is_fresh(session, now_s=NOW_S) in (True, False)


@given(st.text())
@fixed
def test_what_js_escape_wrote_comes_back(text):
    """Any text, characters beyond U+FFFF and halves of them included."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    escaped = "".join(f"%{code:02X}" if code < 256 else f"%u{code:04X}" for code in codes)
    assert js_unescape(escaped) == units.decode("utf-16-be", "surrogatepass")


@given(texts)
@fixed
def test_any_text_is_unescaped(text):
    """`unescape` takes everything."""
    assert isinstance(js_unescape(text), str)
