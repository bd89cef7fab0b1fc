"""What templates have: the script with its nonce, and the visitor."""

import pytest
from django.template.backends.django import DjangoTemplates
from django.test import RequestFactory

from mixpanel_visitor.django import VisitorMiddleware

PROCESSOR = "mixpanel_visitor.django.context_processors.visitor"


def rendered(text, request, **context):
    """Render a template with our context processor."""
    options = {"context_processors": [PROCESSOR]}
    engine = DjangoTemplates({"NAME": "django", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})
    return engine.from_string(text).render(context, request)


@pytest.fixture
def request_of(changed):
    """Return a request that has passed the middleware."""
    request = RequestFactory().get("/", SCRIPT_NAME="/shop")
    from django.http import HttpResponse

    VisitorMiddleware(lambda _request: HttpResponse())(request).close()
    return request


def test_the_context_processor(request_of):
    """It adds the visitor."""
    assert rendered("{{ visitor_id }}", request_of) == request_of.visitor_id
    assert rendered("{{ visitor.id }}", RequestFactory().get("/")) == ""


def test_a_flag_of_the_visitor(request_of, mixpanel_flags):
    """By its key, where that is an identifier."""
    template = "{% if visitor.flags.banner %}Sale!{% endif %}{{ visitor.flags.gone }}"
    assert rendered(template, request_of) == ""
    mixpanel_flags["banner"] = True
    assert rendered(template, request_of) == "Sale!"


class Nonce:
    """Lazy, and false until it is read, as Django's own."""

    def __bool__(self):
        return False

    def __str__(self):
        return "n0nce"


def test_the_script_without_a_policy(request_of):
    """It is HTML, and knows where the application is mounted."""
    html = rendered("{% load mixpanel_visitor %}{% visitor_script %}", request_of)
    assert html.startswith("<script>")
    assert '"/shop/_visitor.js"' in html


def test_the_nonce_of_djangos_policy(request_of):
    """From the context."""
    html = rendered("{% load mixpanel_visitor %}{% visitor_script %}", request_of, csp_nonce=Nonce())
    assert html.startswith('<script nonce="n0nce">')


def test_the_nonce_of_django_csp(request_of):
    """From the request."""
    request_of.csp_nonce = Nonce()
    html = rendered("{% load mixpanel_visitor %}{% visitor_script %}", request_of)
    assert html.startswith('<script nonce="n0nce">')


def test_no_script_where_there_is_no_path_for_it(request_of, changed):
    """`MIXPANEL_VISITOR_HANDOVER_PATH = None`."""
    changed(MIXPANEL_VISITOR_HANDOVER_PATH=None)
    assert rendered("{% load mixpanel_visitor %}{% visitor_script %}", request_of) == ""
