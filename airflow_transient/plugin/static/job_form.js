// The form of one job: built from job_fields.js, written from a document and read back into one.

import { Control, zoneList } from "./controls.js";
import { h } from "./dom.js";
import { at, setAt } from "./job_document.js";
import { fieldOf, groupsOf } from "./job_fields.js";
import { Overrides } from "./overrides.js";
import { ScheduleField } from "./schedule_field.js";

/** Where the API speaks of another name than the field's. */
const SPEAKS_OF = { parsedSchedule: "schedule", "trigger._schema": "trigger.queueName", trigger: "trigger.type" };

export class JobForm {
  /** @param changed called with the control that was changed */
  constructor({ kind, isNew, preview, changed }) {
    this.kind = kind;
    this.changed = changed;
    this.rest = {}; // what the document has and no field shows
    this.controls = new Map();
    this.element = h(
      "div",
      {},
      zoneList(),
      groupsOf(kind, isNew).map((group) => this.group(group, preview)),
    );
    this.schedule = this.controls.get("schedule");
    this.touched();
  }

  control(name) {
    const field = fieldOf(name, this.kind);
    const touched = (control) => this.touched(control);
    if (!field) return new ScheduleField(touched);
    return field.holds === "overrides" ? new Overrides(field, touched) : new Control(field, touched);
  }

  group({ title, folded, names }, preview) {
    for (const name of names) this.controls.set(name, this.control(name));
    const rows = names.flatMap((name) => [this.controls.get(name).row, name === "schedule" && preview]);
    const grid = h("div", { class: "grid" }, rows);
    if (folded) return h("details", { class: "group" }, h("summary", {}, title), grid);
    return h("fieldset", { class: "group" }, h("legend", {}, title), grid);
  }

  /** Fields that depend on another are shown with it. */
  touched(control) {
    const trigger = this.controls.get("trigger.type");
    for (const { field, row } of this.controls.values()) {
      if (field.when) row.hidden = trigger.text !== field.when;
    }
    if (control) this.changed(control);
  }

  write(document) {
    this.rest = structuredClone(document);
    for (const [name, control] of this.controls) {
      control.write(at(document, name));
      delete this.rest[name.split(".")[0]];
    }
    const more = this.element.querySelector("details.group");
    if (more) more.open = [...this.controls.values()].some((one) => more.contains(one.row) && one.given !== undefined);
    this.touched();
  }

  /** {document, troubles}: what the fields say, and what a field says that it cannot mean. */
  read() {
    const document = structuredClone(this.rest);
    const troubles = [];
    for (const [name, control] of this.controls) {
      if (control.row.hidden) continue;
      try {
        const value = control.read();
        if (value !== undefined) setAt(document, name, value);
      } catch (error) {
        troubles.push([name, error.message]);
      }
    }
    if (document.trigger && !document.trigger.type) delete document.trigger;
    return { document, troubles };
  }

  /** What the preview needs, as far as it can be read. */
  draft() {
    const { document } = this.read();
    const { schedule, timezone, scheduleStart, scheduleEnd } = document;
    return { schedule, timezone, scheduleStart, scheduleEnd };
  }

  /** Each message beside its field. Returns [[control or null, sentence]], for the summary above the form. */
  say(told) {
    const found = told.map(([path, text]) => [this.speaksOf(path), path, text]);
    for (const control of this.controls.values()) {
      control.say(found.filter(([one]) => one === control).map(([, path, text]) => within(control, path, text)));
    }
    return found.map(([control, path, text]) => [
      control,
      control ? `${control.field.label}: ${text}` : about(path, text),
    ]);
  }

  speaksOf(path) {
    const name = SPEAKS_OF[path] ?? path;
    for (const [known, control] of this.controls) {
      if (name === known || name.startsWith(`${known}.`)) return control;
    }
    return null;
  }

  /** The schedule's own messages alone, as one types: those of other fields wait for Save. */
  saySchedule(told) {
    for (const name of ["schedule", "timezone", "scheduleStart", "scheduleEnd"]) {
      const control = this.controls.get(name);
      control.say(told.filter(([path]) => this.speaksOf(path) === control).map(([, text]) => text));
    }
  }
}

const about = (path, text) => (path === "_schema" ? text : `${path}: ${text}`);

/** "overrides.0.environment" says which container. */
function within(control, path, text) {
  const inner = path.startsWith(`${control.field.name}.`) ? path.slice(control.field.name.length + 1) : "";
  if (!inner || inner === "_schema" || SPEAKS_OF[path]) return text;
  const words = inner.replace(
    /^(\d+)\.?/,
    (_, index) => `Container ${Number(index) + 1}${inner.includes(".") ? ", " : ""}`,
  );
  return `${words}: ${text}`;
}
