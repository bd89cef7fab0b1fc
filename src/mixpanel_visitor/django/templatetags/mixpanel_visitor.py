"""`{% load mixpanel_visitor %}`, and `{% visitor_script %}` in a page's head."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.module_loading import import_string

from mixpanel_visitor.django.site import current_site
from mixpanel_visitor.tracking.page_script import page_script

get_nonce: Any
try:
    get_nonce = import_string("django.middleware.csp.get_nonce")
except ImportError:  # Django 5.2
    get_nonce = None

register = template.Library()


@register.simple_tag(takes_context=True)
def visitor_script(context: Any) -> str:
    """Return the script that hands the browser's own ID over, with the nonce of the page's CSP.

    It is that of Django's own middleware (6.0 and later), with or without its context processor, or of
    django-csp.
    """
    request = getattr(context, "request", None) or context.get("request")
    engine = current_site().engine
    if engine.handover_script is None and engine.settings.collector_path is None:
        return ""
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(request, "csp_nonce", None)
    if nonce is None and request is not None and get_nonce is not None:
        nonce = get_nonce(request)
    root_path = "" if request is None else request.META.get("SCRIPT_NAME", "")
    # Both nonces are lazy, and false until somebody has read them.
    return page_script(engine, root_path=root_path, nonce=None if nonce is None else str(nonce))
