"""Journey: one browser's way through a shop in the words of its visitor, and what Mixpanel made of it."""

from __future__ import annotations

import base64
import contextlib
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import orjson

from mixpanel_visitor.core.collector.routes import CollectorRoutes
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

from .browser_profile import Browsing
from .browser_servers import ELSEWHERE, Wire, readable, served_wsgi
from .browser_verdict import judge, seen, table
from .inbox import Inbox
from .responses import cookie_name
from .sites import Shop, flask_shop, starlette_shop
from .trackers import SECRET_KEY
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .browser import Chromium
    from .browser_sdk import Loading
    from .browser_servers import Certificate, Front
    from .browser_verdict import Seen

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a journey needs: who serves the shop and where, how its pages load the SDK, and our settings.

    `collector`: the SDK sends its events to the shop, and not to Mixpanel.
    """

    id_merge: Any
    framework: str = "starlette"
    https: bool = True
    host: str = ""
    installed: bool = True
    loading: Loading = "module"
    config: dict[str, Any]
    snippet: Any = "none"
    extra_head: str = ""
    days_ago: float = 0.0
    flags_served: tuple[dict[str, Any], ...] = ()
    collector: bool = False
    settings: dict[str, Any]


class Journey(Browsing):
    """A browser, a shop, a tracker and a local Mixpanel; to be used as a context manager.

    A page can be asked for by its path, which is on the journey's own host, or by a whole URL.
    """

    def __init__(self, chromium: Chromium, front: Front, certificate: Certificate, plan: Plan) -> None:
        super().__init__(chromium)
        self.token = uuid.uuid4().hex
        self.plan = plan
        self._front = front
        self._certificate = certificate
        self._days_ago = plan.days_ago
        self._running = contextlib.ExitStack()
        self.wire = Wire()

    def __enter__(self) -> Self:
        with self._running as running:
            self._mixpanel = running.enter_context(LocalMixpanel(id_merge=self.plan.id_merge))
            for flag in self.plan.flags_served:
                self._mixpanel.flags.put(flag)
            self.inbox = Inbox(self._mixpanel.url)
            self._front.key = self.token
            self._front.mixpanel_url = self._mixpanel.url
            self._front.wire = self.wire
            self._tracker = self._made_tracker()
            running.callback(self._tracker.close)
            self._port = self._open_shop(running)
            running.callback(self.close)
            self.another_browser()
            self._running = running.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()
        self._front.key = ""
        self._front.shop = None

    # --- the shop -------------------------------------------------------------------------------

    def _made_tracker(self) -> Tracker:
        settings: dict[str, Any] = {"id_mode": self.plan.id_merge, **self.plan.settings}
        if self.plan.collector:
            settings["collector_path"] = "auto"
        return Tracker(
            token=self.token,
            secret_key=SECRET_KEY,
            api_host=self._mixpanel.url,
            spool="memory:",
            on_error="raise",
            dependencies=Dependencies(clock=lambda: time.time() - self._days_ago * _DAY_S),
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
            config={**self._way(api_host), "track_pageview": True, **self.plan.config},
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

    def _way(self, api_host: str) -> dict[str, object]:
        """Return what the SDK is told of where to send: straight to Mixpanel, or to the shop's collector."""
        path = self._tracker.settings.collector_path
        return {"api_host": api_host} if path is None else CollectorRoutes(path, self.token).init_options()

    def install(self, **changes: Any) -> None:
        """Install our middleware in a shop that ran without it; `changes` are fields of `Shop`."""
        self.shop = replace(self.shop, **changes)
        self._front.shop = starlette_shop(self.shop, self._tracker)

    def elsewhere(self, *parts: str) -> str:
        """Put a page of another site up, and return its address; each part of it is HTML."""
        self._front.elsewhere = f'<!doctype html><link rel="icon" href="data:,">{"".join(parts)}'
        return f"http://127.0.0.1:{self._front.http_port}{ELSEWHERE}"

    def days_later(self, days: float) -> None:
        """Let the server's clock move on; a journey that is to do this starts some `days_ago`."""
        self._days_ago -= days
        assert self._days_ago >= 0, "events of the future are refused: start the journey longer ago"

    def url(self, path: str, host: str | None = None) -> str:
        """Return the whole URL of a path; a URL stays as it is."""
        if "://" in path:
            return path
        scheme, default = ("https", "shop.example.com") if self.plan.https else ("http", "127.0.0.1")
        return f"{scheme}://{host or self.plan.host or default}:{self._port}{path}"

    def wait_for_flags(self) -> None:
        """Wait until the server knows all flags."""
        self._tracker.start()

        def known() -> bool:
            figures = self._tracker.stats()["flags"]
            return figures is not None and figures["definitions"] == len(self.plan.flags_served)

        assert wait_until(known, PATIENCE_S)

    # --- what visitors do -----------------------------------------------------------------------

    def log_in(self, user: str, *, form: bool = False, quiet: bool = False) -> None:
        """Log in on the server: by a `fetch` of the page that stays open, or by a `form`.

        `quiet`: the handler of the `fetch` tracks nothing.
        """
        if form:
            self.fill("#log-in input", user)
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

    def come_back(self, path: str, **fields: str) -> None:
        """Let a page of another site post a form to the shop, as a payment page does."""
        inputs = "".join(f'<input name="{name}" value="{fields[name]}">' for name in fields)
        form = f'<form method="post" action="{self.url(path)}">{inputs}<button id="back">Back</button></form>'
        self.visit(self.elsewhere(form))
        self.click("#back")

    def order_at_once(self, *items: str) -> None:
        """Let the page ask the API for all of these at the same time."""
        self.js(
            """(...items) => Promise.all(items.map((item) => fetch("/api/order/" + item, {method: "POST"})))
                .then((answers) => answers.length)""",
            *items,
        )

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
        """Return the device ID that the browser SDK has now."""
        device_id: str = self.js("() => shop.mixpanel.get_property('$device_id')")
        return device_id

    def load_sdk(self) -> None:
        """Load the SDK in a page that does so late."""
        self.js("() => loadSdk()")

    def wait_for_handover(self, **word: Any) -> None:
        """Wait until our script has told the server this, word by word: `device_id="..."`."""
        (value,) = word.values()

        def arrived() -> bool:
            return any(word.items() <= orjson.loads(body).items() for body in self.wire.handed_over)

        self._wait(arrived, f"{word} was not handed over")
        self._wait(lambda: self._has_kept(value), f"the answer to {word} was not kept")

    def wait_for_request(self, method: str, path: str) -> None:
        """Wait until the shop has answered such a request."""

        def arrived() -> bool:
            requests = [line.split(" ", 2) for line in self.wire.lines]
            return any(each[0] == method and each[1].endswith(path) for each in requests)

        self._wait(arrived, f"{method} {path} was not asked for")

    def wait_for_signed_uid(self, uid: str) -> None:
        """Wait until our script has handed over what SPiD has signed of this visitor."""

        def arrived() -> bool:
            words = map(orjson.loads, self.wire.handed_over)
            return any(uid.encode() in _signed(word["sig"]) for word in words if "sig" in word)

        self._wait(arrived, f"nothing that is signed was handed over of {uid}")
        self._wait(lambda: self._has_kept(uid), "the answer was not kept")

    def _has_kept(self, value: str | bool) -> bool:
        """Tell whether the browser has stored what the server answered: it may ask again before that."""
        seen = self.cookies().get(f"{cookie_name(self.token)}_js", "")
        return value in seen.split("~") if isinstance(value, str) else (seen == "0") is value

    def _wait(self, predicate: Callable[[], bool], trouble: str) -> None:
        assert wait_until(predicate, PATIENCE_S), f"{trouble}\n{self.story()}"

    def story(self) -> str:
        """Tell everything, for whoever has to find out what went wrong."""
        return self._told(self.arrived())

    def wait_for_handover_of_id(self) -> None:
        """Wait until our script has told the server the ID that the browser SDK has now."""
        self.wait_for_handover(device_id=self.browser_device_id())

    @property
    def sdk_cookie(self) -> str:
        """The name of the SDK's cookie."""
        return f"mp_{self.plan.config.get('persistence_name') or self.token + '_mixpanel'}"

    @property
    def our_cookie(self) -> str:
        """The name of our cookie."""
        name = cookie_name(self.token)
        return f"__Host-{name}" if self.plan.https else name

    # --- what came of it ----------------------------------------------------------------------------

    def assert_one_person(self, *labels: str) -> str:
        """Check that exactly these events arrived, and that they are one person's; gives his ID."""
        (person,) = self.assert_people(labels)
        return person

    def assert_people(self, *groups: tuple[str, ...]) -> list[str]:
        """Check that exactly these events arrived, each group of one person of its own; gives their IDs."""
        self.leave()
        events = self.arrived(*(label for group in groups for label in group))
        people, trouble = judge(events, groups)
        assert not trouble, f"{trouble}\n{self._told(events)}"
        assert not self.errors, f"scripts failed\n{self._told(events)}"
        assert self.inbox.stats()["rejected"] == 0, f"Mixpanel refused some\n{self._told(events)}"
        return people

    def ids_of(self, person: str) -> set[str]:
        """Return all IDs that Mixpanel knows a person by."""
        (ids,) = (each.ids for each in self._mixpanel.store.people() if each.person == person)
        return {person, *ids}

    def people(self, *labels: str) -> dict[str, str | None]:
        """Return whose each event is, by its label, once these have arrived."""
        self.leave()
        events = self.arrived(*labels)
        people = {event.label: event.person for event in events}
        assert set(labels) <= set(people), f"missing {set(labels) - set(people)}\n{self._told(events)}"
        return people

    def arrived(self, *labels: str) -> list[Seen]:
        """Return what arrived, oldest first, once these are among them or it is too late."""
        assert self._tracker.flush(PATIENCE_S)
        events: list[Seen] = []

        def complete() -> bool:
            nonlocal events
            listed = sorted(self.inbox.events(), key=lambda event: int(event["time_ms"]))
            events = [seen(event) for event in listed]
            return set(labels) <= {event.label for event in events}

        wait_until(complete, PATIENCE_S)
        return events

    def _told(self, events: list[Seen]) -> str:
        holds = (f"  {readable(f'{name}={value}')}" for name, value in self.cookies().items())
        return "\n".join(
            (
                *("", *table(events)),
                *("", "the shop saw:", *self.wire.lines),
                *("", "the browser holds:", *holds),
                f"counted: {self._tracker.stats()['notes']}",
                f"page errors: {self.errors}",
            )
        )


def _signed(sig: str) -> bytes:
    payload = sig.partition(".")[2]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
