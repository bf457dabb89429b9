// "Running now": every launch that lives, what does not match, and the button that stops one.

import { call, get, path } from "./api.js";
import { ask } from "./dialogs.js";
import { h, hold } from "./dom.js";
import { airflowLink, outsideLink } from "./links.js";
import { moment } from "./moments.js";
import { tell } from "./notices.js";
import { Poll } from "./poll.js";
import { Status } from "./status.js";
import { Table } from "./table.js";
import { dollars, many, runWords } from "./words.js";

const EVERY = 5_000; // the server reads AWS no more often, however many browsers look
const LIMIT = 500;

export function runningView(panel) {
  const status = new Status(() => poll.again());
  const summary = h("p", { class: "summary", "aria-live": "polite" });
  const notes = h("div", {});
  const table = new Table({
    caption: "Launches that live now",
    columns: COLUMNS(() => poll.again()),
    key: (row) => row.key,
  });
  const scroller = h("div", { class: "scroller" }, table.element);
  const empty = h("div", { class: "empty", hidden: true });
  hold(panel, h("div", { class: "line" }, summary, status.line), status.element, scroller, empty, notes);

  const poll = new Poll({
    load: (signal) => get(path(["running"], { limit: LIMIT }), { signal }),
    every: EVERY,
    show: (state) => {
      status.show(state);
      if (state.data && !state.busy) show(state.data);
    },
  });

  function show(data) {
    table.element.classList.toggle("no-cost", !data.prices_known);
    table.show(data.rows);
    scroller.hidden = !data.rows.length;
    empty.hidden = data.rows.length > 0;
    sayOnce(summary, summaryOf(data));
    hold(notes, notesOf(data));
    if (!data.rows.length) hold(empty, emptyOf(data));
  }

  return poll;
}

function sayOnce(element, text) {
  if (element.textContent !== text) element.textContent = text; // a live region speaks whenever it is written
}

function summaryOf({ rows, total, cost_usd: cost }) {
  if (!rows.length) return "Nothing is running.";
  const odd = rows.filter((row) => row.mismatch).length;
  const parts = [many(total, "launch", "launches"), odd ? many(odd, "mismatch", "mismatches") : "no mismatch"];
  if (cost !== null) parts.push(`${dollars(cost)} so far`);
  return parts.join(" · ");
}

function notesOf({ truncated, total, rows, prices_known: priced }) {
  return [
    truncated && h("p", { class: "bar info" }, `The first ${rows.length} of ${total} are shown.`),
    rows.length > 0 &&
      !priced &&
      h("p", { class: "soft" }, "No cost is shown: [transient] prices in Airflow's configuration is empty."),
  ];
}

function emptyOf({ deployment, sources }) {
  const blind = sources.some((source) => !source.ok);
  return [
    h("h2", {}, blind ? "Nothing to show" : "Nothing is running"),
    h(
      "p",
      {},
      blind
        ? "What could not be asked is named above; there may be more than is shown."
        : deployment
          ? "Launches appear here within seconds of their start: run a job from the tab Jobs, or a DAG of your own."
          : "This Airflow has launched nothing yet: make a job in the tab Jobs, or use our operators in a DAG.",
    ),
  ];
}

const COLUMNS = (again) => [
  {
    head: "DAG",
    value: ({ dag_id, airflow_path, mismatch }) => [dag_id, airflow_path, mismatch],
    cell: ([dag, where, mismatch]) => [
      where ? airflowLink(where, dag) : h("span", {}, dag ?? "unknown"),
      mismatch && h("p", { class: "mismatch" }, h("strong", {}, `Mismatch, ${mismatch.kind}: `), mismatch.words),
    ],
  },
  {
    head: "Run and task",
    value: ({ run_id, task_id, map_index, task_state }) => [run_id, task_id, map_index, task_state],
    cell: ([run, task, index, state]) => [
      h("span", { title: run ?? "" }, runWords(run)),
      h("span", { class: "second" }, `${task ?? "–"}${index >= 0 ? ` [${index}]` : ""}, ${state ?? "no state"}`),
    ],
  },
  {
    head: "What",
    value: ({ resource, region, cluster, ids, links }) => [resource, region, cluster, ids, links],
    cell: ([resource, region, cluster, ids, links]) => [
      h("span", { title: (ids ?? []).join("\n") }, resource || "not known yet"),
      h("span", { class: "second" }, [cluster && `cluster ${cluster}`, region].filter(Boolean).join(", ")),
      (links ?? []).map((link) => h("span", { class: "second" }, outsideLink(link.url, `${link.name} in AWS`))),
    ],
  },
  {
    head: "Phase",
    value: ({ state, phase }) => [state, phase],
    cell: ([state, phase]) => [h("span", { class: `pill ${state}` }, state), phase === state ? "" : ` ${phase}`],
  },
  {
    head: "Since",
    value: (row) => row.since,
    cell: (since) => (since ? moment(since, "since") : "–"),
    class: "short",
  },
  {
    head: "Deadline",
    value: ({ deadline, overdue }) => [deadline, overdue],
    cell: ([deadline, overdue]) => [
      deadline ? moment(deadline, "left") : "not known",
      overdue && h("strong", { class: "second over" }, "overdue"),
    ],
    class: "short",
  },
  {
    head: "Cost",
    value: ({ cost_usd, cost_note }) => [cost_usd, cost_note],
    cell: ([cost, note]) => [cost === null ? "not known" : dollars(cost), note && h("span", { class: "second" }, note)],
    class: "short cost",
  },
  {
    head: "Stop",
    value: ({ may_stop, stopping, resource, dag_id, state }) => [may_stop, stopping, resource, dag_id, state],
    cell: ([may, stopping, resource, dag, state], _, latest) => {
      if (state === "ended") return "";
      if (stopping) return h("span", { class: "soft" }, "stopping");
      if (!may) return h("span", { class: "soft" }, "–");
      return h(
        "button",
        {
          type: "button",
          class: "small",
          "data-act": "stop",
          "aria-label": `Stop ${resource} of ${dag}`,
          onclick: () => stop(latest(), again),
        },
        "Stop",
      );
    },
    class: "short",
  },
];

/** Ask, and end what runs; `row` names the launch as the answer did. */
export async function stop({ dag_id, run_id, task_id, map_index, token, kind, count, resource }, again) {
  let words = "";
  const members = many(count, kind === "ec2" ? "instance" : "task");
  const done = await ask({
    title: `Stop ${members}?`,
    lines: [
      resource === members ? null : resource,
      `Launched by ${dag_id}, task ${task_id}, run ${run_id}.`,
      "What runs is ended at once; this cannot be undone. Its task in Airflow ends as stopped and is not tried again.",
    ],
    action: `Stop ${members}`,
    cancel: "Keep it running",
    danger: true,
    act: async () => {
      const body = { dag_id, run_id, task_id, map_index, token };
      words = (await call("POST", "running/stop", { body })).body.words;
    },
  });
  if (!done) return;
  tell(`${words[0].toUpperCase()}${words.slice(1)}.`);
  again();
}
