"""AppExtension and PageHelpers: what the extensions of Flask and of Quart have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

from .page_script import page_script
from .tracker import Tracker, engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Unpack

    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.settings.keywords import SettingsKeywords

    from .visitor import Visitor

EXTENSION = "mixpanel_visitor"
"""The key in `app.extensions` under which an application's tracker is."""


class Application(Protocol):
    """As much of `flask.Flask` and `quart.Quart` as is needed here."""

    extensions: dict[str, Any]

    @property
    def config(self) -> MutableMapping[str, Any]:
        """The settings of the application."""
        ...


_App_contra = TypeVar("_App_contra", bound=Application, contravariant=True)


class AppExtension(Generic[_App_contra]):
    """An extension with `init_app`. Holds no application; each one's tracker is in `app.extensions`."""

    _current_app: ClassVar[Application]
    """The framework's proxy of the application that is running."""

    def __init__(
        self,
        app: _App_contra | None = None,
        *,
        tracker: Tracker | None = None,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: _App_contra) -> None:
        """Attach a visitor to every request of the application; wrong settings raise here, all at once."""
        raise NotImplementedError

    @property
    def tracker(self) -> Tracker:
        """The tracker of the application that is running here."""
        return cast("Tracker", self._current_app.extensions[EXTENSION])

    def _add_tracker(self, app: _App_contra) -> Tracker:
        """Bind the extension's tracker to the application, or a tracker made from its configuration."""
        if EXTENSION in app.extensions:
            raise RuntimeError(
                f"this {type(app).__name__} application has a MixpanelVisitor already: "
                "call init_app once for each one"
            )
        tracker = self._tracker
        if tracker is None:
            tracker = Tracker.from_mapping(app.config, **self._settings)
        app.extensions[EXTENSION] = tracker
        return tracker


class PageHelpers:
    """The variables of templates, and the functions of the same names."""

    def __init__(self, current_app: Application, root_path: Callable[[], str]) -> None:
        """Take the framework's proxy of the running application, and a function for its `root_path`."""
        self._current_app = current_app
        self._root_path = root_path

    def context(self, visitor: Visitor) -> dict[str, Any]:
        """Return the variables of a template."""
        return {
            "current_visitor": visitor,
            "visitor_id": visitor.id,
            "visitor_script": self.visitor_script,
            "sign_traits": self.sign_traits,
        }

    def sign_traits(self, traits: Mapping[str, object]) -> str:
        """Return traits of SPiD's visitor as the signed text that `VGS.setTraits` takes."""
        tracker: Tracker | None = self._current_app.extensions.get(EXTENSION)
        return "" if tracker is None else tracker.sign_traits(traits)

    def visitor_script(self, nonce: str | None = None) -> str:
        """Return the script that hands the browser's ID over where no cookie does, as HTML for a page's head.

        In templates `{{ visitor_script(csp_nonce) }}`; without a Content-Security-Policy it takes no nonce.
        With a `collector_path`, it also sets the options for `mixpanel.init`, as `visitorOptions`.
        """
        tracker: Tracker | None = self._current_app.extensions.get(EXTENSION)
        if tracker is None:
            return ""
        return page_script(engine_of(tracker), root_path=self._root_path(), nonce=nonce)


def visitor_without_middleware(tracker: Tracker, facts: RequestFacts) -> Visitor:
    """Return the visitor of a request that has not passed the middleware: its events are stored at once."""
    engine = engine_of(tracker)
    exchange, visitor = engine.begin(engine.behind_proxies(facts), in_background=False)
    engine.on_response_end(exchange, in_background=False)
    return visitor
