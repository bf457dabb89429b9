// Somebody else saved the same job in between: what they changed, beside what is about to be.

import { choose } from "./dialogs.js";
import { h } from "./dom.js";
import { changes } from "./job_document.js";

/**
 * @param before the document as it was when the editor opened; `patch` what the person here changed of it
 * @returns a promise: "mine" (on top of theirs), "theirs", or "" for back to the form
 */
export function showConflict({ before, patch, theirs }) {
  const told = changes(before, theirs);
  const names = [...new Set([...Object.keys(told.patch), ...told.removed, ...Object.keys(patch)])];
  const rows = names.map((name) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", {}, words(before[name])),
      h(
        "td",
        {},
        name in told.patch || told.removed.includes(name) ? h("strong", {}, words(theirs[name])) : "as it was",
      ),
      h("td", {}, name in patch ? h("strong", {}, words(patch[name])) : "as it was"),
    ),
  );
  const heads = ["Field", "When you began", "Theirs, saved", "Yours"].map((head) => h("th", { scope: "col" }, head));
  return choose({
    title: "Somebody else changed this job",
    content: [
      h(
        "p",
        {},
        "Nothing of yours is saved yet. Saving it changes the fields that the last column names, and no others.",
      ),
      h("div", { class: "scroller keep" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))),
    ],
    choices: [
      ["", "Back to the form"],
      ["theirs", "Drop mine, show theirs"],
      ["mine", "Save mine on top of theirs", "primary"],
    ],
  });
}

function words(value) {
  if (value === undefined) return "not given";
  return typeof value === "string" ? value : JSON.stringify(value);
}
