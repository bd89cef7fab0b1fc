// The frame: counts, problems, views, keys and the stream.
const VIEWS = ["events", "people", "problems", "profiles", "flags"];
const MAX_RATES = 60;
let view = "events";
let paused = false;
let stats = null;
let rejected = [];
let stale = true;
let waiting = [];
let drawnProblems = "";
let putAway = "";
const rates = Array(MAX_RATES).fill(0);
let counted = null;

const problemCard = (title, problem, open) => {
  const card = within(open === null ? "div" : "li", "problem", make("h3", title));
  if (problem.browser_id) {
    card.append(facts([["browser", problem.browser_id], ["server", problem.server_id], ["page", problem.page]]));
    if (open !== null) card.append(within("div", "actions", button("Show both on a timeline", () => openPerson(problem.browser_id, problem.token))));
  } else {
    card.append(facts([
      ["at", clock(problem.received_at_ms)], ["endpoint", "/" + problem.endpoint], ["answer", problem.status || null],
      ["field", problem.field], ["event", problem.record?.event],
    ]));
  }
  if (problem.fix) card.append(within("div", "fix", make("b", "Fix"), make("span", problem.fix)));
  if (problem.record) card.append(within("details", "", make("summary", "What was sent"), coloured(problem.record)));
  return card;
};
const drawProblems = () => {
  const number = twoIds.length + (stats?.refusals ?? 0);
  byId("problem-count").textContent = number;
  byId("problem-count").hidden = number === 0;
  byId("no-problems").hidden = number > 0;
  const worst = twoIds.length ? "A visit has two IDs: browser and server do not agree who it is." : rejected.length ? "Refused: " + short(rejected.at(-1).reason, 120) : "";
  const alarm = worst && worst + " " + number;
  byId("alarm").hidden = !worst || alarm === putAway;
  if (worst && byId("alarm").title !== alarm) {
    byId("alarm").title = alarm;
    byId("alarm").replaceChildren(make("strong", worst), button("Show the fix", () => select("problems")),
      button("Dismiss", () => { putAway = alarm; byId("alarm").hidden = true; }));
  }
  if (view !== "problems") return;
  // Drawn when there are others only: what was unfolded stays so, and whoever is in it by keyboard stays there.
  const now = JSON.stringify([twoIds, number, rejected.at(-1)?.received_at_ms]);
  if (now === drawnProblems) return;
  drawnProblems = now;
  byId("problems").replaceChildren(
    ...twoIds.map((each) => problemCard("One visit has two IDs", each, true)).reverse(),
    ...rejected.map((each) => problemCard(each.reason, each, true)).reverse(),
  );
};
const drawProfiles = async () => {
  const [profiles, groups] = await Promise.all([fetchJson("/_local/profiles?limit=100"), fetchJson("/_local/groups?limit=100")]);
  const all = [...profiles.profiles, ...groups.groups].sort((a, b) => b.updated_at_ms - a.updated_at_ms);
  byId("profiles").replaceChildren(...all.map((each) => within("li", "profile",
    make("strong", each.$group_key ? each.$group_key + ": " + each.$group_id : each.$distinct_id),
    make("span", "  " + each.updates + " updates", "dim"), coloured(each.properties))));
  byId("requests").replaceChildren(...Object.entries(stats?.requests ?? {}).flatMap(([path, answers]) =>
    Object.entries(answers).map(([status, count]) => make("li", path + "  " + status + " × " + count))));
};
const drawCounts = () => {
  const cards = [
    ["Events", stats.unique], ["Duplicates", stats.duplicates], ["Altered", stats.altered, stats.altered > 0],
    ["Refused", stats.refusals, stats.refusals > 0], ["Profiles", stats.profile_updates + stats.groups],
    ["Two IDs", twoIds.length, twoIds.length > 0],
  ].map(([label, value, bad]) => within("div", bad ? "bad" : "", make("dt", label), make("dd", value.toLocaleString("en"))));
  byId("counts").replaceChildren(...cards);
};
const drawRate = () => {
  const now = stats?.received ?? 0;
  rates.push(counted === null || now < counted ? 0 : now - counted);
  counted = stats ? now : null;
  if (rates.length > MAX_RATES) rates.shift();
  const most = Math.max(4, ...rates);
  const points = rates.map((rate, at) => ((MAX_RATES - rates.length + at) * 240 / (MAX_RATES - 1)).toFixed(1) + " " + (46 - rate * 42 / most).toFixed(1));
  byId("plot-line").setAttribute("d", "M" + points.join("L"));
  byId("plot-area").setAttribute("d", "M" + points[0].split(" ")[0] + " 48L" + points.join("L") + "L240 48Z");
  byId("rate").textContent = rates.at(-1).toLocaleString("en");
};

const drawView = async () => {
  try {
    if (view === "people") await refreshPeople();
    else if (view === "problems") drawProblems();
    else if (view === "profiles") await drawProfiles();
    else if (view === "flags") await refreshFlags();
  } catch {
    stale = true; // the server went away in the middle: the stream tells, and it is drawn again later
  }
};
function select(name) {
  view = name;
  for (const each of VIEWS) {
    const tab = byId("tab-" + each);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    byId("view-" + each).hidden = each !== name;
  }
  return drawView();
}
const say = (text, className) => {
  if (byId("state").textContent !== text) byId("state").textContent = text;
  byId("state").className = className;
};
const take = (message) => {
  if (message.first) {
    forgetEvents();
    counted = null;
    [rejected, chosen, drawn, putAway] = [[], null, "", ""];
  }
  stats = message.stats;
  twoIds = message.two_ids;
  rejected = message.rejected ?? rejected;
  markRed(new Set(twoIds.flatMap((each) => [each.browser_id, each.server_id].map((id) => idOf(each.token, id)))));
  addEvents(message.events);
  drawCounts();
  drawProblems();
  stale = true;
};
const pause = () => {
  paused = !paused;
  byId("pause").textContent = paused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", String(paused));
  say(paused ? "paused" : "live", paused ? "paused" : "live");
  if (!paused) waiting.splice(0).forEach(take);
};

const stream = new EventSource("/_local/stream");
stream.addEventListener("open", () => { if (!paused) say("live", "live"); });
stream.addEventListener("error", () => say("not reachable", "bad"));
stream.addEventListener("message", (arrived) => {
  const message = JSON.parse(arrived.data);
  if (!paused) take(message);
  else {
    if (message.first) waiting = [];
    waiting.push(message);
    if (waiting.length > 100) waiting.splice(1, 1); // the first one may say that all is forgotten
  }
});
setInterval(() => {
  drawRate();
  if (stale && !paused && !document.hidden) {
    stale = false;
    if (view === "people" || view === "profiles" || view === "flags") drawView();
  }
}, 1000);

byId("address").textContent = "MIXPANEL_API_HOST=" + location.origin;
byId("hint").textContent = "MIXPANEL_API_HOST=" + location.origin + " python app.py";
byId("hint-browser").textContent = 'mixpanel.init("YOUR_PROJECT_TOKEN", {api_host: "' + location.origin + '"})';
for (const id of ["address", "hint", "hint-browser"]) {
  byId("copy-" + id).addEventListener("click", () => copy(byId(id).textContent, byId("copy-" + id)));
}
byId("project").addEventListener("input", () => { drawEvents(); drawView(); });
byId("reset").addEventListener("click", () => fetch("/_local/reset", { method: "POST" }));
byId("pause").addEventListener("click", pause);
byId("add-flag").addEventListener("click", addFlag);
byId("new-flag").addEventListener("keydown", (press) => { if (press.key === "Enter") addFlag(); });
for (const id of ["search", "lane", "name"]) byId(id).addEventListener("input", drawEvents);
for (const name of VIEWS) byId("tab-" + name).addEventListener("click", () => select(name));
document.querySelector("[role=tablist]").addEventListener("keydown", (press) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[press.key];
  if (!by) return;
  const next = VIEWS[(VIEWS.indexOf(view) + by + VIEWS.length) % VIEWS.length];
  select(next);
  byId("tab-" + next).focus();
});
document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey) return;
  if (press.key === "Escape") {
    const row = document.querySelector("#events [aria-current]");
    if (document.activeElement === byId("search")) byId("search").blur();
    else if (opened) { closeEvent(); row?.focus(); }
    return;
  }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(press.target.tagName)) return;
  const act = {
    "/": () => { select("events"); byId("search").focus(); },
    j: () => step(1), k: () => step(-1), p: pause,
    c: () => opened && byId("copy-json").click(),
    t: () => opened && opened.person !== null && openPerson(opened.person, opened.token),
  }[press.key] ?? (VIEWS[Number(press.key) - 1] && (() => { select(VIEWS[press.key - 1]); byId("tab-" + view).focus(); }));
  if (!act) return;
  press.preventDefault();
  act();
});
showCount(0);
drawRate();
