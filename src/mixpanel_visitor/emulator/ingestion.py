"""Ingestion: `/import`, `/track`, `/engage` and `/groups`, from a Request to a Reply.

The responses are those of Mixpanel's OpenAPI: `/import` returns JSON with a status code, the others return
200 and in the body (`0`, `1`, or JSON with `verbose=1` or `strict=1`) whether any record was accepted.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson

from mixpanel_visitor.quoting import several

from . import payload
from .http import PHRASES, TEXT, Reply, Request, error_reply, json_reply
from .model import Rejection
from .profiles import check_update
from .rules import MAX_RECORDS, Problem, check_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .profiles import ProfileEndpoint
    from .rules import Event, EventEndpoint
    from .store import Store

FAILED = "some data points in the request failed validation"

_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_CALLBACK = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]{0,99}")
_MAX_SHOWN_BYTES = 16 * 1024
_MAX_SHOWN_CHARS = 1_000

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """The four endpoints over one store.

    With a `token` only that one is accepted. `gzip_profiles=False` refuses compressed profile updates, as the
    reference says that Mixpanel does ("This API does not support gzip encoding").
    """

    store: Store
    token: str | None
    max_body_bytes: int
    gzip_profiles: bool

    def import_events(self, request: Request) -> Reply:
        """`POST /import`: strict, with credentials."""
        refusal = self._refused_credentials(request)
        if refusal is not None:
            return self._refuse(request, error_reply(401, "Invalid credentials", headers=_CHALLENGE), refusal)
        try:
            read = self._read(request)
        except payload.PayloadError as error:
            return self._refuse(request, error_reply(error.status, str(error)), str(error))
        token = _token_of_credentials(request)
        problems = self._take_events("import", read.items, token=token, partial=request.partial)
        accepted = len(read.items) - len(problems)
        strict = read.parameters.get("strict") == "1"
        if read.is_form and not strict:
            # What the official library's import_data sends; it looks for {"status": 1}.
            return _received(read.parameters, accepted, problems)
        if strict and problems:
            return _failed(read.items, accepted, problems, status=400)
        return _imported(accepted)

    def track(self, request: Request) -> Reply:
        """`/track`: what browsers and the official library use; the token is in the properties."""
        return self._lenient(
            request, lambda items: self._take_events("track", items, partial=request.partial), _event_token
        )

    def engage(self, request: Request) -> Reply:
        """`/engage`: updates of people's profiles."""
        return self._lenient(request, lambda items: self._take_updates("engage", items), _update_token)

    def groups(self, request: Request) -> Reply:
        """`/groups`: updates of groups' profiles."""
        return self._lenient(request, lambda items: self._take_updates("groups", items), _update_token)

    def _lenient(
        self,
        request: Request,
        take: Callable[[list[Any]], dict[int, Problem]],
        token_of: Callable[[Any], Any],
    ) -> Reply:
        try:
            read = self._read(request)
        except payload.PayloadError as error:
            return self._refuse(request, _unreadable(error), str(error))
        parameters = read.parameters
        if self.token is not None and any(token_of(item) not in (None, self.token) for item in read.items):
            text = "Invalid token"
            return self._refuse(request, json_reply({"error": text, "status": "error"}, status=401), text)
        problems = take(read.items)
        accepted = len(read.items) - len(problems)
        if parameters.get("strict") == "1":
            return _failed(read.items, accepted, problems) if problems else _imported(accepted)
        return _received(parameters, accepted, problems)

    def _read(self, request: Request) -> payload.Payload:
        gzip = self.gzip_profiles or request.path in ("/import", "/track")
        single = request.path != "/import"
        read = payload.read(request, max_bytes=self.max_body_bytes, gzip=gzip, single=single)
        if len(read.items) > MAX_RECORDS:
            raise payload.PayloadError(413, f"request exceeds max limit of {MAX_RECORDS} records")
        return read

    def _take_events(
        self, endpoint: EventEndpoint, items: list[Any], *, partial: bool, token: str = ""
    ) -> dict[int, Problem]:
        now_ms = self.store.now_ms()
        checked: list[Event | Problem] = [
            check_event(item, endpoint=endpoint, now_ms=now_ms) for item in items
        ]
        if partial:
            checked[1::2] = [Problem(field="", message="refused on purpose (chaos)")] * (len(checked) // 2)
        accepted, problems = _accepted_and_problems(checked)
        properties = [item["properties"] for index, item in enumerate(items) if index not in problems]
        self.store.add_events(endpoint, accepted, properties, token=token or self.token or "")
        return self._record_problems(endpoint, items, problems)

    def _take_updates(self, endpoint: ProfileEndpoint, items: list[Any]) -> dict[int, Problem]:
        accepted, problems = _accepted_and_problems([check_update(item, endpoint=endpoint) for item in items])
        self.store.add_updates(endpoint, accepted)
        return self._record_problems(endpoint, items, problems)

    def _record_problems(
        self, endpoint: str, items: list[Any], problems: dict[int, Problem]
    ) -> dict[int, Problem]:
        now_ms = self.store.now_ms()
        self.store.reject(
            [
                Rejection(
                    endpoint=endpoint,
                    status=400,
                    index=index,
                    field=problem.field[:_MAX_SHOWN_CHARS],
                    message=problem.message[:_MAX_SHOWN_CHARS],
                    insert_id=_insert_id(items[index])[:_MAX_SHOWN_CHARS],
                    record=_encoded_record(items[index]),
                    received_at_ms=now_ms,
                )
                for index, problem in problems.items()
            ]
        )
        return problems

    def _refuse(self, request: Request, reply: Reply, message: str) -> Reply:
        endpoint = request.path.removeprefix("/")
        status = 400 if reply.status == 200 else reply.status
        now_ms = self.store.now_ms()
        self.store.reject(
            [Rejection(endpoint=endpoint, status=status, message=message, received_at_ms=now_ms)]
        )
        return reply

    def _refused_credentials(self, request: Request) -> str | None:
        """Return what is wrong with the Basic credentials; None: nothing."""
        scheme, _, encoded = request.headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() != "basic":
            return "no Basic credentials: send the project token as user name with an empty password"
        user, colon, password = _credentials(encoded.strip()).partition(":")
        if not colon:
            return "malformed Basic credentials: a colon must follow the token"
        if not user:
            return "the user name of the Basic credentials is empty: it should be the project token"
        if password and not request.query.get("project_id"):
            return "a service account needs the query parameter project_id"
        if self.token is not None and (password or user != self.token):
            return "these credentials are not the token that this local Mixpanel was started with"
        return None


_CHALLENGE = (("WWW-Authenticate", 'Basic realm="mixpanel"'),)


def _credentials(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return encoded  # "our authentication accepts both base64 encoding and plain-text"


def _token_of_credentials(request: Request) -> str:
    """Return the project token that the credentials of `/import` are; "" for a service account's."""
    user, _, password = _credentials(
        request.headers.get("authorization", "").strip().partition(" ")[2].strip()
    ).partition(":")
    return "" if password else user


def _accepted_and_problems(checked: Sequence[_T | Problem]) -> tuple[list[_T], dict[int, Problem]]:
    problems = {index: each for index, each in enumerate(checked) if isinstance(each, Problem)}
    accepted = [each for each in checked if not isinstance(each, Problem)] if problems else checked
    return cast("list[_T]", accepted), problems


def _imported(count: int) -> Reply:
    return json_reply({"code": 200, "num_records_imported": count, "status": "OK"})


def _failed(items: list[Any], accepted: int, problems: Mapping[int, Problem], *, status: int = 200) -> Reply:
    failed = [
        {
            "index": index,
            "insert_id": _insert_id(items[index]),
            "field": problem.field,
            "message": problem.message,
        }
        for index, problem in problems.items()
    ]
    return json_reply(
        {
            "code": 400,
            "error": FAILED,
            "failed_records": failed,
            "num_records_imported": accepted,
            "status": PHRASES[400],
        },
        status=status,
    )


def _unreadable(error: payload.PayloadError) -> Reply:
    if error.status != 400:
        return error_reply(error.status, str(error))
    if error.parameters.get("strict") == "1":
        return json_reply({"code": 400, "error": str(error), "status": PHRASES[400]})
    return _status_reply(error.parameters, str(error))


def _received(parameters: Mapping[str, str], accepted: int, problems: Mapping[int, Problem]) -> Reply:
    """Answer 1 if any record was valid, else 0; with `verbose` also the first problem."""
    first = next(iter(problems.values()), None)
    error = None
    if first is not None:
        error = first.message
        if accepted + len(problems) > 1:
            records = several(accepted + len(problems), "record")
            error = f"{len(problems)} of {records} refused, the first: {error}"
    return _status_reply(parameters, error, status=1 if accepted else 0)


def _status_reply(parameters: Mapping[str, str], error: str | None, *, status: int = 0) -> Reply:
    verbose = parameters.get("verbose") in ("1", "2")
    text = orjson.dumps({"error": error, "status": status}) if verbose else b"%d" % status
    callback = parameters.get("callback")
    if callback is not None and _CALLBACK.fullmatch(callback):
        script = callback.encode() + b"(" + text + b");"
        return Reply(body=script, content_type="text/javascript; charset=utf-8")
    if parameters.get("img") == "1":
        return Reply(body=_GIF, content_type="image/gif", headers=(("Cache-Control", "no-store"),))
    return Reply(body=text) if verbose else Reply(body=text, content_type=TEXT)


def _event_token(item: Any) -> Any:
    properties = item.get("properties") if isinstance(item, dict) else None
    return properties.get("token") if isinstance(properties, dict) else None


def _update_token(item: Any) -> Any:
    return item.get("$token") if isinstance(item, dict) else None


def _insert_id(item: Any) -> str:
    properties = item.get("properties") if isinstance(item, dict) else None
    value = properties.get("$insert_id") if isinstance(properties, dict) else None
    return value if isinstance(value, str) else ""


def _encoded_record(item: Any) -> bytes | None:
    try:
        encoded = orjson.dumps(item)
    except TypeError:  # nested deeper than the encoder goes
        return None
    return encoded if len(encoded) <= _MAX_SHOWN_BYTES else None
