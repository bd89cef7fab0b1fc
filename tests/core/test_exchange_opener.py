"""ExchangeOpener: what is remembered of earlier requests, and that it changes nothing."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exchanges import DEVICE, NOW_S, OK, TOKEN, House
from support.facts import BROWSER_DOCUMENT

from mixpanel_visitor.core.exchange_opener import REMEMBERED_CHARS, REMEMBERED_VISITORS
from mixpanel_visitor.core.identity.handover import HandoverClaim
from mixpanel_visitor.core.identity.mixpanel_browser import quoted_identity


def test_the_same_header_says_the_same_again(house):
    """A page's requests mostly send the same cookies; they are read once."""
    first, second = house.open(house.cookie()), house.open(house.cookie())
    assert second.identity is first.identity
    assert not second.needs_set_cookie


def test_what_a_header_said_grows_old_with_it(house):
    """A cookie that was fresh when it was read is not for ever."""
    headers = house.cookie()
    assert house.open(headers).identity.device_id == "known"
    assert house.open(headers, now_s=NOW_S + 31_536_001).identity.is_new
    assert house.notes["cookie_expired"] == 1


@pytest.mark.parametrize("later_s", [-100_000, -10, 0, 86_389, 86_390, 86_391, 700_000, 31_536_000])
@pytest.mark.parametrize(
    "marks", [{}, {"sdk_cookie_sent": False}, {"sdk_cookie_sent": False, "sdk_confirmed": True}], ids=str
)
@pytest.mark.parametrize(
    "happens",
    [
        lambda _exchange, _fresh: None,
        lambda exchange, fresh: exchange.identify("user", fresh),
        lambda exchange, fresh: exchange.reset(fresh),
        lambda exchange, _fresh: exchange.opt_out(),
        lambda exchange, fresh: (exchange.opt_out(), exchange.opt_in(fresh)),
        lambda exchange, fresh: exchange.apply_handover(HandoverClaim(device_id=DEVICE), fresh),
    ],
    ids=["nothing", "log-in", "log-out", "opt-out", "opt-in", "what is known is handed over"],
)
def test_a_remembered_header_asks_for_the_same_heads(house, later_s, marks, happens):
    """Whoever comes with it again needs a cookie whenever a first one would who comes at that time."""
    headers = {**BROWSER_DOCUMENT, **house.cookie(device_id=DEVICE, **marks)}
    house.open(headers)
    wanted = []
    for each in (house, House()):
        exchange = each.open(headers, now_s=NOW_S + later_s)
        happens(exchange, each.fresh)
        wanted.append(exchange.needs_set_cookie)
    assert len(set(wanted)) == 1


def test_what_a_header_said_over_http_counts_for_nothing_over_https(house):
    """There the cookie has another name, which no other host can set."""
    headers = house.cookie()
    assert house.open(headers).identity.device_id == "known"
    assert house.open(headers, scheme="https").identity.is_new


def test_a_visitor_is_remembered_though_another_cookie_has_changed(house):
    """A session that is signed anew, a count of page views: our signature is not verified again."""
    own = house.cookie()["cookie"]
    first, second = (house.open({"cookie": f"n={n}; {own}; x={n}"}) for n in range(2))
    assert second.identity is first.identity
    assert not second.needs_set_cookie


def test_no_more_visitors_are_remembered_than_come_soon(house):
    """A flood of them does not grow the process, and what nobody of ours has signed is not kept at all."""
    for number in range(REMEMBERED_VISITORS + 10):
        house.open({"cookie": f"{house.cookie(device_id=f'd{number}')['cookie']}"})
        house.open({"cookie": f"mpv=1~forged~1~.{number:043}"})
    known = house.cookie(device_id="a")["cookie"]
    house.open({"cookie": f"{known}; {house.mixpanel.name}={'a' * REMEMBERED_CHARS}"})
    assert len(house.opener._visitors) == 10


OWN = House().cookie(device_id=DEVICE)["cookie"]
SDK = House().mixpanel.name
PIECES = [
    OWN,
    House().cookie(device_id="b")["cookie"],
    OWN.replace("~", ".", 1),
    OWN.replace("mpv=", "mpv.0123=", 1),
    House().cookie(device_id="c", user_id="u")["cookie"].replace("mpv=", "mpv.user=", 1),
    "mpv=",
    f"mpv={'x' * 3000}",
    f"a={OWN}",
    f"x,{OWN}",
    f"{OWN},{OWN}",
    f"{SDK}={quoted_identity(DEVICE)}",
    f"{SDK}={quoted_identity('b')}",
    f"{SDK}={quoted_identity(DEVICE)[:-3]}%2C%22a%22%3A1%7D",
    f"{SDK}={quoted_identity(DEVICE)}%",
    f"{SDK}=junk",
    "mpv_js=0",
    f"mpv_js={DEVICE}",
    "mp_optout=1",
    f"__mp_opt_in_out_{TOKEN}=0",
    f"__mp_opt_in_out_{TOKEN}=1",
    "theme=dark",
    "n=1",
    "n=2",
]


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=4), min_size=2, max_size=6),
    st.sampled_from(["; ", ";", ", "]),
    st.integers(0, 2).map(lambda days: days * 86_400),
)
def test_what_is_remembered_changes_nothing(headers, separator, later_s):
    """Whatever has come before, a request is whose it would be in a process that has just started."""
    old = House()
    for number, pieces in enumerate([[OWN], *headers, [*headers[-1], "n=3"]]):
        cookie, now_s = {"cookie": separator.join(pieces)}, NOW_S + number * later_s
        opened = []
        for each in (old, House()):
            each.ids = (f"fresh-{number}" for number in count(1))
            each.notes.clear()
            exchange = each.open(cookie, now_s=now_s)
            opened.append(
                (
                    exchange.identity,
                    exchange.consent,
                    exchange.merge_events,
                    exchange.needs_set_cookie,
                    exchange.on_response_start(*OK),
                    each.notes,
                )
            )
        assert opened[0][:-1] == opened[1][:-1]
        assert opened[0][-1] <= opened[1][-1]
