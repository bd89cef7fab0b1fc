"""Pages with our script in them, the site that serves them and hears what they post, and a browser."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from playwright.sync_api import BrowserContext, Page, Playwright, Request

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names below localhost are this machine without a resolver; there is nothing else in the world.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
)
HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"

_IDLE_S = 10.0
_NOON_S = 1_800_000_000


def launch(playwright: Playwright) -> Any:
    """Start the Chromium that is installed here."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium") or "chromium", args=ARGUMENTS)


def html(*head: str) -> str:
    """Build a page; each part of its head is HTML."""
    return f'<!doctype html><title>A page</title><link rel="icon" href="data:,">{"".join(head)}<p>Hello</p>'


def tag(code: str) -> str:
    """Build a script element of code that holds no end tag."""
    return f"<script>{code}</script>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What a page has posted; `cookies` is the header."""

    path: str
    content_type: str
    body: Any
    cookies: str


@dataclass(slots=True, kw_only=True)
class Site:
    """A site on a port of this machine; `status` and `set_cookies` are for the answer to a post."""

    host: str = "127.0.0.1"
    pages: dict[str, tuple[str, str, dict[str, str]]] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    status: Callable[[Post], int] = lambda _post: 204
    set_cookies: Callable[[Post], list[str]] = lambda _post: []

    _arrived: threading.Condition = field(init=False, default_factory=threading.Condition)
    _http: http.server.ThreadingHTTPServer = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"site": self})
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
    def url(self) -> str:
        return f"http://{self.host}:{self._http.server_port}"

    def serve(self, path: str, text: str, content_type: str = HTML, **headers: str) -> None:
        """Put something at a path."""
        self.pages[path] = (text, content_type, {name.replace("_", "-"): headers[name] for name in headers})

    def take(self, post: Post) -> tuple[int, list[str]]:
        with self._arrived:
            self.posts.append(post)
            self._arrived.notify_all()
        return self.status(post), self.set_cookies(post)

    def wait_for_posts(self, count: int) -> list[Any]:
        """Wait until so many posts have arrived; give the bodies of all."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.posts) >= count, PATIENCE_S)
            assert arrived, f"{count} posts were expected, and these arrived: {self.posts}"
            return [post.body for post in self.posts]


class _Handler(http.server.BaseHTTPRequestHandler):
    site: ClassVar[Site]
    timeout = _IDLE_S

    def do_GET(self) -> None:
        found = self.site.pages.get(self.path.partition("?")[0])
        if found is None:
            self.send_error(404)
            return
        text, content_type, headers = found
        self._send(200, text.encode(), {"Content-Type": content_type, "Cache-Control": "no-store", **headers})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        post = Post(
            path=self.path,
            content_type=self.headers.get("Content-Type", ""),
            body=json.loads(body),
            cookies=self.headers.get("Cookie", ""),
        )
        status, cookies = self.site.take(post)
        self._send(status, b"", {} if status == 204 else {"Content-Length": "0"}, cookies)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cookies: list[str] = []) -> None:  # noqa: B006
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@dataclass(slots=True)
class Visit:
    """One page in somebody's browser, with what it asked for and what went wrong in it."""

    page: Page
    site: Site
    errors: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @classmethod
    def begun(cls, context: BrowserContext, site: Site) -> Visit:
        """Open an empty page."""
        visit = cls(context.new_page(), site)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.on("console", lambda message: visit.console.append(message.text))
        visit.page.on("request", lambda request: visit.requests.append(request))  # noqa: PLW0108 - Playwright marks what it is given
        return visit

    def go(self, *head: str, path: str = "/", until: Any = "load", **headers: str) -> Visit:
        """Go to a page of the site that is built of these parts.

        The page before learns first what its posts were answered: else it posts once more when it is left.
        """
        for request in self.requests:
            if request.method == "POST":
                request.response()
        self.run("0")
        self.site.serve(path, html(*head), **headers)
        self.page.goto(self.site.url + path, wait_until=until)
        return self

    def run(self, code: str) -> Any:
        """Run code in the page."""
        return self.page.evaluate(code)

    def stop_the_clock(self) -> None:
        """From now on the timers of pages run in `pass_time` only."""
        self.page.clock.install(time=_NOON_S)
        self.page.clock.pause_at(_NOON_S + 60)  # it runs until then, and a busy machine is slow

    def pass_time(self, seconds: float) -> None:
        """Let the page's timers run."""
        self.page.clock.run_for(round(seconds * 1000))

    def posted(self) -> list[str]:
        """Tell where this page has begun to post to, up to this moment."""
        self.run("0")  # the browser tells about requests in the order of things
        return [request.url for request in self.requests if request.method == "POST"]
