// The next five fires of the schedule as it is being typed.

import { ApiError, call } from "./api.js";
import { h, hold } from "./dom.js";
import { moment, ownZone } from "./moments.js";

const PAUSE = 300; // milliseconds without a keystroke before the server is asked
const COUNT = 5;

export class Preview {
  /** @param refused called with the API's messages about the schedule, {} where it has none. */
  constructor(refused) {
    this.refused = refused;
    this.element = h("div", { class: "preview", role: "status", "aria-live": "polite" });
    this.timer = null;
    this.look = null;
  }

  /** @param draft {schedule, timezone, scheduleStart, scheduleEnd} as far as they are given */
  ask(draft) {
    clearTimeout(this.timer);
    this.look?.abort();
    if (!draft.schedule) {
      hold(this.element, h("p", { class: "soft" }, "The next five times appear here as you type."));
      return;
    }
    if (!this.element.hasChildNodes()) hold(this.element, h("p", { class: "soft" }, "Looking …"));
    this.timer = setTimeout(() => this.lookNow(draft), PAUSE);
  }

  async lookNow(draft) {
    const look = (this.look = new AbortController());
    try {
      const { body } = await call("POST", `jobs/preview?count=${COUNT}`, { body: draft, signal: look.signal });
      this.refused({});
      this.show(body, draft.timezone ?? "UTC");
    } catch (error) {
      if (look.signal.aborted) return;
      this.fail(error);
    }
  }

  fail(error) {
    const messages = error instanceof ApiError ? error.messages : null;
    this.refused(messages ?? {});
    hold(
      this.element,
      h("p", { class: "soft" }, messages ? "No times: see the message beside the field." : error.message),
    );
  }

  show({ next, drawn, schedule, words }, zone) {
    if (!next.length) {
      hold(this.element, h("p", { class: "bar warn" }, words ?? "This never fires."));
      return;
    }
    hold(
      this.element,
      h("p", { class: "soft" }, `The next times, in ${ownZone()}:`),
      h(
        "ol",
        {},
        next.map((at) =>
          h("li", {}, moment(at), " ", h("span", { class: "soft" }, elsewhere(at, zone), moment(at, "next"))),
        ),
      ),
      drawn &&
        h(
          "p",
          { class: "soft" },
          `Each ? is drawn when the job is saved. These are the times of ${schedule}, for example.`,
        ),
      words && h("p", { class: "soft" }, words),
    );
  }
}

/** The time of day in the schedule's own zone, where that is another than the reader's. */
function elsewhere(iso, zone) {
  const [, clock, sign, hours, minutes] = /T([\d:]{8}).*([+-])(\d\d):(\d\d)$/.exec(iso) ?? [];
  const ahead = (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes));
  return !clock || ahead === -new Date(iso).getTimezoneOffset() ? "" : `(${clock} in ${zone}) `;
}
