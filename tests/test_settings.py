"""Settings: where values come from, what is refused, and that every refusal names its fix."""

import dataclasses
import ipaddress

import pytest
from support.resolving import ACCOUNT, HOME, KEY, TOKEN, problem, problems, resolve

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.settings import ServiceAccount, Settings
from mixpanel_visitor.settings.spool import default_spool

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
