"""Routes of the collector: the paths under `collector_path`, by the SDK's names and by those of this project.

Lists of tracking addresses contain the SDK's own names (`track`, `engage`). So each project has other names
as well, made of its token: without a vowel, and so without a word, and the same in every process.
"""

from __future__ import annotations

from typing import Literal, get_args

from mixpanel_visitor.settings.project import own_word

Route = Literal["track", "engage", "groups", "record", "flags", "settings"]
"""One of the six `api_routes` of mixpanel-browser 2.83."""

ROUTES: tuple[Route, ...] = get_args(Route)

FIRST_TIME_EVENTS = "/first-time-events"
"""The end of the path where the SDK reports that a flag's first-time event has happened."""


_TAIL_CHARS = 3


def own_names(token: str) -> dict[Route, str]:
    """Return this project's name for each route; the same for a token, and all with the same end."""
    tail = _tail(token)
    return {route: f"{own_word(token, f'route {route}')}{tail}" for route in ROUTES}


def _tail(token: str) -> str:
    return own_word(token, "routes")[:_TAIL_CHARS]


class CollectorRoutes:
    """Which route a path is; `path` is the setting `collector_path`, below the application's root."""

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self._names = own_names(token)
        routes: dict[str, Route] = {
            f"{path}/{name}": route for route in ROUTES for name in (route, self._names[route])
        }
        # The SDK's paths end in a slash; some frameworks (Litestar) remove it before the middleware.
        self._routes: dict[str, Route] = {**routes, **{f"{full}/": route for full, route in routes.items()}}
        self._flags = tuple(full for full, route in routes.items() if route == "flags")
        # Few, because each request of the application is compared with all of them.
        self.endings = (f"{_tail(token)}/", *(f"{path}/{route}/" for route in ROUTES), FIRST_TIME_EVENTS)
        """The ends of the collector's paths, to exclude nearly all other paths at once."""
        reports = (f"{flags_path}/{{flag_id:str}}{FIRST_TIME_EVENTS}" for flags_path in self._flags)
        self.patterns = (*routes, *reports)
        """Each path of the collector, with `{flag_id:str}` for the variable part."""

    def find(self, path: str) -> Route | None:
        """Return the route of a path; None: it is not the collector's."""
        route = self._routes.get(path)
        if route is None and self.flag_id(path) is not None:
            return "flags"
        return route

    def flag_id(self, path: str) -> str | None:
        """Return the flag whose first-time event a path reports; None: it is another path."""
        if not path.endswith(FIRST_TIME_EVENTS):
            return None
        parent, _, flag_id = path.removesuffix(FIRST_TIME_EVENTS).rpartition("/")
        is_id = 0 < len(flag_id) <= 64 and flag_id.isascii() and flag_id.replace("-", "").isalnum()
        return flag_id if is_id and parent in self._flags else None

    def init_options(self, *, mount: str = "") -> dict[str, object]:
        """Return the options for `mixpanel.init`; `mount` is the path that the application is under."""
        return {
            "api_host": f"{mount}{self._path}",
            "api_routes": {route: f"{name}/" for route, name in self._names.items()},
        }
