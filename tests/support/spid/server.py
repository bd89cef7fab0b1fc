"""A stand-in for SPiD's server: it says who the visitor is, signed for somebody who is logged in.

SPiD's visitor concept was removed in 2018, so the real one can be asked no more. The shapes of the answers
and the signature are those of `schibsted/sdk-js` (its mocks) and `schibsted/spid-tech-docs`; the shape of
a uid is inferred from published samples. The visitor's own cookie, `spiduid`, is a third party's on the pages
of a shop.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import random
import threading
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

HERE = Path(__file__).parent
SDKS = {"/vgs.js": HERE / "vgs.js", "/spid.js": HERE / "spid.js"}
HOST = "spid.localhost"
EXPIRES_IN_S = 7111
SIGN_SECRET = "foobar-sign-secret"

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_IDLE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with an account."""

    user_id: int = 270177
    given_name: str = "Åsa"
    family_name: str = "Łęk"


@dataclass(slots=True, kw_only=True)
class SpidServer:
    """SPiD on a port of this machine; a page's SDK is told `server` and `https: false`.

    Chromium knows by itself that names below `localhost` are this machine, and takes Secure cookies from
    them over plain http: `spid.localhost` and `session.spid.localhost` stand for SPiD's two hosts. Without
    `third_party_cookies` the browser keeps `spiduid` from pages of other sites, because of `SameSite=Lax`: so
    each of their requests comes from a visitor whom SPiD has never seen. (Chromium may block the others as
    well: a page that shall send the cookie stands on `<anything>.spid.localhost`.)
    With `hand_over_to_core` the session host answers LoginException, which sends SDKs to the other host.
    """

    base_domain: str = ""
    sign_secret: str = SIGN_SECRET
    expires_in_s: int | None = EXPIRES_IN_S
    third_party_cookies: bool = True
    hand_over_to_core: bool = False
    clock: Callable[[], float] = time.time
    answered: list[dict[str, Any]] = field(init=False, default_factory=list)
    """The answers to `hasSession`, oldest first."""

    _logged_in: dict[str, User] = field(init=False, default_factory=dict)
    _last_user: dict[str, User] = field(init=False, default_factory=dict)
    _random: random.Random = field(init=False, default_factory=random.Random)
    _speaks: threading.Event = field(init=False, default_factory=threading.Event)
    _http: http.server.ThreadingHTTPServer = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._speaks.set()
        handler = type("Handler", (_Handler,), {"spid": self})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def server(self) -> str:
        """What the SDKs call `server`: host and port."""
        return f"{HOST}:{self._http.server_port}"

    @property
    def url(self) -> str:
        """Where `/vgs.js` and `/spid.js` are."""
        return f"http://{self.server}"

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Hold answers back, so that a page is ready before them."""
        self._speaks.clear()
        try:
            yield
        finally:
            self._speaks.set()

    def log_in_url(self, user: User | None = None) -> str:
        """Where a browser logs in, without asking anybody for a password."""
        return f"{self.url}/flow/login?user_id={(user or User()).user_id}"

    def log_in(self, uid: str, user: User | None = None) -> None:
        """Log a visitor in, from the next answer on."""
        self._logged_in[uid] = self._last_user[uid] = user or User()

    def wait_for_voice(self, timeout_s: float) -> None:
        """Wait while `silent`."""
        self._speaks.wait(timeout_s)

    def log_out(self, uid: str) -> None:
        """Log a visitor out."""
        self._logged_in.pop(uid, None)

    def new_uid(self) -> str:
        """Make a visitor: three groups in base 36, joined by X; the middle one is the time (unix seconds)."""
        groups = (self._random.getrandbits(30), int(self.clock()), self._random.getrandbits(30))
        return "X".join(_base36(number).rjust(6, "X") for number in groups)

    def session(self, uid: str) -> dict[str, Any]:
        """Build the answer to `hasSession`."""
        user, last = self._logged_in.get(uid), self._last_user.get(uid)
        common = {
            "result": user is not None,
            "serverTime": int(self.clock()),
            "expiresIn": self.expires_in_s,
            "baseDomain": self.base_domain,
            # Of somebody who is not logged in this is the last user known here.
            "visitor": {"uid": uid, "user_id": str(last.user_id) if last else False},
        }
        if user is None:
            error = {"code": 401, "type": "UserException", "description": "No session found!"}
            return {"error": error, "response": common}
        session = {
            **common,
            "userStatus": "connected",
            "userId": user.user_id,
            "id": f"{user.user_id:024x}",
            "displayName": f"{user.given_name} {user.family_name}",
            "givenName": user.given_name,
            "familyName": user.family_name,
            "gender": "undisclosed",
            "photo": f"https://img.example.com/{user.user_id}?s=200",
        }
        return {**session, "sig": signed(session, self.sign_secret)}


def signed(session: dict[str, Any], secret: str) -> str:
    """Sign a session as SPiD does: HMAC-SHA256 over the base64url text, not over the JSON in it."""
    payload = _base64url(php_json({**session, "algorithm": "HMAC-SHA256"}).encode())
    return f"{_base64url(hmac.digest(secret.encode(), payload.encode(), hashlib.sha256))}.{payload}"


def php_json(value: Any) -> str:
    r"""Encode as PHP's `json_encode` does by default: `\/` and `\uXXXX`."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits


# One script for both SDKs: v1 looks for a global function every 300 ms, v2 is called.
_ANSWER = """(function (id, answer) {
  if (window.VGS && VGS.callbacks[id]) {
    window.triggerResponse = function () {
      window.triggerResponse = null;
      VGS.Ajax.responseReceived();
      VGS.callbacks[id](answer);
    };
  } else if (window.SPiD) {
    SPiD.Talk.response(id, answer);
  }
})(%s, %s);
"""


class _Handler(http.server.BaseHTTPRequestHandler):
    spid: ClassVar[SpidServer]
    timeout = _IDLE_S

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        match address.path:
            case "/vgs.js" | "/spid.js":
                self._send(SDKS[address.path].read_text("utf-8"))
            case "/rpc/hasSession.js" if self.spid.hand_over_to_core:
                answer = self.spid.session(self._uid)
                error = {"code": 401, "type": "LoginException", "description": "Ask the core server"}
                self._answer(query, {"error": error, "response": answer.get("response", {})})
            case "/rpc/hasSession.js" | "/ajax/hasSession.js":
                answer = self.spid.session(self._uid)
                self.spid.answered.append(answer)
                self._answer(query, answer)
            case "/ajax/logout.js":
                self.spid.log_out(self._uid)
                self._answer(query, {"result": True})
            case "/flow/login":
                self.spid.log_in(self._uid, User(user_id=int(query["user_id"])))
                self._send("logged in", content_type="text/plain")
            case "/favicon.ico":
                self._send("", content_type="image/x-icon")
            case _:
                self.send_error(404)

    @property
    def _uid(self) -> str:
        if not hasattr(self, "_found"):
            kept = SimpleCookie(self.headers.get("Cookie", "")).get("spiduid")
            self._found = kept.value if kept else self.spid.new_uid()
        return self._found

    def _answer(self, query: dict[str, str], answer: dict[str, Any]) -> None:
        self.spid.wait_for_voice(_IDLE_S)
        self._send(_ANSWER % (json.dumps(query["callback"]), json.dumps(answer)))

    def _send(self, text: str, *, content_type: str = "text/javascript") -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if hasattr(self, "_found"):
            same_site = "None; Secure" if self.spid.third_party_cookies else "Lax"
            scope = f"Domain={HOST}; Path=/; Max-Age=31536000; HttpOnly; SameSite={same_site}"
            self.send_header("Set-Cookie", f"spiduid={self._found}; {scope}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass
