"""`{% visitor_script %}` under a Content-Security-Policy: the nonce is the one that the header names."""

import re

import pytest
from django.http import HttpResponse
from django.template import engines
from django.test import Client
from support.django_site import MIDDLEWARE

BACKEND = "django.template.backends.django.DjangoTemplates"


def page(request):
    """Show a page with the script."""
    template = engines["django"].from_string("{% load mixpanel_visitor %}{% visitor_script %}")
    return HttpResponse(template.render({}, request))


@pytest.fixture
def nonces(urls, changed):
    """Ask for the page; gives the nonces of its header and of its script."""

    def ask(middleware, *processors, **more):
        changed(
            MIDDLEWARE=[MIDDLEWARE, middleware],
            TEMPLATES=[{"BACKEND": BACKEND, "OPTIONS": {"context_processors": list(processors)}}],
            **more,
        )
        urls(page=page)
        answer = Client().get("/page/")
        (in_header,) = re.findall(r"'nonce-([^']+)'", answer["Content-Security-Policy"])
        (in_page,) = re.findall(r'<script nonce="([^"]+)">', answer.content.decode())
        return in_header, in_page

    return ask


def test_django_csp(nonces):
    """It needs no context processor."""
    from csp.constants import NONCE, SELF

    policy = {"DIRECTIVES": {"script-src": [SELF, NONCE]}}
    in_header, in_page = nonces("csp.middleware.CSPMiddleware", CONTENT_SECURITY_POLICY=policy)
    assert in_header == in_page


@pytest.mark.parametrize("processors", [["django.template.context_processors.csp"], []])
def test_djangos_own_policy(nonces, processors):
    """With its context processor, and without."""
    csp = pytest.importorskip("django.utils.csp", reason="Django 6.0 has it first").CSP
    in_header, in_page = nonces(
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        *processors,
        SECURE_CSP={"script-src": [csp.SELF, csp.NONCE]},
    )
    assert in_header == in_page
