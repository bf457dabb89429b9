// Asking before something that cannot be taken back. confirm() is silently refused in Airflow's frame; <dialog> is not.

import { freshId, h } from "./dom.js";

/** A modal dialog with a title; `close` comes once, with what it was closed for, "" by Escape. */
function modal({ title, content, buttons, wide = false }, closed) {
  const titleId = freshId("dialog");
  const dialog = h(
    "dialog",
    { "aria-labelledby": titleId, class: wide ? "wide" : null },
    h("h2", { id: titleId }, title),
    content,
    h("div", { class: "actions" }, buttons),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed(dialog.returnValue);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Ask, act, and stay open with the reason where acting failed. The focus starts on the way out.
 *
 * @returns a promise: true once it is done, false where the person changed their mind.
 */
export function ask({ title, lines = [], action, cancel = "Cancel", danger = false, act }) {
  const trouble = h("p", { class: "trouble", role: "alert" });
  const yes = h("button", { type: "button", class: danger ? "danger" : "primary" }, action);
  const no = h("button", { type: "button", autofocus: true }, cancel);
  return new Promise((settle) => {
    const content = [lines.filter(Boolean).map((line) => h("p", {}, line)), trouble];
    const dialog = modal({ title, content, buttons: [no, yes] }, (told) => settle(told === "done"));
    no.addEventListener("click", () => dialog.close(""));
    yes.addEventListener("click", async () => {
      if (yes.getAttribute("aria-disabled") === "true") return;
      yes.setAttribute("aria-disabled", "true"); // and not `disabled`, which would drop the focus
      trouble.textContent = "";
      try {
        await act?.();
        dialog.close("done");
      } catch (error) {
        trouble.textContent = error.message;
        yes.removeAttribute("aria-disabled");
      }
    });
  });
}

/** Offer choices [name, words, class]; a promise of the name that was chosen, "" for none. The first has the focus. */
export function choose({ title, content, choices }) {
  return new Promise((settle) => {
    const buttons = choices.map(([name, words, look], at) =>
      h("button", { type: "button", class: look, autofocus: at === 0, onclick: () => dialog.close(name) }, words),
    );
    const dialog = modal({ title, content, buttons, wide: true }, settle);
  });
}
