"""The diagrams that say what is written here: a visitor's journey, the spool's files, deployments."""

from __future__ import annotations

from .svg import Drawing, height_of

_BROWSER, _SERVER, _MIXPANEL = 150, 500, 850

_STEPS = (
    (_BROWSER, _SERVER, "GET /", "no cookie yet"),
    (_SERVER, _BROWSER, "the page", "Set-Cookie: ours and the SDK's, both with device ID D"),
    (_SERVER, _MIXPANEL, "Page viewed", "$device_id = D"),
    (_BROWSER, _MIXPANEL, "$mp_web_page_view", "mixpanel-browser has taken D from its cookie"),
    (_BROWSER, _SERVER, "POST /login", "our cookie says D"),
    (_SERVER, _MIXPANEL, "Logged in", "$device_id = D, $user_id = 42: Mixpanel joins the two"),
    (_BROWSER, _MIXPANEL, "Checkout opened", "$device_id = D: counts for user 42"),
    (_BROWSER, _SERVER, "POST /logout", ""),
    (_SERVER, _BROWSER, "the page", "Set-Cookie: both with a new device ID E"),
    (_BROWSER, _MIXPANEL, "Page viewed, by the next person", "$device_id = E: another person"),
)

_FILES = (
    ("offsets", "how far each segment", "is delivered"),
    ("in-flight log", "what is being sent,", "for the next leader"),
    ("tombstones", "who has opted out,", "as digests"),
    ("dead letters", "refused records,", "with Mixpanel's reason"),
)

_CHOICES = (
    (
        ("Is the process frozen after a response?", "AWS Lambda, Cloud Run, Vercel"),
        "yes",
        ('durability="delivered"', "each response waits for Mixpanel, 1 s at most"),
    ),
    (
        ("Does the disk outlive the process?", "a virtual machine, or a volume"),
        "no",
        ("spool=redis://..., and workers", 'durability="before-response": events wait in Redis'),
    ),
    (
        ("More than 20 machines, or 2,000 events/s?", "Mixpanel advises few connections"),
        "yes",
        ("spool=redis://..., and workers", "which share Mixpanel's limits between them"),
    ),
    (
        ("Must web processes not deliver?", "no way out, or no time"),
        "yes",
        ("deliver=False, and one worker for each machine", "both share a directory"),
    ),
    (
        ("All other cases", "most applications"),
        "",
        ("the defaults", "a directory; one of the web processes delivers for all"),
    ),
)


def journey() -> str:
    """Draw how browser and server become one person, as a sequence of messages."""
    drawing = Drawing(
        1000,
        640,
        "A visitor's journey",
        "First visit, the SDK's start, log-in and log-out: messages between browser, application, Mixpanel.",
    )
    for x, name in ((_BROWSER, "Browser"), (_SERVER, "Your application"), (_MIXPANEL, "Mixpanel")):
        drawing.labelled(x - 90, 16, 180, [name], "box" if x == _SERVER else "soft")
        drawing.line((x, 52), (x, 625), dashed=True)
    for place, (start, end, text, detail) in enumerate(_STEPS):
        y = 98 + place * 56
        drawing.arrow((start, y), (end, y))
        # Over the first half of a long arrow, where the text crosses no dashed line.
        middle = (_SERVER + _MIXPANEL) // 2 if _BROWSER not in (start, end) else (_BROWSER + _SERVER) // 2
        drawing.text(middle, y - 7, text, "name")
        if detail:
            drawing.text(middle, y + 16, detail, "small")
    return drawing.svg()


def spool_files() -> str:
    """Draw what lies in the directory of a spool, who writes it and who reads it."""
    drawing = Drawing(
        1000,
        420,
        "The files of a spool on disk",
        "Processes append to segments; one of them, the leader, delivers.",
    )
    drawing.text(20, 34, "One directory for each project: the first 8 digits of sha256(token)", "", "start")
    for y, process in ((60, 1), (170, 2)):
        segment = [f"segment of process {process}", "one frame for each record,", "each with its checksum"]
        drawing.labelled(20, y, 190, [f"process {process}", "accepts events"], "soft")
        drawing.labelled(290, y, 240, segment)
        drawing.arrow((210, y + 28), (290, y + 28))
        drawing.text(250, y + 20, "append", "small")
    leader = ["leader", "holds the lock; another", "takes over when it ends"]
    drawing.arrow((530, 88), (700, 88), (700, 140))
    drawing.arrow((530, 190), (620, 190))
    drawing.labelled(620, 140, 170, leader, "soft")
    drawing.arrow((790, 166), (850, 166))
    drawing.labelled(850, 140, 130, ["Mixpanel", "/import"], "soft")
    drawing.line((705, 140 + height_of(leader)), (705, 262))
    drawing.line((130, 262), (865, 262))
    for place, lines in enumerate(_FILES):
        drawing.arrow((130 + place * 245, 262), (130 + place * 245, 290))
        drawing.labelled(20 + place * 245, 290, 220, list(lines))
    drawing.text(20, 404, "A segment is deleted when every record in it is settled.", "small", "start")
    return drawing.svg()


def deployments() -> str:
    """Draw which deployment fits, as questions and answers."""
    drawing = Drawing(
        1000,
        380,
        "Which deployment",
        "Questions on the left, one after the other; answers on the right.",
    )
    for place, (question, answer, result) in enumerate(_CHOICES):
        y = 20 + place * 72
        drawing.labelled(20, y, 400, list(question), "soft")
        drawing.labelled(560, y, 420, list(result))
        drawing.arrow((420, y + 28), (560, y + 28))
        if answer:
            drawing.text(490, y + 21, answer, "small")
            drawing.arrow((220, y + 56), (220, y + 72))
            drawing.text(232, y + 68, "no" if answer == "yes" else "yes", "small", "start")
    return drawing.svg()
