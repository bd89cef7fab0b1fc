"""The extension for Quart: settings, handlers, sockets, background tasks, templates and the shut-down."""

import asyncio

import pytest
import quart
from support.spools import RecordingSpool
from support.trackers import tracker_into
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import SettingsError
from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.quart import MixpanelVisitor, current_visitor
from mixpanel_visitor.tracking import context


def site(**settings):
    """An application that says in every way who the visitor is."""
    app = quart.Quart(__name__)
    MixpanelVisitor(app, **settings)

    async def tell():
        return {
            "g": quart.g.visitor_id,
            "g.visitor": quart.g.visitor.id,
            "proxy": current_visitor.id,
            "context": context.current_visitor.id,
            "template": await quart.render_template_string("{{ visitor_id }}"),
            "template's visitor": await quart.render_template_string("{{ current_visitor.id }}"),
        }

    app.add_url_rule("/tell", view_func=tell)

    @app.get("/thread")
    def thread():
        return {"g": quart.g.visitor_id, "proxy": current_visitor.id, "context": context.current_visitor.id}

    @app.post("/signup")
    async def signup():
        async def welcome():
            await app.extensions["answered"].wait()
            current_visitor.track("Welcomed")
            app.extensions["welcomed"].set()

        current_visitor.identify("user-42")
        current_visitor.track("Signed up", plan="pro")
        app.add_background_task(welcome)
        return {"distinct_id": current_visitor.distinct_id}

    @app.get("/shoes/<int:number>")
    async def shoes(number):
        return f"<h1>{number}</h1>"

    @app.get("/script")
    async def script():
        return await quart.render_template_string("{{ visitor_script('n0nce') }}")

    @app.get("/error")
    async def error():
        current_visitor.track("Failing")
        raise RuntimeError("of the handler")

    @app.websocket("/socket")
    async def socket():
        current_visitor.track("Connected")
        await quart.websocket.send_json([quart.g.visitor_id, current_visitor.id])

    return app


def visit(app, *requests):
    """Ask with Quart's own client, one after the other; give the answers and what they say."""

    async def asked():
        app.extensions.update(answered=asyncio.Event(), welcomed=asyncio.Event())
        async with app.test_app() as running:
            client = running.test_client()
            answers = []
            for method, path, *more in requests:
                answer = await client.open(path, method=method, **(more[0] if more else {}))
                answers.append((answer, await answer.get_data(as_text=True)))
            app.extensions["answered"].set()
            if ("POST", "/signup") in requests:
                await app.extensions["welcomed"].wait()
        return answers

    return asyncio.run(asked())


def test_every_way_to_the_visitor_gives_the_same(mixpanel_events):
    """`g`, both proxies and templates, in the loop and in a thread, in one request and the next."""
    told = [quart.json.loads(text) for _, text in visit(site(), ("GET", "/tell"), ("GET", "/thread"))]
    assert len({value for each in told for value in each.values()}) == 1


def test_the_shortest_complete_test(mixpanel_events):
    """An event is the visitor's, and so is one of a background task that outlives the response."""
    visit(site(), ("POST", "/signup"))
    mixpanel_events.assert_tracked("Signed up", plan="pro", distinct_id="user-42")
    mixpanel_events.assert_tracked("Welcomed", distinct_id="user-42")


def test_a_socket_has_a_visitor(mixpanel_events):
    """The same in `g` and by the proxy; its accept carries the cookie."""

    async def talk():
        async with site().test_app() as running, running.test_client().websocket("/socket") as session:
            return await session.receive_json()

    first, second = asyncio.run(talk())
    assert first == second
    mixpanel_events.assert_tracked("Connected", **{"$device_id": first})


def test_a_page_view_has_the_rule(mixpanel_events):
    """Quart's own, not the address."""
    html = {"headers": {"accept": "text/html"}}
    visit(site(page_views=True), ("GET", "/shoes/7", html))
    mixpanel_events.assert_tracked("$mp_web_page_view", route="/shoes/<int:number>")


def test_an_error_page_carries_the_cookie_and_keeps_the_events(mixpanel_events):
    """Quart answers exceptions inside of us, and addresses that it does not have."""
    answers = visit(site(), ("GET", "/error"))
    assert [answer.status_code for answer, _ in answers] == [500]
    assert "Set-Cookie" in answers[0][0].headers
    assert "Set-Cookie" in visit(site(), ("GET", "/nowhere"))[0][0].headers
    mixpanel_events.assert_tracked("Failing")


def test_the_hand_over_answers(mixpanel_events):
    """And templates have its script, with the nonce."""
    (script, _), (_, page) = visit(site(), ("GET", "/_visitor.js"), ("GET", "/script"))
    assert script.status_code == 200
    assert 'nonce="n0nce"' in page


def test_an_application_of_a_factory_takes_its_config():
    """`init_app` reads what `app.config` has by then; without a key of our own its SECRET_KEY signs."""
    visitors = MixpanelVisitor()
    app = quart.Quart(__name__)
    app.config.update(MIXPANEL_TOKEN="of-the-config", SECRET_KEY="a-key-of-some-length")
    app.config["MIXPANEL_VISITOR_SPOOL"] = "memory:"
    visitors.init_app(app)

    async def settings():
        async with app.app_context():
            return visitors.tracker.settings

    held = asyncio.run(settings())
    assert (held.token, held.spool) == ("of-the-config", "memory:")


def test_wrong_settings_raise_at_init_app():
    """All at once."""
    app = quart.Quart(__name__)
    app.config.update(MIXPANEL_TOKEN="t", SECRET_KEY="a-key-of-some-length", MIXPANEL_REGION="mars")
    with pytest.raises(SettingsError, match="region"):
        MixpanelVisitor(app)


def test_an_application_takes_it_once(mixpanel_events):
    """A second one would track everything twice."""
    with pytest.raises(RuntimeError, match="already"):
        MixpanelVisitor(site())


def test_a_request_context_of_a_test_has_a_visitor(mixpanel_events):
    """Though it has not passed through the middleware; what it tracks is stored at once."""

    async def in_context():
        async with site().test_request_context("/tell"):
            current_visitor.track("Tested")
            assert context.current_visitor.id == current_visitor.id

    asyncio.run(in_context())
    mixpanel_events.assert_tracked("Tested")


def test_outside_of_a_request_it_is_nobody():
    """Falsy, and an ID that is asked for says what to do."""
    assert not current_visitor
    with pytest.raises(NoVisitorError, match=r"tracker\.visitor"):
        _ = current_visitor.id


def test_what_the_application_puts_into_g_stays(mixpanel_events):
    """It may have a visitor of its own."""
    app = quart.Quart(__name__)

    @app.before_request
    async def own():
        quart.g.visitor = "the application's"

    MixpanelVisitor(app)

    @app.get("/")
    async def front():
        return {"visitor": quart.g.visitor, "same": quart.g.visitor_id == current_visitor.id}

    ((_, text),) = visit(app, ("GET", "/"))
    assert quart.json.loads(text) == {"visitor": "the application's", "same": True}


def test_events_of_background_tasks_are_stored_at_once():
    """While the server goes on, though their request is over: nothing else will store them."""
    spool = RecordingSpool()
    app = site(tracker=tracker_into(spool))

    async def main():
        app.extensions.update(answered=asyncio.Event(), welcomed=asyncio.Event())
        async with app.test_app() as running:
            await running.test_client().post("/signup")
            await asyncio.to_thread(wait_until, lambda: "Signed up" in spool.names, PATIENCE_S)
            app.extensions["answered"].set()
            return await asyncio.to_thread(wait_until, lambda: "Welcomed" in spool.names, PATIENCE_S)

    assert asyncio.run(main())


def test_the_shut_down_stores_what_is_left_after_after_serving():
    """What was tracked last, in a task or by the application's own shut-down, is in the spool then."""
    spool = RecordingSpool()
    app = site(tracker=tracker_into(spool))

    @app.after_serving
    async def end():
        app.extensions["mixpanel_visitor"].track("nobody", "Ended")

    visit(app, ("POST", "/signup"))
    assert set(spool.names) >= {"Signed up", "Welcomed", "Ended"}
