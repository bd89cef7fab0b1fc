"""What a process does not import that has not tracked yet: its start does not wait for it."""

import subprocess
import sys

import pytest
from support.waiting import PATIENCE_S

MAKE = {
    "wsgi": """
from mixpanel_visitor.wsgi import VisitorMiddleware
app = VisitorMiddleware(lambda environ, start: start("200 OK", []) and [] or [b""], tracker=tracker)
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.middleware import Middleware
before = set(sys.modules)
from mixpanel_visitor.starlette import VisitorMiddleware
app = Starlette(middleware=[Middleware(VisitorMiddleware, tracker=tracker)])
app.middleware_stack = app.build_middleware_stack()
""",
    "flask": """
from flask import Flask
app = Flask("shop")
before = set(sys.modules)
from mixpanel_visitor.flask import MixpanelVisitor
MixpanelVisitor(app, tracker=tracker)
""",
    "django": """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
import django.apps, django.core.checks, django.core.handlers.wsgi, django.core.management, django.urls
before = set(sys.modules)
settings.configure(
    INSTALLED_APPS=["mixpanel_visitor.django"],
    MIDDLEWARE=["mixpanel_visitor.django.VisitorMiddleware"],
    MIXPANEL_TOKEN="t", SECRET_KEY="s" * 50, MIXPANEL_VISITOR_SPOOL=sys.argv[1],
)
app = get_wsgi_application()
""",
}
"""How an application is made; what its framework imports is noted in `before`, for it is not our doing."""

BEGIN = """
import io, sys
before = set(sys.modules)


def make_tracker():
    from mixpanel_visitor import Tracker
    return Tracker(token="t", secret_key="a-key-of-some-length", spool=sys.argv[1], api_host="http://127.0.0.1:9")


"""
# `tracker` is made where the application asks for it, so that `before` has the framework alone.
SHOW = """
print(*sorted(set(sys.modules) - before))
"""
ANSWER = """
body = app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http", "HTTP_HOST": "shop.test",
            "wsgi.input": io.BytesIO(), "SERVER_NAME": "shop.test", "SERVER_PORT": "80"},
           lambda status, headers, info=None: None)
list(body)
tracker.close()  # it looks into the spool for what there is to deliver, as the sender's thread does
"""

OURS = [
    "mixpanel_visitor.delivery.sending.endpoint_worker",
    "mixpanel_visitor.delivery.sending.http_client",
    "mixpanel_visitor.delivery.journal.consumer",
    "mixpanel_visitor.delivery.journal.producer",
    "mixpanel_visitor.delivery.memory",
    "mixpanel_visitor.delivery.redis_streams",
    "mixpanel_visitor.emulator",
    "mixpanel_visitor.plan",
    "mixpanel_visitor.sdk",
    "mixpanel_visitor.testing",
]
OTHERS = [
    "click",
    "difflib",
    "importlib.metadata",
    "importlib.resources",
    "mixpanel",
    "redis",
    "requests",
    "sqlite3",
    "urllib3",
]
NETWORK = ["http.client", "ssl"]
"""Only to be looked for where no framework has imported them."""


def imported(make, spool, then=""):
    """Return what a process has imported that its framework had not."""
    parts = make.replace("tracker=tracker", "tracker=(tracker := make_tracker())")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + parts + then + SHOW, str(spool)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("framework", [pytest.param(each, id=each) for each in MAKE])
def test_a_start_imports_nothing_that_stores_or_delivers(framework, tmp_path):
    """Not before there is something to store, or a request with which the sender starts."""
    modules = imported(MAKE[framework], tmp_path)
    assert "mixpanel_visitor.tracking.pipeline" in modules
    assert modules & {*OURS, *OTHERS, *NETWORK} == set()


def test_a_request_that_tracks_nothing_imports_no_network(tmp_path):
    """The sender has looked into the spool; what makes requests is imported with the first of them."""
    modules = imported(MAKE["wsgi"], tmp_path, ANSWER)
    assert "mixpanel_visitor.delivery.sending.endpoint_worker" in modules
    assert modules & {"mixpanel_visitor.delivery.sending.http_client", *OTHERS, *NETWORK} == set()
