// One person's events: those of browsers on the left, those of servers on the right, time going down.
const MAX_MOMENTS = 200;
let twoIds = [];
let chosen = null;
let drawn = "";
const isChosen = (person, token) => chosen !== null && chosen.person === person && chosen.token === token;

const trouble = (person, ids, token) => twoIds.find((each) => {
  const mine = new Set([person, ...ids]);
  return each.token === token && (mine.has(each.browser_id) || mine.has(each.server_id));
});
// An exposure says what was shown.
const titleOf = (each) => (each.event === "$experiment_started"
  ? "shown: " + short(each.properties["Experiment name"] + " = " + each.properties["Variant name"], 40) : each.event);
const moment = (each, colour, bad) => {
  const card = button(null, () => { select("events"); openEvent(each); byId("copy-json").focus(); }, "card");
  card.append(make("strong", titleOf(each)), make("span", short(each.own_id ?? "nobody", 30)));
  const at = within("span", "at", make("span", null, "dot"), make("span", stamp(each.time_ms)));
  const element = within("li", "moment " + each.lane + " id-" + colour + (bad ? " bad" : ""), card, at);
  element.setAttribute("aria-label", each.lane + ": " + each.event);
  return element;
};
const note = (text, bad) => within("li", "note" + (bad ? " bad" : ""), make("span", text));

const drawTimeline = (person, found, problem) => {
  const ids = [...new Set(found.map((each) => each.own_id))];
  const list = make("ol");
  const links = [];
  const lastOf = new Map();
  let linked = false;
  for (const each of found) {
    const bad = problem && (each.own_id === problem.browser_id || each.own_id === problem.server_id);
    const element = moment(each, ids.indexOf(each.own_id) % 6, bad);
    if (lastOf.size && !lastOf.has(each.own_id)) {
      const [from, before] = [...lastOf].at(-1);
      const apart = Boolean(problem) && before.person !== each.person;
      list.append(note(apart ? "two IDs in one visit: " + short(from, 24) + " ≠ " + short(each.own_id, 24)
        : "merged: " + short(from, 24) + " → " + short(each.own_id, 24), apart));
      links.push({ from: before.element, to: element, bad: apart });
      linked = true;
    }
    lastOf.delete(each.own_id);
    lastOf.set(each.own_id, { element, person: each.person });
    list.append(element);
  }
  const svg = byId("plot").cloneNode(false);
  for (const name of ["id", "viewBox", "preserveAspectRatio", "aria-label", "role"]) svg.removeAttribute(name);
  svg.setAttribute("class", "links");
  svg.setAttribute("aria-hidden", "true");
  const heads = within("div", "heads", make("span", "browser", "lane browser"), make("span", "server", "lane server"));
  const chips = within("div", "chips", ...ids.map((id, at) => make("span", id ?? "nobody", "chip id-" + (at % 6))));
  const title = within("div", "", make("h2", person), make("p", found.length + " events, " + ids.length + (ids.length === 1 ? " ID" : " IDs") + (linked && !problem ? ", one person" : ""), "dim"));
  const box = within("div", "timeline", heads, svg, list);
  const parts = [title, chips];
  if (problem) parts.push(problemCard("This visit has two IDs", problem, null));
  byId("timeline").replaceChildren(...parts, box);
  const frame = box.getBoundingClientRect();
  const middle = (element) => {
    const dot = element.querySelector(".dot").getBoundingClientRect();
    return [dot.left - frame.left + dot.width / 2, dot.top - frame.top + dot.height / 2];
  };
  for (const link of links) {
    const [x, y] = middle(link.from);
    const [toX, toY] = middle(link.to);
    const path = document.createElementNS(svg.namespaceURI, "path");
    const aside = Math.min(46, frame.width / 10);
    path.setAttribute("d", "M" + x + " " + y + " C" + (x + aside) + " " + y + " " + (toX + aside) + " " + toY + " " + toX + " " + toY);
    path.setAttribute("class", link.bad ? "link bad" : "link");
    svg.append(path);
  }
};
const refreshPerson = async () => {
  if (chosen === null) return;
  const { person, token } = chosen;
  const of = (id) => fetchJson("/_local/events?limit=" + MAX_MOMENTS + "&token=" + encodeURIComponent(token) + "&person=" + encodeURIComponent(id));
  let found = (await of(person)).events;
  const problem = trouble(person, found.map((each) => each.own_id), token);
  if (problem) {
    // Both sides of the visit belong into the picture: that is the point of it.
    const both = await Promise.all([problem.browser_id, problem.server_id].map(of));
    const all = new Map([...found, ...both[0].events, ...both[1].events].map((each) => [each.number, each]));
    found = [...all.values()];
  }
  found.sort((a, b) => a.time_ms - b.time_ms || a.number - b.number);
  const now = JSON.stringify([person, token, found, problem]);
  if (isChosen(person, token) && now !== drawn) {
    drawn = now;
    drawTimeline(person, found, problem);
  }
};
const refreshPeople = async () => {
  const project = byId("project").value;
  const found = (await fetchJson("/_local/people?limit=200")).people.reverse().filter((each) => !project || each.token === project);
  if (!found.length) byId("timeline").replaceChildren(make("p", "Nobody has done anything yet.", "empty"));
  if (found.length && (chosen === null || (project && chosen.token !== project))) chosen = found[0];
  const focused = document.activeElement?.person;
  byId("people").replaceChildren(...found.map((each) => {
    const row = button(null, () => openPerson(each.person, each.token), "row person");
    row.person = idOf(each.token, each.person);
    row.append(make("span", each.person, "what"), make("span", each.events, "dim"),
      make("span", each.ids.length === 1 ? "1 ID" : each.ids.length + " IDs, merged", "who"));
    if (projects.size > 1) row.append(make("span", "project " + short(each.token, 16), "who"));
    if (isChosen(each.person, each.token)) row.setAttribute("aria-current", "true");
    return within("li", trouble(each.person, each.ids, each.token) ? "bad" : "", row);
  }));
  if (focused !== undefined) [...byId("people").querySelectorAll(".row")].find((row) => row.person === focused)?.focus();
  await refreshPerson();
};
async function openPerson(person, token) {
  chosen = { person, token };
  drawn = "";
  await select("people");
  // Side by side there is no need; one below the other, the timeline would be out of sight.
  if (matchMedia("(max-width: 46rem)").matches) byId("timeline").scrollIntoView();
}
