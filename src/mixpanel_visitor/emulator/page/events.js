// The list of events: the last MAX_KEPT are searched, the last MAX_ROWS that match are shown.
const MAX_KEPT = 2000;
const MAX_ROWS = 150;
const MAX_NAMES = 200;
const events = [];
const names = new Set();
const projects = new Set();
let opened = null;
let redIds = new Set();

const MAX_PREVIEW = 3;
const OURS = new Set(["token", "time", "distinct_id", "mp_lib"]);
// What an application itself says of an event, or else where it happened.
const previewOf = (each) => {
  const own = Object.entries(each.properties).filter(([key]) => !OURS.has(key) && key[0] !== "$" && !key.startsWith("mp_"));
  const shown = own.slice(0, MAX_PREVIEW).map(([key, value]) => key + ": " + short(typeof value === "string" ? value : JSON.stringify(value), 30));
  const url = each.properties.$current_url;
  if (shown.length < MAX_PREVIEW && typeof url === "string" && URL.canParse(url) && !own.some(([key]) => key === "path")) {
    shown.unshift(short(new URL(url).pathname, 30));
  }
  return shown.join("  ·  ");
};
const idOf = (token, id) => token + "\n" + id;
const textOf = (each) => {
  // Made when somebody searches, not for each of thousands that pass by.
  each.text ??= (each.event + " " + each.own_id + " " + each.person + " " + JSON.stringify(each.properties)).toLowerCase();
  return each.text;
};
const wanted = () => {
  const search = byId("search").value.trim().toLowerCase();
  const lane = byId("lane").value;
  const name = byId("name").value;
  const project = byId("project").value;
  return (each) => (!project || each.token === project) && (!lane || each.lane === lane) && (!name || each.event === name) && (!search || textOf(each).includes(search));
};
const isRed = (each) => redIds.has(idOf(each.token, each.own_id)) || Boolean(each.identity_failure || each.properties.visitor_mismatch);
const drawRow = (each) => {
  const what = make("span", each.event, "what");
  if (each.deliveries > 1) what.append(make("span", " ×" + each.deliveries + (each.altered ? " altered" : ""), "again"));
  const row = button(null, () => openEvent(each, row), "row");
  row.append(make("span", stamp(each.time_ms), "time"), make("span", each.lane, "lane " + each.lane), what,
    make("span", previewOf(each), "preview"), make("span", each.person ?? "nobody", "who"));
  row.event = each;
  if (opened && opened.number === each.number) row.setAttribute("aria-current", "true");
  return within("li", isRed(each) ? "bad" : "", row);
};
const showCount = (matching) => {
  byId("shown").textContent = events.length ? "last " + Math.min(matching, MAX_ROWS) + " shown" : "";
  byId("nothing").hidden = events.length > 0;
  byId("no-match").hidden = events.length === 0 || matching > 0;
};
const drawEvents = () => {
  const fits = wanted();
  const rows = [];
  for (let at = events.length - 1; at >= 0 && rows.length < MAX_ROWS; at -= 1) {
    if (fits(events[at])) rows.push(drawRow(events[at]));
  }
  byId("events").replaceChildren(...rows);
  showCount(rows.length);
};
// More than one project: then one can be chosen.
const noteProject = (token) => {
  if (projects.has(token) || projects.size >= MAX_NAMES) return;
  projects.add(token);
  const choice = make("option", short(token || "without a token", 16));
  choice.value = token;
  byId("project").append(choice);
  byId("projects").hidden = projects.size < 2;
};
const addEvents = (found) => {
  if (!found.length) return;
  const fits = wanted();
  const list = byId("events");
  const rows = [];
  for (const each of found) {
    events.push(each);
    noteProject(each.token);
    if (!names.has(each.event) && names.size < MAX_NAMES) {
      names.add(each.event);
      const choice = make("option", short(each.event));
      choice.value = each.event;
      byId("name").append(choice);
    }
    if (fits(each)) rows.unshift(drawRow(each));
  }
  if (events.length > MAX_KEPT) events.splice(0, events.length - MAX_KEPT);
  const focused = document.activeElement?.closest?.("#events li");
  list.prepend(...rows.slice(0, MAX_ROWS));
  while (list.children.length > MAX_ROWS) {
    const last = list.lastElementChild;
    if (last === focused) list.firstElementChild.firstElementChild.focus();
    last.remove();
  }
  showCount(list.children.length);
};
const forgetEvents = () => {
  events.length = 0;
  names.clear();
  projects.clear();
  byId("project").replaceChildren(byId("project").firstElementChild);
  byId("projects").hidden = true;
  byId("name").replaceChildren(byId("name").firstElementChild);
  byId("events").replaceChildren();
  closeEvent();
  showCount(0);
};
const markRed = (ids) => {
  const before = [...redIds].sort().join("\n");
  redIds = ids;
  if ([...ids].sort().join("\n") === before) return;
  for (const row of document.querySelectorAll("#events .row")) row.parentElement.className = isRed(row.event) ? "bad" : "";
};

const asSent = (each) => ({ event: each.event, properties: each.properties });
const openEvent = (each, row) => {
  opened = each;
  document.querySelector("#events [aria-current]")?.removeAttribute("aria-current");
  row?.setAttribute("aria-current", "true");
  const close = button("Close", closeEvent);
  const copies = button("Copy JSON", () => copy(JSON.stringify(asSent(each), null, 2), copies), "primary");
  copies.id = "copy-json";
  const actions = within("div", "actions", copies);
  if (each.person !== null) actions.append(button("Timeline of this person", () => openPerson(each.person, each.token)));
  byId("detail").replaceChildren(
    within("div", "top", make("h2", each.event), close), actions,
    facts([
      ["sent by", each.lane + " to /" + each.endpoint], ["person", each.person ?? "nobody"], ["own ID", each.own_id], ["project", each.token],
      ["happened", new Date(each.time_ms).toISOString()], ["delivered", each.deliveries + (each.deliveries === 1 ? " time" : " times") + (each.altered ? ", altered" : "")],
      ["not merged", each.identity_failure], ["not the signed visitor's", each.properties.visitor_mismatch],
    ]),
    coloured(asSent(each)),
  );
  byId("detail").hidden = false;
};
function closeEvent() {
  opened = null;
  document.querySelector("#events [aria-current]")?.removeAttribute("aria-current");
  byId("detail").hidden = true;
}
const step = (by) => {
  const rows = [...document.querySelectorAll("#events .row")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => opened && row.event.number === opened.number);
  const row = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))];
  row.focus();
  openEvent(row.event, row);
};
