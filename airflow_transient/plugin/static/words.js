// Small words that several views say the same way.

import { local, read } from "./moments.js";

export const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;

export const dollars = (amount) =>
  `$${amount >= 100 ? amount.toFixed(0) : amount >= 1 ? amount.toFixed(2) : amount.toFixed(4)}`;

/** "scheduled__2026-11-21T11:58:00+00:00" -> "scheduled, 12:58:00": the id itself is on hover. */
export function runWords(runId) {
  const [, kind, at] = /^(\w+?)__(\d{4}-.*)$/.exec(runId ?? "") ?? [];
  const moment = read((at ?? "").slice(0, 32).replace(/_.*$/, ""));
  return kind && !Number.isNaN(moment) ? `${kind}, ${local(moment)}` : (runId ?? "–");
}
