"""Settings: where values come from, what is refused, and that every refusal names its fix."""

import dataclasses
import datetime as dt
import hashlib
import ipaddress
import logging
from pathlib import Path

import pytest

from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import ServiceAccount, Settings, redis_address
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.settings.spool import default_spool
from mixpanel_visitor.tracking.tracker import Tracker

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


# --- what need not be given -------------------------------------------------------------------------


@pytest.mark.parametrize("off", [{"enabled": False}, {"environ": {"MIXPANEL_VISITOR_ENABLED": "0"}}])
def test_where_nothing_is_tracked_no_credentials_are_needed(off):
    """A switched-off environment starts without a token and a key, and keeps no spool on the disk."""
    settings = resolve(token=None, secret_key=None, **off)
    assert (settings.enabled, settings.spool) == (False, "memory:")
    assert settings.secret_key != resolve(token=None, secret_key=None, **off).secret_key


def test_what_is_given_to_a_switched_off_tracker_holds():
    """Only what is missing is made up."""
    settings = resolve(enabled=False)
    assert (settings.token, settings.secret_key) == (TOKEN, (KEY,))


def test_a_wrong_token_is_wrong_in_a_switched_off_tracker_too():
    """It would be wrong on the day it is switched on."""
    assert "white space" in problem(token="two words", enabled=False)


def test_a_wrong_switch_switches_nothing_off():
    """What `enabled` says is not understood, and the token is missing."""
    assert len(problems(token=None, enabled="perhaps")) == 2


# --- defaults ---------------------------------------------------------------------------------------


def test_every_default_is_the_one_of_the_contract():
    """With a token and a key alone, everything else is as documented."""
    assert dataclasses.asdict(resolve()) == {
        "token": TOKEN,
        "secret_key": (KEY,),
        "region": "us",
        "api_host": "https://api.mixpanel.com",
        "proxy": "environment",
        "service_account": None,
        "spool": default_spool(TOKEN, "https://api.mixpanel.com", HOME),
        "durability": "after-response",
        "delivery_timeout_s": 1.0,
        "deliver": True,
        "id_mode": "simplified",
        "browser_sdk": ("mixpanel",),
        "persistence_name": None,
        "cross_subdomain_cookie": True,
        "spid_client_id": None,
        "spid_sign_secret": None,
        "spid_production": True,
        "handover_path": "/_visitor",
        "collector_path": None,
        "collector_trust": "keep",
        "cookie_name": "mpv_3eb1bd43",
        "cookie_domain": None,
        "cookie_max_age_s": 31_536_000,
        "consent": None,
        "respect_dnt": True,
        "respect_gpc": True,
        "trusted_proxies": (),
        "visitor_header_hosts": (),
        "visitor_header_networks": (),
        "client_ip": "send",
        "bots": "drop",
        "bot_detector": None,
        "scrub": ("default",),
        "page_views": (),
        "before_send": None,
        "extra_properties": None,
        "request_filter": None,
        "identify_users": True,
        "flags": "off",
        "plan": None,
        "enabled": True,
        "dry_run": False,
        "on_ambiguous": "dead-letter",
        "on_error": "log",
    }


def test_the_docstring_explains_every_setting():
    """`help(Settings)` is where messages send people."""
    for item in dataclasses.fields(Settings):
        assert f"`{item.name}`" in Settings.__doc__


def test_settings_do_not_change():
    """They are shared by threads and requests."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve().token = "other"


# --- sources ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "mapping", "environ", "expected"),
    [
        ({"bots": "tag"}, {"MIXPANEL_VISITOR_BOTS": "keep"}, {"MIXPANEL_VISITOR_BOTS": "drop"}, "tag"),
        ({}, {"MIXPANEL_VISITOR_BOTS": "keep"}, {"MIXPANEL_VISITOR_BOTS": "tag"}, "keep"),
        ({}, {}, {"MIXPANEL_VISITOR_BOTS": "tag"}, "tag"),
        ({}, {}, {}, "drop"),
    ],
)
def test_keyword_beats_mapping_beats_environment_beats_default(given, mapping, environ, expected):
    """The nearer to the code, the stronger."""
    assert resolve(mapping=mapping, environ=environ, **given).bots == expected


def test_the_environment_is_read_at_the_call(monkeypatch):
    """Not at import: a program may still be loading its .env file then."""
    monkeypatch.setenv("MIXPANEL_TOKEN", "from-env")
    monkeypatch.setenv("MIXPANEL_VISITOR_SECRET_KEY", KEY)
    assert Settings.from_env(region="in").token == "from-env"
    monkeypatch.setenv("MIXPANEL_TOKEN", "changed")
    assert Settings.from_env().token == "changed"


def test_a_mapping_is_completed_from_the_environment(monkeypatch):
    """Flask's config holds what is public, the environment what is secret."""
    monkeypatch.setenv("MIXPANEL_VISITOR_SECRET_KEY", KEY)
    settings = Settings.from_mapping({"MIXPANEL_TOKEN": "t", "MIXPANEL_VISITOR_DELIVER": False}, bots="tag")
    assert (settings.token, settings.secret_key) == ("t", (KEY,))
    assert (settings.deliver, settings.bots) == (False, "tag")


def test_every_text_setting_can_come_from_the_environment():
    """Each by its documented name."""
    settings = Settings.resolve(
        {},
        environ={
            "MIXPANEL_TOKEN": "t",
            "MIXPANEL_REGION": "EU",
            "MIXPANEL_API_HOST": "localhost:8080",
            **ACCOUNT,
            "MIXPANEL_VISITOR_SECRET_KEY": KEY,
            "MIXPANEL_VISITOR_SPOOL": "/var/spool/mpv",
            "MIXPANEL_VISITOR_DURABILITY": "before-response",
            "MIXPANEL_VISITOR_DELIVER": "0",
            "MIXPANEL_VISITOR_ID_MODE": "original",
            "MIXPANEL_VISITOR_BROWSER_SDK": "spid, mixpanel",
            "MIXPANEL_VISITOR_SPID_CLIENT_ID": "4da5b5d4",
            "MIXPANEL_VISITOR_SPID_SIGN_SECRET": "foobar",
            "MIXPANEL_VISITOR_SPID_PRODUCTION": "no",
            "MIXPANEL_VISITOR_HANDOVER_PATH": "none",
            "MIXPANEL_VISITOR_COLLECTOR_PATH": "/m",
            "MIXPANEL_VISITOR_COLLECTOR_TRUST": "refuse",
            "MIXPANEL_VISITOR_COOKIE_NAME": "who",
            "MIXPANEL_VISITOR_COOKIE_DOMAIN": "example.com",
            "MIXPANEL_VISITOR_COOKIE_MAX_AGE_S": "86400",
            "MIXPANEL_VISITOR_RESPECT_DNT": "off",
            "MIXPANEL_VISITOR_RESPECT_GPC": "FALSE",
            "MIXPANEL_VISITOR_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.7",
            "MIXPANEL_VISITOR_BOTS": "keep",
            "MIXPANEL_VISITOR_ENABLED": "false",
            "MIXPANEL_VISITOR_DRY_RUN": "yes",
            "MIXPANEL_VISITOR_ON_AMBIGUOUS": "retry",
            "MIXPANEL_VISITOR_ON_ERROR": "raise",
        },
    )
    expected = Settings(
        token="t",
        secret_key=(KEY,),
        region="eu",
        api_host="http://localhost:8080",
        service_account=ServiceAccount(username="robot", secret="hush-hush", project_id="4711"),
        spool="/var/spool/mpv",
        durability="before-response",
        deliver=False,
        id_mode="original",
        browser_sdk=("spid", "mixpanel"),
        spid_client_id="4da5b5d4",
        spid_sign_secret="foobar",
        spid_production=False,
        handover_path=None,
        collector_path="/m",
        collector_trust="refuse",
        cookie_name="who",
        cookie_domain="example.com",
        cookie_max_age_s=86_400,
        respect_dnt=False,
        respect_gpc=False,
        trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("192.0.2.7/32")),
        bots="keep",
        enabled=False,
        dry_run=True,
        on_ambiguous="retry",
        on_error="raise",
    )
    assert settings == expected


def test_a_mapping_takes_functions_and_python_values():
    """Flask's config is Python code."""

    def consent(facts):
        return "granted"

    settings = resolve(
        mapping={"MIXPANEL_VISITOR_CONSENT": consent, "MIXPANEL_VISITOR_EXTRA_PROPERTIES": {"app": "shop"}}
    )
    assert settings.consent is consent
    assert settings.extra_properties == {"app": "shop"}


def test_a_function_in_the_environment_is_a_mistake():
    """It would be lost silently."""
    line = problem(environ={"MIXPANEL_VISITOR_BEFORE_SEND": "myapp:scrub"})
    assert "MIXPANEL_VISITOR_BEFORE_SEND in the environment" in line
    assert "keyword" in line


def test_an_empty_variable_is_one_that_is_not_set():
    """Compose files and CI turn unset variables into empty ones."""
    assert resolve(environ={"MIXPANEL_VISITOR_SPOOL": "", "MIXPANEL_REGION": " "}).region == "us"


def test_none_is_not_given_where_it_is_no_value():
    """`Tracker(region=config.get("region"))` falls through to the next source."""
    assert resolve(region=None, environ={"MIXPANEL_REGION": "in"}).region == "in"


def test_none_is_given_where_it_is_a_value():
    """`handover_path=None` turns it off, whatever the environment says."""
    settings = resolve(handover_path=None, environ={"MIXPANEL_VISITOR_HANDOVER_PATH": "/x"})
    assert settings.handover_path is None


def test_other_tools_variables_are_left_alone():
    """Only MIXPANEL_VISITOR_... is ours to judge."""
    assert resolve(environ={"MIXPANEL_DEBUG": "1", "MIXPANEL_PROJECT_ID": "7"}).service_account is None


# --- all problems, and what they say ------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once():
    """One start of the application is enough to see them all."""
    found = problems(
        token=None,
        secret_key="",
        regoin="eu",
        durability="sometimes",
        environ={"MIXPANEL_VISITOR_COOKIE_MAX_AGE_S": "1e9", "MIXPANEL_VISITOR_SPOOOL": "/x"},
        mapping={"MIXPANEL_VISITOR_BOT": "tag"},
    )
    starts = ("durability", "cookie_max_age_s", "token", "secret_key", "regoin", "MIXPANEL_VISITOR_SPOOOL",
              "MIXPANEL_VISITOR_BOT")  # fmt: skip
    assert len(found) == len(starts)
    for start in starts:
        assert [line for line in found if line.startswith(start)], start


def test_the_error_is_readable_as_a_whole():
    """Its text has one line for each mistake."""
    with pytest.raises(SettingsError, match=r"2 mistakes in the settings:\n  - .*\n  - "):
        resolve(bots="eat", dry_run="maybe")


@pytest.mark.parametrize(
    ("sources", "name", "origin"),
    [
        ({"bots": "eat"}, "bots='eat'", "(keyword)"),
        ({"mapping": {"MIXPANEL_REGION": "xx"}}, "region='xx'", "(MIXPANEL_REGION in the mapping)"),
        ({"environ": {"MIXPANEL_REGION": "xx"}}, "region='xx'", "(MIXPANEL_REGION in the environment)"),
    ],
)
def test_a_problem_names_setting_value_and_origin(sources, name, origin):
    """Whoever reads the log knows which line to change."""
    assert problem(**sources).startswith(f"{name} {origin}: ")


@pytest.mark.parametrize(
    ("sources", "meant"),
    [
        ({"regoin": "eu"}, "did you mean region?"),
        ({"disabled": True}, "did you mean enabled?"),
        ({"mapping": {"MIXPANEL_VISITOR_SPOL": "/x"}}, "did you mean MIXPANEL_VISITOR_SPOOL?"),
        ({"environ": {"MIXPANEL_VISITOR_ENABLE": "0"}}, "did you mean MIXPANEL_VISITOR_ENABLED?"),
        ({"environ": {"MIXPANEL_VISITOR_TOKEN": "t"}}, "did you mean MIXPANEL_TOKEN?"),
        ({"durability": "after-respones"}, "did you mean 'after-response'?"),
        ({"spool": "memory"}, "did you mean 'memory:'?"),
        ({"trusted_proxies": "10.1.2.3/8"}, "did you mean '10.0.0.0/8'?"),
    ],
)
def test_misspellings_are_recognised(sources, meant):
    """Keywords, keys and values alike."""
    assert meant in problem(**sources)


@pytest.mark.parametrize("sources", [{"zzz": 1}, {"environ": {"MIXPANEL_VISITOR_ZZZ": "1"}}])
def test_a_name_that_resembles_nothing_points_to_the_table(sources):
    """No far-fetched guesses."""
    assert "help(mixpanel_visitor.Settings)" in problem(**sources)


# --- durability ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"), [(2, 2.0), ("0.5", 0.5), (dt.timedelta(milliseconds=250), 0.25), (60, 60.0)]
)
def test_the_delivery_timeout_is_in_seconds(given, expected):
    """A number, its text or a timedelta."""
    assert resolve(delivery_timeout_s=given).delivery_timeout_s == expected


@pytest.mark.parametrize("given", [0, -1, 61, "soon", True, float("nan"), float("inf"), [1]])
def test_a_delivery_timeout_that_is_none_is_refused(given):
    """It says what it takes."""
    assert "over 0 and up to 60" in problem(delivery_timeout_s=given)


def test_who_waits_for_a_delivery_has_to_deliver():
    """A process that only stores would wait for another one."""
    assert "'delivered' waits" in problem(durability="delivered", deliver=False)


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


# --- region and host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "host"),
    [("us", "api.mixpanel.com"), ("eu", "api-eu.mixpanel.com"), ("in", "api-in.mixpanel.com")],
)
def test_region_and_mixpanels_host_follow_from_each_other(region, host):
    """Either is enough, and both together are no contradiction."""
    for given in ({"region": region}, {"api_host": host}, {"region": region, "api_host": f"https://{host}/"}):
        settings = resolve(**given)
        assert (settings.region, settings.api_host) == (region, f"https://{host}")


def test_another_regions_host_is_a_contradiction():
    """Events sent to the wrong region are lost, so we say which setting to change."""
    line = problem(region="eu", environ={"MIXPANEL_API_HOST": "api.mixpanel.com"})
    for part in ("region='eu' (keyword)", "MIXPANEL_API_HOST in the environment", "give region='us'"):
        assert part in line


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("proxy.example.com", "https://proxy.example.com"),
        ("https://Proxy.Example.com:443/mixpanel/", "https://proxy.example.com/mixpanel"),
        ("http://mixpanel_proxy:9000", "http://mixpanel_proxy:9000"),
        ("localhost:8080", "http://localhost:8080"),
        ("http://localhost:80", "http://localhost"),
        ("mixpanel.localhost", "http://mixpanel.localhost"),
        ("127.0.0.1:5000/base", "http://127.0.0.1:5000/base"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_a_host_becomes_a_base_url(given, expected):
    """Without a scheme it is https, but for the loopback interface; and that form stays as it is."""
    assert resolve(api_host=given).api_host == expected
    assert resolve(api_host=expected).api_host == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("api-js.mixpanel.com", "use 'api.mixpanel.com'"),
        ("https://eu.mixpanel.com", "use 'api-eu.mixpanel.com'"),
        ("https://api.mixpanel.com/track", "without port or path"),
        ("http://api.mixpanel.com", "https"),
        ("https://u:hush@proxy.example.com", "credentials"),
        ("proxy.example.com?x=1", "query"),
        ("proxy.example.com#", "fragment"),
        ("ftp://proxy.example.com", "https://"),
        ("proxy.example.com:70000", "no valid address"),
        ("proxy.example.com:0", "no valid host"),
        ("https://", "white space"),
        ("https://[::1", "no valid address"),
        ("https:///x", "no valid host"),
        ("a b", "white space"),
        ("exa\nmple.com", "white space"),
        ("bücher.example", "ASCII"),
        (80, "str"),
    ],
)
def test_a_bad_host_is_refused(given, why):
    """Each with the fix, and a password in it is not shown."""
    line = problem(api_host=given)
    assert why in line
    assert "hush" not in line


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


# --- spool ----------------------------------------------------------------------------------------------


def test_the_default_spool_is_one_for_each_token_and_host():
    """Two projects, or a test and production, never share one."""
    hosts = ["https://api.mixpanel.com", "https://api-eu.mixpanel.com", "http://localhost:8080/x"]
    places = [default_spool(token, host, HOME, platform="linux") for token in ("a", "b") for host in hosts]
    assert len(set(places)) == len(places)
    digest = hashlib.sha256(b"aapi.mixpanel.com").hexdigest()[:8]
    assert places[0] == f"/home/anna/.local/state/mixpanel-visitor/{digest}-api.mixpanel.com"
    assert places[2].endswith("-localhost-8080-x")


@pytest.mark.parametrize(
    ("environ", "platform", "state"),
    [
        ({"XDG_STATE_HOME": "/state", **HOME}, "linux", "/state"),
        ({"XDG_STATE_HOME": "relative", **HOME}, "linux", "/home/anna/.local/state"),
        (HOME, "darwin", "/home/anna/Library/Application Support"),
        ({}, "linux", str(Path.home() / ".local/state")),
    ],
)
def test_the_default_spool_is_in_the_users_state_directory(environ, platform, state):
    """By the XDG specification, or the Mac's custom."""
    assert default_spool("t", "https://h", environ, platform=platform).startswith(
        f"{state}/mixpanel-visitor/"
    )


def test_computing_the_default_spool_makes_no_directory(tmp_path):
    """Nothing is touched before the first event."""
    settings = resolve(environ={"XDG_STATE_HOME": str(tmp_path)})
    assert settings.spool.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("memory:", "memory:"),
        ("/var/spool/mpv/", "/var/spool/mpv/"),
        ("file:///var/spool/mpv", "file:///var/spool/mpv"),
        (Path("spool"), "spool"),
        ("~/spool", str(Path("~/spool").expanduser())),
        ("./memory", "./memory"),
        (Path("memory"), "./memory"),
    ],
)
def test_a_spool_is_a_directory_or_memory(given, expected):
    """A path object will do, `~` is expanded."""
    assert resolve(spool=given).spool == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("redis:localhost", "two slashes: redis://host:6379/0"),
        ("redis://:hush/hush@localhost/0", "names no host"),
        ("redis://x:hush/hush@localhost/0", "the port is no number"),
        ("redis://:hush@/0", "names no host; write redis://redis.internal:6379/0"),
        ("unix://", "names no socket"),
        ("redis+sentinel://a:26379,b:26379", "names no service"),
        ("redis://h/0?partitions=0", "partitions must be 1 to 256, not 0"),
        ("redis://h/0?idle_s=soon", "must be numbers"),
        ("redis://h/0?idle_s=0.5", "idle_s must be 1 to 86400 seconds"),
        ("redis://h/0?prefix={a}", "prefix must be a word without braces"),
        ("redis+kafka://localhost", "two slashes"),
        ("sqlite:///x.db", "there is no sqlite spool"),
        ("file://server/spool", "three slashes"),
        ("memory://", "did you mean 'memory:'?"),
        ("~nobody-of-that-name/spool", "absolute path"),
        ("", "directory"),
        ("a\0b", "directory"),
        (7, "not int"),
    ],
)
def test_a_bad_spool_is_refused(given, why):
    """A password in its URL is not shown."""
    line = problem(spool=given)
    assert why in line
    assert "hush" not in line


@pytest.mark.parametrize(
    "given",
    [
        "redis://localhost:6379/0",
        "rediss://user:secret@redis.internal/1?ssl_cert_reqs=required",
        "unix:///run/redis/redis.sock",
        "valkey://localhost",
        "redis+cluster://a:7000,b:7000?partitions=32",
        "redis+sentinel://a:26379,b:26379/mymaster",
    ],
)
def test_a_redis_is_a_spool(given):
    """Alone, with TLS, by a socket, as a cluster, through sentinels."""
    assert resolve(spool=given).spool == given


def test_the_password_of_a_redis_is_not_shown():
    """Settings and trackers are printed and logged."""
    settings = resolve(spool="redis://user:hush@localhost/0")
    assert "hush" not in repr(settings)
    tracker = Tracker(settings=settings)
    assert "hush" not in repr(tracker)
    assert "redis://user:***@localhost/0" in repr(tracker)


SECRETIVE = [
    "redis://ann:hush@localhost/0",
    "redis://hush@localhost/0",
    "redis://localhost/0?password=hush",
    "redis://localhost/0?wait=1&username=hush&db=2",
    "redis://localhost/0?pass%77ord=hush",
    "unix://ann:hush@/run/redis.sock?password=hush",
    "redis+cluster://:hush@a:1,b:2/0",
    "redis+sentinel://a:26379/shop?sentinel_password=hush",
]
"""Addresses that can be used."""

BROKEN = [
    "redis://ann:hush/0",
    "redis://ann:x/hush@localhost/0",
    "redis://ann:x?hush@localhost/0",
    "redis://ann:x#hush@localhost/0",
    "redis://:[hush]@localhost/0",
    "redis://ann:hush@[localhost/0",
    "redis://ann:hu\u2100hush@localhost/0",
    "redis://:hush",
    "redis:ann:hush@localhost",
    "kafka://ann:hush@localhost",
    "file://ann:hush@localhost/x",
    "redis://localhost/0?password=hush&wait=x",
]
"""Addresses that cannot."""


@pytest.mark.parametrize("address", SECRETIVE)
def test_no_secret_of_an_address_is_shown(address):
    """Wherever it stands in it: the tracker prints and logs what it was given."""
    settings = resolve(spool=address)
    assert "hush" not in repr(settings) + repr(Tracker(settings=settings))
    assert "hush" not in repr(redis_address.parse(address))


@pytest.mark.parametrize("address", BROKEN)
def test_no_secret_of_a_broken_address_is_shown(address):
    """What cannot be read may be a password in any part."""
    with pytest.raises(SettingsError) as caught:
        resolve(spool=address)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(SettingsError) as caught:
        open_spool(address)
    assert "hush" not in str(caught.value)


def test_what_is_not_secret_of_an_address_is_shown():
    """Whoever reads a log wants to know which Redis it was."""
    address = "rediss://ann:hush@db:6379/0?ssl_ca_certs=/ca.pem&wait=1&password=hush"
    shown = without_secrets(address)
    assert shown == "rediss://ann:***@db:6379/0?ssl_ca_certs=/ca.pem&wait=1&password=***"
    assert without_secrets("/srv/ann:me@work") == "/srv/ann:me@work"


PROXIES = ["http://proxy:3128", "proxy:3128", "https://ann:hush@proxy", "Environment", None]


@pytest.mark.parametrize(
    ("given", "expected"), list(zip(PROXIES, [*PROXIES[:3], "environment", None], strict=True)), ids=str
)
def test_a_proxy_is_an_address_or_the_environment_s(given, expected):
    """Or none at all; a password in it is not shown."""
    settings = resolve(proxy=given)
    assert settings.proxy == expected
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("socks5://ann:hush@proxy", "SOCKS is not supported"),
        ("http://ann:hush@", "must be the URL of a proxy"),
        ("http://ann:hush@proxy:x", "must be the URL of a proxy"),
        ("ann:hush@proxy:x", "must be the URL of a proxy"),
        ("ftp://proxy", "must be the URL of a proxy"),
        ("", "must be the URL of a proxy"),
        (3128, "not int"),
    ],
)
def test_what_is_no_proxy_is_refused(given, why):
    """No password of it is shown."""
    line = problem(proxy=given)
    assert why in line
    assert "hush" not in line


# --- names that are nearly right --------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["mapping", "environ"])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MIXPANEL_REGOIN", "MIXPANEL_REGION"),
        ("MIXPANEL_APIHOST", "MIXPANEL_API_HOST"),
        ("MIXPANEL_PROJECTID", "MIXPANEL_PROJECT_ID"),
        ("MIXPANEL_VISTOR_SPOOL", "MIXPANEL_VISITOR_SPOOL"),
        ("MIXPANEL_DRY_RUN", "MIXPANEL_VISITOR_DRY_RUN"),
    ],
)
def test_a_name_that_is_nearly_a_setting_s_is_a_warning(caplog, where, name, meant):
    """It may be anybody's, so nothing is refused; its value is not shown."""
    resolve(**{where: {name: "hush"}})
    (line,) = caplog.messages
    assert f"{name} in the {'mapping' if where == 'mapping' else 'environment'} is no setting" in line
    assert f"did you mean {meant}?" in line
    assert "hush" not in line


@pytest.mark.parametrize(
    "name", ["MIXPANEL_API_SECRET", "MIXPANEL_PLAN", "MIXPANEL_TOKENS", "MIXPANEL", "REGOIN"]
)
def test_other_names_are_left_alone(caplog, name):
    """Also one that is near a setting which is given."""
    resolve(environ={name: "x", "MIXPANEL_TOKEN": TOKEN})
    assert caplog.messages == []


# --- single settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(text, True) for text in ("1", "true", "YES", "On", " true ", True, 1)]
    + [(text, False) for text in ("0", "false", "No", "OFF", False, 0)],
)
def test_booleans_have_the_usual_words(value, expected):
    """From any source, in any case."""
    assert resolve(mapping={"MIXPANEL_VISITOR_DRY_RUN": value}).dry_run is expected


@pytest.mark.parametrize("value", ["maybe", "2", 2, 1.0, []])
def test_other_words_are_no_booleans(value):
    """`bool("false")` is how events get sent by accident."""
    assert "true or false" in problem(dry_run=value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mixpanel", ("mixpanel",)),
        (("mixpanel", "spid"), ("mixpanel", "spid")),
        ("spid,mixpanel,spid", ("spid", "mixpanel")),
        ({"spid", "mixpanel"}, ("mixpanel", "spid")),
        (None, ()),
        ("none", ()),
        ((), ()),
    ],
)
def test_browser_sdks_come_out_as_a_tuple(given, expected):
    """One, both or none."""
    assert resolve(browser_sdk=given, spid_client_id="c").browser_sdk == expected


def test_an_unknown_browser_sdk_is_refused():
    """There are two."""
    assert "None is no SDK" in problem(browser_sdk="segment")


@pytest.mark.parametrize("given", [{"browser_sdk": "spid"}, {"id_mode": "spid"}])
@pytest.mark.parametrize("client", [{}, {"spid_client_id": None}])
def test_spid_needs_a_client_id(given, client):
    """The cookie's name is made of it."""
    line = problem(**given, **client)
    assert line.startswith("spid_client_id: is missing")
    assert "MIXPANEL_VISITOR_SPID_CLIENT_ID" in line


def test_a_bad_client_id_is_one_problem():
    """It is wrong, not also missing."""
    assert problem(id_mode="spid", spid_client_id="a b").startswith("spid_client_id='a b'")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("10.0.0.0/8,fd00::/8", ["10.0.0.0/8", "fd00::/8"]),
        (["192.0.2.7", ipaddress.ip_network("10.0.0.0/8")], ["192.0.2.7/32", "10.0.0.0/8"]),
        (ipaddress.ip_address("::1"), ["::1/128"]),
        (None, []),
        ("none", []),
        ("0.0.0.0/0 ::/0", ["0.0.0.0/0", "::/0"]),
    ],
)
def test_trusted_proxies_become_networks(given, expected):
    """From text, lists or what ipaddress makes."""
    assert [str(network) for network in resolve(trusted_proxies=given).trusted_proxies] == expected


@pytest.mark.parametrize(
    ("given", "why"), [("*", "choose its own address"), ("localhost", "no network"), ([7], "int")]
)
def test_who_is_no_network_is_not_trusted(given, why):
    """A star least of all."""
    assert why in problem(trusted_proxies=given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Billing.internal, .example.com", ("billing.internal", ".example.com")),
        (["::1", "10.0.0.7"], ("::1", "10.0.0.7")),
        (None, ()),
        ("none", ()),
    ],
)
def test_services_are_named_by_their_hosts(given, expected):
    """From text or lists, in lower case."""
    assert resolve(visitor_header_hosts=given).visitor_header_hosts == expected


@pytest.mark.parametrize("given", ["*", "http://billing.internal", "billing.internal:8000", "*.internal"])
def test_what_is_no_host_is_not_told(given):
    """A star least of all."""
    assert "without scheme, port and *" in problem(visitor_header_hosts=given)


def test_the_cookie_is_called_after_the_project():
    """Two projects on one host have cookies of their own; a name that was given stays as it is."""
    assert resolve().cookie_name == "mpv_3eb1bd43"
    assert resolve(token="another").cookie_name == "mpv_ae448ac8"
    assert resolve(cookie_name="mpv").cookie_name == "mpv"
    assert Settings(token=TOKEN, secret_key=KEY, spool="memory:").cookie_name == "mpv_3eb1bd43"


@pytest.mark.parametrize("name", ["__Host-mpv", "__secure-mpv", "a b", "a=b", "a;", "", "é", "x" * 65])
def test_a_cookie_name_is_a_token_without_prefix(name):
    """The prefix is ours to add (RFC 6265bis, 4.1.3)."""
    assert problem(cookie_name=name).startswith("cookie_name=")


@pytest.mark.parametrize(
    ("given", "expected"), [(".Example.COM", "example.com"), ("shop.example.co.uk", "shop.example.co.uk")]
)
def test_a_cookie_domain_is_normalised(given, expected):
    """Browsers ignore the dot."""
    assert resolve(cookie_domain=given).cookie_domain == expected


@pytest.mark.parametrize(
    "domain",
    ["localhost", "192.0.2.1", "::1", "https://example.com", "example.com:80", "-a.com", "a..b", "bücher.de",
     "x" * 64 + ".com", "a." * 130 + "com", "", "example.com/"],
)  # fmt: skip
def test_a_cookie_domain_looks_like_one(domain):
    """A browser would drop the cookie silently."""
    assert problem(cookie_domain=domain).startswith("cookie_domain=")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(60, 60), (34_560_000, 34_560_000), ("3600", 3600), (dt.timedelta(days=30), 2_592_000), (3600.0, 3600)],
)
def test_a_cookies_life_is_in_seconds(given, expected):
    """Up to 400 days."""
    assert resolve(cookie_max_age_s=given).cookie_max_age_s == expected


@pytest.mark.parametrize("given", [59, 34_560_001, "a year", "", True, 60.5, float("nan"), float("inf"), []])
def test_a_bad_life_is_refused(given):
    """Browsers would cut or drop the cookie."""
    assert "seconds" in problem(cookie_max_age_s=given)


@pytest.mark.parametrize("path", ["visitor", "/", "", "/a b", "/a?b", "/a#b", 7])
def test_the_handover_path_is_below_the_root(path):
    """It must not swallow the front page."""
    assert problem(handover_path=path).startswith("handover_path=")


@pytest.mark.parametrize(
    "path",
    ["//evil.example/x", "/\\evil.example/x", "/\t/evil.example/x", "/\n/evil.example/x", "///evil.example"],
)
def test_the_handover_path_is_on_this_host(path):
    """What browsers read as the address of another host would send visitors' IDs there."""
    assert problem(handover_path=path).startswith("handover_path=")


@pytest.mark.parametrize("name", ["consent", "before_send", "request_filter", "extra_properties"])
def test_hooks_are_plain_functions(name):
    """An async one would return a coroutine that nobody awaits."""

    async def hook(facts):
        return "granted"

    assert "not an async one" in problem(**{name: hook})
    assert "not str" in problem(**{name: "myapp.hook"})
    assert getattr(resolve(**{name: repr}), name) is repr


@pytest.mark.parametrize(
    ("value", "meant"), [(True, True), ("off", False), (repr, repr), ("shop.ids.of", "shop.ids.of")]
)
def test_identify_users_is_a_switch_or_a_function(value, meant):
    """Or the dotted name of one, which is imported where log-ins are told of."""
    assert resolve(identify_users=value).identify_users is meant or value == meant


@pytest.mark.parametrize("value", ["sometimes", "shop..ids", 7, b"x"])
def test_identify_users_is_nothing_else(value):
    """It says what it may be."""
    assert "dotted name" in problem(identify_users=value)


def test_extra_properties_are_a_copy():
    """Settings do not change behind our back."""
    properties = {"app": "shop"}
    settings = resolve(extra_properties=properties)
    properties["app"] = "other"
    assert settings.extra_properties == {"app": "shop"}


def test_extra_properties_have_names():
    """A number is none."""
    assert "property names" in problem(extra_properties={1: 2})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("region", ["us", "eu", "in"]),
        ("durability", ["after-response", "before-response", "delivered"]),
        ("id_mode", ["simplified", "original", "legacy", "spid"]),
        ("bots", ["drop", "tag", "keep"]),
        ("on_ambiguous", ["dead-letter", "retry"]),
        ("on_error", ["log", "raise"]),
    ],
)
def test_a_choice_takes_its_words_and_lists_them(name, words):
    """In any case; everything else is told what there is."""
    for word in words:
        assert getattr(resolve(**{name: word.upper()}, spid_client_id="c"), name) == word
    line = problem(**{name: "xyzzy"})
    assert all(repr(word) in line for word in words)
    assert repr(words[0]) in problem(**{name: 7})


# --- secrets, and Settings() itself -------------------------------------------------------------------------


def test_repr_hides_secrets():
    """Settings may be logged."""
    shown = repr(
        resolve(secret_key=KEY, spid_sign_secret="hush", service_account=("robot", "hush-hush", "1"))
    )
    assert KEY not in shown
    assert "hush" not in shown
    assert "robot" in shown


def test_settings_made_by_hand_are_as_strict():
    """A bare string for the keys would otherwise sign with its last character."""
    assert Settings(token="t", secret_key=KEY, spool="memory:").secret_key == (KEY,)
    with pytest.raises(SettingsError) as caught:
        Settings(token="t", secret_key=KEY, bots="eat", api_host="api-eu.mixpanel.com")
    assert len(caught.value.problems) == 2


def test_a_copy_with_changes_is_checked_and_keeps_the_rest():
    """`dataclasses.replace` is how tests vary settings."""
    settings = resolve(region="eu")
    changed = dataclasses.replace(settings, deliver=False)
    assert (changed.deliver, changed.api_host, changed.spool) == (False, settings.api_host, settings.spool)
    with pytest.raises(SettingsError):
        dataclasses.replace(settings, region="us")


def test_a_strange_value_cannot_break_the_report():
    """Its repr is shown, short, and even where it fails."""

    class Strange:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Strange" in problem(bots=Strange())
    assert len(problem(bots="x" * 10_000)) < 300


@pytest.mark.parametrize(
    ("given", "meant"), [("/m", "/m"), ("/m/", "/m"), ("/a/b", "/a/b"), ("none", None), (None, None)]
)
def test_the_collector_path_has_no_slash_at_its_end(given, meant):
    """The names of its routes are added to it."""
    assert resolve(collector_path=given).collector_path == meant


@pytest.mark.parametrize("path", ["m", "//m", "/", "/m?x", "/m#x", "/a b", "/%6d", 7, True])
def test_the_collector_path_is_one_of_this_host(path):
    """Anything else is a mistake."""
    assert problem(collector_path=path).startswith("collector_path=")


def test_a_collector_path_of_the_projects_own():
    """The same each time, and another for another project."""
    path = resolve(collector_path="auto").collector_path
    assert path.startswith("/")
    assert len(path) == 7
    assert resolve(collector_path=" AUTO ").collector_path == path
    assert dataclasses.replace(resolve(collector_path="auto")).collector_path == path
    assert resolve(collector_path="auto", token="another").collector_path != path
