// Moments and spans in words: the reader's own zone, UTC on hover, and counts that go on by themselves.

import { h } from "./dom.js";

let skew = 0; // milliseconds that the server's clock is ahead of ours

/** The server's own `Date` header has whole seconds: smaller differences are not known. */
export function learnClock(header) {
  const theirs = Date.parse(header ?? "");
  if (Number.isNaN(theirs)) return;
  const ahead = theirs - Date.now();
  skew = Math.abs(ahead) > 2000 ? ahead : 0;
}

export const now = () => Date.now() + skew;

/** Milliseconds of an ISO 8601 text; one without an offset is UTC, as everywhere in the API. NaN: not one. */
export function read(text) {
  if (typeof text !== "string" || !/^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/.test(text)) return NaN;
  const zoned = /(?:Z|[+-]\d\d:?\d\d)$/i.test(text);
  return Date.parse(text.replace(" ", "T") + (zoned ? "" : "Z"));
}

/** "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h": two units are enough to act on. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => whole >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  return `${Math.floor(whole / size)} ${name}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, {
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
});

/** In the reader's zone: the time alone today, with the day else. */
export function local(at) {
  const then = new Date(at);
  const today = new Date(now());
  if (then.toDateString() === today.toDateString()) return clock.format(then);
  const date = then.getFullYear() === today.getFullYear() ? day : dayAndYear;
  return `${date.format(then)}, ${clock.format(then)}`;
}

export const utc = (at) => `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export const ownZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

const WORDS = {
  at: (at) => local(at),
  ago: (at) => (now() - at < 1000 ? "just now" : `${span((now() - at) / 1000)} ago`),
  since: (at) => span((now() - at) / 1000),
  left: (at) => (at >= now() ? `in ${span((at - now()) / 1000)}` : `${span((now() - at) / 1000)} over`),
  next: (at) => (at >= now() ? `in ${span((at - now()) / 1000)}` : "now"),
};

/** A <time> that says itself as `how` and goes on counting; the moment in both zones on hover. */
export function moment(iso, how = "at") {
  const at = typeof iso === "number" ? iso : read(iso);
  if (Number.isNaN(at)) return document.createTextNode(iso ?? "–");
  const title = how === "at" ? utc(at) : `${local(at)} (${utc(at)})`;
  const element = h("time", { datetime: new Date(at).toISOString(), title, "data-how": how });
  say(element);
  return element;
}

function say(element) {
  const at = Date.parse(element.dateTime);
  const how = element.dataset.how;
  const text = WORDS[how](at);
  if (element.textContent !== text) element.textContent = text;
  if (how === "left") element.classList.toggle("over", at < now());
}

/** Once a second, whatever counts on the page counts on. */
export function startClock() {
  setInterval(() => {
    if (!document.hidden) document.querySelectorAll("time[data-how]").forEach(say);
  }, 1000);
}
