"""Journey: one browser's way through a shop in the words of its visitor, and what Mixpanel made of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import orjson

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.parts import Parts
from mixpanel_visitor.tracker import Tracker

from .browser_servers import Wire, readable, served_wsgi
from .inbox import Inbox
from .sites import Shop, flask_shop, starlette_shop
from .spools import SECRET_KEY
from .waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import BrowserContext, Page, Request

    from .browser import Chromium
    from .browser_sdk import Loading
    from .browser_servers import Certificate, Front

JOINING = ("$identify", "Visitor identified")
"""Events that only join IDs, the browser SDK's and ours; which of them come is each way's own business."""

_FLUSH_S = 5.0
_ARRIVAL_S = 8.0
_HANDOVER_S = 8.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event that arrived. `label` is its name and what it was about: "Ordered tea", "Page viewed /"."""

    label: str
    side: str
    person: str | None
    distinct_id: str | None
    device_id: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a journey needs: who serves the shop and where, how its pages load the SDK, and our settings."""

    id_merge: str
    framework: str = "starlette"
    https: bool = True
    host: str = ""
    installed: bool = True
    loading: Loading = "module"
    config: dict[str, Any]
    snippet: Any = "none"
    extra_head: str = ""
    days_ago: float = 0.0
    settings: dict[str, Any]


class Journey:
    """A fresh browser profile, a shop, a tracker and a local Mixpanel; to be used as a context manager.

    A page can be asked for by its path, which is on the journey's own host, or by a whole URL.
    """

    def __init__(self, chromium: Chromium, front: Front, certificate: Certificate, plan: Plan) -> None:
        self.token = uuid.uuid4().hex
        self.plan = plan
        self._chromium = chromium
        self._front = front
        self._certificate = certificate
        self._days_ago = plan.days_ago
        self._running = contextlib.ExitStack()
        self.errors: list[str] = []
        """What the pages' scripts have thrown."""
        self.strangers: list[str] = []
        """What the browser asked of somebody else."""
        self.wire = Wire()

    def __enter__(self) -> Self:
        with self._running as running:
            self._mixpanel = running.enter_context(LocalMixpanel(id_merge=self.plan.id_merge))
            self.inbox = Inbox(self._mixpanel.url)
            self._front.key = self.token
            self._front.mixpanel_url = self._mixpanel.url
            self._front.wire = self.wire
            self._tracker = self._made_tracker()
            running.callback(self._tracker.close)
            self._port = self._open_shop(running)
            self._running = running.pop_all()
        try:
            self.another_browser()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()
        self._front.key = ""
        self._front.shop = None

    # --- the shop -------------------------------------------------------------------------------

    def _made_tracker(self) -> Tracker:
        settings: dict[str, Any] = {"id_mode": self.plan.id_merge, **self.plan.settings}
        return Tracker(
            token=self.token,
            secret_key=SECRET_KEY,
            api_host=self._mixpanel.url,
            spool="memory:",
            on_error="raise",
            parts=Parts(clock=lambda: time.time() - self._days_ago * _DAY_S),
            **settings,
        )

    def _open_shop(self, running: contextlib.ExitStack) -> int:
        front = self._front
        base = f"https://cdn.example.com:{front.https_port}"
        api_host = f"https://api.example.com:{front.https_port}/mp/{self.token}"
        if not self.plan.https:
            base, api_host = f"http://127.0.0.1:{front.http_port}", self._mixpanel.url
        self.shop = Shop(
            base_url=base + "/sdk",
            token=self.token,
            loading=self.plan.loading,
            config={"api_host": api_host, "track_pageview": True, **self.plan.config},
            snippet=self.plan.snippet,
            extra_head=self.plan.extra_head,
        )
        tracker = self._tracker if self.plan.installed else None
        if self.plan.framework == "flask":
            return running.enter_context(
                served_wsgi(flask_shop(self.shop, tracker), self._certificate, self.wire)
            )
        front.shop = starlette_shop(self.shop, tracker)
        return front.https_port if self.plan.https else front.http_port

    def install(self, **changes: Any) -> None:
        """Install our middleware in a shop that ran without it; `changes` are fields of `Shop`."""
        self.shop = replace(self.shop, **changes)
        self._front.shop = starlette_shop(self.shop, self._tracker)

    def days_later(self, days: float) -> None:
        """Let the server's clock move on; a journey that is to do this starts some `days_ago`."""
        self._days_ago -= days
        assert self._days_ago >= 0, "events of the future are refused: start the journey longer ago"

    def url(self, path: str, host: str | None = None) -> str:
        """Give the whole URL of a path; a URL stays as it is."""
        if "://" in path:
            return path
        scheme, default = ("https", "shop.example.com") if self.plan.https else ("http", "127.0.0.1")
        return f"{scheme}://{host or self.plan.host or default}:{self._port}{path}"

    # --- the browser ----------------------------------------------------------------------------

    def another_browser(self) -> None:
        """Go on with a fresh profile, with one empty tab; the one before is not asked again."""
        self._context = context = self._chromium.run(self._fresh_profile())
        self._running.callback(lambda: self._chromium.run(context.close()))
        self.tabs: list[Page] = []
        self.new_tab()

    async def _fresh_profile(self) -> BrowserContext:
        context = await self._chromium.context()
        context.on("request", self._note)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        return context

    @property
    def page(self) -> Page:
        """The tab that is in front."""
        return self.tabs[-1]

    def new_tab(self) -> None:
        """Open a tab and bring it to the front."""
        self.tabs.append(self._chromium.run(self._context.new_page()))

    def switch_tab(self) -> None:
        """Bring the tab to the front that has been behind the longest."""
        self.tabs.append(self.tabs.pop(0))

    def visit(self, path: str, *, host: str | None = None) -> None:
        """Open a page by its address, and wait until it has loaded."""
        self._chromium.run(self.page.goto(self.url(path, host), wait_until="load"))

    def visit_at_once(self, *paths: str) -> None:
        """Open a new tab for each of these pages, all at the same time."""
        for _ in paths:
            self.new_tab()
        tabs = self.tabs[-len(paths) :]

        async def open_all() -> None:
            await asyncio.gather(
                *(tab.goto(self.url(path), wait_until="load") for tab, path in zip(tabs, paths, strict=True))
            )

        self._chromium.run(open_all())

    def click(self, selector: str) -> None:
        """Click something that leads to another page."""
        self._chromium.run(self._click(selector))

    async def _click(self, selector: str) -> None:
        async with self.page.expect_event("load"):
            await self.page.click(selector)

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a function in the page, and give what it (or its promise) returns."""
        return self._chromium.run(self.page.evaluate(f"(given) => ({script})(...given)", list(arguments)))

    def leave(self) -> None:
        """Leave all pages: now the SDK sends what it has."""

        async def leave_all() -> None:
            await asyncio.gather(*(tab.goto("about:blank") for tab in self.tabs))

        self._chromium.run(leave_all())

    # --- what visitors do -----------------------------------------------------------------------

    def log_in(self, user: str, *, form: bool = False, quiet: bool = False) -> None:
        """Log in on the server: by a `fetch` of the page that stays open, or by a `form`.

        `quiet`: the handler of the `fetch` tracks nothing.
        """
        if form:
            self._chromium.run(self.page.fill("#log-in input", user))
            self.click("#log-in button")
        else:
            self._post("/api/log-in", {"user": user, "quiet": quiet})

    def log_out(self, *, form: bool = False) -> None:
        """Log out on the server: by a `fetch` of the page that stays open, or by a `form`."""
        if form:
            self.click("#log-out button")
        else:
            self._post("/api/log-out", {})

    def order(self, item: str) -> str:
        """Let the page ask the API, which tracks; gives the visitor ID that the handler saw."""
        visitor_id: str = self._post(f"/api/order/{item}", {})["visitor"]
        return visitor_id

    def _post(self, path: str, data: dict[str, Any]) -> Any:
        script = """async (path, data) => {
            const answer = await fetch(path, {
                method: "POST", body: JSON.stringify(data), headers: {"content-type": "application/json"},
            });
            if (!answer.ok) throw new Error(path + ": " + answer.status);
            return answer.json();
        }"""
        return self.js(script, path, data)

    # --- what the page's own code does -----------------------------------------------------------

    def track(self, item: str) -> None:
        """Track in the browser: the event "Clicked" with this item."""
        self.js("(item) => { shop.mixpanel.track('Clicked', {item}); }", item)

    def identify(self, user: str) -> None:
        """Log in for the browser SDK."""
        self.js("(user) => { shop.mixpanel.identify(user); }", user)

    def reset(self) -> None:
        """Log out for the browser SDK."""
        self.js("() => { shop.mixpanel.reset(); }")

    def opt_out(self) -> None:
        """Opt out in the browser SDK."""
        self.js("() => { shop.mixpanel.opt_out_tracking(); }")

    def opt_in(self) -> None:
        """Opt in in the browser SDK; it tracks that as an event of its own."""
        self.js("() => { shop.mixpanel.opt_in_tracking(); }")

    def browser_device_id(self) -> str:
        """Give the device ID that the browser SDK has now."""
        device_id: str = self.js("() => shop.mixpanel.get_property('$device_id')")
        return device_id

    def load_sdk(self) -> None:
        """Load the SDK in a page that does so late."""
        self.js("() => loadSdk()")

    def block_sdk(self) -> None:
        """Block the SDK's files, as some people's browsers do."""
        self._chromium.run(self._context.route("**/sdk/**", lambda route: route.abort()))

    def unblock_sdk(self) -> None:
        """Take the block off again."""
        self._chromium.run(self._context.unroute("**/sdk/**"))

    def wait_for_handover(self, **word: Any) -> None:
        """Wait until our script has told the server this, word by word: `device_id="..."`."""
        body = orjson.dumps(word).decode()
        self._wait(lambda: body in self.wire.handed_over, f"{body} was not handed over")

    def wait_for_signed_uid(self, uid: str) -> None:
        """Wait until our script has handed over what SPiD has signed of this visitor."""

        def arrived() -> bool:
            words = map(orjson.loads, self.wire.handed_over)
            return any(uid.encode() in _signed(word["sig"]) for word in words if "sig" in word)

        self._wait(arrived, f"nothing that is signed was handed over of {uid}")

    def _wait(self, predicate: Callable[[], bool], trouble: str) -> None:
        assert wait_until(predicate, _HANDOVER_S), f"{trouble}\n{self.story()}"

    def story(self) -> str:
        """Tell everything, for whoever has to find out what went wrong."""
        return self._told(self.arrived())

    def wait_for_handover_of_id(self) -> None:
        """Wait until our script has told the server the ID that the browser SDK has now."""
        self.wait_for_handover(device_id=self.browser_device_id())

    # --- cookies and storage ----------------------------------------------------------------------

    def cookies(self) -> dict[str, str]:
        """Give the cookies that the browser holds, by name."""
        cookies = self._chromium.run(self._context.cookies())
        return {cookie["name"]: cookie["value"] for cookie in cookies}  # type: ignore[typeddict-item]

    def give_cookie(self, name: str, properties: dict[str, Any], **attributes: Any) -> None:
        """Put a cookie into the browser that holds this object as the SDK's do."""
        value = quote(orjson.dumps(properties), safe="")
        cookie = {"name": name, "value": value, "path": "/", "domain": ".example.com", **attributes}
        self._chromium.run(self._context.add_cookies([cookie]))  # type: ignore[list-item]

    def forget_cookie(self, name: str) -> None:
        """Delete a cookie, as its end of life does."""
        assert name in self.cookies()
        self._chromium.run(self._context.clear_cookies(name=name))

    def forget_storage(self) -> None:
        """Clear the localStorage of the shop, from a file of the same host that runs no script."""
        self.leave()
        self.visit("/sdk/mixpanel.min.js")
        self.js("() => localStorage.clear()")

    @property
    def sdk_cookie(self) -> str:
        """The name of the SDK's cookie."""
        return f"mp_{self.plan.config.get('persistence_name') or self.token + '_mixpanel'}"

    @property
    def our_cookie(self) -> str:
        """The name of our cookie."""
        return "__Host-mpv" if self.plan.https else "mpv"

    # --- what came of it ----------------------------------------------------------------------------

    def assert_one_person(self, *labels: str) -> str:
        """Check that exactly these events arrived, and that they are one person's; gives his ID."""
        (person,) = self.assert_people(labels)
        return person

    def assert_people(self, *groups: tuple[str, ...]) -> list[str]:
        """Check that exactly these events arrived, each group of one person of its own; gives their IDs.

        Those in `JOINING` are not listed, but have to belong to one of these people.
        """
        wanted = Counter(label for group in groups for label in group)
        assert max(wanted.values()) == 1, "label events so that each is the only one of its kind"
        self.leave()
        seen = self.arrived(*wanted)
        told = self._told(seen)
        listed = Counter(event.label for event in seen if event.label not in JOINING)
        assert listed == wanted, f"missing {wanted - listed}, not expected {listed - wanted}\n{told}"
        people = []
        for group in groups:
            persons = {event.person for event in seen if event.label in group}
            assert None not in persons, f"Mixpanel knows no person for one of {group}\n{told}"
            assert len(persons) == 1, f"{len(persons)} people instead of one: {group}\n{told}"
            people.extend(persons)
        assert len(set(people)) == len(groups), f"merged, and must not be: {people}\n{told}"
        strays = {event.person for event in seen} - set(people)
        assert not strays, f"IDs of somebody else were joined: {strays}\n{told}"
        assert not self.errors, f"{self.errors}\n{told}"
        rejected = self.inbox.stats()["rejected"]
        assert not rejected, f"Mixpanel refused {rejected}\n{told}"
        return people  # type: ignore[return-value]

    def ids_of(self, person: str) -> set[str]:
        """Give all IDs that Mixpanel knows a person by."""
        (ids,) = (each.ids for each in self._mixpanel.store.people() if each.person == person)
        return {person, *ids}

    def people(self, *labels: str) -> dict[str, str | None]:
        """Give whose each event is, by its label, once these have arrived."""
        self.leave()
        seen = self.arrived(*labels)
        people = {event.label: event.person for event in seen}
        assert set(labels) <= set(people), f"missing {set(labels) - set(people)}\n{self._told(seen)}"
        return people

    def arrived(self, *labels: str) -> list[Seen]:
        """Give what arrived, oldest first, once these are among them or it is too late."""
        assert self._tracker.flush(_FLUSH_S)
        seen: list[Seen] = []

        def complete() -> bool:
            nonlocal seen
            events = sorted(self.inbox.events(), key=lambda event: event["time_ms"])
            seen = [_seen(event) for event in events]
            return set(labels) <= {event.label for event in seen}

        wait_until(complete, _ARRIVAL_S)
        return seen

    def _told(self, seen: list[Seen]) -> str:
        columns = ("side", "label", "person", "distinct_id", "device_id", "user_id")
        rows = [columns, *(tuple(str(getattr(event, name)) for name in columns) for event in seen)]
        widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
        table = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        )
        cookies = (f"  {readable(f'{name}={value}')}" for name, value in self.cookies().items())
        parts = ["", *table, "", "the shop saw:", *self.wire.lines, "", "the browser holds:", *cookies]
        return "\n".join(
            [*parts, f"counted: {self._tracker.stats()['notes']}", f"page errors: {self.errors}"]
        )

    def _note(self, request: Request) -> None:
        address = urlsplit(request.url)
        host = address.hostname or ""
        ours = host == "127.0.0.1" or host.endswith((".example.com", ".localhost"))
        if address.scheme in ("http", "https") and not ours:
            self.strangers.append(request.url)


def _signed(sig: str) -> bytes:
    payload = sig.partition(".")[2]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def _seen(event: dict[str, Any]) -> Seen:
    properties = event["properties"]
    about = properties.get("item") or properties.get("current_url_path")
    name = event["event"].removeprefix("$mp_")
    return Seen(
        label=f"{name} {about}" if about else event["event"],
        side="browser" if properties.get("mp_lib") == "web" else "server",
        person=event["person"],
        distinct_id=properties.get("distinct_id"),
        device_id=properties.get("$device_id"),
        user_id=properties.get("$user_id"),
    )
