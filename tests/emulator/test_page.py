"""The HTML page: self-contained, and safe with whatever was sent."""

from __future__ import annotations

import re
import subprocess

import pytest
from support.components import needs
from support.waiting import PATIENCE_S


@pytest.fixture
def page(client):
    """Return the answer with the page."""
    return client.get("/")


def test_the_page_is_html(page):
    """It is not cached, and its type is not guessed."""
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"


def test_only_the_page_s_own_script_and_style_run(page):
    """The policy names their nonce and nothing else."""
    policy = page.headers["content-security-policy"]
    nonces = re.findall(r'<(?:script|style) nonce="([^"]+)">', page.body.decode())
    assert len(nonces) == 2
    assert set(nonces) == set(re.findall(r"'nonce-([^']+)'", policy))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_every_answer_has_its_own_nonce(client):
    """A nonce is used once."""
    first, second = client.get("/"), client.get("/")
    assert first.headers["content-security-policy"] != second.headers["content-security-policy"]


def test_nothing_is_loaded_from_elsewhere(page):
    """No address of another host stands in it."""
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"(?m)^\s*// .*$", "", page.body.decode()))


@pytest.mark.parametrize(
    "danger", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
)
def test_what_was_sent_only_becomes_text(page, danger):
    """The page uses nothing that makes elements of strings."""
    assert danger not in page.body.decode()


def test_no_attribute_runs_or_styles(page):
    """The policy would refuse inline handlers and styles."""
    assert not re.search(r"\s(?:on[a-z]+|style)=", page.body.decode())


def test_the_page_fetches_only_what_exists(client, page):
    """Each address in its script is answered."""
    paths = set(re.findall(r'fetchJson\("([^"]+)"', page.body.decode()))
    assert {path.partition("?")[0] for path in paths} == {
        "/_local/events",
        "/_local/people",
        "/_local/profiles",
        "/_local/groups",
        "/_local/flags",
    }
    assert {client.get(path.replace("limit=", "limit=1")).status for path in paths} == {200}


def test_head_is_answered_without_a_body(client):
    """With the headers of the page."""
    answer = client.request("HEAD", "/")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


@needs("node")
def test_the_script_is_javascript(page):
    """Its syntax is checked by node."""
    script = re.search(r"<script[^>]*>(.*)</script>", page.body.decode(), re.DOTALL)
    assert script is not None
    subprocess.run(["node", "--check", "-"], input=script[1].encode(), check=True, timeout=PATIENCE_S)
