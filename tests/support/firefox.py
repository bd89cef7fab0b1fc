"""Firefox without a window, for some of the journeys in `tests/browser`.

Spoken to in WebDriver BiDi over its own socket: Playwright's juggler protocol is for a Firefox of its own,
and its BiDi wants commands that an ESR does not know. Here is as much of its interface as a journey needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import websockets

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType

_T = TypeVar("_T")

PROGRAM = "firefox-esr"

_HOSTS = ("shop.example.com", "cdn.example.com", "api.example.com")
_PREFERENCES = {
    "network.dns.localDomains": ",".join(_HOSTS),
    "network.proxy.type": 0,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}
_EVENTS = ("browsingContext.load", "log.entryAdded", "network.beforeRequestSent")
_LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """A browser, driven from a thread of its own; each `context` is a person's fresh profile."""

    def __enter__(self) -> Self:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(_PREFERENCES[name])});" for name in _PREFERENCES)
        Path(self._profile.name, "user.js").write_text("\n".join(lines))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="firefox", daemon=True)
        self._thread.start()
        self._running = contextlib.AsyncExitStack()
        try:
            self.run(self._launch())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, call: Coroutine[Any, Any, _T], *, timeout_s: float = PATIENCE_S) -> _T:
        """Do something in the browser's thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout_s)

    async def context(self) -> Context:
        """Return a fresh profile: no cookies, no storage, no cache."""
        made = await self.socket.send("browser.createUserContext")
        return Context(self.socket, made["userContext"])

    async def _launch(self) -> None:
        process = await asyncio.create_subprocess_exec(
            shutil.which(PROGRAM) or PROGRAM,
            *("--headless", "--no-remote", "--remote-debugging-port=0", "--profile", self._profile.name),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        self._running.push_async_callback(_end_process, process)
        while (found := _LISTENING.search((await process.stderr.readline()).decode())) is None:
            assert process.returncode is None, f"{PROGRAM} ended with {process.returncode}"
        self._running.callback(asyncio.create_task(_read_away(process.stderr)).cancel)
        connection = websockets.connect(f"{found[1]}/session", max_size=None, proxy=None)
        self.socket = Socket(await self._running.enter_async_context(connection))
        self._running.callback(asyncio.create_task(self.socket.read()).cancel)
        await self.socket.send("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        await self.socket.send("session.subscribe", events=list(_EVENTS))

    def _end(self) -> None:
        try:
            self.run(self._running.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_S)
            self._loop.close()
            self._profile.cleanup()


async def _end_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _read_away(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


class Socket:
    """Commands and their answers, and events for whoever listens; `listeners` are asked about each event."""

    def __init__(self, connection: Any) -> None:
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self._connection = connection
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    async def send(self, method: str, **params: Any) -> Any:
        """Send a command, and return its answer."""
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await answer
        assert "result" in message, f"{method}: {message}"
        return message["result"]

    async def read(self) -> None:
        """Read until the connection ends."""
        async for text in self._connection:
            message = json.loads(text)
            if message.get("type") == "event":
                for listener in list(self.listeners):
                    listener(message["method"], message["params"])
            else:
                self._answers.pop(message["id"]).set_result(message)


class Context:
    """A person's profile."""

    def __init__(self, socket: Socket, user_context: str) -> None:
        self._socket = socket
        self._user_context = user_context
        self._pages: set[str] = set()
        self._told: dict[str, Callable[[Any], None]] = {}
        socket.listeners.append(self._hear)

    def on(self, event: str, tell: Callable[[Any], None]) -> None:
        """Tell of each "request", or of each "weberror"."""
        self._told[event] = tell

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        source = params.get("source", params).get("context")
        if source in self._pages and method == "network.beforeRequestSent" and "request" in self._told:
            self._told["request"](_Noted(url=params["request"]["url"]))
        if source in self._pages and params.get("type") == "javascript" and params.get("level") == "error":
            self._told["weberror"](_Noted(error=params["text"]))

    async def new_page(self) -> Page:
        """Open a tab."""
        made = await self._socket.send(
            "browsingContext.create", type="tab", userContext=self._user_context, background=True
        )
        self._pages.add(made["context"])
        return Page(self._socket, made["context"])

    async def cookies(self) -> list[dict[str, str]]:
        """Return the cookies that there are."""
        partition = {"type": "storageKey", "userContext": self._user_context}
        found = await self._socket.send("storage.getCookies", partition=partition)
        return [{**each, "value": each["value"]["value"]} for each in found["cookies"]]

    async def close(self) -> None:
        """Close all its tabs, and forget it."""
        self._socket.listeners.remove(self._hear)
        await self._socket.send("browser.removeUserContext", userContext=self._user_context)


class _Noted:
    """What a listener is given."""

    def __init__(self, **more: str) -> None:
        self.__dict__.update(more)


class Page:
    """A tab."""

    def __init__(self, socket: Socket, context: str) -> None:
        self._socket = socket
        self._context = context

    async def goto(self, url: str, *, wait_until: str) -> None:
        """Go to a page."""
        wait = "complete" if wait_until == "load" else "none"
        await self._socket.send("browsingContext.navigate", context=self._context, url=url, wait=wait)

    async def evaluate(self, function: str, given: Any = None) -> Any:
        """Run a function, and return what it (or its promise) gives, by way of JSON."""
        answer = await self._socket.send(
            "script.callFunction",
            functionDeclaration=f"async (given) => JSON.stringify(await ({function})(JSON.parse(given)))",
            arguments=[{"type": "string", "value": json.dumps(given)}],
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]
        return json.loads(answer["result"].get("value", "null"))

    async def wait_for_function(self, function: str, *, polling: int, timeout: float) -> None:  # noqa: ASYNC109
        """Wait until a function says true, or for so many milliseconds."""
        loop = (
            "async ([polling, timeout]) => {"
            f" for (const until = Date.now() + timeout; !({function})() && Date.now() < until;)"
            " await new Promise((done) => setTimeout(done, polling)); }"
        )
        await self.evaluate(loop, [polling, timeout])

    async def click(self, selector: str) -> None:
        """Click an element."""
        await self.evaluate("(selector) => { document.querySelector(selector).click(); }", selector)

    async def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        script = "([selector, text]) => { document.querySelector(selector).value = text; }"
        await self.evaluate(script, [selector, text])

    @contextlib.asynccontextmanager
    async def expect_event(self, event: str) -> AsyncIterator[None]:
        """Wait at the end of the block until this tab has told of the event."""
        happened = asyncio.Event()

        def hear(method: str, params: dict[str, Any]) -> None:
            if method == f"browsingContext.{event}" and params["context"] == self._context:
                happened.set()

        self._socket.listeners.append(hear)
        try:
            yield
            await happened.wait()
        finally:
            self._socket.listeners.remove(hear)
