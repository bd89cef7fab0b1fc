"""Readers of the browser SDKs' cookies, and what they count."""

from collections import Counter

import pytest
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
