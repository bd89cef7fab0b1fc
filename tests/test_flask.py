"""The Flask extension: settings, several applications, what handlers and templates have."""

import contextvars
import threading

import flask
import pytest
from support.responses import Jar
from support.spools import RecordingSpool
from support.trackers import COOKIE, SECRET_KEY, tracker_into
from werkzeug.test import EnvironBuilder
from werkzeug.wsgi import ClosingIterator

from mixpanel_visitor.core.identity.spid_browser import signed_payload
from mixpanel_visitor.errors import NoVisitorError, SettingsError
from mixpanel_visitor.flask import MixpanelVisitor, current_visitor
from mixpanel_visitor.tracking import context

MEMORY = {"spool": "memory:", "deliver": False}


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def tracker(spool):
    """Store into `spool`, deliver nothing."""
    return tracker_into(spool)


@pytest.fixture
def app(tracker):
    """An application that tracks and tells the visitor's ID in every way there is."""
    app = flask.Flask(__name__)
    MixpanelVisitor(app, tracker=tracker)

    @app.get("/")
    def front():
        current_visitor.track("Front")
        return {
            "g": flask.g.visitor_id,
            "g.visitor": flask.g.visitor.id,
            "environ": flask.request.environ["mixpanel_visitor.visitor_id"],
            "proxy": current_visitor.id,
            "context": context.current_visitor.id,
            "template": flask.render_template_string("{{ visitor_id }} {{ current_visitor.id }}"),
        }

    return app


def id_of(client, **more):
    """Ask for the visitor's ID."""
    return client.get("/", **more).json["g"]


def test_every_way_to_the_visitor_gives_the_same(app):
    """`g`, the environ, both proxies and templates speak of one visitor."""
    seen = app.test_client().get("/").json
    visitor_id = seen["g"]
    assert seen.pop("template") == f"{visitor_id} {visitor_id}"
    assert set(seen.values()) == {visitor_id}


def test_flasks_own_client_keeps_the_cookie(app):
    """Over http://testserver the visitor comes back; another client is somebody else."""
    client = app.test_client()
    base = {"base_url": "http://testserver"}
    assert id_of(client, **base) == id_of(client, **base)
    assert id_of(client, **base) != id_of(app.test_client(), **base)


def test_over_https_the_cookie_is_prefixed_and_kept(app):
    """The scheme decides about the name; the client keeps that as well."""
    client = app.test_client()
    base = {"base_url": "https://testserver"}
    first = client.get("/", **base)
    assert first.headers["Set-Cookie"].startswith(f"__Host-{COOKIE}=")
    assert id_of(client, **base) == first.json["g"]


def test_the_extension_leaves_handlers_their_cookies(app):
    """Flask's session cookie goes out beside ours."""
    app.secret_key = "of the session"

    @app.get("/session")
    def session():
        flask.session["seen"] = True
        return "hello"

    names = [
        value.partition("=")[0] for value in app.test_client().get("/session").headers.getlist("Set-Cookie")
    ]
    assert sorted(names) == [COOKIE, "session"]


def test_an_error_page_carries_the_cookie_and_keeps_the_events(app, spool):
    """Flask answers exceptions inside of us."""

    @app.get("/error")
    def error():
        current_visitor.track("Failing")
        raise RuntimeError("of the handler")

    seen = app.test_client().get("/error", buffered=True)
    assert seen.status_code == 500
    assert seen.headers["Set-Cookie"].startswith(f"{COOKIE}=")
    assert spool.names == ["Failing"]


def test_an_exception_that_propagates_keeps_the_events(app, spool):
    """With TESTING exceptions reach the test; what was tracked is stored."""
    app.testing = True
    problem = RuntimeError("of the handler")

    @app.get("/error")
    def error():
        current_visitor.track("Failing")
        raise problem

    with pytest.raises(RuntimeError) as caught:
        app.test_client().get("/error")
    assert caught.value is problem
    assert spool.names == ["Failing"]


def test_a_stream_has_the_current_visitor(app, spool):
    """Flask's own request context is gone while the body streams; the visitor is not."""

    @app.get("/stream")
    def stream():
        def parts():
            current_visitor.track("Part")
            yield current_visitor.id

        return flask.Response(parts(), headers={"X-ID": flask.g.visitor_id})

    seen = app.test_client().get("/stream")
    assert seen.text == seen.headers["X-ID"]
    assert spool.names == ["Part"]


def test_teardown_and_call_on_close_may_track(app, spool):
    """Whatever Flask runs after the handler still belongs to the request."""

    @app.teardown_request
    def teardown(_error):
        current_visitor.track("Torn down")

    @app.get("/late")
    def late():
        response = flask.Response("hello")
        visitor = flask.g.visitor
        response.call_on_close(lambda: visitor.track("Closed"))
        return response

    app.test_client().get("/late").close()
    assert sorted(spool.names) == ["Closed", "Torn down"]


# --- outside of a request --------------------------------------------------------------------


@pytest.fixture
def quiet(tracker):
    """An application with a route that tracks nothing, and one that tracks when its response is closed."""
    app = flask.Flask(__name__)

    @app.get("/quiet")
    def quiet():
        return "hello"

    @app.get("/closing")
    def closing():
        response = flask.Response("hello")
        response.call_on_close(lambda: context.current_visitor.track("Closed"))
        return response

    @app.get("/stream")
    def stream():
        return flask.Response(iter(["hello"]))

    @app.get("/event")
    def event():
        current_visitor.track("Seen")
        return "hello"

    return app


def body_of(app, path):
    """Call the application as a server does; give the body that it gets."""
    return app.wsgi_app(EnvironBuilder(path=path).get_environ(), lambda *_: None)


def test_a_whole_response_that_tracked_nothing_is_not_watched(quiet, tracker):
    """The server gets Flask's own body: nothing of the application's runs while it is sent."""
    MixpanelVisitor(quiet, tracker=tracker)
    assert type(body_of(quiet, "/quiet")) is ClosingIterator
    for path in ("/closing", "/stream", "/event"):
        assert type(body_of(quiet, path)) is not ClosingIterator, path


def test_what_was_tracked_is_stored_after_the_response(quiet, tracker, spool):
    """Although the response is whole: the visitor waits for no disk."""
    MixpanelVisitor(quiet, tracker=tracker)
    body = body_of(quiet, "/event")
    assert (b"".join(body), spool.names) == (b"hello", ["Seen"])


def test_a_callback_at_the_close_has_its_visitor(quiet, tracker, spool):
    """Where a response has any, it is watched to its end."""
    MixpanelVisitor(quiet, tracker=tracker)
    quiet.test_client().get("/closing").close()
    assert spool.names == ["Closed"]


def test_a_middleware_below_may_track_while_it_sends(quiet, tracker, spool):
    """Whoever puts another body in the place of Flask's keeps the visitor until that one's end."""
    flasks = quiet.wsgi_app

    def tracked(chunk):
        context.current_visitor.track("Chunk")
        return chunk

    def tracking(environ, start_response):
        return map(tracked, flasks(environ, start_response))

    quiet.wsgi_app = tracking
    MixpanelVisitor(quiet, tracker=tracker)
    assert quiet.test_client().get("/quiet").data == b"hello"
    assert spool.names == ["Chunk"]


def test_outside_of_a_request_there_is_nobody(app):
    """The proxy is falsy and reading an ID says what to do, in an application's context as well."""
    assert not current_visitor
    with app.app_context():
        assert not current_visitor
        with pytest.raises(NoVisitorError, match=r"tracker\.visitor\("):
            _ = current_visitor.id
        current_visitor.track("For nobody")


def test_a_job_within_an_application_has_its_visitor(app, spool):
    """A command of the application tracks with the same helpers as a handler."""
    with app.app_context(), app.extensions["mixpanel_visitor"].visitor("user-42"):
        assert current_visitor.user_id == "user-42"
        current_visitor.track("Billed")
    assert spool.names == ["Billed"]


def test_an_application_without_the_extension_has_nobody():
    """A helper that tracks may be shared with an application that has no visitors."""
    with flask.Flask(__name__).test_request_context("/"):
        assert not current_visitor
        current_visitor.track("For nobody")


def test_templates_outside_of_a_request_render(app):
    """Mails are rendered in jobs: the names are there to be asked for, and nobody is there."""
    with app.app_context():
        assert flask.render_template_string("{{ visitor_id is defined }}") == "False"


def test_a_test_request_context_has_a_visitor(app, spool):
    """It does not pass through the middleware; helpers under test find one visitor all the same."""
    with app.test_request_context("/"):
        first = current_visitor.id
        app.preprocess_request()
        assert flask.g.visitor_id == current_visitor.id == first
        current_visitor.track("Tested")
        assert flask.render_template_string("{{ visitor_id }}") == first
    assert spool.names == ["Tested"]


def test_both_proxies_know_a_test_request_context(app, spool):
    """That of the package is the same visitor as that of the door."""
    with app.test_request_context("/"):
        context.current_visitor.track("Tested")
        assert context.current_visitor.id == current_visitor.id
    assert spool.names == ["Tested"]


@pytest.mark.parametrize("proxy", [context.current_visitor, current_visitor], ids=["package", "door"])
def test_a_copied_request_context_has_the_visitor(app, tracker, spool, proxy):
    """Flask's way to take a request along into a thread takes its visitor along, for both proxies."""
    seen = []

    @app.get("/thread")
    def start():
        @flask.copy_current_request_context
        def work():
            proxy.track("Worked")
            seen.append(proxy.id)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return flask.g.visitor_id

    assert seen == [app.test_client().get("/thread").text]
    assert spool.names == ["Worked"]


def test_a_copied_request_context_may_outlive_the_request(app, spool):
    """What is tracked after the answer is stored at once."""
    later = []

    @app.get("/later")
    def start():
        later.append(flask.copy_current_request_context(lambda: context.current_visitor.track("Later")))
        return "hello"

    assert app.test_client().get("/later").text == "hello"
    contextvars.Context().run(later[0])
    assert spool.names == ["Later"]


@pytest.mark.parametrize("name", ["visitor", "visitor_id"])
def test_what_the_application_has_put_into_g_stays(tracker, name):
    """An application whose own `before_request` comes first keeps its `g.visitor`."""
    app = flask.Flask(__name__)
    app.before_request(lambda: setattr(flask.g, name, "their own"))
    MixpanelVisitor(app, tracker=tracker)
    app.get("/")(lambda: f"{flask.g.get(name)} {bool(current_visitor.id)}")
    assert app.test_client().get("/").text == "their own True"


def test_a_test_request_context_takes_cookies(app):
    """A known visitor is known there too."""
    seen = app.test_client().get("/")
    jar = Jar()
    jar.keep(seen.headers.items())
    with app.test_request_context("/", headers=jar.header):
        assert current_visitor.id == seen.json["g"]


# --- settings --------------------------------------------------------------------------------


def application(**config):
    """Build an application with this configuration, without the extension."""
    app = flask.Flask(__name__)
    app.config.update(MIXPANEL_TOKEN="t", MIXPANEL_VISITOR_SPOOL="memory:", MIXPANEL_VISITOR_DELIVER=False)
    app.config.update(config)

    @app.get("/")
    def front():
        return {"g": flask.g.visitor_id}

    return app


def settings_of(app):
    """Return the settings that the extension came to."""
    return app.extensions["mixpanel_visitor"].settings


def test_settings_come_from_the_applications_config():
    """`app.config` has the names of the environment."""
    app = application(MIXPANEL_VISITOR_SECRET_KEY=SECRET_KEY, MIXPANEL_VISITOR_DURABILITY="before-response")
    MixpanelVisitor().init_app(app)
    assert (settings_of(app).token, settings_of(app).durability) == ("t", "before-response")


def test_keywords_go_before_the_config():
    """What is said in the code is meant."""
    app = application(MIXPANEL_VISITOR_SECRET_KEY=SECRET_KEY)
    MixpanelVisitor(app, token="ofthecode")
    assert settings_of(app).token == "ofthecode"


def test_the_config_goes_before_the_environment(monkeypatch):
    """The environment fills in what nobody else has said."""
    monkeypatch.setenv("MIXPANEL_TOKEN", "oftheenvironment")
    monkeypatch.setenv("MIXPANEL_VISITOR_SECRET_KEY", SECRET_KEY)
    app = application()
    MixpanelVisitor(app)
    assert settings_of(app).token == "t"
    del (bare := application()).config["MIXPANEL_TOKEN"]
    MixpanelVisitor(bare)
    assert settings_of(bare).token == "oftheenvironment"


def test_the_applications_secret_key_signs_as_well():
    """Without a key of its own the cookie is signed with Flask's."""
    app = application(SECRET_KEY="a-key-of-the-application")
    MixpanelVisitor(app)
    client = app.test_client()
    assert id_of(client) == id_of(client)


def test_rotated_secret_keys_are_still_accepted():
    """`SECRET_KEY_FALLBACKS` verify, `SECRET_KEY` signs."""
    before = application(SECRET_KEY="the-key-of-last-year")
    after = application(SECRET_KEY="the-key-of-this-year", SECRET_KEY_FALLBACKS=["the-key-of-last-year"])
    strict = application(SECRET_KEY="the-key-of-this-year")
    for app in (before, after, strict):
        MixpanelVisitor(app)
    jar = Jar()
    seen = before.test_client().get("/")
    jar.keep(seen.headers.items())
    assert id_of(after.test_client(use_cookies=False), headers=jar.header) == seen.json["g"]
    assert id_of(strict.test_client(use_cookies=False), headers=jar.header) != seen.json["g"]
    jar.keep(after.test_client().get("/").headers.items())
    assert id_of(before.test_client(use_cookies=False), headers=jar.header) != id_of(
        strict.test_client(use_cookies=False), headers=jar.header
    )


def test_a_key_of_our_own_goes_before_the_applications():
    """Whoever sets both wants the cookie signed with its own."""
    app = application(SECRET_KEY="a-key-of-the-application", MIXPANEL_VISITOR_SECRET_KEY=SECRET_KEY)
    MixpanelVisitor(app)
    assert list(settings_of(app).secret_key) == [SECRET_KEY]


def test_wrong_settings_raise_at_init_app():
    """All mistakes at once, before the first request."""
    app = flask.Flask(__name__)
    app.config.update(MIXPANEL_TOKEN="t", MIXPANEL_VISITOR_DURABILITY="sometimes")
    with pytest.raises(SettingsError) as caught:
        MixpanelVisitor(app, **MEMORY)
    assert len(caught.value.problems) == 2
    assert "mixpanel_visitor" not in app.extensions


def test_init_app_twice_is_refused(app, tracker):
    """Every event would go out twice."""
    with pytest.raises(RuntimeError, match="already"):
        MixpanelVisitor(app, tracker=tracker)


def test_one_extension_serves_several_applications():
    """Each has its own token, key and visitors; the extension knows which one is running."""
    visitors = MixpanelVisitor()
    first, second = (
        application(MIXPANEL_TOKEN=token, SECRET_KEY=f"the-secret-key-of-{token}")
        for token in ("first", "second")
    )
    for app in (first, second):
        visitors.init_app(app)
    jar = Jar()
    seen = first.test_client().get("/")
    jar.keep(seen.headers.items())
    assert id_of(first.test_client(use_cookies=False), headers=jar.header) == seen.json["g"]
    assert id_of(second.test_client(use_cookies=False), headers=jar.header) != seen.json["g"]
    for app, token in ((first, "first"), (second, "second")):
        with app.app_context():
            assert visitors.tracker.settings.token == token


def test_templates_sign_traits_for_spid():
    """The text stands in a script as it is."""
    app = flask.Flask(__name__)
    settings = {"token": "t", "secret_key": "a-key-of-some-length", "spid_sign_secret": "s"}
    MixpanelVisitor(app, **settings, spool="memory:", deliver=False)
    page = "VGS.setTraits('{{ sign_traits({'Plan': 'pro'}) }}')"
    app.add_url_rule("/", view_func=lambda: flask.render_template_string(page))
    text = app.test_client().get("/").text
    assert signed_payload(text.removeprefix("VGS.setTraits('").removesuffix("')"), "s")["Plan"] == "pro"
