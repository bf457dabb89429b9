// One field of the form: its label, its input, its hint, and what is wrong with it right below.

import { CONVERTERS, json } from "./converters.js";
import { freshId, h, hold } from "./dom.js";
import { local, read, utc } from "./moments.js";

const LONG = { long: 6, pairs: 3, json: 3, command: 4, listOrJson: 1, textOrJson: 1 };
const ZONES = "zones";

export class Control {
  /** @param field a row of job_fields.js, with its `hint` and `must` settled for the kind. */
  constructor(field, onInput) {
    this.field = field;
    this.onInput = onInput;
    this.converter = CONVERTERS[field.holds];
    this.id = freshId("field");
    this.hint = h("p", { class: "hint", id: `${this.id}-hint` }, field.hint);
    this.echo = h("p", { class: "hint" });
    this.trouble = h("p", { class: "trouble", id: `${this.id}-trouble` });
    this.input = this.make();
    const label = h(
      "label",
      { for: this.id },
      field.label,
      field.must ? h("span", { class: "must" }, " (required)") : null,
    );
    this.row = h(
      "div",
      { class: `field ${field.wide ? "wide" : ""} ${field.holds}`, "data-field": field.name },
      field.holds === "tick" ? [this.input, label] : [label, this.input],
      this.trouble,
      this.echo,
      this.hint,
    );
    this.given = undefined;
    this.shown = "";
  }

  make() {
    const common = {
      id: this.id,
      name: this.field.name,
      "aria-describedby": `${this.id}-hint ${this.id}-trouble`,
      "aria-required": this.field.must ? "true" : null,
      oninput: () => this.changed(),
    };
    const { holds, choices } = this.field;
    if (holds === "tick") return h("input", { ...common, type: "checkbox" });
    if (choices)
      return h(
        "select",
        common,
        choices.map(([value, words]) => h("option", { value }, words)),
      );
    const plain = { ...common, autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
    if (LONG[holds]) return h("textarea", { ...plain, rows: LONG[holds] });
    return h("input", {
      ...plain,
      type: "text",
      inputmode: holds === "number" ? "numeric" : null,
      list: holds === "zone" ? ZONES : null,
    });
  }

  changed() {
    this.say([]);
    this.tellMoment();
    this.onInput(this);
  }

  tellMoment() {
    if (this.field.holds !== "moment") return;
    const at = read(this.text.trim());
    this.echo.textContent = Number.isNaN(at) ? "" : `${local(at)} here, ${utc(at)}`;
  }

  get text() {
    return this.input.type === "checkbox" ? String(this.input.checked) : this.input.value;
  }

  set text(told) {
    if (this.input.type === "checkbox") this.input.checked = told === "true";
    else this.input.value = told;
  }

  /** Show a value of the document; undefined: none. */
  write(value) {
    this.given = value;
    let shown = value === undefined ? "" : this.converter.show(value);
    if (shown === null) {
      this.converter = json;
      shown = json.show(value);
      this.asLongText();
    }
    if (this.field.choices && ![...this.input.options].some((option) => option.value === shown)) {
      this.input.append(h("option", { value: shown }, shown));
    }
    this.text = shown;
    this.shown = this.text; // as the browser keeps it: a textarea has line breaks of its own
    this.tellMoment();
  }

  asLongText() {
    if (this.input.matches("textarea")) return;
    const long = h("textarea", { rows: 4, oninput: () => this.changed() });
    for (const name of ["id", "name", "aria-describedby", "aria-required"]) {
      if (this.input.hasAttribute(name)) long.setAttribute(name, this.input.getAttribute(name));
    }
    this.input.replaceWith(long);
    this.input = long;
  }

  /** The value; what nobody touched is given back as it came. Throws a sentence. */
  read() {
    return this.text === this.shown ? this.given : this.converter.take(this.text);
  }

  say(texts) {
    hold(
      this.trouble,
      texts.map((text) => h("span", {}, text)),
    );
    if (texts.length) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  focus() {
    this.row.closest("details")?.setAttribute("open", "");
    this.input.focus();
  }
}

/** The time zones this browser knows, offered as one types. */
export function zoneList() {
  const zones = ["UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])];
  return h(
    "datalist",
    { id: ZONES },
    zones.map((zone) => h("option", { value: zone })),
  );
}
