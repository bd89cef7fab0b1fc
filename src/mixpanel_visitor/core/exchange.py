"""Exchange: the life of one request with its response, as a small state machine.

```
OPEN ──respond()──▶ STARTED        the response's head is out: what is decided about cookies is decided
  │                    │
  └─────finish()───────┴──finish()──▶ FINISHED   what is tracked from now on is handed over at once
```

Records leave with `take` at any time; what is queued later leaves with the next one.

`respond` may be called again (WSGI allows a second `start_response` with `exc_info`, ASGI servers send
informational answers first): only the head that goes out counts, and it is asked for each time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .anchor import RENEW_AFTER_S, Anchor
from .identity import Identity, IdMode, log_in, log_out
from .policy import Consent, is_bot, may_set_cookie, opted_out, shared_cacheable
from .request import response_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.records import Record

    from .anchor import AnchorCodec
    from .identity import Login
    from .request import RequestFacts

HAND_OVER_RECORDS = 100
HAND_OVER_BYTES = 1_000_000
"""A request that has queued so much hands it over before it ends: streams and sockets may never end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRules:
    """Everything that all exchanges of one tracker share; `count` counts what happened, by name."""

    anchors: AnchorCodec
    token: str
    id_mode: IdMode
    bots: str
    respect_dnt: bool
    respect_gpc: bool
    consent: Callable[[RequestFacts], Consent]
    left_alone: Callable[[RequestFacts], bool]
    refusal: Callable[[], str | None]
    count: Callable[[str], None]

    def open(self, facts: RequestFacts, *, now_s: float, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange: decide whether we may track, and who the visitor is."""
        if self.refusal() is not None or self.left_alone(facts):
            return self.inert(facts, fresh_id=fresh_id)
        secure = facts.scheme == "https"
        anchor = self.anchors.find(facts.cookies, secure=secure, now_s=now_s) if facts.cookies else None
        if opted_out(facts, token=self.token, respect_dnt=self.respect_dnt, respect_gpc=self.respect_gpc):
            consent: Consent = "denied"
        else:
            consent = self.consent(facts)
        bot = self.bots != "keep" and is_bot(facts.header("user-agent"))
        if consent != "granted" or (anchor is None and bot):
            identity = Identity(device_id=fresh_id(), source="none")
        elif anchor is None:
            identity = Identity(device_id=fresh_id(), source="generated", vouched=True, is_new=True)
        else:
            identity = Identity(
                device_id=anchor.device_id, user_id=anchor.user_id, source="cookie", vouched=True
            )
        return Exchange(
            rules=self,
            facts=facts,
            anchor=anchor,
            identity=identity,
            consent=consent,
            bot=bot,
            now_s=now_s,
        )

    def inert(self, facts: RequestFacts, *, fresh_id: Callable[[], str]) -> Exchange:
        """Begin an exchange that tracks nothing and sets nothing, so that handlers need not know."""
        return Exchange(
            rules=self,
            facts=facts,
            anchor=None,
            identity=Identity(device_id=fresh_id(), source="none"),
            consent="unknown",
            bot=False,
            now_s=0.0,
        )


class Exchange:
    """One request from our point of view.

    `add` may be called from several threads. Its order (append, then look whether it is over) and that of
    `finish` (over, then take) make sure that no record is left behind.
    """

    __slots__ = (
        "_anchor", "_came_with_cookie", "_changed", "_now_s", "_records", "_rules", "_size_bytes", "_tracked",
        "consent", "facts", "finished", "hand_over", "identity", "is_bot", "started",
    )  # fmt: skip

    def __init__(
        self,
        *,
        rules: ExchangeRules,
        facts: RequestFacts,
        anchor: Anchor | None,
        identity: Identity,
        consent: Consent,
        bot: bool,
        now_s: float,
    ) -> None:
        self._rules = rules
        self._anchor = anchor
        self._came_with_cookie = anchor is not None
        self._now_s = now_s
        self._changed = False
        self._records: deque[Record] = deque()
        self._size_bytes = 0
        self._tracked = False
        self.facts = facts
        self.identity = identity
        self.consent: Consent = consent
        self.is_bot = bot
        self.started = False
        self.finished = False
        self.hand_over: Callable[[Exchange], None] | None = None

    @property
    def refusal(self) -> str | None:
        """Why nothing is tracked in this request, as the name it is counted under; None: it is."""
        closed = self._rules.refusal()
        if closed is not None:
            return closed
        if self.consent != "granted":
            return f"consent_{self.consent}"
        if self.is_bot and self._rules.bots == "drop":
            return "bot"
        return None

    # --- the visitor's side ---------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Queue a record; it leaves with the next `take`."""
        self._tracked = True
        self._records.append(record)
        self._size_bytes += len(record.body)
        if self.hand_over is not None and (
            self.finished
            or self.facts.protocol == "websocket"  # there is no "after the response" for a socket
            or len(self._records) >= HAND_OVER_RECORDS
            or self._size_bytes >= HAND_OVER_BYTES
        ):
            self.hand_over(self)

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
        """Log a user in: a different user on the same device gets a new device ID first."""
        anchor = self._current_anchor()
        linked = anchor.belongs_to(user_id)
        another = anchor.has_user and not linked
        login = log_in(
            self._rules.id_mode,
            self.identity,
            user_id,
            linked=linked,
            fresh_device_id=fresh_id() if another else None,
        )
        self._adopt(login.identity, changed=not linked)
        return login

    def reset(self, fresh_id: Callable[[], str]) -> None:
        """Log out: forget the user and start a new device ID."""
        self._adopt(log_out(self.identity, fresh_id()), changed=True)

    def _current_anchor(self) -> Anchor:
        if self._anchor is None:
            self._anchor = Anchor(device_id=self.identity.device_id or "", issued_at_s=int(self._now_s))
            self._changed = True
        return self._anchor

    def _adopt(self, identity: Identity, *, changed: bool) -> None:
        self.identity = identity
        if not changed:
            return
        self._anchor = replace(
            self._current_anchor(),
            device_id=identity.device_id or "",
            user_id=identity.user_id,
            user_tag=None,
        )
        self._changed = True
        if self.started:
            self._rules.count("cookie_too_late")

    # --- the adapter's side ---------------------------------------------------------------------

    @property
    def wants_cookie(self) -> bool:
        """Whether the response's head has to be looked at; False for a known visitor on most requests."""
        if self.consent != "granted":
            return self.consent == "denied" and self._anchor is not None
        return self._changed or self._anchor is None or self._now_s - self._anchor.issued_at_s > RENEW_AFTER_S

    def respond(self, status: int, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give the headers to add to a response that is about to start with `status` and `headers`."""
        if status < 200 and status != 101:
            return []  # informational: the real head is still to come
        self.started = True
        if not self.wants_cookie:
            return []
        name = self._rules.anchors.name(secure=self.facts.scheme == "https")
        skipped = self._why_not(status, headers, name)
        if skipped is not None:
            self._rules.count(skipped)
            return []
        added = [("set-cookie", self._set_cookie())]
        if status != 101 and response_header(headers, "cache-control") is None:
            added.append(("cache-control", "private"))
        return added

    def take(self) -> list[Record]:
        """Give the records queued since the last call and forget them here."""
        records: list[Record] = []
        self._size_bytes = 0
        while self._records:
            try:
                records.append(self._records.popleft())
            except IndexError:
                break  # another thread was faster
        return records

    def finish(self) -> list[Record]:
        """End the exchange: give what is left."""
        self.finished = True
        return self.take()

    @property
    def has_records(self) -> bool:
        """Whether a `take` would give anything."""
        return bool(self._records)

    def _why_not(self, status: int, headers: Sequence[tuple[str, str]], name: str) -> str | None:
        if status == 304:
            return "cookie_skipped_not_modified"  # caches merge its headers into the stored response
        prefix = f"{name}="
        if any(key.lower() == "set-cookie" and value.startswith(prefix) for key, value in headers):
            return "cookie_skipped_already_set"
        if shared_cacheable(headers, now_s=self._now_s):
            return "cookie_skipped_cacheable"
        if self.consent == "denied":
            return None if self._came_with_cookie else "cookie_skipped_consent"
        if self.is_bot:
            return "cookie_skipped_bot"
        if not self._changed and not may_set_cookie(self.facts, tracked=self._tracked):
            return "cookie_skipped_no_visit"
        return None

    def _set_cookie(self) -> str:
        secure = self.facts.scheme == "https"
        if self.consent == "denied":
            return self._rules.anchors.expire_cookie(secure=secure)
        anchor = self._current_anchor()
        return self._rules.anchors.set_cookie(replace(anchor, issued_at_s=int(self._now_s)), secure=secure)
