"use strict";
// What is shown here comes from anywhere: it only ever becomes text.
const byId = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = String(text);
  if (className) element.className = className;
  return element;
};
const within = (tag, className, ...children) => {
  const element = make(tag, null, className);
  element.append(...children);
  return element;
};
const button = (text, act, className) => {
  const element = make("button", text, className);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
};
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false }) + "." + String(ms % 1000).padStart(3, "0");
// With its date where that is not today.
const stamp = (ms) => {
  const at = new Date(ms);
  if (at.toDateString() === new Date().toDateString()) return clock(ms);
  return at.toLocaleDateString("sv") + " " + at.toLocaleTimeString([], { hour12: false });
};
const short = (text, most = 40) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
const fetchJson = async (path) => {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
};
const copy = async (text, from) => {
  const before = from.textContent;
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
  } catch {
    from.textContent = "Select and copy by hand";
  }
  setTimeout(() => { from.textContent = before; }, 1500);
};
const facts = (pairs) => {
  const list = make("dl", null, "facts");
  for (const [name, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(make("dt", name), make("dd", value));
  }
  return list;
};
const coloured = (value) => {
  const shown = make("pre");
  const text = JSON.stringify(value, null, 2);
  let at = 0;
  for (const found of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/g)) {
    shown.append(text.slice(at, found.index));
    if (found[2]) shown.append(make("span", found[1], "key"), found[2]);
    else shown.append(make("span", found[0], found[1] ? "string" : "number"));
    at = found.index + found[0].length;
  }
  shown.append(text.slice(at));
  return shown;
};
