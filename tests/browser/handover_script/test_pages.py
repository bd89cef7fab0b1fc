"""Where the script stands: content security policies, paths, and no way out of its configuration."""

from __future__ import annotations

import pytest
from support.handover_pages import ID, MARKS, SCHEDULE_S, snippet, stores
from support.snippet_pages import SCRIPT, tag

pytestmark = MARKS


POLICY = "default-src 'none'; script-src 'nonce-Zm9vYmFy'; connect-src 'self'; img-src data:"


def test_under_a_policy_the_inline_script_runs_with_its_nonce(visit, site):
    """Nothing of it is blocked: the console stays silent."""
    ours = snippet().inline(nonce="Zm9vYmFy")
    stored = f'<script nonce="Zm9vYmFy">{stores()}</script>'
    visit.go(stored, ours, Content_Security_Policy=POLICY)
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert site.posts[0].path == "/_visitor"


def test_under_a_policy_the_inline_script_needs_its_nonce(clocked):
    """So the test above can fail."""
    clocked.go(snippet().inline(nonce="Zm9vYmFz"), Content_Security_Policy=POLICY)
    clocked.run(stores())
    clocked.pass_time(SCHEDULE_S)
    assert clocked.posted() == []
    assert "Content Security Policy" in clocked.console.pop()


@pytest.mark.parametrize(
    ("src", "path"),
    [
        ("/shop/_visitor.js", "/shop/_visitor"),
        ("/shop/_visitor.js?v=3", "/shop/_visitor"),
        ("/shop/_visitor.js?v=1.js#x.js", "/shop/_visitor"),
        ("/a.js/_visitor.js", "/a.js/_visitor"),
    ],
)
def test_an_application_below_a_path_is_posted_to_there(visit, site, src, path):
    """The external script looks at its own address."""
    site.serve(src.partition("?")[0], snippet().script().decode(), SCRIPT)
    visit.go(tag(stores()), f'<script async src="{src}"></script>', path="/shop/page")
    site.wait_for_posts(1)
    assert site.posts[0].path == path


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", "/_visitor"),
        ("/shop", "/shop/_visitor"),
        ("/shop/", "/shop/_visitor"),
        ("/a b/ä%", "/a%20b/%C3%A4%25/_visitor"),
        ("//elsewhere.example/shop", "/elsewhere.example/shop/_visitor"),
    ],
)
def test_the_inline_script_is_told_where_the_application_is(visit, site, root_path, path):
    """It has no address of its own; and it never leaves the site."""
    visit.go(tag(stores()), snippet().inline(root_path=root_path), path="/deep/down/page")
    site.wait_for_posts(1)
    assert site.posts[0].path == path


@pytest.mark.parametrize(
    "evil", ["</script><script>window.owned = 1</script>", "<!--<script>", "\u2028'\"\\"]
)
def test_no_configuration_breaks_out(visit, site, evil):
    """It is data wherever it stands."""
    name = f"mp_{evil}_mixpanel"
    ours = snippet(mixpanel=(name, f"{evil}0"), spid_client_id=evil).inline()
    visit.go("<script>window.names = [];</script>", ours)
    visit.page.evaluate(
        "([name, id]) => localStorage.setItem(name, JSON.stringify({$device_id: id}))", [name, ID]
    )
    visit.run("window.dispatchEvent(new Event('pagehide'))")
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert visit.run("window.owned") is None


def test_a_nonce_does_not_break_out(visit, site):
    """A nonce from a careless proxy is an attribute's text."""
    visit.go(tag(stores()), snippet().inline(nonce='"><script>window.owned = 1</script>'))
    assert site.wait_for_posts(1) == [{"device_id": ID}]
    assert visit.run("window.owned") is None
