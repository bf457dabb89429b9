// The schedule: one line of text, what each of its eight places holds, examples to start from, and its next times.

import { Control } from "./controls.js";
import { h, hold } from "./dom.js";

const PLACES = ["second", "minute", "hour", "day of week", "week", "day", "month", "year"];
const EXAMPLES = [
  ["every 5 minutes", "? */5"],
  ["hourly", "? ?"],
  ["daily at 02:30", "0 30 2"],
  ["weekdays at 9", "0 0 9 mon-fri"],
  ["2nd Wednesday", "0 0 8 * * 2nd_wed"],
  ["end of the month", "0 0 22 * * last"],
];

export class ScheduleField extends Control {
  constructor(onInput) {
    super({ name: "schedule", label: "Schedule", holds: "text", must: true, wide: true, hint: HINT }, onInput);
    this.places = h("dl", { class: "places" });
    const examples = EXAMPLES.map(([words, text]) =>
      h("button", { type: "button", class: "small", title: text, onclick: () => this.take(text) }, words),
    );
    this.echo.replaceWith(this.places);
    this.row.append(h("div", { class: "examples", role: "group", "aria-label": "Examples to start from" }, examples));
    this.showPlaces();
  }

  take(text) {
    this.text = text;
    this.changed();
    this.input.focus();
  }

  changed() {
    this.showPlaces();
    super.changed();
  }

  write(value) {
    super.write(value);
    this.showPlaces();
  }

  showPlaces() {
    const told = this.text.trim().split(/\s+/).filter(Boolean);
    hold(
      this.places,
      PLACES.map((place, at) =>
        h("div", { class: at < told.length ? "" : "soft" }, h("dt", {}, place), h("dd", {}, told[at] ?? "*")),
      ),
    );
  }
}

const HINT = [
  "From left to right, as far as needed; all of them must hold. Weekdays are mon to sun or 0 to 6 (0 is Monday); ",
  "a _ joins a day expression (2nd_wed, last_fri); a ? as second, minute or hour is drawn once, when the job is saved.",
].join("");
