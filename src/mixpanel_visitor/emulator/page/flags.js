// Feature flags: what each is by its rules, and a switch that is stronger than they are.
let drawnFlags = "";
const changeFlag = async (change) => {
  await fetch("/_local/flags", { method: "POST", body: JSON.stringify(change) });
  await refreshFlags();
};
const flagRow = (flag) => {
  const choice = make("select");
  choice.setAttribute("aria-label", "Show " + flag.key);
  const option = (value, text) => { const one = make("option", text); one.value = value; choice.append(one); };
  option("rules", "by its rules");
  option("off", "to nobody");
  for (const variant of flag.variants) option(variant.key, variant.key + " to everybody: " + short(JSON.stringify(variant.value), 24));
  choice.value = flag.switch;
  choice.addEventListener("change", () => changeFlag({ key: flag.key, switch: choice.value }));
  const about = make("span", "assigned by " + flag.assigned_by + ", " + flag.variants.length + (flag.variants.length === 1 ? " variant" : " variants"), "dim");
  return within("li", "flag", make("strong", flag.key), about, choice);
};
async function refreshFlags() {
  const found = await fetchJson("/_local/flags");
  const now = JSON.stringify(found);
  if (now === drawnFlags) return; // a select that somebody has open stays
  drawnFlags = now;
  byId("no-flags").hidden = found.flags.length > 0;
  const lines = found.malformed.concat(found.problem || []);
  byId("flags").replaceChildren(...found.flags.map(flagRow), ...lines.map((line) => make("li", line, "bad")));
}
const addFlag = () => {
  const key = byId("new-flag").value.trim();
  if (!key) return;
  byId("new-flag").value = "";
  const variants = [{ key: "on", value: true, is_control: false, split: 1 }];
  const ruleset = { variants, rollout: [{ rollout_percentage: 1 }] };
  changeFlag({ definition: { id: key, name: key, key, status: "enabled", project_id: 0, context: "device_id", hash_salt: "", ruleset } });
};
