// Asks mixpanel-browser's own code what it would send from each of the places given on standard input.
import fs from "node:fs";
import vm from "node:vm";

const code = fs.readFileSync(process.argv[2], "utf8");
const script = new vm.Script(`(function (module, exports, require, window) {${code}\n})`);
const wrapper = script.runInThisContext();

function ask(place) {
  const location = new URL(place.url);
  const window = {
    document: {
      referrer: place.referrer, URL: place.url, cookie: "", title: "",
      createElement: () => ({}), addEventListener() {}, location,
    },
    location,
    navigator: { userAgent: place.user_agent, vendor: place.vendor, onLine: true },
    opera: place.opera ? {} : undefined,
    screen: { width: 1, height: 2 },
    addEventListener() {}, console, setTimeout, clearTimeout, Promise, crypto: {},
  };
  window.window = window;
  const module = { exports: {} };
  wrapper(module, module.exports, () => ({}), window);
  const { info, isBlockedUA } = module.exports._;
  return {
    properties: info.properties(),
    campaign: info.campaignParams(),
    clicks: info.clickParams(),
    search: info.searchInfo(place.referrer),
    page_view: info.mpPageViewProperties(),
    blocked: Boolean(isBlockedUA(place.user_agent)),
  };
}

console.error = () => {};
const places = JSON.parse(fs.readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(places.map(ask)));
