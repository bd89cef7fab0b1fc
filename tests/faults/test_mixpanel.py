"""Every way in which Mixpanel can fail, over a socket: journal, sender and client together lose nothing.

Each test ends with the same look at the invariants: what was put has arrived or lies in the dead letters,
nothing else has arrived, and each record arrived in the bytes that were put, however often.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import secrets
import socket
import ssl

import pytest
import trustme
from support.journals import Clock, open_journal
from support.scripted_mixpanel import (
    LIMIT_BYTES,
    ScriptedMixpanel,
    hanging,
    limited,
    never_reading,
    reading_then_resetting,
    refusing,
    resetting_in_the_request,
    saying,
    taking_then_breaking_off,
    taking_then_resetting,
    trickling,
)
from support.scripted_server import ScriptedServer, http

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Timeouts
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import Record

SHORT = Timeouts(connect_s=5.0, read_s=0.2, total_s=0.4)
LONG = Timeouts(connect_s=5.0, read_s=10.0, total_s=20.0)
HOURS_S = 3_600.0
SERVER_TROUBLE = (
    "500 Internal Server Error",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
)


def event(name, **properties):
    """One event as it lies in the spool."""
    properties = {"$insert_id": f"id-{name}", "distinct_id": "somebody", "time": 1_763_934_567} | properties
    return Record(
        "import", json.dumps({"event": str(name), "properties": properties}, separators=(",", ":")).encode()
    )


def update(number):
    """One profile update that may be sent twice."""
    body = json.dumps({"$distinct_id": "somebody", "$set": {"n": number}}, separators=(",", ":"))
    return Record("engage", body.encode())


class Delivery:
    """A journal and a sender whose waits pass at once; the network is real."""

    def __init__(self, directory, url, *, timeouts=LONG, ca_file=None):
        self.clock = Clock()
        self.waits_s = []
        self.journal = open_journal(directory / "spool", self.clock)
        self.api = MixpanelAPI(
            url, "the-token", timeouts=timeouts, ca_file=ca_file, on_sent=self.journal.note_sent
        )
        self.sender = Sender(
            self.journal,
            self.api.post,
            crash_tracking=self.journal,
            clock=self.clock.time,
            monotonic=self.clock.monotonic,
            uniform=lambda low, high: low,
            wait=self._wait,
        )
        self.put_bodies = []

    def _wait(self, seconds):
        self.waits_s.append(seconds)
        self.clock.tick(seconds)

    def put(self, *records):
        self.journal.put(records)
        self.put_bodies += [record.body for record in records]

    @property
    def dead(self):
        """The bodies in the dead letters, each with the reason."""
        letters = DeadLetters(self.journal.directory / "dead").entries()
        return {letter.body: letter.reason for letter in letters}

    def check(self, mixpanel):
        """Nothing is lost, made up or altered, and the counters say so."""
        dead = self.dead
        # Figures, not sets: the difference of two large ones takes pytest a minute to write down.
        arrived, put = {*mixpanel.taken, *dead}, set(self.put_bodies)
        assert {"lost": len(put - arrived), "alien": len(arrived - put)} == {"lost": 0, "alien": 0}
        assert not set(mixpanel.taken) & set(dead)
        counts = self.journal.counts()
        assert (counts.pending, counts.lost) == (0, 0)
        assert (counts.delivered, counts.dead_lettered) == (len(self.put_bodies) - len(dead), len(dead))
        assert self.sender.stats()["delivered"] == counts.delivered

    def close(self):
        self.api.close()
        self.journal.close()


@pytest.fixture
def closed_after():
    """Close what is given to it when the test has ended, the last one first."""
    with contextlib.ExitStack() as stack:
        yield lambda thing: stack.enter_context(contextlib.closing(thing))


@pytest.fixture
def play(tmp_path, closed_after):
    """Start a Mixpanel with these acts and a delivery to it."""

    def start(*acts, **options):
        mixpanel = closed_after(ScriptedMixpanel(*acts))
        return mixpanel, closed_after(Delivery(tmp_path, mixpanel.url, **options))

    return start


# --- row 11: it hangs ---------------------------------------------------------------------------


@pytest.mark.parametrize("act", [hanging, trickling])
def test_a_mixpanel_that_does_not_finish_its_answer_costs_only_time(play, act):
    """A request without an end is given up, and sent again in the same bytes until it is answered."""
    # It is the bound of all of it that counts: between two signs of life a busy machine may be slow.
    mixpanel, delivery = play(act, act, timeouts=Timeouts(connect_s=5.0, read_s=15.0, total_s=1.0))
    delivery.put(*map(event, range(50)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(mixpanel.taken.values()) == {3}


def test_a_mixpanel_that_never_reads_costs_only_time(play):
    """A request that fills all buffers on its way is given up as well."""
    # Of nine megabytes a busy machine needs more than SHORT to take them, once somebody reads.
    mixpanel, delivery = play(never_reading, timeouts=Timeouts(connect_s=5.0, read_s=5.0, total_s=60.0))
    delivery.put(*(event(number, blob=secrets.token_hex(450_000)) for number in range(10)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(mixpanel.taken.values()) == {1}


# --- row 12: the line breaks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "deliveries"),
    [
        (resetting_in_the_request, 1),
        (reading_then_resetting, 1),
        (taking_then_resetting, 2),
        (taking_then_breaking_off, 2),
    ],
)
def test_a_line_that_breaks_loses_nothing(play, act, deliveries):
    """In the request, before the answer, or within it: all is sent again in the same bytes."""
    mixpanel, delivery = play(act)
    delivery.put(*(event(number, blob=secrets.token_hex(2_000)) for number in range(500)))
    delivery.put(*map(update, range(5)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    events = {count for body, count in mixpanel.taken.items() if body.startswith(b'{"event"')}
    assert events == {deliveries}


# --- rows 13 and 14: it is in trouble, or admits no more ----------------------------------------


@pytest.mark.parametrize("status", SERVER_TROUBLE)
def test_hours_of_trouble_lose_nothing(play, status):
    """Six hours of the same answer end in one delivery, and no two tries come within 2 s or after 65 s."""
    mixpanel, delivery = play(*[saying(http(b"", status=status))] * 340)
    delivery.put(*map(event, range(20)))
    assert delivery.sender.drain(7 * HOURS_S)
    delivery.check(mixpanel)
    tries = [wait_s for wait_s in delivery.waits_s if wait_s]
    assert len(mixpanel.requests) == 341
    assert sum(tries) > 5.5 * HOURS_S
    assert 2.0 <= min(tries) <= max(tries) <= 65.0


@pytest.mark.parametrize(
    ("retry_after", "least_s", "most_s"),
    [
        ("120", 120.0, 120.0),
        ("Mon, 01 Jan 2035 00:00:00 GMT", 600.0, 600.0),
        ("1000000000", 600.0, 600.0),
        ("soon", 3.0, 3.0),
        ("-5", 3.0, 3.0),
        ("9" * 5_000, 600.0, 600.0),
    ],
)
def test_a_rate_limit_is_respected_within_reason(play, retry_after, least_s, most_s):
    """What Retry-After asks for is waited for, but never more than ten minutes."""
    answer = http(b"{}", status="429 Too Many Requests", headers=(f"Retry-After: {retry_after}",))
    mixpanel, delivery = play(saying(answer))
    delivery.put(*map(event, range(20)))
    began_s = delivery.clock.monotonic()
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert least_s <= delivery.clock.monotonic() - began_s <= most_s + 1.0


def test_a_rate_limit_for_events_does_not_hold_profiles_up(play):
    """Profile updates are delivered while events have to wait."""
    answer = http(b"{}", status="429 Too Many Requests", headers=("Retry-After: 600",))
    mixpanel, delivery = play(saying(answer))
    delivery.put(event("first"), update(1))
    assert not delivery.sender.drain(60.0)
    assert set(mixpanel.taken) == {update(1).body}
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)


def test_an_update_that_was_not_admitted_is_not_in_doubt(play, tmp_path):
    """If the process dies in the pause, the next one sends it: Mixpanel has said that it did not take it."""
    mixpanel, delivery = play(saying(http(b"{}", status="429 Too Many Requests")))
    addition = Record("engage", b'{"$distinct_id":"somebody","$add":{"n":1}}')
    delivery.put(addition)
    delivery.sender.step()
    assert len(mixpanel.requests) == 1
    del delivery.sender
    delivery.journal.directory.joinpath("leader.lock").unlink()  # as if that process were gone
    heir = Delivery(tmp_path, mixpanel.url)
    with contextlib.closing(heir):
        assert heir.sender.drain(HOURS_S)
    assert dict(mixpanel.taken) == {addition.body: 1}


# --- row 15: it talks nonsense ------------------------------------------------------------------

GARBAGE = {
    "a page": http(b"<html>Welcome to the hotel</html>"),
    "nothing": http(b""),
    "half an answer": http(b'{"code":200,"num_rec'),
    "a longer length": b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"code":200}',
    "no number for a length": b'HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{"code":',
    "a list": http(b"[" * 100_000),
    "three megabytes": http(b"x" * 3_000_000),
    "other code": http(b'{"code":"two hundred","status":"OK"}'),
    "another protocol": b"220 mail.example.com ESMTP\r\n",
    "bad gzip": http(b"\x1f\x8b not really", headers=("Content-Encoding: gzip",)),
    "zeroes": b"\0" * 1_000,
    "1xx without end": b"HTTP/1.1 199 Hm\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
def test_nonsense_is_no_acknowledgement(play, answer):
    """Whatever a proxy or a captive portal says in Mixpanel's place, the events are sent again."""
    mixpanel, delivery = play(saying(answer, closes=True), timeouts=SHORT)
    delivery.put(*map(event, range(20)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(mixpanel.taken.values()) == {1}


# --- rows 16 and 18: some records are refused ---------------------------------------------------


@pytest.mark.parametrize("wrong_index", [False, True])
@pytest.mark.parametrize("spelling", ["$insert_id", "insert_id"])
def test_refused_records_are_set_aside_once(play, spelling, wrong_index):
    """Only they, with the reason, whatever name Mixpanel gives the ID; none of them is sent again."""
    mixpanel, delivery = play(refusing({"3", "17"}, spelling=spelling, wrong_index=wrong_index))
    delivery.put(*map(event, range(20)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(delivery.dead) == {event(3).body, event(17).body}
    assert {reason.message for reason in delivery.dead.values()} == {"some reason"}
    assert len(mixpanel.requests) == 1


def test_a_batch_may_be_refused_whole(play):
    """Each with its own reason: all are in the dead letters, and what follows goes on."""
    names = {str(number) for number in range(20)}
    mixpanel, delivery = play(refusing(names))
    delivery.put(*map(event, range(20)))
    assert delivery.sender.drain(HOURS_S)
    delivery.put(event("later"))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(mixpanel.taken) == {event("later").body}


def test_one_poison_is_found_among_two_thousand(play):
    """A batch refused without a word about which record is halved until that one is alone."""
    poison = event("poison")
    whole = http(b'{"code":400,"error":"bad","status":"Bad Request"}', status="400 Bad Request")

    def refuse_with_poison(mixpanel, sock):
        request = mixpanel.read(sock)
        if request is None:
            return False
        records = mixpanel.records(request)
        if poison.body in records:
            sock.sendall(whole)
        else:
            mixpanel.take(records)
            sock.sendall(http(json.dumps({"code": 200, "num_records_imported": len(records)}).encode()))
        return True

    mixpanel, delivery = play(*[refuse_with_poison] * 100)
    delivery.put(*map(event, range(1_333)), poison, *map(event, range(1_333, 1_999)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(delivery.dead) == {poison.body}
    assert len(mixpanel.requests) <= 2 * math.log2(2_000) + 1


# --- row 17: too large --------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_limit_on_the_size_of_a_request_is_learned(play, named):
    """With a number in the answer or without: all arrive, and a limit that was named costs one try."""
    mixpanel, delivery = play(*limited(LIMIT_BYTES, named=named, requests=100))
    delivery.put(*(event(number, blob="x" * 9_000) for number in range(1_500)))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    refused = [size for size in mixpanel.sizes if size > LIMIT_BYTES]
    assert 1 <= len(refused) <= (1 if named else 3)
    assert set(mixpanel.taken.values()) == {1}


def test_a_record_that_is_too_large_alone_is_set_aside(play):
    """No try makes it smaller; the others arrive."""
    mixpanel, delivery = play(*limited(LIMIT_BYTES, named=True, requests=100))
    huge = event("huge", blob="x" * LIMIT_BYTES)
    delivery.put(event("before"), huge, event("after"))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)
    assert set(delivery.dead) == {huge.body}


# --- row 19: the configuration is wrong ---------------------------------------------------------


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "402 Payment"])
def test_a_wrong_token_sets_nothing_aside(play, status):
    """As soon as it is mended, everything is delivered."""
    answer = http(b'{"code":401,"error":"Invalid credentials","status":"Unauthorized"}', status=status)
    mixpanel, delivery = play(*[saying(answer)] * 10)
    delivery.put(*map(event, range(20)))
    assert delivery.sender.drain(24 * HOURS_S)
    delivery.check(mixpanel)
    assert not delivery.dead
    assert len(mixpanel.requests) == 11


# --- row 20: it is not reached, or is somebody else ---------------------------------------------


def test_nobody_listens_for_hours(tmp_path, closed_after):
    """Refused connections cost nothing but time; when Mixpanel is back it gets everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    delivery = closed_after(Delivery(tmp_path, f"http://127.0.0.1:{port}"))
    delivery.put(*map(event, range(20)))
    assert not delivery.sender.drain(6 * HOURS_S)
    assert "(refused" in delivery.sender.stats()["last_error"]
    mixpanel = closed_after(ScriptedMixpanel(port=port))
    assert delivery.sender.drain(HOURS_S)
    delivery.check(mixpanel)


DAYS = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)
CERTIFICATES = {
    "expired": {"not_before": NOW - 90 * DAYS, "not_after": NOW - DAYS},
    "not yet valid": {"not_before": NOW + DAYS, "not_after": NOW + 90 * DAYS},
    "another host": {"host": "elsewhere.test"},
    "unknown authority": {"authority": trustme.CA()},
}


@pytest.mark.parametrize("fault", CERTIFICATES.values(), ids=CERTIFICATES)
def test_without_a_good_certificate_nothing_is_said(tmp_path, closed_after, fault):
    """Not one byte goes out but the handshake; to the right server, everything is delivered."""
    known = trustme.CA()
    ca_file = str(tmp_path / "authority.pem")
    known.cert_pem.write_to_path(ca_file)
    impostor = closed_after(ScriptedMixpanel(context=context(**{"authority": known, **fault})))
    delivery = closed_after(Delivery(tmp_path, impostor.url, ca_file=ca_file))
    delivery.put(*map(event, range(20)))
    assert not delivery.sender.drain(600.0)
    assert "(tls" in delivery.sender.stats()["last_error"]
    assert impostor.connections > 3
    assert impostor.requests == []
    delivery.close()
    mixpanel = closed_after(ScriptedMixpanel(context=context(known)))
    heir = closed_after(Delivery(tmp_path, mixpanel.url, ca_file=ca_file))
    assert heir.sender.drain(HOURS_S)
    assert set(mixpanel.taken) == set(delivery.put_bodies)


def context(authority, host="127.0.0.1", **options):
    """The server's side of TLS with a certificate of this authority."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **options).configure_cert(made)
    return made


def test_tls_never_becomes_plain(tmp_path, closed_after):
    """A server that speaks plain HTTP where TLS is configured sees handshakes and nothing else."""
    firsts = []

    def note_the_first_byte(server, sock):
        firsts.append(sock.recv(1))
        sock.sendall(http(b'{"code":200}'))

    plain = closed_after(ScriptedServer(note_the_first_byte))
    delivery = closed_after(Delivery(tmp_path, plain.url.replace("http:", "https:")))
    delivery.put(event("secret"))
    assert not delivery.sender.drain(600.0)
    assert len(firsts) > 3
    assert set(firsts) == {b"\x16"}
