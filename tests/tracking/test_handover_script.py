"""The script as Python makes it: its size, its bytes, what may stand in it. What it does: tests/browser."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from support.components import needs

import mixpanel_visitor
from mixpanel_visitor.tracking.handover_script import HandoverScript, Html

TOKEN = "0123456789abcdef0123456789abcdef"
FILES = Path(mixpanel_visitor.__file__).parent / "tracking" / "handover_script_js"
LIMIT_BYTES = {"mixpanel": 1200, "spid": 2500, "both": 2500}
NAMES = (f"mp_{TOKEN}_mixpanel", f"__mp_opt_in_out_{TOKEN}")
CLIENT = "52f8e3d9efd04bb74900"
PARTS = {
    "mixpanel": {"spid_client_id": None},
    "spid": {"mixpanel": None},
    "both": {},
}


def make(**given):
    of_all = {
        "handover_path": "/_visitor",
        "seen_cookie": "mpv_0123abcd_js",
        "mixpanel": NAMES,
        "spid_client_id": CLIENT,
    }
    return HandoverScript(**{**of_all, **given})


def found_in(text, pattern):
    """Return the one group of a pattern that has to match the whole text."""
    found = re.fullmatch(pattern, text, re.DOTALL)
    assert found is not None
    return found[1]


def arguments(script):
    """Read what the script is called with."""
    return json.loads(f"[{found_in(script, r'.*}[)][(](.*)[)];')}]")


def code_of(html):
    """Take the code out of a script element."""
    return found_in(html, r"<script[^>]*>(.*)</script>")


@pytest.mark.parametrize("parts", PARTS)
def test_the_script_stays_below_its_limit(parts):
    """A token of 32 characters, a SPiD client of 20; every page loads it."""
    snippet = make(**PARTS[parts])
    assert len(snippet.script()) < LIMIT_BYTES[parts]
    assert len(code_of(snippet.inline()).encode()) < LIMIT_BYTES[parts]


@pytest.mark.parametrize("parts", PARTS)
def test_the_script_has_only_what_is_asked_for(parts):
    """Neither SDK is looked for where the settings do not name it."""
    script = make(**PARTS[parts]).script().decode()
    assert ("VGS" in script, "SPiD" in script, "visitor.uid" in script) == (parts != "mixpanel",) * 3
    assert ("get_property" in script, "opted_out" in script) == (parts != "spid",) * 2


def test_the_script_is_called_with_its_configuration():
    """Its own address, the cookie with what the server knows, the SDKs' names."""
    assert arguments(make().script().decode()) == [
        *("/_visitor.js", "mpv_0123abcd_js"),
        *(f"mp_{TOKEN}_mixpanel", f"__mp_opt_in_out_{TOKEN}"),
        f"spid_js_{CLIENT}",
    ]


def test_an_sdk_that_is_not_configured_has_no_name():
    """There is nothing in the script that would look at it."""
    assert arguments(make(mixpanel=None).script().decode())[2:] == [None, None, f"spid_js_{CLIENT}"]
    assert arguments(make(spid_client_id=None).script().decode())[2:] == list(NAMES)


@needs("npm")
def test_what_is_served_is_made_of_the_source(tmp_path):
    """`scripts/handover-script` was run after the last change."""
    root = Path(__file__).parents[2]
    subprocess.run([root / "scripts" / "handover-script", tmp_path], check=True, capture_output=True)
    for made in ("mixpanel.js", "spid.js", "both.js"):
        assert (tmp_path / made).read_text() == (FILES / made).read_text(), "run scripts/handover-script"


def test_the_script_is_the_same_every_time():
    """So that it can be cached, and its entity tag be compared."""
    assert make().script() == make().script()
    assert make().etag == make().etag


def test_the_entity_tag_is_strong_and_follows_the_script():
    """Quoted, not weak, and of this very script."""
    snippet = make()
    assert re.fullmatch(r'"[0-9a-f]{32}"', snippet.etag)
    assert snippet.etag[1:-1] in hashlib.sha256(snippet.script()).hexdigest()
    assert snippet.etag != make(seen_cookie="other_js").etag


def test_the_content_type_is_javascript_s():
    """RFC 9239."""
    assert make().content_type == "text/javascript; charset=utf-8"


def test_production_changes_nothing():
    """v1 tells its session itself, whatever its cookie is called."""
    assert make(spid_production=False).script() == make().script()


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", "/_visitor.js"),
        ("/shop", "/shop/_visitor.js"),
        ("/shop/", "/shop/_visitor.js"),
        ("/a b/ä%?#", "/a%20b/%C3%A4%25%3F%23/_visitor.js"),
        ("//elsewhere.example", "/elsewhere.example/_visitor.js"),
        ("/\ud800", "/%3F/_visitor.js"),
    ],
)
def test_the_inline_script_knows_where_the_application_is(root_path, path):
    """As a path on this host, whatever the server calls its root."""
    assert arguments(code_of(make().inline(root_path=root_path)))[0] == path


def test_the_inline_script_is_otherwise_the_same():
    """One script, in two places."""
    assert code_of(make().inline()) == make().script().decode()


@pytest.mark.parametrize(
    ("nonce", "attribute"),
    [(None, ""), ("Zm9v+/=", ' nonce="Zm9v+/="'), ("\"'<>&", ' nonce="&quot;&#x27;&lt;&gt;&amp;"')],
)
def test_the_nonce_is_an_attribute(nonce, attribute):
    """Escaped, or not there at all."""
    assert make().inline(nonce=nonce).startswith(f"<script{attribute}>(")


DANGEROUS = "</script><!--<script>&\"'\\\u2028\u2029\u0000\n\ud800é$&$1"


def test_nothing_dangerous_stands_in_the_script():
    """Neither to HTML nor, in old browsers, to JavaScript; and the names arrive as they are."""
    names = (f"mp_{DANGEROUS}", f"opt_{DANGEROUS}")
    snippet = make(mixpanel=names, spid_client_id=DANGEROUS, seen_cookie=DANGEROUS)
    script = snippet.script().decode("ascii")
    assert arguments(script) == ["/_visitor.js", DANGEROUS, *names, f"spid_js_{DANGEROUS}"]
    configuration = script[script.rindex("})(") :]
    assert not re.search("[<>&\n\u2028\u2029]", configuration)
    assert snippet.inline().count("<") == script.count("<") + 2


def test_the_code_cannot_end_its_element():
    """Nor open one in which it would be read in another way."""
    assert not re.search(r"</|<!--|<script", make().script().decode(), re.IGNORECASE)


def test_templates_do_not_escape_it():
    """Jinja asks for `__html__`."""
    template = jinja2.Environment(autoescape=True).from_string("<head>{{ ours }}</head>")
    assert template.render(ours=make().inline()) == f"<head>{make().inline()}</head>"
    assert isinstance(make().inline(), Html)


@pytest.mark.parametrize("parts", PARTS)
def test_the_script_is_javascript_of_2019(parts):
    """What browsers since then can read has none of these."""
    code = make(**PARTS[parts]).script().decode()
    assert not re.search(r"\?\.(?!\d)|\?\?|\|\|=|&&=|\bimport\b|\bexport\b|\bstatic\b|\d_\d|\d+n\b|#\w", code)


@pytest.mark.parametrize("parts", PARTS)
def test_no_comment_and_no_place_is_left(parts):
    """The source is for readers, what is served is for browsers."""
    code = make(**PARTS[parts]).script().decode()
    assert "//" not in code
    assert not re.search(r"CONFIG|MIXPANEL|SPID", code)
    assert "\n" not in code


PROBE = """
import sys
opened = []
sys.addaudithook(lambda event, details: event == "open" and opened.append(str(details[0])))
from mixpanel_visitor.tracking.handover_script import HandoverScript
snippet = HandoverScript(handover_path="/_visitor", seen_cookie="mpv_js", mixpanel=None, spid_client_id="x")
print(any("handover_script_js" in name for name in opened))
snippet.script()
print(any("handover_script_js" in name for name in opened))
"""


def test_the_source_is_read_at_the_first_use():
    """Neither importing nor configuring the middleware reads what no page may ever ask for."""
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


def test_the_source_stays_readable():
    """Lines that fit, and a word on what each argument is."""
    source = (FILES / "source.js").read_text("utf-8")
    assert max(len(line) for line in source.splitlines()) <= 120
    for name in found_in(source, r".*?\n\(\(([^)]*)\) =>.*").split(", "):
        assert re.search(rf"(?m)^// (?:\w+, )*{name}(?:, \w+)*: ", source)
