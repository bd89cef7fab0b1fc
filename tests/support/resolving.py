"""Settings resolved for tests, and what is wrong with them."""

import pytest

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"
KEY = "a-key-of-some-length"
HOME = {"HOME": "/home/anna"}
ACCOUNT = {
    "MIXPANEL_SERVICE_ACCOUNT_USERNAME": "robot",
    "MIXPANEL_SERVICE_ACCOUNT_SECRET": "hush-hush",
    "MIXPANEL_PROJECT_ID": "4711",
}


def resolve(*, mapping=None, environ=None, require_secret=True, **given):
    """Resolve with a token, a key and a home, unless they are what is tested."""
    return Settings.resolve(
        {"token": TOKEN, "secret_key": KEY, **given},
        mapping=mapping,
        environ={**HOME, **(environ or {})},
        require_secret=require_secret,
    )


def problems(**sources):
    """Resolve, and give what is wrong."""
    with pytest.raises(SettingsError) as caught:
        resolve(**sources)
    return caught.value.problems


def problem(**sources):
    """Return what is wrong where it is one thing."""
    (only,) = problems(**sources)
    return only
