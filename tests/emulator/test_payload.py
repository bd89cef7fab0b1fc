"""Reading the records out of a request's bytes, without a server."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.emulator.http import Request
from mixpanel_visitor.emulator.payload import PayloadError, read

LIMIT = 1_000_000


def request(body: bytes, **headers: str) -> Request:
    """Make a POST."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method="POST", path="/track", headers=named, body=body)


def test_a_decompression_bomb_is_refused_before_it_unfolds():
    """No more is unpacked than the limit."""
    pack = zlib.compressobj(9, wbits=31)
    bomb = b"".join(pack.compress(bytes(1_000_000)) for _ in range(64)) + pack.flush()
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError) as caught:
            read(request(bomb, content_encoding="gzip"), max_bytes=LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 5 * LIMIT


def test_a_body_of_the_limit_is_read():
    """The limit itself is allowed, packed or not."""
    body = json.dumps(["x" * (LIMIT - 4)]).encode()
    assert len(body) == LIMIT
    assert len(read(request(body), max_bytes=LIMIT).items) == 1
    assert len(read(request(gzip.compress(body), content_encoding="gzip"), max_bytes=LIMIT).items) == 1
    with pytest.raises(PayloadError) as caught:
        read(request(body), max_bytes=LIMIT - 1)
    assert caught.value.status == 413


def test_the_fields_of_a_form_go_before_those_of_the_query():
    """They are the client's last word."""
    found = read(
        Request(method="POST", path="/track", query={"verbose": "0", "ip": "1"}, body=b"data={}&verbose=1"),
        max_bytes=LIMIT,
    )
    assert found.parameters == {"verbose": "1", "ip": "1"}
    assert found.items == [{}]


def test_what_could_be_read_says_how_to_answer():
    """A malformed record does not hide the parameters beside it."""
    with pytest.raises(PayloadError) as caught:
        read(request(b"data={&verbose=1", content_type="application/x-www-form-urlencoded"), max_bytes=LIMIT)
    assert caught.value.parameters == {"verbose": "1"}


@given(
    body=st.binary(max_size=300),
    content_type=st.sampled_from(
        ["", "application/json", "application/x-ndjson", "application/x-www-form-urlencoded"]
    ),
    encoding=st.sampled_from(["", "gzip"]),
)
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(body, content_type, encoding):
    """With PayloadError and nothing else."""
    try:
        found = read(request(body, content_type=content_type, content_encoding=encoding), max_bytes=LIMIT)
    except PayloadError as error:
        assert error.status in (400, 413)  # noqa: PT017 - either way is good
    else:
        assert found.items
