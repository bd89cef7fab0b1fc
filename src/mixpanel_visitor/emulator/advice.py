"""Advice: what to change in an application so that Mixpanel accepts what it refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Rejection

BANNED = (
    "Mixpanel bans this ID, because everyone sent with it would become one person. Look for an empty user "
    "turned into text, such as str(None). Before log-in send no $user_id, or call visitor.track, which knows "
    "the visitor's ID."
)
_BY_MESSAGE = {
    "malformed JSON": (
        "The body is no JSON. The usual cause is NaN or Infinity, which JSON does not have, although "
        "json.dumps writes them: leave such a property out, or send None. json.dumps(..., allow_nan=False) "
        "finds where it is made."
    ),
    "neither JSON nor base64": (
        "Send JSON, or base64 of JSON, in data. The usual cause is a NaN or Infinity among the values, which "
        "JSON does not have: leave it out, or send None."
    ),
    "fewer than 255 properties": (
        "Send fewer than 255 properties. More keys are mostly data used as names: put them into "
        "one list or object, or send one event for each."
    ),
    "fewer than 255 keys": "Keep objects below 255 keys, or send one event for each entry.",
    "fewer than 255 elements": "Keep lists below 255 elements, or send their count.",
    "nested deeper": "Flatten the value: Mixpanel takes three levels of objects and lists.",
    "must be a string": "Send IDs as text: str(user.id) instead of user.id.",
    "5 days in the past": "Send old events to /import, which takes any age: visitor.track does.",
    "1 hour in the future": (
        "Send the time as seconds or milliseconds since 1970 in UTC, and check the machine's clock."
    ),
    "before 1971": "Send the time as seconds or milliseconds since 1970, not as a counter or a date.",
    "seconds since epoch": "Send the time as a number: int(time.time() * 1000).",
    "redentials": "Send the project token as user name of HTTP Basic auth, with an empty password.",
    "nvalid token": "Set the same project token everywhere: in each process and in mixpanel.init.",
    "max limit": "Send smaller batches: at most 2,000 records and 10 MB in a request.",
    "smaller than": "Send less than 1 MB in an event: no bodies, files or whole rows.",
    "gzip": "Compress with gzip and say Content-Encoding: gzip, or neither.",
}  # fmt: skip


def fix_of(rejection: Rejection) -> str:
    """Return what to do about a refusal; "" where its message is enough."""
    field, message = rejection.field.removeprefix("properties."), rejection.message
    if message.endswith("is not allowed"):
        if field == "$insert_id":
            return "Send a new UUID as $insert_id with each event: those with the same one count once."
        return BANNED
    if "must not be missing or blank" in message:
        if field == "token":
            return "Set the project's token: MIXPANEL_TOKEN for the server, mixpanel.init(token) in the page."
        return f"Add the field `{field}` to each such record. visitor.track and the official libraries do."
    if field == "$insert_id":
        return "Send a UUID as $insert_id: letters, digits and '-', at most 36 of them."
    return next((fix for part, fix in _BY_MESSAGE.items() if part in message), "")
