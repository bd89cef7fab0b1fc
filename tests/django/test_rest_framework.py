"""Django REST framework: its views have the visitor, and a log-in that gives a token is one."""

import pytest
from django.contrib.auth import user_logged_in, user_logged_out
from django.http import HttpResponse
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView
from support.django_site import MIDDLEWARE, PASSWORD, urls_of

from mixpanel_visitor.django import get_tracker

APPS = ["rest_framework"]


class Orders(APIView):
    """A view for browsers."""

    def post(self, request):
        request.visitor.track("Ordered", items=len(request.data))
        return Response({"visitor_id": request.visitor_id})


class LogIn(ObtainAuthToken):
    """A view that gives a token, and says so with Django's signal, as django-rest-knox does."""

    def post(self, request, *args, **kwargs):
        response = super().post(request, *args, **kwargs)
        user = Token.objects.get(key=response.data["token"]).user
        user_logged_in.send(sender=type(user), request=request, user=user)
        return response


class LogOut(APIView):
    """A view that ends a token's use."""

    authentication_classes = (TokenAuthentication,)

    def post(self, request):
        user_logged_out.send(sender=type(request.user), request=request, user=request.user)
        return Response()


class Sync(APIView):
    """A view for programs, which have a token and keep no cookies."""

    authentication_classes = (TokenAuthentication,)

    def post(self, request):
        with get_tracker().visitor(user_id=request.user.pk) as visitor:
            visitor.track("Synchronised")
        return Response()


@pytest.fixture
def client(changed, tables):
    """Return DRF's own test client, of a site without sessions."""
    from django.urls import path

    changed(
        MIDDLEWARE=[MIDDLEWARE],
        ROOT_URLCONF=urls_of(
            path("orders/", Orders.as_view()),
            path("log-in/", LogIn.as_view()),
            path("log-out/", LogOut.as_view()),
            path("sync/", Sync.as_view()),
            path("page/", lambda request: HttpResponse(request.visitor_id)),
        ),
    )
    return APIClient()


def test_a_view_has_the_visitor(client, mixpanel_events):
    """Through DRF's request, which passes on what Django's has."""
    visitor_id = client.post("/orders/", {"a": 1, "b": 2}, format="json").data["visitor_id"]
    assert mixpanel_events.of(visitor_id).assert_tracked("Ordered").properties["items"] == 2
    assert client.get("/page/").content.decode() == visitor_id


def test_a_log_in_for_a_token(client, person, mixpanel_events):
    """What the browser does from then on is the user's; and after the log-out nobody's."""
    ann = person("ann")
    token = client.post("/log-in/", {"username": "ann", "password": PASSWORD}).data["token"]
    client.post("/orders/")
    client.post("/log-out/", headers={"authorization": f"Token {token}"})
    client.post("/orders/")
    first, second = mixpanel_events.find("Ordered")
    assert first.distinct_id == str(ann.pk)
    assert second.distinct_id.startswith("$device:")


def test_a_program_with_a_token(client, person, mixpanel_events):
    """It has no browser: its events are the user's, and each call makes no device of his."""
    ann = person("ann")
    token = Token.objects.create(user=ann)
    client.post("/sync/", headers={"authorization": f"Token {token.key}"})
    event = mixpanel_events.assert_tracked("Synchronised")
    assert event.distinct_id == str(ann.pk)
    assert "$device_id" not in event.properties
