"""Decoding: from the body of a browser SDK's request to its events or profile updates.

mixpanel-browser 2.83 sends (captured from it) `data=` and percent-encoded base64 of JSON, as a form or by a
beacon as text; with `api_payload_format: "json"` the JSON itself after `data=`. JSON alone is accepted as
well, and gzip. One object, or a list of them.

A body's size bounds the time and memory of reading it: nothing is unpacked, split or parsed without a limit
for the result.
"""

from __future__ import annotations

import binascii
import json
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import orjson

from .admission import MAX_BODY_BYTES, CollectorError, too_large

if TYPE_CHECKING:
    from mixpanel_visitor.core.request import RequestFacts

MAX_ITEMS = 2_000
"""The most records that Mixpanel takes in one request (reference: import-events)."""

MAX_CONTAINERS = 50_000
"""The most lists and objects in a body. In memory each is many times larger than its two characters."""

_FIELD = b"data="
_URLSAFE = bytes.maketrans(b"-_ ", b"+/+")  # an unencoded plus sign has become a blank


def inflated(body: bytes, facts: RequestFacts) -> bytes:
    """Return a body without its compression; raise `CollectorError`, also where it would be too large."""
    encoding = facts.header("content-encoding").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise CollectorError(415, "collector_malformed", "a body is compressed with gzip, or not at all")
    if encoding == "gzip":
        body = _unzipped(body)
    if len(body) > MAX_BODY_BYTES:
        raise too_large(f"the body may have {MAX_BODY_BYTES:,} bytes")
    return body


def decode(body: bytes) -> list[Any]:
    """Return the JSON values in an inflated body; raise `CollectorError`."""
    text = body.strip()
    if not text.startswith((b"{", b"[")):
        text = _payload(text)
    return _items(_parsed(text))


def _unzipped(body: bytes) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        text = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise _malformed("the body is no gzip") from error
    if not inflater.eof and len(text) <= MAX_BODY_BYTES:
        raise _malformed("the gzip of the body has no end")
    return text


def _payload(form: bytes) -> bytes:
    """Return the JSON in the form's field `data`, which has it plain or in base64."""
    fields = form.split(b"&", 8)[:8]
    value = next((field[len(_FIELD) :] for field in fields if field.startswith(_FIELD)), None)
    if value is None:
        raise _malformed("the body has no data=")
    value = unquote_to_bytes(value).strip()
    if value.startswith((b"{", b"[")):
        return value
    if b"-" in value or b"_" in value or b" " in value:
        value = value.translate(_URLSAFE)
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error:
        raise _malformed("data is neither JSON nor base64 of it") from None


def _parsed(text: bytes) -> Any:
    if text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise too_large(f"the body may have {MAX_CONTAINERS:,} lists and objects")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        # The SDK cuts texts at 255 characters, even in the middle of an emoji, and orjson refuses half of
        # one.
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _malformed("the body is no JSON") from None


def _items(parsed: Any) -> list[Any]:
    items = parsed if isinstance(parsed, list) else [parsed]
    if len(items) > MAX_ITEMS:
        raise too_large(f"a request may have {MAX_ITEMS:,} events")
    return items


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _malformed(message: str) -> CollectorError:
    return CollectorError(400, "collector_malformed", message)
