// Making and changing one job: the form or its JSON, what is sent, and what happens where somebody else was faster.

import { call, path } from "./api.js";
import { showConflict } from "./conflict.js";
import { ask } from "./dialogs.js";
import { focusOn, h, hold } from "./dom.js";
import { EditorBody } from "./editor_body.js";
import { changes, editable, flat, masked } from "./job_document.js";
import { tell } from "./notices.js";

const NEW = { schedule: "", taskCount: 1 };
const CANNOT_GO = "It was given once and cannot be taken out: change it, or delete the job and make it anew.";

export class JobEditor {
  /** @param leave called when the editor is done, with the id of what was saved, or null */
  constructor(panel, leave) {
    this.panel = panel;
    this.leave = leave;
  }

  /** A new job; or the one with this id, as the API has it now. */
  async open(id = null) {
    this.id = id;
    this.etag = null;
    this.before = {};
    this.damage = [];
    if (id !== null) await this.load();
    this.frame();
    this.body.show(id === null ? NEW : this.before, this.damage.length > 0);
    this.clean = JSON.stringify(this.body.read().document);
    focusOn(this.title);
  }

  async load() {
    const { body, etag } = await call("GET", path(["jobs", this.id]));
    this.etag = etag;
    this.before = editable(body);
    this.damage = flat(body.error).map(([field, text]) => `${field}: ${text}`);
  }

  frame() {
    const isNew = this.id === null;
    this.title = h("h2", { tabindex: "-1" }, isNew ? "New job" : `Job ${this.id}`);
    this.placed = [];
    this.summary = h("div", { class: "problems", role: "alert" });
    this.body = new EditorBody({
      isNew,
      problems: (told) => this.say(told),
      touched: (control) => this.list(this.placed.filter(([one]) => one !== control)),
    });
    this.save = h("button", { type: "submit", class: "primary" }, isNew ? "Create the job" : "Save the changes");
    const cancel = h("button", { type: "button", onclick: () => this.cancel() }, "Cancel");
    hold(
      this.panel,
      h(
        "form",
        { novalidate: true, onsubmit: (event) => this.submit(event) },
        h("div", { class: "line" }, this.title, this.body.modes),
        this.summary,
        this.remarks(),
        this.body.element,
        h("div", { class: "actions" }, cancel, this.save),
      ),
    );
  }

  remarks() {
    const bar = (words) => h("p", { class: "bar info" }, words);
    return [
      masked(this.before) && bar("*** stands for a value that Airflow hides. Left as it is, the value stays."),
      this.damage.length > 0 &&
        bar(`What is stored is no job (${this.damage.join(" ")}): write the whole document anew.`),
    ];
  }

  /** Messages [[path, sentence]]: beside their fields, and all of them on top with a way to each. */
  say(told) {
    const placed = this.body.say(told);
    this.list(placed);
    if (placed.length) (placed.find(([control]) => control)?.[0] ?? this.body).focus();
  }

  /** What is wrong, above the form; what was changed since is no longer there. */
  list(placed) {
    if (!placed.length && !this.placed.length) return;
    this.placed = placed;
    hold(
      this.summary,
      placed.length > 0 && h("p", {}, h("strong", {}, "This is not saved yet:")),
      placed.length > 0 &&
        h(
          "ul",
          {},
          placed.map(([control, text]) => h("li", {}, wayTo(control, text))),
        ),
    );
  }

  async submit(event) {
    event.preventDefault();
    if (this.save.getAttribute("aria-disabled") === "true") return;
    const { document, troubles } = this.body.read();
    if (troubles.length) return this.say(troubles);
    this.save.setAttribute("aria-disabled", "true");
    try {
      await (this.id === null ? this.create(document) : this.change(document));
    } catch (error) {
      this.refused(error);
    } finally {
      this.save.removeAttribute("aria-disabled");
    }
  }

  async create(document) {
    const { body } = await call("POST", "jobs", { body: document });
    tell(`Job ${body.id} is made. Its DAG is job.${body.id}.`);
    this.leave(body.id);
  }

  async change(document) {
    if (this.damage.length) return this.put(document); // nothing is stored that it could be merged with
    const { patch, removed } = changes(this.before, document);
    if (removed.length) return this.say(removed.map((name) => [name, CANNOT_GO]));
    if (!Object.keys(patch).length) {
      tell("Nothing was changed.");
      return this.leave(null);
    }
    await this.put(patch);
  }

  async put(patch) {
    try {
      await call("PUT", path(["jobs", this.id]), { body: patch, match: this.etag });
    } catch (error) {
      if (error.status !== 412) throw error;
      return this.conflict(patch);
    }
    tell(`Job ${this.id} is changed.`);
    this.leave(this.id);
  }

  async conflict(patch) {
    const before = this.before;
    await this.load(); // theirs is now what this edit builds on
    const chosen = await showConflict({ before, patch, theirs: this.before });
    if (chosen === "mine") return this.put(patch);
    this.body.show(chosen === "theirs" ? this.before : { ...this.before, ...patch }, this.body.asJson);
    this.say([]);
    focusOn(this.title);
  }

  refused(error) {
    if (error.saved) {
      tell(error.message, { bad: true });
      return this.leave(error.saved.id);
    }
    if (error.messages) return this.say(flat(error.messages));
    this.say([[error.status === 409 ? "id" : "_schema", error.message]]);
  }

  async cancel() {
    const dirty = JSON.stringify(this.body.read().document) !== this.clean;
    const left =
      !dirty ||
      (await ask({
        title: "Leave without saving?",
        lines: ["What was typed here is lost."],
        action: "Leave",
        cancel: "Stay",
      }));
    if (left) this.leave(null);
  }
}

function wayTo(control, text) {
  return control ? h("button", { type: "button", class: "link", onclick: () => control.focus() }, text) : text;
}
