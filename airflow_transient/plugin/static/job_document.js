// A job's document as data: what of an answer is the document, what was changed, what the API said about which field.

/** What the API adds when it shows a job. `suspended` it adds too, and takes. */
const ADDED = new Set(["lastRun", "lastRunTasks", "estimatedNextRun", "link", "parsedSchedule", "error"]);

export const editable = (shown) => Object.fromEntries(Object.entries(shown).filter(([name]) => !ADDED.has(name)));

export const kindOf = (document) => document.kind ?? "ecs";

const same = (one, other) => canon(one) === canon(other);

/** JSON with its keys in order, so that equal values are equal texts. */
function canon(value) {
  return JSON.stringify(value, (_, held) =>
    held && typeof held === "object" && !Array.isArray(held)
      ? Object.fromEntries(Object.entries(held).sort(([a], [b]) => (a < b ? -1 : 1)))
      : held,
  );
}

/** Of an edit: the top-level fields that a PUT has to send, and those that were taken out. */
export function changes(before, after) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const patch = {};
  const removed = [];
  for (const name of names) {
    if (name in after) {
      if (!same(before[name], after[name])) patch[name] = after[name];
    } else if (WITHOUT[name] !== undefined) {
      if (!same(before[name], WITHOUT[name])) patch[name] = WITHOUT[name];
    } else {
      removed.push(name);
    }
  }
  return { patch, removed };
}

/** A PUT merges and null is refused, so a field cannot be taken out; these can be told to be as if they were. */
const WITHOUT = {
  suspended: false,
  taskCount: 1,
  timezone: "UTC",
  trigger: { type: "noop" },
  overrides: [],
  tags: {},
  environment: {},
  secrets: {},
  count: 1,
};

export function at(document, name) {
  return name.split(".").reduce((held, part) => held?.[part], document);
}

export function setAt(document, name, value) {
  const parts = name.split(".");
  const last = parts.pop();
  let held = document;
  for (const part of parts) held = held[part] ??= {};
  held[last] = value;
}

/** Where Airflow's masker has been. What is sent back masked stays what it was. */
export const masked = (value) => /"\*{3}"/.test(JSON.stringify(value) ?? "");

/** {"trigger": {"_schema": ["…"]}} -> [["trigger._schema", "…"]] */
export function flat(messages, above = "") {
  return Object.entries(messages ?? {}).flatMap(([name, told]) => {
    const path = above ? `${above}.${name}` : name;
    if (Array.isArray(told)) return told.map((text) => [path, String(text)]);
    return told && typeof told === "object" ? flat(told, path) : [[path, String(told)]];
  });
}
