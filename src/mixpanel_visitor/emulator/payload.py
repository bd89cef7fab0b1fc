"""Payload: the records in the bytes of a request, in every form Mixpanel's clients send them.

JSON array, newline-delimited JSON, one JSON object, a form with `data` (JSON or base64 of it), each
perhaps compressed with gzip. Pure; raise PayloadError and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .http import Request

_FORM = "application/x-www-form-urlencoded"
_NDJSON = "application/x-ndjson"
_MAX_FIELDS = 1_000


class PayloadError(ValueError):
    """The request as a whole cannot be read; `status` is 400, 413 or 415.

    `parameters` are those that could still be read: they decide the format of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.parameters: Mapping[str, str] = {}
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The records, and the parameters beside them: those of the query and, in a form, of its fields."""

    items: list[Any]
    parameters: Mapping[str, str]
    is_form: bool = False


def read(request: Request, *, max_bytes: int, gzip: bool = True, single: bool = True) -> Payload:
    """Return the records of a request, at least one.

    `max_bytes` bounds the body before and after decompression; without `single` a JSON body must be a list.
    """
    parameters = dict(request.query)
    try:
        return _read(request, parameters, max_bytes, gzip=gzip, single=single)
    except PayloadError as error:
        error.parameters = parameters
        raise


def parse_form(text: bytes | str) -> dict[str, str]:
    """Return the fields of a form or a query; of a name the last counts. Raise PayloadError for too many."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise PayloadError(400, f"malformed form: {error}") from None


def _read(
    request: Request, parameters: dict[str, str], max_bytes: int, *, gzip: bool, single: bool
) -> Payload:
    if request.truncated:
        raise _too_large(max_bytes)
    body = _decompressed(request, max_bytes) if gzip else request.body
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # sendBeacon sends a form as text/plain, hence the look at the first bytes.
    is_form = not body or content_type == _FORM or body.startswith(b"data=")
    if is_form:
        parameters.update(parse_form(body))
        data = parameters.pop("data", "")
        if not data:
            raise PayloadError(400, "data, missing or empty")
        return _payload(_as_items(_from_text(data)), parameters, is_form=True)
    if content_type == _NDJSON:
        items = [_from_json(line) for line in body.split(b"\n") if line.strip()]
        return _payload(items, parameters)
    value = _from_json(body)
    if not single and not isinstance(value, list):
        raise PayloadError(400, "the body must be a JSON list of records")
    return _payload(_as_items(value), parameters)


def _payload(items: list[Any], parameters: Mapping[str, str], *, is_form: bool = False) -> Payload:
    if not items:
        raise PayloadError(400, "the request has no records")
    return Payload(items=items, parameters=parameters, is_form=is_form)


def _decompressed(request: Request, max_bytes: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return request.body
    if encoding not in ("gzip", "x-gzip"):
        raise PayloadError(415, f"Content-Encoding {encoding!r} is not supported, only gzip is")
    pieces: list[bytes] = []
    total = 0
    remaining = request.body
    try:
        while remaining:  # a gzip file may be several of them in a row
            inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            piece = inflate.decompress(remaining, max_bytes + 1 - total)
            pieces.append(piece)
            total += len(piece)
            if total > max_bytes:
                raise _too_large(max_bytes)
            if not inflate.eof:
                raise PayloadError(400, "the gzip body ends too early")
            remaining = inflate.unused_data
    except zlib.error:
        raise PayloadError(400, "Content-Encoding says gzip, but the body is not") from None
    return b"".join(pieces)


def _from_text(data: str) -> Any:
    text = data.strip()
    if text.startswith(("{", "[")):
        return _from_json(text.encode("utf-8", "replace"))
    # An unescaped "+" of base64 arrives as a space.
    encoded = text.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise PayloadError(400, "data is neither JSON nor base64 of JSON") from None
    return _from_json(decoded)


def _from_json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise PayloadError(400, f"malformed JSON: {error}") from None


def _as_items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _too_large(max_bytes: int) -> PayloadError:
    return PayloadError(413, f"request exceeds max limit of {max_bytes} bytes")
