"""HandoverEndpoint: answers the two requests of the hand-over: the browser's post, and its script.

`POST <handover_path>` takes the browser's IDs; `GET <handover_path>.js` is the script that sends them. The
responses to a hand-over are

| status | body | meaning |
|---|---|---|
| 204 | none | taken: our cookies contain the IDs from now on |
| 200 | JSON: `taken` is false, `reason` a word | understood and not taken; the same may be taken later |
| 400, 403, 405, 413, 415 | a line of text | refused: such a request is never taken |

The reasons of a 200 are those of `stats()["refused"]` (`consent_unknown`, `consent_denied`, `bot`,
`prefetch`, `disabled`, `closed`), and `failed` after an error of ours, which is logged. The page has made no
mistake, so its console stays empty. The script ends only after a 204.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mixpanel_visitor.core.identity.handover import MAX_BODY_BYTES, HandoverError, check, read_claim

if TYPE_CHECKING:
    from mixpanel_visitor.core.request import RequestFacts

    from .engine import Engine

SCRIPT_SUFFIX = ".js"
SCRIPT_MAX_AGE_S = 3600

BODY_LIMIT_BYTES = MAX_BODY_BYTES + 1
"""How much of a body is read: enough to see that it is too long."""


class Reply(NamedTuple):
    """A whole response; `closes`: the connection should end with it, where the server allows it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    closes: bool = False


class HandoverEndpoint:
    """Answers for one tracker, in any protocol."""

    body_limit_bytes = BODY_LIMIT_BYTES
    body_deadline_s = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._handover_script = engine.handover_script
        self._path = engine.settings.handover_path or ""
        self.paths = () if engine.handover_script is None else (self._path, self._path + SCRIPT_SUFFIX)

    def matches(self, path: str, facts: RequestFacts) -> bool:
        """Return whether a request is ours to answer; `path` is below the root of the application.

        To be called only where the request's path ends with one of `paths`.
        """
        return path in self.paths and not self._engine.is_excluded(facts)

    def reply(self, path: str, facts: RequestFacts) -> Reply | None:
        """Answer a request without looking at its body; None: its body is needed, for `take`."""
        if path == self._path:
            try:
                check(facts)
            except HandoverError as error:
                reply = self._error_reply(error)
            else:
                return None
        else:
            reply = self._script_reply(facts)
        # RFC 9110, 9.3.2: not every server removes the body from the response to a HEAD.
        return reply._replace(body=b"") if facts.method == "HEAD" else reply

    def submit(self, path: str, facts: RequestFacts, body: bytes) -> None:  # noqa: ARG002  # OwnEndpoint's
        """Return None: a hand-over needs no thread, because it does not block."""
        return

    def unavailable(self, note: str, facts: RequestFacts) -> Reply:  # noqa: ARG002  # OwnEndpoint's
        """Answer a hand-over whose body was not read."""
        return _not_taken(note)

    def take(
        self,
        path: str,  # noqa: ARG002  # OwnEndpoint's
        facts: RequestFacts,
        body: bytes,
        *,
        in_background: bool,
    ) -> Reply:
        """Answer a hand-over; its response sets the visitor cookie with the ID."""
        engine = self._engine
        try:
            exchange, _ = engine.begin(facts, in_background=in_background)
            try:
                reason = engine.apply_handover(exchange, read_claim(body))
            except HandoverError as error:
                engine.on_response_end(exchange, in_background=in_background)
                return self._error_reply(error)
            reply = Reply(204, [("cache-control", "no-store")]) if reason is None else _not_taken(reason)
            headers = reply.headers
            headers.extend(engine.on_response_start(exchange, reply.status, lambda: headers))
            engine.on_response_end(exchange, in_background=in_background)
        except Exception:
            engine.failed("the hand-over")
            return _not_taken("failed")
        return reply

    def _error_reply(self, error: HandoverError, *, allowed: str = "POST") -> Reply:
        self._engine.note(error.note)
        headers = [("cache-control", "no-store"), ("content-type", "text/plain; charset=utf-8")]
        if error.status == 405:
            headers.append(("allow", allowed))
        return _with_length(error.status, headers, f"{error}\n".encode())

    def _script_reply(self, facts: RequestFacts) -> Reply:
        assert self._handover_script is not None
        if facts.method not in ("GET", "HEAD"):
            error = HandoverError(405, "handover_method", "the script is there to be read, with GET")
            return self._error_reply(error, allowed="GET, HEAD")
        cache_headers = [
            ("cache-control", f"public, max-age={SCRIPT_MAX_AGE_S}"),
            ("etag", self._handover_script.etag),
        ]
        if self._handover_script.etag in facts.header("if-none-match"):
            return Reply(304, cache_headers)
        headers = [
            *cache_headers,
            ("content-type", self._handover_script.content_type),
            ("x-content-type-options", "nosniff"),
        ]
        return _with_length(200, headers, self._handover_script.script())


def _not_taken(reason: str) -> Reply:
    headers = [("cache-control", "no-store"), ("content-type", "application/json")]
    return _with_length(200, headers, f'{{"taken":false,"reason":"{reason}"}}'.encode())


def _with_length(status: int, headers: list[tuple[str, str]], body: bytes) -> Reply:
    return Reply(status, [*headers, ("content-length", str(len(body)))], body)
