"""The local Mixpanel's page, as people use it."""

from __future__ import annotations

import base64
import json

import pytest
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}}
LOOKS = [
    pytest.param({"color_scheme": "light"}, id="light"),
    pytest.param({"color_scheme": "dark"}, id="dark"),
]


@pytest.fixture
def local():
    """Return a local Mixpanel with the real clock."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture
def live(chromium):
    """Open pages; none of them may complain."""
    from support.live_page import LivePage

    opened = []

    def live(local, **look):
        opened.append(LivePage(chromium, local, **look))
        return opened[-1]

    yield live
    for page in opened:
        page.close()
    assert [page.errors for page in opened] == [[] for _ in opened]


@pytest.fixture
def story():
    """Return what applications send."""
    from support import live_page

    return live_page


def test_an_event_is_shown_as_it_arrives(local, live, story):
    """Without a reload, with who sent it and whose it is."""
    page = live(local)
    page.see("#nothing", "Nothing has arrived yet")
    story.send(local, [story.event("Signed up", distinct_id="u-1", **story.BROWSER)])
    page.see("#events .row", "Signed up")
    (row,) = page.texts("#events .row")
    assert "browser" in row
    assert "u-1" in row
    assert page.do(lambda it: it.locator("#nothing").is_hidden())


def test_a_flag_is_added_and_switched(local, live, story):
    """On the page; what was shown to whom stands in the person's timeline."""
    page = live(local)
    page.click("Flags", "tab")
    page.see("#no-flags", "No feature flags")
    page.do(lambda it: it.fill("#new-flag", "checkout"))
    page.click("Add")
    page.see("#flags .flag", "checkout")
    page.do(lambda it: it.select_option("#flags select", "off"))
    page.see("#flags .flag", "device_id")
    assert wait_until(lambda: local.flags.variants({"device_id": "d"}) == {}, PATIENCE_S)
    page.do(lambda it: it.select_option("#flags select", "on"))
    assert wait_until(lambda: "checkout" in local.flags.variants({"device_id": "d"}), PATIENCE_S)
    shown = {"Experiment name": "checkout", "Variant name": "on"}
    story.send(local, [story.event("$experiment_started", distinct_id="anna", **shown)])
    page.click("People", "tab")
    page.see("#timeline .moment", "shown: checkout = on")


def test_the_newest_is_on_top(local, live, story):
    """Whether it came before the page or after it."""
    story.shop(local)
    page = live(local)
    story.send(local, [story.event("Newest", distinct_id="anna")])
    page.see("#events .row", "Newest")
    assert page.texts("#events .what")[:3] == ["Newest", "Bought", "Checkout opened"]


def test_events_are_searched(local, live, story):
    """In names, IDs and properties; what arrives later is searched as well."""
    story.shop(local)
    page = live(local)
    page.press("/", *"earl grey")
    page.see("#events .row", "Bought")
    assert page.texts("#events .what") == ["Bought", "Added to cart"]
    story.send(local, [story.event("Looked", distinct_id="u"), story.event("Tasted", of="Earl Grey")])
    page.see("#events .row", "Tasted")
    assert page.texts("#events .what") == ["Tasted", "Bought", "Added to cart"]


def test_a_search_without_a_match_says_so(local, live, story):
    """An empty list could be anything."""
    story.shop(local)
    page = live(local)
    page.see("#events .row")
    page.press("/", *"coffee")
    page.see("#no-match", "No event matches")


def test_events_are_filtered_by_sender_and_name(local, live, story):
    """Both at once."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    page.do(lambda it: it.select_option("#lane", "server"))
    assert page.texts("#events .what") == ["Bought", "Logged in", "Page viewed"]
    page.do(lambda it: it.select_option("#name", "Logged in"))
    assert page.texts("#events .what") == ["Logged in"]


def test_the_json_of_an_event_is_copied(local, live, story):
    """As it was sent: it can be sent again."""
    sent = story.event("Bought", distinct_id="u", amount=5, note='</script><b>"quoted"</b>')
    story.send(local, [sent])
    page = live(local)
    page.click("Bought")
    page.click("Copy JSON")
    page.see("#copy-json", "Copied")
    assert json.loads(page.run("navigator.clipboard.readText()")) == sent


def test_what_was_sent_stays_text(local, live, story):
    """Names, IDs and values that look like elements are none."""
    evil = "<img src=x onerror=document.title='owned'>"
    story.send(local, [story.event(evil, distinct_id=evil, **{evil: evil})])
    page = live(local)
    page.press("j")
    page.see("#detail h2", evil)
    page.press("2")
    page.see("#timeline h2", evil)
    assert page.run("document.title") == "Local Mixpanel"
    assert page.run("document.querySelectorAll('main img').length") == 0


def test_a_person_has_both_lanes_and_a_link_where_ids_merge(local, live, story):
    """Anonymous on both sides, then logged in: one person."""
    story.shop(local)
    page = live(local)
    page.click("People", role="tab")
    page.see(".timeline .link:not(.bad)")
    assert page.texts(".moment.browser strong") == ["$mp_web_page_view", "Added to cart", "Checkout opened"]
    assert page.texts(".moment.server strong") == ["Page viewed", "Logged in", "Bought"]
    (note,) = page.texts(".note")
    assert note.startswith("merged: $device:")
    assert note.endswith("→ anna")
    left, right = page.run(
        "['.browser', '.server'].map(e => document.querySelector(e + ' .card').getBoundingClientRect().x)"
    )
    assert left < right
    assert page.do(lambda it: it.locator(".bad").count()) == 0


def test_a_timeline_grows_while_it_is_looked_at(local, live, story):
    """It is live as well."""
    story.shop(local)
    page = live(local)
    page.press("2")
    page.see(".moment", "Bought")
    story.send(local, [story.event("Came back", **story.KNOWN, **story.BROWSER)])
    page.see(".moment.browser", "Came back")


def test_an_event_that_is_not_the_signed_visitors_is_red(local, live, story):
    """The collector has marked it; opened, it says what differs."""
    page = live(local)
    story.send(
        local,
        [
            story.event("Fine", distinct_id="u-1", **story.BROWSER),
            story.event("Strange", distinct_id="u-2", visitor_mismatch="user", **story.BROWSER),
        ],
    )
    page.see("li.bad .what", "Strange")
    assert page.texts("#events li.bad .what") == ["Strange"]


def test_two_ids_of_one_visit_are_red_with_the_fix(local, live, story):
    """In the list, as an alarm, and on the timeline that shows both."""
    story.shop(local)
    story.broken_shop(local)
    page = live(local)
    page.see("#alarm", "A visit has two IDs")
    page.see("li.bad .what", "Mug turned")
    assert sorted(page.texts("#events li.bad .what")) == ["Mug turned", "Page viewed"]
    page.click("Show the fix")
    page.see(".problem .fix", "Wrap the application with VisitorMiddleware")
    page.click("Show both on a timeline")
    page.see(".timeline .link.bad")
    assert page.texts(".moment.bad strong") == ["Page viewed", "Mug turned"]
    page.see(".note.bad", "two IDs in one visit")
    red = page.run("getComputedStyle(document.querySelector('.moment.bad strong')).color")
    assert is_red(red)


@pytest.mark.parametrize(
    ("problem", "fix"),
    [
        ("'None' is not allowed", "str(None)"),
        ("malformed JSON", "NaN"),
        ("must have fewer than 255 properties", "Send fewer than 255 properties"),
    ],
)
def test_what_was_refused_is_red_with_the_fix(local, live, story, problem, fix):
    """The broken application's other mistakes."""
    story.broken_shop(local)
    page = live(local)
    page.see("#problem-count", "4")
    page.press("3")
    page.see(".problem h3", problem)
    (found,) = [text for text in page.texts(".problem") if problem in text]
    assert fix in found
    assert is_red(page.run("getComputedStyle(document.querySelector('.problem h3')).color"))


def is_red(colour):
    """Whether red is most of a CSS rgb()."""
    red, green, blue = (int(part) for part in colour.strip("rgb()").split(","))
    return red > 150 and red > green + 50 and red > blue + 50


def test_a_row_says_what_the_application_said(local, live, story):
    """Two or three of its own properties, or the page where it has none."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    previews = dict(zip(page.texts("#events .what"), page.texts("#events .preview"), strict=True))
    assert "amount: 13.5" in previews["Bought"]
    assert previews["$mp_web_page_view"] == "/tea"
    assert previews["Page viewed"] == "path: /tea"


def test_what_is_not_of_today_has_its_date(local, live, story):
    """An imported event of years ago is no event of this morning."""
    old = story.event("Old", distinct_id="u", time=1_000_003_600)
    credentials = base64.b64encode(f"{story.TOKEN}:".encode()).decode()
    story.send(local, [old], "/import", Authorization=f"Basic {credentials}")
    story.send(local, [story.event("New", distinct_id="u")])
    page = live(local)
    page.see("#events .row", "New")
    new, past = page.texts("#events .time")
    assert "-" not in new
    assert past.startswith("2001-09-09 ")


def test_projects_are_looked_at_one_by_one(local, live, story):
    """User 1 of one application is not user 1 of the other: neither in the lists nor on a timeline."""
    for token, name in [("a" * 32, "Bought tea"), ("b" * 32, "Rented bike")]:
        story.send(local, [story.event(name, distinct_id="1", token=token)])
    page = live(local)
    page.see("#events .row", "Rented bike")
    page.press("2")
    page.see("#people .row", "project bbb")
    assert len(page.texts("#people .row")) == 2
    assert page.texts(".moment strong") == ["Rented bike"]
    page.do(lambda it: it.select_option("#project", "a" * 32))
    page.see(".moment", "Bought tea")
    assert page.texts(".moment strong") == ["Bought tea"]
    page.press("Tab", "Escape")
    page.do(lambda it: it.locator("#tab-events").click())
    assert page.texts("#events .what") == ["Bought tea"]


def test_one_project_needs_no_choice(local, live, story):
    """There is nothing to choose from."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    assert page.do(lambda it: it.locator("#projects").is_hidden())


def test_the_alarm_is_put_away_until_there_is_another(local, live, story):
    """Who has read it wants the room."""
    story.broken_shop(local)
    page = live(local)
    page.see("#alarm", "A visit has two IDs")
    page.click("Dismiss")
    assert page.do(lambda it: it.locator("#alarm").is_hidden())
    story.send(local, [story.event("Fine", distinct_id="u")])
    page.see("#events .row", "Fine")
    assert page.do(lambda it: it.locator("#alarm").is_hidden())
    story.send(local, [story.event("None", distinct_id="null")])
    page.see("#alarm", "A visit has two IDs")


def test_an_empty_page_says_how_both_sides_are_pointed_here(local, live, story):
    """The server by its environment, the browser by `mixpanel.init`; both can be copied."""
    page = live(local)
    page.see("#nothing", "MIXPANEL_API_HOST=" + local.url)
    page.click("Copy", role="button")
    page.do(lambda it: it.locator("#copy-hint-browser").click())
    page.see("#copy-hint-browser", "Copied")
    copied = page.run("navigator.clipboard.readText()")
    assert copied == f'mixpanel.init("YOUR_PROJECT_TOKEN", {{api_host: "{local.url}"}})'


def test_a_phone_shows_the_first_event_without_scrolling(local, live, story):
    """Also with the alarm above it."""
    story.shop(local)
    story.broken_shop(local)
    page = live(local, **PHONE)
    page.see("#events .row")
    page.see("#alarm")
    assert page.run("document.querySelector('#events .row').getBoundingClientRect().bottom < innerHeight")


def test_a_phone_shows_the_timeline_that_was_asked_for(local, live, story):
    """The list of people is above it there."""
    story.shop(local)
    for number in range(9):
        story.send(local, [story.event("Seen", distinct_id=f"u-{number}")])
    page = live(local, **PHONE)
    page.press("2")
    page.see("#people .row", "anna")
    page.do(lambda it: it.locator("#people .row", has_text="anna").click())
    page.see("#timeline h2", "anna")
    page.do(
        lambda it: it.wait_for_function(
            "document.querySelector('#timeline h2').getBoundingClientRect().top < innerHeight / 2"
        )
    )


def test_everything_can_be_forgotten(local, live, story):
    """By a button, at once."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    page.click("Forget everything")
    page.see("#nothing")
    assert page.texts("#events .row") == []
    assert local.store.stats()["received"] == 0


def test_a_paused_page_stands_still_and_catches_up(local, live, story):
    """To read in peace."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    page.press("p")
    page.see("#state", "paused")
    story.send(local, [story.event("While paused", distinct_id="anna")])
    with_it = live(local)
    with_it.see("#events .row", "While paused")
    assert "While paused" not in page.texts("#events .what")
    page.press("p")
    page.see("#events .row", "While paused")


def test_a_server_that_is_gone_is_told_and_found_again(local, live, story):
    """On the same port."""
    page = live(local)
    local.stop()
    page.see("#state", "not reachable")
    page.errors.clear()  # the browser itself says that nothing answers
    local.start()
    story.send(local, [story.event("Again here", distinct_id="u")])
    page.see("#events .row", "Again here")
    page.errors.clear()


def test_the_keyboard_is_enough(local, live, story):
    """To go through events, open a timeline and come back, with the focus where one is."""
    story.shop(local)
    page = live(local)
    page.see("#events .row", "Bought")
    focused = "document.activeElement.innerText"
    page.press("j", "j")
    page.see("#detail h2", "Checkout opened")
    assert "Checkout opened" in page.run(focused)
    page.press("k")
    page.see("#detail h2", "Bought")
    page.press("Escape")
    assert page.do(lambda it: it.locator("#detail").is_hidden())
    assert "Bought" in page.run(focused)
    page.press("Enter", "t")
    page.see(".moment")
    page.press("1", "ArrowRight", "ArrowRight")
    assert page.run(focused).startswith("Problems")
    page.see("#no-problems")


@pytest.mark.parametrize("view", ["1", "2", "3", "4"])
def test_a_phone_scrolls_one_way_only(local, live, story, view):
    """Nothing is wider than the screen, whatever the IDs are."""
    story.shop(local)
    story.broken_shop(local)
    story.send(local, [story.event("x" * 200, distinct_id="y" * 250, value="z" * 900)])
    page = live(local, **PHONE)
    page.see("#events .row")
    page.press("j", view)
    page.see({"1": "#detail h2", "2": ".moment", "3": ".problem", "4": ".profile"}[view])
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run(TOO_WIDE) == []


TOO_WIDE = """() => [...document.querySelectorAll("main *")]
    .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => [e.tagName, e.className, e.getBoundingClientRect().right])"""
CONTRASTS = """() => {
    const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const found = parts(getComputedStyle(e).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const low = [];
    for (const e of document.querySelectorAll("body *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.checkVisibility() || /^(SCRIPT|STYLE|OPTION)$/.test(e.tagName)) continue;
        const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) low.push([e.textContent.slice(0, 30), e.className, ratio.toFixed(2)]);
    }
    return low;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=tab], svg[role=img]")]
    .filter((e) => e.checkVisibility())
    .filter((e) => !(e.getAttribute("aria-label") || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()))
    .map((e) => e.outerHTML)"""
BROKEN_REFERENCES = """() => [...document.querySelectorAll("[aria-controls], [aria-labelledby]")]
    .filter((e) => !["aria-controls", "aria-labelledby"].map((n) => e.getAttribute(n)).filter(Boolean)
        .every((id) => document.getElementById(id)))
    .map((e) => e.outerHTML)"""


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("view", ["1", "2", "3", "4"])
def test_everyone_can_read_it(local, live, story, look, view):
    """All text has a contrast of 4.5 (WCAG AA), all controls have names, all references lead somewhere."""
    story.shop(local)
    story.broken_shop(local)
    page = live(local, **look)
    page.see("#events .row")
    page.press("j", view)
    page.see({"1": "#detail h2", "2": ".moment", "3": ".problem", "4": ".profile"}[view])
    assert page.run(CONTRASTS) == []
    assert page.run(NAMELESS) == []
    assert page.run(BROKEN_REFERENCES) == []
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert page.do(lambda it: it.get_by_role("tab", selected=True).count()) == 1
    assert page.do(lambda it: it.get_by_role("tabpanel").count()) == 1


def test_the_list_is_bounded_whatever_comes(local, live, story):
    """The page has the newest, and says how many there were."""
    page = live(local)
    for _ in range(5):
        story.send(local, [story.event(f"e{number}", distinct_id="u") for number in range(1_000)])
    story.send(local, [story.event("last", distinct_id="u")])
    page.see("#events .row", "last")
    page.see("#counts", "5,001")
    assert len(page.texts("#events .row")) <= 150
    assert page.run("events.length") <= 2_000


def test_the_pictures_for_the_readme_can_be_taken(chromium, tmp_path):
    """All of them, small enough; two of one view in different looks differ."""
    from support import screenshots

    taken = {path.name: path.read_bytes() for path in screenshots.take(tmp_path, chromium)}
    assert set(taken) == {path.name for path in screenshots.HOME.glob("*.png")}
    assert all(len(picture) < screenshots.MAX_BYTES for picture in taken.values())
    assert len(set(taken.values())) == len(taken)


def test_the_moving_picture_for_the_readme_can_be_taken(chromium, tmp_path):
    """One frame for each event, the last of which shows one person with both IDs."""
    from PIL import Image
    from support import screenshots

    path = screenshots.animate(tmp_path, chromium)
    assert (screenshots.HOME / path.name).is_file()
    assert path.stat().st_size < screenshots.MAX_BYTES
    with Image.open(path) as picture:
        assert picture.n_frames == len(screenshots.shop_events())
