// One task instance's launch, as a tab of Airflow's: what runs for it, the evidence, and the end of its log.

import { get, path } from "./api.js";
import { h, hold } from "./dom.js";
import { outsideLink } from "./links.js";
import { moment } from "./moments.js";
import { Poll } from "./poll.js";
import { stop } from "./running.js";
import { Status } from "./status.js";
import { many } from "./words.js";

const EVERY = 5_000;
const EVERY_ONCE_ENDED = 60_000;

/** @param task {dag_id, run_id, task_id, map_index}, as the address says */
export function launchView(panel, task) {
  const status = new Status(() => poll.again());
  const title = h("h1", {}, `The launch of ${task.task_id}`);
  const state = h("p", { class: "summary", "aria-live": "polite" });
  const button = h("button", { type: "button", class: "danger", hidden: true, onclick: () => stopIt() }, "Stop it");
  const body = h("div", { class: "launch" });
  let told = "";
  hold(
    panel,
    h("div", { class: "line" }, title, status.line),
    status.element,
    h("div", { class: "line" }, state, button),
    body,
  );

  const poll = new Poll({
    load: (signal) => get(path(["launch"], task), { signal }),
    every: () => (poll.state.data?.verdict ? EVERY_ONCE_ENDED : EVERY),
    show: (now) => {
      status.show(now);
      if (now.data && !now.busy) show(now.data);
    },
  });

  function show(data) {
    if (state.textContent !== data.phase) state.textContent = data.phase;
    button.hidden = !data.may_stop;
    const { launch, members, size, verdict, log, links } = data;
    const shown = JSON.stringify([launch, members, size, verdict, log, links]);
    if (shown === told) return;
    told = shown;
    hold(body, [facts(data), verdict && ending(verdict), membersOf(members), logOf(log)]);
    const end = body.querySelector("pre");
    if (end) end.scrollTop = end.scrollHeight;
  }

  function stopIt() {
    const { launch, task: whose } = poll.state.data;
    return stop({ ...launch, ...whose, resource: resource(launch) }, () => poll.again());
  }

  return poll;
}

const resource = ({ kind, count, ids }) =>
  count === 1 && ids.length ? ids[0] : many(count, kind === "ec2" ? "instance" : "task");

function rows(pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h(
    "dl",
    { class: "facts" },
    given.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function facts({ launch, task, size, links, verdict }) {
  const own = [
    ["Task", `${task.task_id}, ${task.state ?? "no state"}, try ${task.try_number}`],
    ["Operator", task.operator],
  ];
  if (!launch) return rows(own);
  return rows([
    ...own,
    ["Launch", h("code", {}, launch.token)],
    ["What", resource(launch)],
    ["Where", [launch.cluster && `cluster ${launch.cluster}`, launch.region].filter(Boolean).join(", ")],
    ["Definition", launch.definition && h("code", {}, launch.definition)],
    ["Why so many", size && `${size.count}: ${size.reason}`],
    ["Asked for", launch.requested_at && moment(launch.requested_at)],
    [
      "Deadline",
      launch.deadline && [moment(launch.deadline), !verdict && [" (", moment(launch.deadline, "left"), ")"]],
    ],
    ["Receipts", launch.receipts && h("code", {}, launch.receipts)],
    ["Elsewhere", (links ?? []).length > 0 && links.map(({ name, url }) => [outsideLink(url, name), " "])],
  ]);
}

function ending(verdict) {
  const good = verdict.outcome === "succeeded";
  const codes = Object.entries(verdict.exit_codes ?? {}).map(([code, count]) => `${count} × ${code}`);
  return h(
    "section",
    {},
    h("h2", {}, "How it ended"),
    rows([
      ["Outcome", h("span", { class: `pill ${good ? "good" : "bad"}` }, verdict.outcome)],
      [codes.length > 1 ? "Exit codes" : "Exit code", codes.length > 1 ? codes.join(", ") : verdict.exit_code],
      ["Signal", verdict.signal],
      [
        "Counts",
        Object.entries(verdict.counts ?? {})
          .map(([name, count]) => `${count} ${name}`)
          .join(", "),
      ],
      ["Started", verdict.started && moment(verdict.started)],
      ["Ended", verdict.ended && [moment(verdict.ended), " (", moment(verdict.ended, "ago"), ")"]],
      [
        "Billed",
        verdict.billed_seconds !== null && verdict.billed_seconds !== undefined && `${verdict.billed_seconds} s`,
      ],
      ["Log", verdict.log && h("code", {}, verdict.log)],
    ]),
    (verdict.failed ?? []).length > 0 && evidence(verdict.failed),
  );
}

function evidence(failed) {
  return [
    h("h3", {}, "What did not succeed"),
    h(
      "ul",
      { class: "evidence" },
      failed.map((one) => h("li", {}, h("code", {}, one.id), ` ${one.outcome}: ${one.evidence || "no evidence"}`)),
    ),
  ];
}

function membersOf(members) {
  if (!(members ?? []).length) return null;
  const items = members.map(({ id, phase, state }) =>
    h("li", {}, h("code", {}, id), ` ${phase}`, state && h("span", { class: "soft" }, ` (${state})`)),
  );
  return h("section", {}, h("h2", {}, "What runs"), h("ul", { class: "evidence" }, items));
}

function logOf(log) {
  if (!log) return null;
  const lines = log.lines ?? [];
  return h(
    "section",
    {},
    h("h2", {}, "The end of the log"),
    log.note && h("p", { class: "soft" }, log.note),
    lines.length > 0 &&
      h("pre", { tabindex: "0", "aria-label": `The last lines of ${log.member ?? "the job"}` }, lines.join("\n")),
  );
}
