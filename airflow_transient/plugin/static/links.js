// Ways out of the frame. Airflow's sandbox lets our own document open nothing, so the parent's document does it.

import { h } from "./dom.js";

const AIRFLOW = new URL("../", new URL(".", document.baseURI));

/** The parent's document where we are framed and may read it; else our own. */
function opener() {
  try {
    return window.parent.document;
  } catch {
    return document;
  }
}

function follow(event) {
  if (opener() === document) return; // not framed: the link itself works
  event.preventDefault();
  const outside = opener();
  const link = outside.createElement("a");
  link.href = event.currentTarget.href;
  if (link.origin !== location.origin) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  outside.body.append(link);
  link.click();
  link.remove();
}

/** A page of Airflow's own, by its path below Airflow's address. */
export function airflowLink(path, ...words) {
  return h("a", { href: new URL(path, AIRFLOW).href, onclick: follow }, ...words);
}

/** Another site, such as AWS's console: https only, whatever an answer says. */
export function outsideLink(url, ...words) {
  if (!String(url).startsWith("https://")) return h("span", {}, ...words);
  return h("a", { href: url, rel: "noopener noreferrer", onclick: follow }, ...words);
}

export const dagPath = (dagId) => `dags/${encodeURIComponent(dagId)}`;
export const runPath = (dagId, runId) => `${dagPath(dagId)}/runs/${encodeURIComponent(runId)}`;
