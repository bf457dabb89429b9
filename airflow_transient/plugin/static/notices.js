// What just happened, in one sentence: seen in a corner for a while, and said to a screen reader.

import { byId, h } from "./dom.js";

const STAYS = 9_000;
const AT_ONCE = 3;

/** Say it to who cannot see it; the same sentence twice in a row is said once. */
export function announce(sentence) {
  const announcer = byId("announcer");
  if (announcer.textContent !== sentence) announcer.textContent = sentence;
}

/** A message that goes by itself, unless it is bad news; `more` may be a link. */
export function tell(sentence, { bad = false, more = null } = {}) {
  const close = h(
    "button",
    { type: "button", class: "plain", "aria-label": "Dismiss this message", onclick: () => note.remove() },
    "×",
  );
  const note = h(
    "div",
    { class: `notice ${bad ? "bad" : "good"}` },
    h("p", {}, sentence, more ? [" ", more] : null),
    close,
  );
  byId("notices").append(note);
  for (const old of [...document.querySelectorAll(".notice.good")].slice(0, -AT_ONCE)) old.remove();
  announce("");
  announce(sentence);
  if (!bad) setTimeout(() => note.remove(), STAYS);
}
