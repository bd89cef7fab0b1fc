"""User agents: the words of mixpanel-browser, compared with what its own code says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.browser_vocabulary import ask, recorded
from support.components import needs

from mixpanel_visitor.core.enrichment.bots import by_user_agent
from mixpanel_visitor.core.enrichment.user_agents import MAX_CHARS, describe

NAMES = ("$browser", "$browser_version", "$os", "$device")
PLACES = recorded()


@pytest.fixture(scope="module")
def said():
    """What the SDK says of all recorded browsers."""
    return ask(PLACES)


@needs("npm")
@needs("node")
def test_all_recorded_browsers_are_called_what_the_sdk_calls_them(said):
    """Every value is equal, and what one leaves out the other leaves out; `pytest -s` shows the table."""
    differences = []
    for place, answer in zip(PLACES, said, strict=True):
        theirs = {name: answer["properties"].get(name) for name in NAMES}
        ours = dict.fromkeys(NAMES) | describe(place.user_agent).properties()
        print(*(f"{ours[name] or '-'!s:<26}" for name in NAMES), place.user_agent[:80])
        if ours != theirs:
            differences.append((place.user_agent, ours, theirs))
    assert not differences
    assert len(said) >= 60


@needs("npm")
@needs("node")
def test_every_crawler_that_the_sdk_blocks_is_a_bot(said):
    """For whom the browser stays silent the server does, too."""
    for place, answer in zip(PLACES, said, strict=True):
        if answer["blocked"]:
            assert by_user_agent(place.user_agent) == "crawler", place.user_agent
    assert any(answer["blocked"] for answer in said)


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        ("Chrome/118.0", 118),
        ("Chrome/49.5.7", 49.5),
        ("Chrome/", None),
        ("Chrome/x", None),
        ("Chrome/" + "9" * 25, None),
        ("Chrome/" + "9" * 400, None),
        ("Chrome/\u0661\u0662", None),
    ],
)
def test_a_version_is_a_number_of_two_parts(user_agent, version):
    """Whole ones are integers, as JavaScript writes them; other digits than ours are none."""
    found = describe(user_agent).version
    assert (found, type(found)) == (version, type(version))


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_header_raises(user_agent):
    """And what is said is a value that can be sent."""
    for value in describe(user_agent).properties().values():
        assert isinstance(value, (str, int, float))


def test_what_comes_after_a_long_header_is_not_looked_at():
    """An attacker's header costs no more than a browser's."""
    assert describe("x" * MAX_CHARS + "Chrome/118.0").browser == ""
