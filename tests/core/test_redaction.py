"""Scrubbing: which names are secret, and that nothing else changes."""

import dataclasses
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpanel_visitor.core.events.redaction import Redactor

SECRETS = [
    *(
        "password",
        "PASSWORD",
        "Password",
        "user[password]",
        "user%5Bpassword%5D",
        "newPassword2",
        "old_password",
    ),
    *("token", "access_token", "accessToken", "accesstoken", "X-CSRF-Token", "refresh.token", "id-token"),
    *(
        "api_key",
        "apikey",
        "APIKey",
        "stripeApiKey",
        "client_secret",
        "card_number",
        "cardNumber",
        "cardnumber",
    ),
    *(
        "credit-card",
        "creditCardNumber",
        "cvv",
        "cvc",
        "ssn",
        "Authorization",
        "jwt",
        "sessionid",
        "session_id",
    ),
    "password_confirmation",
]
OTHERS = [
    *(
        "plan",
        "token_count",
        "tokens",
        "passenger",
        "passwords_changed",
        "secretary",
        "card",
        "number",
        "author",
    ),
    *("key", "session", "discard_number_of_items", "compass", "", "_", "42", "utm_source", "gclid", "state"),
]


@pytest.fixture
def found():
    return []


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_name(name, found):
    """However its words are put together."""
    assert Redactor().clean({name: "s3cret", "n": 1}, found.append) == {name: "REDACTED", "n": 1}
    assert found == [name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_left_alone(name, found):
    """What only sounds like a secret stays, in the very object that was given."""
    given_properties = {name: "value"}
    assert Redactor().clean(given_properties, found.append) is given_properties
    assert not found


def test_secrets_are_found_at_every_depth(found):
    """In dicts, and in dicts in lists; what was given is not changed."""
    properties = {"a": [{"b": {"password": "x", "c": 1}}, 2], "d": {"e": ({"token": "y"},)}, "f": [1]}
    cleaned = Redactor().clean(properties, found.append)
    assert cleaned == {
        "a": [{"b": {"password": "REDACTED", "c": 1}}, 2],
        "d": {"e": [{"token": "REDACTED"}]},
        "f": [1],
    }
    assert properties["a"][0]["b"]["password"] == "x"
    assert cleaned["f"] is properties["f"]
    assert found == ["password", "token"]


@dataclasses.dataclass
class Account:
    name: str
    password: str


def test_mappings_and_dataclasses_are_looked_into_as_well(found):
    """Whatever becomes an object in JSON."""
    proxy = MappingProxyType({"password": "x", "n": 1})
    assert Redactor().clean(proxy, found.append) == {"password": "REDACTED", "n": 1}
    account = Account(name="ann", password="x")
    assert Redactor().clean({"a": [account]}, found.append) == {
        "a": [{"name": "ann", "password": "REDACTED"}]
    }
    assert account.password == "x"
    harmless = {"a": dataclasses.make_dataclass("Point", ["x"])(1)}
    assert Redactor().clean(harmless, found.append) is harmless
    assert Redactor().clean({"kind": Account}, found.append) == {"kind": Account}


def test_a_list_of_ones_own_replaces_ours(found):
    """Its entries are words, too; `default` stands for ours; an empty one turns it off."""
    both = Redactor(["default", "shoe-size"]).clean({"shoeSize": 42, "password": "x"}, found.append)
    assert set(both.values()) == {"REDACTED"}
    assert Redactor(["shoe size"]).clean({"shoeSize": 42, "password": "x"}, found.append) == {
        "shoeSize": "REDACTED",
        "password": "x",
    }
    assert Redactor([]).clean({"password": "x"}, found.append) == {"password": "x"}


def test_a_missing_secret_is_none(found):
    """None stays None: it says that there was nothing."""
    assert Redactor().clean({"password": None}, found.append) == {"password": None}
    assert not found


@given(st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.text(), max_size=2), max_size=5))
def test_any_names_can_be_asked_for(properties):
    """None raises, and no name is lost."""
    assert Redactor().clean(properties, lambda name: None).keys() == properties.keys()
