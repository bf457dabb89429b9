// How fresh what is shown is, and what could not be reached: above every view.

import { h, hold } from "./dom.js";
import { moment } from "./moments.js";
import { announce } from "./notices.js";

export class Status {
  constructor(again) {
    this.freshness = h("span", { class: "soft" }, "Looking …");
    this.again = h("button", { type: "button", class: "small", onclick: again }, "Look again");
    this.trouble = h("div", {});
    this.sources = h("div", {});
    this.element = h("div", { class: "status" }, this.trouble, this.sources);
    this.line = h("p", { class: "freshness" }, this.freshness, " ", this.again);
    this.said = "";
  }

  show(state) {
    const asOf = state.data?.as_of ?? state.seenAt;
    hold(this.freshness, asOf ? ["As of ", moment(asOf, "ago")] : state.error ? "Nothing seen yet" : "Looking …");
    this.again.setAttribute("aria-disabled", String(state.busy));
    this.showTrouble(state, asOf);
    this.showSources(state.data?.sources ?? []);
  }

  showTrouble({ error, nextAt }, asOf) {
    if (!error) {
      if (this.said) announce("Airflow answers again.");
      this.said = "";
      hold(this.trouble);
      return;
    }
    if (this.said !== error.message) announce(error.message);
    this.said = error.message;
    hold(
      this.trouble,
      h(
        "p",
        { class: "bar bad" },
        h("strong", {}, error.message),
        asOf ? [" What is shown was seen ", moment(asOf, "ago"), "."] : null,
        nextAt ? [" Next look ", moment(nextAt, "next"), "."] : null,
      ),
    );
  }

  showSources(sources) {
    const told = JSON.stringify(sources);
    if (told === this.toldSources) return;
    this.toldSources = told;
    const broken = sources.filter((source) => !source.ok);
    const noted = sources.filter((source) => source.ok && source.note);
    hold(
      this.sources,
      broken.map((source) =>
        h(
          "p",
          { class: "bar warn" },
          h("strong", {}, `${source.name} could not be asked: `),
          source.error ?? "no reason given",
        ),
      ),
      noted.map((source) => h("p", { class: "bar info" }, h("strong", {}, `${source.name}: `), source.note)),
    );
    if (broken.length) announce(`${broken.map((source) => source.name).join(", ")} could not be asked.`);
  }
}
