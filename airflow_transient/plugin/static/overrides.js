// The environment of containers: a name and NAME=value lines for each, as many as are wanted.

import { CONVERTERS } from "./converters.js";
import { focusOn, freshId, h, hold } from "./dom.js";

/** Has the same face as Control: row, write, read, say, focus. */
export class Overrides {
  constructor(field, onInput) {
    this.field = field;
    this.onInput = onInput;
    this.list = h("div", {});
    this.trouble = h("p", { class: "trouble" });
    this.add = h("button", { type: "button", class: "small", onclick: () => this.addOne() }, "Add a container");
    this.row = h(
      "fieldset",
      { class: "field wide overrides", "data-field": field.name },
      h("legend", {}, field.label),
      h("p", { class: "hint" }, "The environment that a container of the task definition gets on top of its own."),
      this.list,
      this.trouble,
      this.add,
    );
    this.all = [];
    this.given = undefined;
    this.touched = false;
  }

  write(value) {
    this.given = value;
    this.touched = false;
    this.all = Array.isArray(value) ? value.map((one) => this.one(one)) : [];
    this.draw();
  }

  one(given = {}) {
    const id = freshId("container");
    const environment = CONVERTERS.pairs.show(given.environment ?? {}) ?? CONVERTERS.json.show(given.environment);
    const change = () => {
      this.touched = true;
      this.say([]);
      this.onInput(this);
    };
    const plain = { autocomplete: "off", autocapitalize: "off", spellcheck: "false", oninput: change };
    const name = h("input", { ...plain, type: "text", id, value: given.containerName ?? "" });
    const lines = h("textarea", { ...plain, id: `${id}-env`, rows: 3, value: environment });
    const remove = h("button", { type: "button", class: "small", onclick: () => this.remove(one) }, "Remove");
    const row = h(
      "div",
      { class: "override" },
      h("div", { class: "field" }, h("label", { for: id }, "Container"), name),
      h("div", { class: "field" }, h("label", { for: `${id}-env` }, "Its environment: NAME=value, one a line"), lines),
      remove,
    );
    const one = { row, name, lines, remove };
    return one;
  }

  addOne() {
    this.touched = true;
    this.all.push(this.one());
    this.draw();
    this.all.at(-1).name.focus();
    this.onInput(this);
  }

  remove(one) {
    this.touched = true;
    this.all = this.all.filter((other) => other !== one);
    this.draw();
    focusOn(this.add);
    this.onInput(this);
  }

  draw() {
    hold(
      this.list,
      this.all.map(({ row }) => row),
    );
  }

  read() {
    if (!this.touched) return this.given;
    const value = this.all.map(({ name, lines }) => ({
      containerName: name.value.trim(),
      environment: CONVERTERS.pairs.take(lines.value) ?? {},
    }));
    return value.length ? value : undefined;
  }

  /** The API counts containers from 0, people from 1. */
  say(texts) {
    hold(
      this.trouble,
      texts.map((text) => h("span", {}, text)),
    );
  }

  focus() {
    (this.all[0]?.name ?? this.add).focus();
  }
}
