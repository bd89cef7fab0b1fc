"""Settings: from keywords, mappings and the environment; all mistakes at once, each with its fix."""

import dataclasses
from ipaddress import ip_network

import pytest

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.setting_rules import ServiceAccount
from mixpanel_visitor.settings import Settings

GOOD = {"token": "abc", "secret_key": "a-key-of-some-length"}


def resolve(*, mapping=None, environ=None, require_secret=True, **given):
    return Settings.resolve(given, mapping=mapping, environ=environ or {}, require_secret=require_secret)


def good(**given):
    return resolve(**{**GOOD, **given})


def problems(**given):
    with pytest.raises(SettingsError) as caught:
        resolve(**given)
    return caught.value.problems


def test_the_defaults_are_those_of_the_contract():
    """Only the token and a key have to be given."""
    settings = dataclasses.asdict(good())
    assert settings.pop("spool").endswith(settings["api_host"].removeprefix("https://") + "-6064648a905e")
    assert settings == {
        "token": "abc",
        "secret_key": ("a-key-of-some-length",),
        "region": "us",
        "api_host": "https://api.mixpanel.com",
        "service_account": None,
        "durability": "after-response",
        "deliver": True,
        "id_mode": "simplified",
        "browser_sdk": ("mixpanel",),
        "spid_client_id": None,
        "spid_sign_secret": None,
        "spid_production": True,
        "handover_path": "/_visitor",
        "cookie_name": "mpv",
        "cookie_domain": None,
        "cookie_max_age_s": 31_536_000,
        "consent": None,
        "respect_dnt": True,
        "respect_gpc": True,
        "trusted_proxies": (),
        "bots": "drop",
        "before_send": None,
        "extra_properties": None,
        "request_filter": None,
        "enabled": True,
        "dry_run": False,
        "on_error": "log",
    }


def test_all_mistakes_are_reported_at_once():
    """One start, one list, every line with its fix."""
    found = problems(
        regoin="eu", cookie_max_age_s=0, bots="maybe", environ={"MIXPANEL_VISITOR_DELIVER": "perhaps"}
    )
    assert len(found) == 6
    text = "\n".join(found)
    for part in ("did you mean region?", "cookie_max_age_s", "'drop', 'tag', 'keep'", "(it is 'perhaps')"):
        assert part in text
    assert "MIXPANEL_TOKEN" in text
    assert "MIXPANEL_VISITOR_SECRET_KEY" in text


def test_the_error_is_readable():
    """A developer sees it in a traceback."""
    with pytest.raises(SettingsError, match="2 mistakes in the settings:\n  - token: it is missing"):
        resolve()


@pytest.mark.parametrize(
    ("given", "mapping", "environ", "expected"),
    [
        ("k", "m", "e", "k"),
        (None, "m", "e", "m"),
        (None, None, "e", "e"),
    ],
)
def test_keyword_beats_mapping_beats_environment(given, mapping, environ, expected):
    """The closer to the code, the stronger."""
    settings = resolve(
        secret_key="a-key-of-some-length",
        mapping={"MIXPANEL_TOKEN": mapping} if mapping else {},
        environ={"MIXPANEL_TOKEN": environ},
        **({"token": given} if given else {}),
    )
    assert settings.token == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("Yes", True), ("ON", True), ("0", False), ("False", False), ("no", False)],
)
def test_flags_in_the_environment(text, value):
    """The usual words, in any case."""
    assert good(environ={"MIXPANEL_VISITOR_DRY_RUN": text}).dry_run is value


def test_every_setting_but_callables_can_come_from_the_environment():
    """Under its documented name; an empty variable is one that is not set."""
    environ = {
        "MIXPANEL_TOKEN": "t",
        "MIXPANEL_REGION": "eu",
        "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
        "MIXPANEL_VISITOR_SPOOL": "memory:",
        "MIXPANEL_VISITOR_DURABILITY": "before-response",
        "MIXPANEL_VISITOR_ID_MODE": "original",
        "MIXPANEL_VISITOR_BROWSER_SDK": "mixpanel,spid",
        "MIXPANEL_VISITOR_SPID_CLIENT_ID": "4d",
        "MIXPANEL_VISITOR_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "MIXPANEL_VISITOR_COOKIE_MAX_AGE_S": "3600",
        "MIXPANEL_VISITOR_COOKIE_NAME": "",
        "MIXPANEL_SERVICE_ACCOUNT_USERNAME": "u",
        "MIXPANEL_SERVICE_ACCOUNT_SECRET": "s",
        "MIXPANEL_PROJECT_ID": "7",
    }
    settings = resolve(environ=environ)
    assert (settings.region, settings.api_host) == ("eu", "https://api-eu.mixpanel.com")
    assert (settings.spool, settings.durability) == ("memory:", "before-response")
    assert settings.id_mode == "original"
    assert settings.browser_sdk == ("mixpanel", "spid")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert (settings.cookie_max_age_s, settings.cookie_name) == (3600, "mpv")
    assert settings.service_account == ServiceAccount(username="u", secret="s", project_id="7")


def test_a_typo_in_the_environment_is_found():
    """A setting that is silently not applied would be worse."""
    (problem,) = problems(**GOOD, environ={"MIXPANEL_VISITOR_SPOLL": "x"})
    assert "did you mean MIXPANEL_VISITOR_SPOOL?" in problem


def test_other_peoples_variables_are_left_alone():
    """MIXPANEL_... without VISITOR may belong to anybody."""
    assert good(environ={"MIXPANEL_SOMETHING": "x"})


def test_other_names_of_the_token():
    """MIXPANEL_PROJECT_TOKEN is taken; MIXPANEL_API_TOKEN is asked about."""
    environ = {"MIXPANEL_PROJECT_TOKEN": "t"}
    assert resolve(secret_key="a-key-of-some-length", environ=environ).token == "t"
    (problem,) = problems(secret_key="a-key-of-some-length", environ={"MIXPANEL_API_TOKEN": "t"})
    assert "did you mean MIXPANEL_TOKEN" in problem


def test_flasks_own_key_signs():
    """Oldest first, the last one signs, as Flask's session has it."""
    mapping = {"MIXPANEL_TOKEN": "t", "SECRET_KEY": "a-current-key", "SECRET_KEY_FALLBACKS": ["older"]}
    assert resolve(mapping=mapping).secret_key == ("older", "a-current-key")
    own = {**mapping, "MIXPANEL_VISITOR_SECRET_KEY": "our-own-key-long-enough"}
    assert resolve(mapping=own).secret_key == ("our-own-key-long-enough",)


def test_callables_may_come_from_a_mapping():
    """Flask's config holds objects."""
    assert good(mapping={"MIXPANEL_VISITOR_CONSENT": len}).consent is len


def test_a_process_that_only_delivers_needs_no_key():
    """Workers sign nothing."""
    assert resolve(token="t", require_secret=False).secret_key == ()


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("api-eu.mixpanel.com", "https://api-eu.mixpanel.com"),
        ("https://proxy.example.com/mp/", "https://proxy.example.com/mp"),
        ("localhost:8484", "http://localhost:8484"),
        ("127.0.0.1:8484", "http://127.0.0.1:8484"),
        ("[::1]:8484", "http://[::1]:8484"),
        ("http://mixpanel:8484", "http://mixpanel:8484"),
    ],
)
def test_hosts_and_urls(given, host):
    """Either form; plain http only for the own machine, or where it is written out."""
    assert good(api_host=given).api_host == host


@pytest.mark.parametrize(
    "bad", ["", "https://", "ftp://x", "https://x?y", "https://u:p@x", "x:99999", "api-js.mixpanel.com", 7]
)
def test_bad_hosts(bad):
    """What cannot be sent to is a mistake now, not in an hour."""
    assert problems(**GOOD, api_host=bad)


def test_a_host_tells_its_region_and_must_not_contradict_it():
    """Events sent to the wrong region are lost without a word from Mixpanel."""
    assert good(api_host="api-in.mixpanel.com").region == "in"
    (problem,) = problems(**GOOD, api_host="api.mixpanel.com", region="eu")
    assert "wrong region" in problem


@pytest.mark.parametrize(
    "account",
    [
        ServiceAccount(username="u", secret="s", project_id="7"),
        {"username": "u", "secret": "s", "project_id": 7},
        ("u", "s", "7"),
    ],
)
def test_service_accounts(account):
    """An object, a mapping or the three in a tuple."""
    assert good(service_account=account).service_account == ServiceAccount(
        username="u", secret="s", project_id="7"
    )


def test_half_a_service_account_is_a_mistake():
    """It names what is missing, and never shows the secret."""
    (problem,) = problems(**GOOD, environ={"MIXPANEL_SERVICE_ACCOUNT_SECRET": "hush"})
    assert "MIXPANEL_SERVICE_ACCOUNT_USERNAME and MIXPANEL_PROJECT_ID missing" in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("token", ""),
        ("token", "a b"),
        ("secret_key", ""),
        ("secret_key", []),
        ("secret_key", [""]),
        ("secret_key", 7),
        ("spool", "redis://localhost"),
        ("spool", "s3://bucket"),
        ("spool", ""),
        ("spool", 7),
        ("durability", "never"),
        ("deliver", "perhaps"),
        ("deliver", 2),
        ("browser_sdk", "segment"),
        ("browser_sdk", 7),
        ("handover_path", "no-slash"),
        ("handover_path", "/a?b"),
        ("cookie_name", "a b"),
        ("cookie_name", "__Host-mpv"),
        ("cookie_domain", "localhost"),
        ("cookie_domain", "127.0.0.1"),
        ("cookie_max_age_s", 401 * 86_400),
        ("cookie_max_age_s", True),
        ("consent", "yes"),
        ("before_send", 7),
        ("extra_properties", 7),
        ("request_filter", 7),
        ("trusted_proxies", "nonsense"),
        ("trusted_proxies", 7),
        ("spid_client_id", ""),
        ("on_error", "explode"),
        ("service_account", ("u",)),
    ],
)
def test_bad_values(name, bad):
    """Each setting has a rule, and the message begins with its name."""
    (problem,) = problems(**{**GOOD, name: bad})
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("secret_key", ["a" * 16, "b" * 16], ("a" * 16, "b" * 16)),
        ("secret_key", b"a" * 16, ("a" * 16,)),
        ("browser_sdk", None, ()),
        ("browser_sdk", "none", ()),
        ("handover_path", None, None),
        ("cookie_domain", ".Example.com", "example.com"),
        ("trusted_proxies", None, ()),
        ("trusted_proxies", ["10.1.2.3/8"], (ip_network("10.0.0.0/8"),)),
        ("region", "EU", "eu"),
        ("spool", "file:///var/spool/x", "file:///var/spool/x"),
    ],
)
def test_good_values(name, value, expected):
    """Values come out in one form."""
    assert getattr(good(**{name: value}), name) == expected


def test_spid_needs_its_client():
    """A client's cookies are named after it."""
    (problem,) = problems(**GOOD, id_mode="spid")
    assert "spid_client_id" in problem


def test_the_default_spool_is_one_for_each_token_and_host(tmp_path):
    """Two projects never share a directory, and nothing is made on disk."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    one, two = good(environ=environ).spool, good(environ=environ, token="other").spool
    assert one != two
    assert one.startswith(str(tmp_path / "mixpanel-visitor"))
    assert list(tmp_path.iterdir()) == []


def test_secrets_are_not_shown():
    """Neither in the representation nor in problems."""
    settings = good(spid_sign_secret="hush-hush", service_account=("u", "hush", "7"))
    assert "hush" not in repr(settings)
    assert "a-key-of-some-length" not in repr(settings)
    (problem,) = problems(token="abc", secret_key=["fine-and-long-enough", ""])
    assert "fine" not in problem


def test_a_short_key_is_warned_about_once(caplog):
    """It works, but whoever guesses it can forge visitors."""
    good(secret_key=["short", "shorter"])
    assert len(caplog.records) == 1
    assert "token_hex" in caplog.text
