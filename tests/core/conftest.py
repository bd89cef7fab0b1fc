"""Readers of the browser SDKs' cookies with what they count, and the rules of a site."""

from collections import Counter

import pytest
from support.exchanges import House
from support.mixpanel_cookies import make_mixpanel_sdk
from support.spid_cookies import make_spid_sdk


@pytest.fixture
def notes():
    return Counter()


@pytest.fixture
def mixpanel_sdk(notes):
    return make_mixpanel_sdk(notes)


@pytest.fixture
def spid_sdk(notes):
    return make_spid_sdk(notes)


@pytest.fixture
def house():
    return House()
