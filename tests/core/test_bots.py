"""Bots: who is one, who only looks like one, and who may say so."""

import pytest
from support.facts import facts

from mixpanel_visitor.core.enrichment.bots import BotDetector, by_user_agent

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
FAR = "203.0.113.7"

CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit Chrome-Lighthouse",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
]
SILENT = [
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 (compatible; Bytespider; spider-feedback@bytedance.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "WhatsApp/2.23.20.0",
    "curl/8.5.0",
    "Wget/1.21.4",
    "python-requests/2.32.5",
    "Python-urllib/3.12",
    "Go-http-client/2.0",
    "axios/1.7.2",
    "kube-probe/1.31",
    "ELB-HealthChecker/2.0",
    "GoogleHC/1.0",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131 Safari/537",
    "",
    " ",
]
PEOPLE = [
    CHROME,
    "Mozilla/5.0 (Linux; Android 9; CUBOT_NOTE_20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142",
    "okhttp/4.12.0",
    "MyApp/1 CFNetwork/1410.0.3 Darwin/22.6.0",
    "Dart/3.5 (dart:io)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 Robotoff/1",
]


def kind(user_agent, *, client=FAR, detector=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return (detector or BotDetector()).kind(facts({"user-agent": user_agent, **headers}, client=client))


@pytest.mark.parametrize("user_agent", CRAWLERS)
@pytest.mark.parametrize("client", [FAR, "127.0.0.1"])
def test_who_the_browser_sdk_is_silent_for_is_a_bot_everywhere(user_agent, client):
    """From this host as well: somebody wants to see what happens."""
    assert kind(user_agent, client=client) == "crawler"


@pytest.mark.parametrize("user_agent", SILENT)
def test_what_never_runs_javascript_is_a_bot(user_agent):
    """The SDK has never met it."""
    assert kind(user_agent) == "tool"


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_people_are_no_bots(user_agent):
    """Nor are native apps, and telephones with an odd name."""
    assert kind(user_agent) == ""


@pytest.mark.parametrize(
    "client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None, "", "testclient"]
)
def test_curl_on_this_host_is_a_developer(client):
    """So is a test client, and whoever comes over a Unix socket."""
    assert kind("curl/8.5.0", client=client) == ""


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded", "x_real_ip", "via"])
def test_curl_through_a_proxy_on_this_host_is_a_bot(name):
    """The proxy says that somebody else has asked."""
    assert kind("curl/8.5.0", client="127.0.0.1", **{name: "x"}) == "tool"


def test_a_browser_that_fetches_ahead_is_no_bot():
    """There is a person, who may or may not come to see the page."""
    assert kind(CHROME, sec_purpose="prefetch;prerender") == ""
    assert kind("curl/8.5.0", sec_purpose="prefetch") == "tool"


def test_a_stricter_list_is_asked_once_for_each_user_agent():
    """Only about those whom ours lets pass, for it may be slow."""
    asked = []

    def stricter(user_agent):
        asked.append(user_agent)
        return "Odd" in user_agent

    detector = BotDetector(stricter)
    assert [kind(each, detector=detector) for each in ("Odd/1", CHROME, "Odd/1", "curl/8")] == [
        "tool",
        "",
        "tool",
        "tool",
    ]
    assert asked == ["Odd/1", CHROME]


def test_a_long_header_is_looked_at_in_part():
    """An attacker's costs no more than a browser's, and fills no cache."""
    assert kind("x" * 5_000 + "curl/") == ""
    before = by_user_agent.cache_info().currsize
    kind("y" * 1_024 + "a")
    kind("y" * 1_024 + "b")
    assert by_user_agent.cache_info().currsize == before + 1
