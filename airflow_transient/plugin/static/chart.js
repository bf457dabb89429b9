// A queue's depth over time as a small picture: what waits as an area, what is being worked on as a line.

import { h, svg } from "./dom.js";
import { local, span } from "./moments.js";

const WIDE = 640;
const HIGH = 96;
const TOP = 8;
const LEAST_TIME = 60_000; // a chart of two points five seconds apart would cry wolf

/** @param points [milliseconds, visible, in flight, delayed], oldest first */
export function chart(points) {
  if (points.length < 2)
    return h("p", { class: "soft" }, "The chart begins with the second reading; it keeps what this tab has seen.");
  const most = nice(Math.max(1, ...points.flatMap(([, visible, inFlight]) => [visible, inFlight])));
  const until = points.at(-1)[0];
  const from = Math.min(points[0][0], until - LEAST_TIME);
  const x = (at) => ((at - from) / (until - from)) * WIDE;
  const y = (count) => HIGH - (count / most) * (HIGH - TOP);
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${HIGH}`,
      preserveAspectRatio: "none",
      class: "chart",
      role: "img",
      "aria-label": inWords(points),
    },
    [0, 0.5, 1].map((part) =>
      svg("line", { class: "grid-line", x1: 0, x2: WIDE, y1: y(most * part), y2: y(most * part) }),
    ),
    svg("path", { class: "area", d: `${line(points, x, y, 1)} L ${x(until)} ${HIGH} L ${x(points[0][0])} ${HIGH} Z` }),
    svg("path", { class: "visible", d: line(points, x, y, 1) }),
    svg("path", { class: "in-flight", d: line(points, x, y, 2) }),
  );
  return h(
    "figure",
    { class: "depth" },
    h("div", { class: "scale", "aria-hidden": "true" }, h("span", {}, most), h("span", {}, 0)),
    picture,
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, local(from)), h("span", {}, local(until))),
  );
}

const line = (points, x, y, which) =>
  points.map((point, at) => `${at ? "L" : "M"} ${x(point[0]).toFixed(1)} ${y(point[which]).toFixed(1)}`).join(" ");

/** 1, 2, 5, 10, 20, 50, …: the next one that holds it. */
function nice(count) {
  const unit = 10 ** Math.floor(Math.log10(count));
  return [1, 2, 5, 10].map((times) => times * unit).find((step) => step >= count);
}

function inWords(points) {
  const last = points.at(-1);
  const visible = points.map(([, count]) => count);
  const over = span((last[0] - points[0][0]) / 1000);
  const range = `between ${Math.min(...visible)} and ${Math.max(...visible)} visible`;
  return `Over the last ${over}: ${range}, now ${last[1]} visible and ${last[2]} in flight.`;
}
