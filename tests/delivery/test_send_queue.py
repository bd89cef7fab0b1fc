"""Batching: nothing is lost, everything fits, and a poison is found cheaply."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpanel_visitor.delivery.sending.send_queue import (
    FLOOR_BYTES,
    MAX_RECORDS,
    PROBE_AFTER,
    START_BYTES,
    Batch,
    Limits,
    SendQueue,
    request_bytes,
)
from mixpanel_visitor.delivery.spool import Claim


def claim_of(bodies) -> Claim:
    """A claim as a spool makes it."""
    return Claim(endpoint="import", bodies=tuple(bodies), positions=tuple(range(len(bodies))))


def work_of(bodies) -> SendQueue:
    """One fresh claim to be sent."""
    work = SendQueue()
    work.add(Batch(claim=claim_of(bodies), indexes=range(len(bodies))))
    return work


bodies_strategy = st.lists(st.binary(min_size=2, max_size=300), min_size=1, max_size=60)


@given(bodies_strategy)
def test_request_bytes_is_the_length_of_the_array(bodies):
    """The computed size is that of the request as it is joined for sending."""
    assert request_bytes(bodies) == len(b"[" + b",".join(bodies) + b"]")


@given(bodies_strategy, st.integers(min_value=1, max_value=2_000))
def test_fitting_loses_nothing_and_keeps_the_order(bodies, max_bytes):
    """The parts of a batch hold exactly its records, in their order."""
    batch = Batch(claim=claim_of(bodies), indexes=range(len(bodies)))
    parts = batch.split_to_fit(max_bytes)
    assert [index for part in parts for index in part.indexes] == list(range(len(bodies)))


@given(bodies_strategy, st.integers(min_value=1, max_value=2_000))
def test_fitting_holds_the_limit(bodies, max_bytes):
    """Each part fits, or is a single record that never could."""
    for part in Batch(claim=claim_of(bodies), indexes=range(len(bodies))).split_to_fit(max_bytes):
        assert request_bytes(part.bodies) <= max_bytes or len(part.indexes) == 1


@given(bodies_strategy, st.integers(min_value=1, max_value=2_000))
def test_fitting_makes_no_more_parts_than_needed(bodies, max_bytes):
    """No part could have taken the first record of the next one."""
    parts = Batch(claim=claim_of(bodies), indexes=range(len(bodies))).split_to_fit(max_bytes)
    for part, following in itertools.pairwise(parts):
        assert request_bytes([*part.bodies, following.bodies[0]]) > max_bytes


@given(st.data(), bodies_strategy)
def test_work_hands_out_each_record_once(data, bodies):
    """Whatever mixture of splits and refusals happens, each record is settled exactly once, in order."""
    work = work_of(bodies)
    settled: list[int] = []
    while (batch := work.first(max_bytes=10_000)) is not None:
        choices = ["done", "refused"] if len(batch.indexes) == 1 else ["done", "part", "bisect", "shrink"]
        match data.draw(st.sampled_from(choices)):
            case "done":
                settled += batch.indexes
                work.done(whole=True)
            case "part" | "refused":
                settled += batch.indexes
                work.done(whole=False)
            case "bisect":
                work.bisect()
            case "shrink":
                work.shrink(data.draw(st.integers(min_value=1, max_value=10_000)))
    assert settled == list(range(len(bodies)))
    assert len(work) == 0


def sends_until_settled(count: int, poisons: set[int]) -> tuple[int, list[int]]:
    """Play a server that refuses any request with a poison in it and names nobody."""
    work = work_of([b"{}"] * count)
    sends, delivered = 0, []
    while (batch := work.first(START_BYTES)) is not None:
        sends += 1
        if not poisons.intersection(batch.indexes):
            delivered += batch.indexes
            work.done(whole=True)
        elif len(batch.indexes) == 1:
            work.done(whole=False)
        else:
            work.bisect()
    return sends, delivered


def test_one_poison_among_a_full_batch_is_found_in_few_requests():
    """At most 2*log2(n)+1 requests find one poison, wherever it is."""
    worst = max(sends_until_settled(MAX_RECORDS, {at})[0] for at in range(MAX_RECORDS))
    assert worst <= 2 * math.log2(MAX_RECORDS) + 1


@given(st.integers(min_value=1, max_value=200), st.sets(st.integers(min_value=0, max_value=199), max_size=5))
def test_bisecting_delivers_all_but_the_poisons(count, poisons):
    """Every healthy record is delivered once and no poison is, however many there are."""
    _, delivered = sends_until_settled(count, poisons)
    assert delivered == [index for index in range(count) if index not in poisons]


def test_what_is_put_first_is_sent_first():
    """Records whose wait is over go before the rest."""
    work = work_of([b"{}"] * 4)
    work.put_first(Batch(claim=claim_of([b'{"late":1}']), indexes=[0]))
    batch = work.first(START_BYTES)
    assert batch is not None
    assert batch.bodies == [b'{"late":1}']


def test_a_batch_put_between_halves_keeps_them_apart():
    """The delivery of an unrelated batch says nothing about a half."""
    work = work_of([b"{}"] * 4)
    work.bisect()
    work.done(whole=False)
    work.put_first(Batch(claim=claim_of([b"{}"]), indexes=[0]))
    work.done(whole=True)
    batch = work.first(START_BYTES)
    assert batch is not None
    assert list(batch.indexes) == [2, 3]


def test_draining_takes_everything():
    """What is drained is no longer there."""
    work = work_of([b"{}"] * 4)
    work.bisect()
    assert [list(batch.indexes) for batch in work.drain()] == [[0, 1], [2, 3]]
    assert work.first(START_BYTES) is None


def test_a_claim_of_claim_bytes_always_fits():
    """Brackets and commas of a full batch are allowed for."""
    limits = Limits(max_bytes=50_000)
    bodies = [b"x" * 24] * MAX_RECORDS
    while sum(map(len, bodies)) > limits.claim_bytes:
        bodies.pop()
    assert request_bytes(bodies) <= limits.max_bytes


def test_a_named_limit_is_believed():
    """Mixpanel's own figure becomes the limit exactly."""
    limits = Limits()
    limits.too_large(3_000_000, 2_097_152)
    assert limits.max_bytes == 2_097_152


def test_a_named_limit_is_not_probed():
    """A figure that Mixpanel gave is kept, however many requests are accepted."""
    limits = Limits()
    limits.learn(2_097_152)
    for _ in range(PROBE_AFTER * 3):
        limits.accepted(2_000_000)
    assert limits.max_bytes == 2_097_152


@pytest.mark.parametrize("named", [None, 10_000_000])
def test_a_missing_or_contradicting_figure_halves_what_was_sent(named):
    """Without a useful figure the limit becomes half of what was just too large."""
    limits = Limits()
    limits.too_large(4_000_000, named)
    assert limits.max_bytes == 2_000_000


def test_the_limit_has_a_floor():
    """No answer makes the limit absurd."""
    limits = Limits()
    limits.learn(3)
    limits.halve(10)
    assert limits.max_bytes == FLOOR_BYTES


def test_a_guessed_limit_is_probed_upward_after_large_successes():
    """After enough large requests the limit rises by a quarter."""
    limits = Limits()
    limits.halve(4_000_000)
    for _ in range(PROBE_AFTER):
        limits.accepted(1_900_000)
    assert limits.max_bytes == 2_500_000


def test_small_successes_do_not_probe():
    """Requests far below the limit say nothing about it."""
    limits = Limits()
    limits.halve(4_000_000)
    for _ in range(PROBE_AFTER * 2):
        limits.accepted(10_000)
    assert limits.max_bytes == 2_000_000


def test_probing_ends_at_the_start():
    """The limit never rises above Mixpanel's documented one."""
    limits = Limits()
    limits.halve(START_BYTES)
    for _ in range(PROBE_AFTER * 40):
        limits.accepted(limits.max_bytes)
    assert limits.max_bytes == START_BYTES
