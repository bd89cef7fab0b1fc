"""Log lines: one for each minute and kind, and none that somebody outside has written."""

import logging

import pytest
from support.spools import RecordingSpool
from support.trackers import recording_tracker, tracker_into

from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog, logger
from mixpanel_visitor.quoting import one_line, quoted, several

FORGED = "zz\n[CRITICAL] forged \x1b[31m\u2028\u202e"


class Shouting:
    """Something whose text nobody has looked at."""

    def __str__(self):
        return FORGED

    __repr__ = __str__


def is_one_line(caplog):
    """Tell whether each record is one line without anything that moves a cursor."""
    return caplog.records and all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("argument", [FORGED, Shouting(), KeyError(FORGED), OSError(2, FORGED), [FORGED]])
@pytest.mark.parametrize("form", ["%s", "%r", "before %s after"])
def test_what_a_line_prints_cannot_end_it(caplog, argument, form):
    """Names, answers, errors and paths are escaped by the logger, whoever writes the line."""
    RateLimitedLog()(logging.WARNING, "kind", form, argument)
    logging.getLogger("mixpanel_visitor").warning(form, argument)
    assert len(caplog.records) == 2
    assert is_one_line(caplog)


def test_numbers_and_plain_texts_are_logged_as_they_are(caplog):
    """The arguments stay what tools that group by them know."""
    logger.warning("%d of %s in %.1f s", 3, "Łódź and more", 0.5)
    assert caplog.records[0].args == (3, "Łódź and more", 0.5)
    assert caplog.records[0].getMessage() == "3 of Łódź and more in 0.5 s"


@pytest.mark.parametrize(
    "call",
    [
        lambda visitor: visitor.track(FORGED + "x" * 300),
        lambda visitor: visitor.track("x", {"time": FORGED}),
        lambda visitor: visitor.track("x", {f"{FORGED} password": 1}),
        lambda visitor: visitor.track("x", {FORGED: [[[[[1]]]]]}),
        lambda visitor: visitor.track("x", {"$insert_id": FORGED}),
        lambda visitor: visitor.track(FORGED, {"distinct_id": "x"}),
        lambda visitor: visitor.track(type(FORGED, (), {})()),
        lambda visitor: visitor.people_increment({FORGED: FORGED}),
        lambda visitor: visitor.people_update({FORGED: 1}),
        lambda visitor: visitor.mixpanel.track("null", FORGED),
        lambda visitor: visitor._event_builder.refuse("bad_endpoint", FORGED, FORGED),
    ],
)
def test_no_call_of_an_application_writes_a_line_of_its_own(caplog, call):
    """Names and values often come from forms."""
    tracker, _ = recording_tracker(before_send=lambda event: event)
    call(tracker.visitor("u"))
    assert is_one_line(caplog)


def test_what_before_send_says_of_an_event_stays_in_its_line(caplog):
    """The text of its error may be the visitor's."""

    def look(_event):
        raise ValueError(FORGED)

    tracker, _ = recording_tracker(before_send=look)
    tracker.visitor("u").track("x")
    assert is_one_line(caplog)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("x" * 81, "'" + "x" * 80 + "'..."),
        ("a\nb", r"'a\nb'"),
        (7, "7"),
        (1.5, "1.5"),
        (None, "None"),
        (10**400, "<int>"),
        (b"secret", "<bytes>"),
        (Shouting(), "<Shouting>"),
        (type("Bad\nname", (), {})(), r"<Bad\nname>"),
    ],
)
def test_a_value_in_a_message_is_short_and_whole(value, shown):
    """A text in quotes, a number, or the name of a type: never what the value says of itself."""
    assert quoted(value) == shown


def test_what_cannot_be_seen_is_escaped():
    """Also what turns the direction of writing, and halves of characters that no stream takes."""
    assert one_line("a\tb\u202ec\ud800") == r"a\tb\u202ec\ud800"
    assert one_line("Łódź 🙂") == "Łódź 🙂"


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (1, ("event",), "1 event"),
        (0, ("event",), "0 events"),
        (2_000, ("byte",), "2,000 bytes"),
        (1, ("record was", "records were"), "1 record was"),
        (3, ("record was", "records were"), "3 records were"),
    ],
)
def test_numbers_agree_with_their_nouns(number, nouns, text):
    """In logs, errors and on the command line."""
    assert several(number, *nouns) == text


def test_one_refused_event_is_one(caplog):
    """The line says how many were refused, and why."""
    tracker = tracker_into(RecordingSpool(SpoolFullError("it is full")))
    tracker.track("somebody", "Signed up")
    tracker.close()
    assert "1 event was refused: it is full" in caplog.text
