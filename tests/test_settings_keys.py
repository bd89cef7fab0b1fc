"""Settings that identify: the token, the keys that sign, and the service account."""

import dataclasses
import logging

import pytest
from support.resolving import ACCOUNT, KEY, TOKEN, problem, problems, resolve

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import ServiceAccount, Settings

# --- token and keys -----------------------------------------------------------------------------------


def test_a_missing_token_names_the_variable():
    """It is the first thing everybody meets."""
    assert "MIXPANEL_TOKEN" in problem(token=None)


def test_the_token_of_django_analytical_is_recognised():
    """Its variable has another name; we say so instead of guessing."""
    assert "did you mean MIXPANEL_TOKEN?" in problem(token=None, environ={"MIXPANEL_API_TOKEN": "t"})


def test_the_second_name_of_the_token_is_accepted():
    """MIXPANEL_PROJECT_TOKEN is common too; MIXPANEL_TOKEN is stronger."""
    both = {"MIXPANEL_TOKEN": "one", "MIXPANEL_PROJECT_TOKEN": "two"}
    assert resolve(token=None, environ={"MIXPANEL_PROJECT_TOKEN": "two"}).token == "two"
    assert resolve(token=None, environ=both).token == "one"


@pytest.mark.parametrize("token", ["", "a b", "t\n", "tökén", 7])
def test_a_token_is_letters_digits_dash_and_underscore(token):
    """Anything else was not copied well."""
    assert problem(token=token).startswith(f"token={token!r}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (KEY, (KEY,)),
        (["old-key-old-key-1", KEY], ("old-key-old-key-1", KEY)),
        ((KEY,), (KEY,)),
        (b"bytes-as-in-flasks-docs", ("bytes-as-in-flasks-docs",)),
        (b'_5#y2L"F4Q8z\n\xec]/', ("5f352379324c22463451387a0aec5d2f",)),
        ('["old-key-old-key-1", "new-key-new-key-1"]', ("old-key-old-key-1", "new-key-new-key-1")),
    ],
)
def test_one_key_or_several(given, expected):
    """They come out as a tuple, oldest first."""
    assert resolve(secret_key=given).secret_key == expected


@pytest.mark.parametrize("given", ["", " ", [], [KEY, ""], 7, [None], '["a", ', "\udcec" * 20])
def test_bad_keys_are_refused_without_showing_them(given):
    """An empty key would sign, too."""
    assert problem(secret_key=given).startswith("secret_key (keyword): ")


def test_the_key_is_required_where_requests_are_served():
    """The message holds the command that makes one."""
    assert "secrets.token_urlsafe" in problem(secret_key=None)


def test_a_worker_needs_no_key():
    """It sees no cookies."""
    assert resolve(secret_key=None, require_secret=False).secret_key == ()


def test_the_token_is_no_secret():
    """It stands in every page that loads mixpanel-browser."""
    line = problem(secret_key=["an-older-key-of-ours", TOKEN])
    assert "every browser can read" in line
    assert TOKEN not in line


@pytest.mark.parametrize(
    "given", ["short1", "x" * 15, ["short-old-key", KEY], [KEY, "short"], b"bytes", '["a", "b"]']
)
def test_a_short_key_is_refused(given):
    """Also one that only verifies; the line has the command that makes another, and does not show the key."""
    line = problem(secret_key=given)
    assert line.startswith("secret_key (keyword): ")
    assert "16 characters" in line
    assert "python -c 'import secrets; print(secrets.token_urlsafe(32))'" in line
    assert "short" not in line


def test_a_key_of_sixteen_characters_is_taken():
    """As many as eight random bytes in hex."""
    assert resolve(secret_key="0123456789abcdef").secret_key == ("0123456789abcdef",)


def test_a_short_key_is_told_with_the_other_mistakes():
    """All at once, from wherever it comes; and a settings object is as strict."""
    sources = {"environ": {"MIXPANEL_VISITOR_SECRET_KEY": "dev", "MIXPANEL_VISITOR_BOTS": "eat"}}
    assert len(problems(secret_key=None, **sources)) == 2
    assert len(problems(secret_key=None, mapping={"MIXPANEL_VISITOR_SECRET_KEY": "dev"}, bots="eat")) == 2
    with pytest.raises(SettingsError, match="16 characters"):
        Settings(token=TOKEN, secret_key="dev", spool="memory:")


# --- Flask's own keys ---------------------------------------------------------------------------------


def test_flasks_secret_key_signs_and_its_fallbacks_are_believed():
    """Oldest first, SECRET_KEY last."""
    mapping = {"SECRET_KEY": KEY, "SECRET_KEY_FALLBACKS": ["older-key-older-key", "old-key-old-key-1"]}
    assert resolve(secret_key=None, mapping=mapping).secret_key == (
        "older-key-older-key",
        "old-key-old-key-1",
        KEY,
    )


@pytest.mark.parametrize("fallbacks", [None, ["older"], "older"])
def test_flasks_short_key_is_taken_with_one_warning(caplog, fallbacks):
    """`SECRET_KEY="dev"` is what Flask's tutorial shows; the line does not show the key."""
    mapping = {"SECRET_KEY": "dev-key", "SECRET_KEY_FALLBACKS": fallbacks}
    with caplog.at_level(logging.WARNING, "mixpanel_visitor"):
        assert resolve(secret_key=None, mapping=mapping).secret_key[-1] == "dev-key"
    (record,) = caplog.records
    assert record.name == "mixpanel_visitor"
    assert "SECRET_KEY" in record.getMessage()
    assert "dev-key" not in record.getMessage()


def test_settings_with_flasks_short_key_can_be_changed():
    """What was taken once is not refused in a copy."""
    taken = resolve(secret_key=None, mapping={"SECRET_KEY": "dev"})
    assert dataclasses.replace(taken, bots="keep").secret_key == ("dev",)


def test_a_single_fallback_need_not_be_a_list():
    """As with our own key."""
    mapping = {"SECRET_KEY": KEY, "SECRET_KEY_FALLBACKS": "old-key-old-key-1"}
    assert resolve(secret_key=None, mapping=mapping).secret_key == ("old-key-old-key-1", KEY)


def test_flasks_config_has_both_keys_even_when_unset():
    """Then they are None."""
    mapping = {"SECRET_KEY": KEY, "SECRET_KEY_FALLBACKS": None}
    assert resolve(secret_key=None, mapping=mapping).secret_key == (KEY,)
    line = problem(secret_key=None, mapping={"SECRET_KEY": None, "SECRET_KEY_FALLBACKS": None})
    assert "SECRET_KEY" in line


@pytest.mark.parametrize(
    "sources",
    [
        {"secret_key": "our-own-key-our-own"},
        {"secret_key": None, "environ": {"MIXPANEL_VISITOR_SECRET_KEY": "our-own-key-our-own"}},
    ],
)
def test_a_key_of_ours_replaces_flasks(sources):
    """Wherever it is given."""
    assert resolve(mapping={"SECRET_KEY": KEY}, **sources).secret_key == ("our-own-key-our-own",)


def test_our_key_in_the_mapping_replaces_flasks():
    """The two are not joined."""
    mapping = {"SECRET_KEY": KEY, "MIXPANEL_VISITOR_SECRET_KEY": ["our-own-key-our-own"]}
    assert resolve(secret_key=None, mapping=mapping).secret_key == ("our-own-key-our-own",)


def test_a_bad_fallback_is_blamed_on_its_key():
    """And the good key beside it is not shown."""
    line = problem(secret_key=None, mapping={"SECRET_KEY": KEY, "SECRET_KEY_FALLBACKS": [7]})
    assert "SECRET_KEY_FALLBACKS" in line
    assert KEY not in line


def test_the_environments_secret_key_is_not_ours():
    """SECRET_KEY there belongs to anybody."""
    assert problem(secret_key=None, environ={"SECRET_KEY": KEY}).startswith("secret_key: is missing")


# --- service account --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ("robot", "hush-hush", 4711),
        {"username": "robot", "secret": "hush-hush", "project_id": "4711"},
        ServiceAccount(username="robot", secret="hush-hush", project_id="4711"),
    ],
)
def test_a_service_account_has_three_forms(given):
    """All give the same value."""
    expected = ServiceAccount(username="robot", secret="hush-hush", project_id="4711")
    assert resolve(service_account=given).service_account == expected


def test_a_service_account_may_be_spread_over_the_sources():
    """The secret in the environment, the rest in Flask's config."""
    mapping = {key: value for key, value in ACCOUNT.items() if not key.endswith("SECRET")}
    environ = {"MIXPANEL_SERVICE_ACCOUNT_SECRET": "hush-hush"}
    assert resolve(mapping=mapping, environ=environ).service_account.secret == "hush-hush"


def test_a_partial_service_account_names_what_is_missing():
    """By the key that has to be set."""
    line = problem(environ={"MIXPANEL_SERVICE_ACCOUNT_USERNAME": "robot", "MIXPANEL_PROJECT_ID": "4711"})
    assert "MIXPANEL_SERVICE_ACCOUNT_SECRET" in line
    assert "lacks secret" in line
    assert "lacks project_id" not in line


@pytest.mark.parametrize(
    "given",
    [
        "robot",
        ("robot", "hush-hush"),
        {"user": "robot", "secret": "hush-hush", "project_id": "1"},
        ("ro:bot", "hush-hush", "1"),
        ("robot", "hush hush", "1"),
        ServiceAccount(username="", secret="hush-hush", project_id="1"),
    ],
)
def test_a_bad_service_account_is_refused_without_its_secret(given):
    """Whatever its form."""
    line = problem(service_account=given)
    assert line.startswith("service_account (keyword): ")
    assert "hush" not in line
