"""A local Mixpanel with a clock that stands still, and a client for it."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_MS = 1_800_000_000_000
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Client:
    """One kept-alive connection; `authorization` is sent to /import."""

    port: int
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=found, body=response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def import_(
        self, events: Any, *, query: str = "strict=1", user: str = f"{TOKEN}:", **headers: str
    ) -> Answer:
        """POST to /import; `events` are bytes as they are or become a JSON list."""
        body = events if isinstance(events, bytes) else json.dumps(events).encode()
        all_headers = {"Content-Type": "application/json", "Authorization": basic(user)}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", f"/import?{query}", body, all_headers)

    def post(self, path: str, value: Any, **headers: str) -> Answer:
        """POST a value as JSON."""
        all_headers = {"Content-Type": "application/json"}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, json.dumps(value).encode(), all_headers)


def basic(user: str) -> str:
    """Write the Authorization header of "name:password"."""
    return "Basic " + base64.b64encode(user.encode()).decode()


_numbers = itertools.count(1)


def make_event(name: str = "Page viewed", **properties: Any) -> dict[str, Any]:
    """An event that /import and /track accept; a property given as None is left out."""
    given = {
        "time": NOW_MS - 1_000,
        "distinct_id": "u-1",
        "$insert_id": f"insert-{next(_numbers)}",
        "token": TOKEN,
        **properties,
    }
    return {"event": name, "properties": {key: value for key, value in given.items() if value is not None}}


@pytest.fixture
def event() -> Any:
    """Return the maker of events."""
    return make_event


@pytest.fixture
def local() -> Iterator[LocalMixpanel]:
    """Return a running local Mixpanel whose clock stands still."""
    with LocalMixpanel(now_ms=lambda: NOW_MS) as local:
        yield local


@pytest.fixture
def connect() -> Iterator[Any]:
    """Clients for local Mixpanels that a test starts itself."""
    clients: list[Client] = []

    def connect(local: LocalMixpanel) -> Client:
        clients.append(Client(port=local.port))
        return clients[-1]

    yield connect
    for client in clients:
        client.connection.close()


@pytest.fixture
def client(local: LocalMixpanel, connect: Any) -> Client:
    """Return a client of `local`."""
    return connect(local)
