"""Responses: what a response from Mixpanel means for each record of the request.

Pure: no I/O, no clock. `interpret` never raises, whatever bytes a server or a proxy has sent.

Sources: Mixpanel's ingestion OpenAPI (StrictReceived, StrictInvalid, StrictTooLarge, RateLimitExceeded,
Received). `retry_policy` decides how long to wait after a response.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.quoting import several

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mixpanel_visitor.records import Endpoint

    from .request_attempt import Response

Kind = Literal["delivered", "partial", "retry", "pause", "split", "bisect"]

StatusClass = Literal[
    "ok",
    "invalid",
    "poison",
    "too_large",
    "config",
    "rate_limited",
    "server",
    "garbage",
    "network",
    "internal",
]

INTERNAL = "internal"
"""The kind of a failure in this package or a library that it uses, not in the network or at Mixpanel."""

RETRY_AFTER_MAX_S = 600.0
"""A longer Retry-After is cut to this: no header may stop a spool for days."""

FUTURE_WAIT_MIN_S = 60.0
FUTURE_WAIT_MAX_S = 600.0
FUTURE_GIVE_UP_S = 7 * 86_400.0
"""An event further in the future is a mistake, not a fast clock: it goes to the dead letters."""

TEXT_MAX = 200
"""Characters of a server's text in a log line."""

_NOT_TAKEN = (408, 425, 429, 503)
"""Statuses of requests that were not processed (RFC 9110 and 6585, RFC 8470 for 425)."""

_LIMIT = re.compile(rb"limit of (\d{1,15}) bytes", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with the records of one request; indexes count within that request.

    | kind | records |
    |---|---|
    | `delivered` | all are delivered |
    | `partial` | delivered, except `dead` (set aside) and `retry` (time in the future: wait `wait_s`) |
    | `retry` | none is known to be delivered: send all again after a back-off of at least `wait_s` |
    | `pause` | none was taken, the configuration is wrong: keep all |
    | `split` | none was taken, the request was too large; `limit_bytes` if the server named its limit |
    | `bisect` | none was taken, one of them is refused, it is unknown which |

    `unknown`: Mixpanel may have taken them nevertheless, because the whole request was sent.
    """

    kind: Kind
    status_class: StatusClass
    message: str = ""
    dead: Mapping[int, DeadReason] = field(default_factory=dict)
    retry: tuple[int, ...] = ()
    wait_s: float | None = None
    limit_bytes: int | None = None
    shortfall: int = 0
    unknown: bool = False

    def delivered(self, count: int) -> list[int]:
        """Return the indexes to acknowledge, of a request with `count` records."""
        if self.kind not in ("delivered", "partial"):
            return []
        if not self.dead and not self.retry:
            return list(range(count))
        to_retry = set(self.retry)
        return [index for index in range(count) if index not in self.dead and index not in to_retry]


def interpret(endpoint: Endpoint, response: Response, records: Sequence[bytes], *, now_s: float) -> Verdict:
    """Interpret the response to a request with `records`; `now_s` is the wall clock, for dates in headers."""
    verdict = _judge(endpoint, response, records, now_s)
    if verdict.kind == "retry" and response.sent and response.status not in _NOT_TAKEN:
        return replace(verdict, unknown=True)
    return verdict


def _judge(endpoint: Endpoint, response: Response, records: Sequence[bytes], now_s: float) -> Verdict:
    status = response.status
    if status == 413:
        return _too_large(response, records)
    if status in (401, 402, 403, 404) or 300 <= status < 400:
        return _misconfigured(response)
    # Where the body decides, one that ended early is a failure of the network.
    if status == 0 or (response.failure and status in (200, 400)):
        failure = _printable(response.failure) or "no answer"
        if failure.startswith(INTERNAL):
            message = f"mixpanel-visitor itself failed ({failure})"
            return Verdict(kind="retry", status_class="internal", message=message)
        return Verdict(kind="retry", status_class="network", message=f"Mixpanel was not reached ({failure})")
    if status == 200:
        return _received(endpoint, response, records, now_s)
    if status == 400:
        parsed = _parse(response.body)
        return _refused(response, parsed if isinstance(parsed, dict) else {}, records, now_s)
    wait_s = retry_after_s(response.headers, now_s)
    if status == 429:
        message = "Mixpanel's rate limit is reached (429)"
        return Verdict(kind="retry", status_class="rate_limited", message=message, wait_s=wait_s)
    if status in (408, 425) or status >= 500:
        message = f"Mixpanel is in trouble ({status})"
        return Verdict(kind="retry", status_class="server", message=message, wait_s=wait_s)
    if 400 < status < 500:
        return _misconfigured(response)
    return _unexpected(response)


def server_time_s(headers: Mapping[str, str]) -> float | None:
    """Return the server's wall clock from the Date header, in whole seconds since the epoch; None: none."""
    return _http_date_s(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return Retry-After in seconds from now, 0 to 600; None: missing or nonsense (RFC 9110 10.2.3).

    A date in it is the server's, so it is compared with the server's own Date where there is one.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", value):
        # More digits than nine are years, and int() of thousands of digits raises.
        return RETRY_AFTER_MAX_S if len(value) > 9 else min(float(value), RETRY_AFTER_MAX_S)
    until_s = _http_date_s(value)
    if until_s is None:
        return None
    base_s = server_time_s(headers)
    return min(max(0.0, until_s - (now_s if base_s is None else base_s)), RETRY_AFTER_MAX_S)


def _received(endpoint: Endpoint, response: Response, records: Sequence[bytes], now_s: float) -> Verdict:
    parsed = _parse(response.body)
    if isinstance(parsed, dict) and _equals(parsed.get("code"), 200):
        shortfall = _shortfall(parsed, len(records))
        return Verdict(kind="delivered", status_class="ok", shortfall=shortfall)
    if endpoint != "import":
        # For profiles the status is 200 even for a failure; the body has the result.
        status = parsed.get("status") if isinstance(parsed, dict) else parsed
        if _equals(status, 1):
            return Verdict(kind="delivered", status_class="ok")
        if _equals(status, 0) or (isinstance(parsed, dict) and _equals(parsed.get("code"), 400)):
            return _refused(response, parsed if isinstance(parsed, dict) else {}, records, now_s)
    return _unexpected(response)


def _refused(response: Response, parsed: dict[str, Any], records: Sequence[bytes], now_s: float) -> Verdict:
    failed = _failed_records(parsed.get("failed_records"), records)
    if not failed:
        if len(records) > 1:
            message = f"Mixpanel refused a batch without saying which record is at fault ({response.status})"
            return Verdict(kind="bisect", status_class="invalid", message=message)
        error = _printable(parsed.get("error")) or f"refused with {response.status} and no reason"
        poison = DeadReason(message=f"poison: {error}", status=response.status)
        return Verdict(
            kind="partial",
            status_class="poison",
            message="1 record refused without naming a field",
            dead=dict.fromkeys(range(len(records)), poison),
        )
    base_s = server_time_s(response.headers)
    base_s = now_s if base_s is None else base_s
    dead: dict[int, DeadReason] = {}
    ahead_s: dict[int, float] = {}
    for index, problems in failed.items():
        # Without a readable time it is sent again after the shortest wait.
        early_s = _event_time_s(records[index], base_s) - base_s
        if all(map(_is_future, problems)) and early_s <= FUTURE_GIVE_UP_S:
            ahead_s[index] = early_s
        else:
            dead[index] = DeadReason(
                field=problems[0].field,
                message="; ".join(problem.message for problem in problems),
                status=response.status,
            )
    retry = tuple(sorted(ahead_s))
    fields = ", ".join(sorted({reason.field for reason in dead.values() if reason.field})) or "-"
    return Verdict(
        kind="partial",
        status_class="invalid",
        message=f"{len(dead)} of {several(len(records), 'record')} refused (fields: {_printable(fields)}), "
        f"{len(retry)} not taken yet because their time is in the future",
        dead=dead,
        retry=retry,
        wait_s=min(max(min(ahead_s.values()), FUTURE_WAIT_MIN_S), FUTURE_WAIT_MAX_S) if retry else None,
        shortfall=_shortfall(parsed, len(records) - len(failed)),
    )


def _too_large(response: Response, records: Sequence[bytes]) -> Verdict:
    match = _LIMIT.search(response.body)
    limit_bytes = int(match[1]) if match else None
    message = f"Mixpanel says that a request is too large (413, its limit: {limit_bytes or 'not said'} bytes)"
    if len(records) > 1:
        return Verdict(kind="split", status_class="too_large", message=message, limit_bytes=limit_bytes)
    reason = DeadReason(message=f"too large: {message}", status=413)
    dead = dict.fromkeys(range(len(records)), reason)
    return Verdict(
        kind="partial", status_class="too_large", message=message, dead=dead, limit_bytes=limit_bytes
    )


def _misconfigured(response: Response) -> Verdict:
    status = response.status
    if status in (401, 402, 403):
        parsed = _parse(response.body)
        error = _printable(parsed.get("error")) if isinstance(parsed, dict) else ""
        message = f"Mixpanel refused the credentials ({status}: {error or 'no reason given'})"
    elif 300 <= status < 400:
        message = f"Mixpanel's address redirects elsewhere ({status}), which is never followed"
    else:
        message = f"Mixpanel's address does not take events ({status})"
    return Verdict(kind="pause", status_class="config", message=message)


def _unexpected(response: Response) -> Verdict:
    message = (
        f"something other than Mixpanel answered ({response.status}, {several(len(response.body), 'byte')})"
    )
    return Verdict(kind="retry", status_class="garbage", message=message)


def _failed_records(reported: object, records: Sequence[bytes]) -> dict[int, list[DeadReason]]:
    """Return each failed record with its problems; empty where any cannot be matched for sure."""
    if not isinstance(reported, list):
        return {}
    failed: dict[int, list[DeadReason]] = {}
    by_id: dict[str, int] | None = None
    for entry in reported:
        if not isinstance(entry, dict):
            return {}
        index = entry.get("index")
        if isinstance(index, float) and index.is_integer():
            index = int(index)  # the OpenAPI calls it a number
        # Mixpanel's prose spells it `$insert_id`, its OpenAPI `insert_id`.
        reported_id = entry.get("insert_id") or entry.get("$insert_id")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(records):
            index = None
        if reported_id and (index is None or _insert_id(records[index]) not in (reported_id, None)):
            if by_id is None:
                by_id = {insert_id: at for at, body in enumerate(records) if (insert_id := _insert_id(body))}
            index = by_id.get(reported_id) if isinstance(reported_id, str) else None
        if index is None:
            return {}
        problem = DeadReason(
            field=_printable(entry.get("field")), message=_printable(entry.get("message"), limit=1_000)
        )
        failed.setdefault(index, []).append(problem)
    return failed


def _is_future(problem: DeadReason) -> bool:
    text = f"{problem.field} {problem.message}".lower()
    return "future" in text and "time" in text


def _properties(body: bytes) -> dict[str, Any]:
    record = _parse(body)
    if not isinstance(record, dict):
        return {}
    properties = record.get("properties")
    return properties if isinstance(properties, dict) else record


def _insert_id(body: bytes) -> str | None:
    value = _properties(body).get("$insert_id")
    return value if isinstance(value, str) else None


def _event_time_s(body: bytes, default_s: float) -> float:
    value = _properties(body).get("time")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return default_s
    # Mixpanel takes seconds or milliseconds; 1e11 s is the year 5138, 1e11 ms is 1973.
    return value / 1000.0 if abs(value) >= 1e11 else float(value)


def _shortfall(parsed: dict[str, Any], expected: int) -> int:
    imported = parsed.get("num_records_imported")
    if not isinstance(imported, int) or isinstance(imported, bool):
        return 0
    return max(0, expected - max(0, imported))


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _equals(value: object, expected: int) -> bool:
    """Return whether a JSON value is this number: `true` is not 1, though Python's is."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == expected


def _printable(text: object, *, limit: int = TEXT_MAX) -> str:
    """Return text from outside in one line, for a log or a file."""
    if not isinstance(text, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in text[:limit]).strip()


def _http_date_s(value: str) -> float | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        # "-0000" gives a time without a zone; HTTP's dates are always GMT (RFC 9110 5.6.7).
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None
