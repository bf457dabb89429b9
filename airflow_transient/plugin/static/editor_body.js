// What an editor shows of a document: the form, or its JSON. Going from one to the other loses nothing.

import { json } from "./converters.js";
import { freshId, h, hold } from "./dom.js";
import { flat, kindOf } from "./job_document.js";
import { JobForm } from "./job_form.js";
import { Preview } from "./job_preview.js";

const KINDS = [
  ["ecs", "ECS tasks"],
  ["ec2", "a transient EC2 instance"],
];
const MODES = [
  ["form", "Form"],
  ["json", "JSON"],
];
/** What a job of either kind may have: it stays when the kind is changed. */
const SHARED = [
  "id",
  "schedule",
  "timezone",
  "scheduleStart",
  "scheduleEnd",
  "suspended",
  "region",
  "tags",
  "maxRuntime",
  "retries",
];

export class EditorBody {
  /** @param problems called with messages [[path, sentence]]; `touched` with a control that was changed */
  constructor({ isNew, problems, touched }) {
    this.isNew = isNew;
    this.problems = problems;
    this.touched = touched;
    this.asJson = false;
    this.form = null;
    this.preview = new Preview((messages) => this.form?.saySchedule(flat(messages)));
    this.modes = radios("How to write it", MODES, (name) => this.switchMode(name === "json"), "modes");
    this.kinds = radios("The job runs as", KINDS, (kind) => this.switchKind(kind), "kinds");
    this.fields = h("div", {});
    this.element = h("div", {}, this.kinds, this.fields);
  }

  show(document, asJson) {
    this.asJson = asJson;
    check(this.modes, asJson ? "json" : "form");
    check(this.kinds, kindOf(document));
    this.kinds.hidden = asJson || !this.isNew;
    if (asJson) this.showJson(document);
    else this.showForm(document);
  }

  showForm(document) {
    const changed = (control) => {
      this.touched(control);
      this.preview.ask(this.form.draft());
    };
    this.form = new JobForm({ kind: kindOf(document), isNew: this.isNew, preview: this.preview.element, changed });
    this.form.write(document);
    hold(this.fields, this.form.element);
    this.preview.ask(this.form.draft());
  }

  showJson(document) {
    this.form = null;
    const id = freshId("document");
    const describe = { "aria-describedby": `${id}-hint`, spellcheck: "false", autocomplete: "off" };
    this.text = h("textarea", { id, class: "document", rows: 24, ...describe, value: json.show(document) });
    const hint = h(
      "p",
      { class: "hint", id: `${id}-hint` },
      "The whole document, of either kind. docs/jobs.md names every field.",
    );
    hold(this.fields, h("div", { class: "field wide" }, h("label", { for: id }, "Document"), this.text, hint));
  }

  /** {document, troubles}, of whichever is shown. */
  read() {
    if (this.form) return this.form.read();
    try {
      const document = json.take(this.text.value);
      if (document && typeof document === "object" && !Array.isArray(document)) return { document, troubles: [] };
      return { document: null, troubles: [["_schema", "A document is a JSON object: { … }."]] };
    } catch (error) {
      return { document: null, troubles: [["_schema", error.message]] };
    }
  }

  say(told) {
    if (this.form) return this.form.say(told);
    return told.map(([path, text]) => [null, path === "_schema" ? text : `${path}: ${text}`]);
  }

  focus() {
    (this.form ? this.form.schedule : this.text).focus();
  }

  switchMode(asJson) {
    const { document, troubles } = this.read();
    this.problems(troubles);
    if (troubles.length) check(this.modes, this.asJson ? "json" : "form");
    else this.show(document, asJson);
  }

  switchKind(kind) {
    const { document } = this.form.read();
    const shared = Object.fromEntries(SHARED.filter((name) => name in document).map((name) => [name, document[name]]));
    this.problems([]);
    this.showForm(kind === "ecs" ? { ...shared, taskCount: 1 } : { kind, ...shared });
  }
}

function radios(words, choices, chosen, look) {
  const name = freshId("choice");
  const inputs = choices.map(([value, label]) =>
    h("label", {}, h("input", { type: "radio", name, value, onchange: () => chosen(value) }), label),
  );
  return h("fieldset", { class: `radios ${look}` }, h("legend", {}, words), inputs);
}

function check(fieldset, value) {
  for (const input of fieldset.querySelectorAll("input")) input.checked = input.value === value;
}
