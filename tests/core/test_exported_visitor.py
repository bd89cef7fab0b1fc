"""The text in which a visitor travels: what is in it, what is believed, and why not."""

import base64
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpanel_visitor.core.exported_visitor import (
    CLOCK_SKEW_S,
    MAX_CHARS,
    ExportedVisitor,
    ExportError,
    VisitorExportCodec,
)
from mixpanel_visitor.core.identity.identity import Identity
from mixpanel_visitor.core.identity.signing import make_signer

NOW_S = 1_763_900_000.5
DAY_S = 86_400
TOKEN = "0123456789abcdef0123456789abcdef"
ANN = ExportedVisitor(
    Identity(device_id="phone-1", user_id="ann", source="cookie", vouched=True),
    int(NOW_S * 1000),
    {"ip": "0", "$browser": "Firefox"},
    {"plan": "pro", "company": ["Acme"]},
    {"new-checkout": "on", "old-menu": None},
)

scalars = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=300)
json_values = scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.text(max_size=20), scalars)
properties = st.dictionaries(st.text(min_size=1, max_size=60), json_values, max_size=40)
ids = st.none() | st.text(min_size=1, max_size=80)


@pytest.fixture
def codec():
    return VisitorExportCodec(["old-key", "new-key"], token=TOKEN)


def read(codec, text, *, now_s=NOW_S, max_age_s=DAY_S):
    return codec.decode(text, now_s=now_s, max_age_s=max_age_s)


def reason(codec, text, **more):
    with pytest.raises(ExportError) as refused:
        read(codec, text, **more)
    return refused.value.reason


def test_all_of_a_visitor_comes_back(codec):
    """Identity, time, the request's words, super properties and groups, feature flags."""
    text, left_out = codec.encode(ANN)
    assert read(codec, text) == ANN
    assert not left_out


@pytest.mark.parametrize("mark", ["unprefixed", "vouched", "device_unverified"])
def test_what_is_known_of_an_identity_comes_back(codec, mark):
    """A device that was not verified there is joined to nobody here either."""
    identity = Identity(device_id="phone-1", user_id="ann", **{mark: True})
    text, _ = codec.encode(ANN._replace(identity=identity))
    assert read(codec, text).identity == identity


def test_the_text_is_safe_in_a_header(codec):
    """Queues and HTTP carry it as it is."""
    text, _ = codec.encode(ANN)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")


@given(device_id=ids, user_id=ids, uid=ids, words=properties, registered=properties)
def test_any_visitor_fits_and_comes_back(device_id, user_id, uid, words, registered):
    """What has no room is left out by name, the IDs are there."""
    codec = VisitorExportCodec(["key"], token=TOKEN)
    identity = Identity(device_id=device_id, user_id=user_id, uid=uid)
    visitor = ExportedVisitor(identity, int(NOW_S * 1000), words, registered or None)
    text, left_out = codec.encode(visitor)
    assert len(text) <= MAX_CHARS
    back = read(codec, text)
    assert back.identity == identity
    for given_properties, kept in ((words, back.event_properties), (registered, back.registered or {})):
        assert set(kept) == set(given_properties) - set(left_out)


def test_long_addresses_go_first_and_super_properties_last(codec):
    """What the application registered counts for more than where the page was."""
    noise = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=1000))
    words = {"$browser": "Firefox", "$current_url": noise[:255], "$referrer": noise[255:510]}
    visitor = ANN._replace(event_properties=words, registered={"note": noise[510:970]})
    text, left_out = codec.encode(visitor)
    back = read(codec, text)
    assert set(left_out) <= {"$current_url", "$referrer"}
    assert left_out
    assert back.event_properties["$browser"] == "Firefox"
    assert back.registered == visitor.registered


def test_ids_without_room_are_refused(codec):
    """An identity is never cut."""
    signs = range(0x4E00, 0x9000)
    user_id, uid = ("".join(map(chr, random.Random(seed).choices(signs, k=255))) for seed in (1, 2))
    with pytest.raises(ExportError) as refused:
        codec.encode(ANN._replace(identity=Identity(device_id="d", user_id=user_id, uid=uid)))
    assert refused.value.reason == "export_too_large"


@given(text=st.text() | st.binary() | st.none() | st.integers())
def test_whatever_else_it_is_nobody_is_resumed(text):
    """Any text, and what is none: a reason, never another error."""
    assert reason(VisitorExportCodec(["key"], token=TOKEN), text).startswith("resume_")


@given(data=st.data())
def test_whatever_is_changed_nobody_is_resumed(data):
    """One character less, more or other."""
    codec = VisitorExportCodec(["key"], token=TOKEN)
    text, _ = codec.encode(ANN)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = data.draw(st.sampled_from(["", "a", "B", "1", "-", ".", "=", "é"]))
    forged = text[:at] + changed + text[at + 1 :]
    if forged != text:
        assert reason(codec, forged) in ("resume_bad_signature", "resume_malformed", "resume_newer")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "resume_empty"),
        (None, "resume_malformed"),
        ("1", "resume_malformed"),
        ("2.abc.def", "resume_newer"),
        ("x.abc.def", "resume_malformed"),
        ("1.abc.def", "resume_bad_signature"),
        ("1." + "a" * MAX_CHARS, "resume_malformed"),
    ],
)
def test_each_kind_of_wrong_text_has_its_reason(codec, text, expected):
    """So that the counts tell a rolling update from an attack."""
    assert reason(codec, text) == expected


def test_another_project_is_not_believed(codec):
    """With the same key: many sites share one in their configuration."""
    text, _ = VisitorExportCodec(["new-key"], token="f" * 32).encode(ANN)
    assert reason(codec, text) == "resume_bad_signature"


def test_a_key_that_is_being_replaced_is_still_believed(codec):
    """The web processes may be updated after the workers."""
    text, _ = VisitorExportCodec(["old-key"], token=TOKEN).encode(ANN)
    assert read(codec, text) == ANN


def test_a_visitor_cookie_is_no_export(codec):
    """Each kind of text has a salt of its own."""
    content = base64.urlsafe_b64encode(b"[1]").decode()
    text = make_signer(["new-key"], b"mixpanel-visitor.anchor:" + TOKEN.encode()).sign(f"1.{content}")
    assert reason(codec, text.decode()) == "resume_bad_signature"


def test_signed_nonsense_is_refused(codec):
    """It can only come from somebody with the key, and raises nothing all the same."""
    signer = make_signer(["new-key"], b"mixpanel-visitor.export:" + TOKEN.encode())
    strange = (
        b"",
        b"[]",
        b"{}",
        b"[1",
        b"x\x9c",
        b"[1,2,3,4,5,6,7,8,9]",
        b'["a",null,null,null,"","",{},{},{}]',
    )
    for content in strange:
        text = signer.sign("1." + base64.urlsafe_b64encode(content).rstrip(b"=").decode())
        assert reason(codec, text.decode()) == "resume_malformed"


@pytest.mark.parametrize(
    ("later_s", "expected"),
    [
        (DAY_S, None),
        (DAY_S + 1, "resume_expired"),
        (-CLOCK_SKEW_S, None),
        (-CLOCK_SKEW_S - 1, "resume_expired"),
    ],
)
def test_a_text_is_good_for_its_age_and_no_longer(codec, later_s, expected):
    """A little of the future is taken: clocks differ."""
    text, _ = codec.encode(ANN)
    if expected is None:
        assert read(codec, text, now_s=NOW_S + later_s) == ANN
    else:
        assert reason(codec, text, now_s=NOW_S + later_s) == expected
