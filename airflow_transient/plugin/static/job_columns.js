// What the list says of each job, and what can be done with one.

import { call, path, patiently } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { flat, kindOf } from "./job_document.js";
import { airflowLink, dagPath, runPath } from "./links.js";
import { moment } from "./moments.js";
import { tell } from "./notices.js";
import { many } from "./words.js";

/** @param actions {again, edit, gone}: look again, open the editor, what to do with the focus of a deleted row */
export const jobColumns = (actions) => [
  {
    head: "Job",
    value: ({ id, error }) => [id, error],
    cell: ([id, error]) => [
      error ? h("span", {}, id) : airflowLink(dagPath(`job.${id}`), id),
      error &&
        h(
          "p",
          { class: "mismatch" },
          h("strong", {}, "Cannot run: "),
          flat(error)
            .map(([field, text]) => `${field}: ${text}`)
            .join(" "),
        ),
    ],
  },
  { head: "What", value: what, cell: ([first, second]) => [first, second && h("span", { class: "second" }, second)] },
  {
    head: "Schedule",
    value: ({ schedule, timezone }) => [schedule, timezone],
    cell: ([schedule, zone]) => [
      h("code", { class: "schedule" }, schedule ?? "–"),
      h("span", { class: "second" }, zone ?? "UTC"),
    ],
  },
  {
    head: "Next run",
    value: ({ estimatedNextRun, suspended, error }) => [estimatedNextRun, suspended, Boolean(error)],
    cell: ([next, suspended, damaged]) => {
      if (damaged) return "–";
      if (suspended) return h("span", { class: "pill unknown" }, "suspended");
      if (!next) return "never again";
      return [moment(next), h("span", { class: "second" }, moment(next, "next"))];
    },
  },
  {
    head: "Last run",
    value: ({ lastRun, lastRunTasks }) => [lastRun, (lastRunTasks ?? []).length],
    cell: ([last, tasks]) =>
      last ? [moment(last), h("span", { class: "second" }, moment(last, "ago"), `, ${tasks} started`)] : "none yet",
  },
  {
    head: "Actions",
    value: ({ id, suspended, error }) => [id, Boolean(suspended), Boolean(error)],
    cell: ([id, suspended, damaged], _, latest) => buttons(id, suspended, damaged, latest, actions),
    class: "buttons",
  },
];

function what(job) {
  if (job.error) return ["–"];
  if (kindOf(job) === "ec2")
    return [
      firstLine(job),
      `EC2: ${[job.instanceType].flat().filter(Boolean).join(", ") || "the launch template's type"}`,
    ];
  const { trigger, taskCount = 1, maxCount } = job;
  const most = maxCount ? `, at most ${maxCount}` : "";
  if (trigger?.type !== "sqs") return [job.taskDefinition ?? job.id, `ECS: ${many(taskCount, "task")}${most}`];
  const each = trigger.messagesPerTask
    ? `one task for ${many(trigger.messagesPerTask, "message")}`
    : many(taskCount, "task");
  return [job.taskDefinition ?? job.id, `ECS: by queue ${trigger.queueName}, ${each}${most}`];
}

function firstLine({ command, script }) {
  const text = Array.isArray(command) ? command.join(" ") : (command ?? script ?? "–");
  const line =
    text
      .trim()
      .split("\n")
      .find((one) => !one.startsWith("#!")) ?? "–";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

function buttons(id, suspended, damaged, latest, { again, edit, gone }) {
  const button = (act, words, onclick) =>
    h("button", { type: "button", class: "small", "data-act": act, "aria-label": `${words} ${id}`, onclick }, words);
  return [
    button("edit", "Edit", () => edit(id)),
    !damaged && !suspended && button("run", "Run now", () => runNow(id, again)),
    !damaged && button("suspend", suspended ? "Resume" : "Suspend", () => suspend(id, !latest().suspended, again)),
    button("delete", "Delete", () => remove(id, again, gone)),
  ];
}

async function runNow(id, again) {
  let run = "";
  const done = await ask({
    title: `Run ${id} now?`,
    lines: ["It launches what a fire of its schedule would launch now."],
    action: "Run it now",
    act: async () => {
      run = (await patiently(() => call("POST", path(["jobs", id, "run"])))).body.runId;
    },
  });
  if (!done) return;
  tell(`Job ${id} was asked to run.`, { more: run && airflowLink(runPath(`job.${id}`, run), "See the run") });
  again();
}

async function suspend(id, suspended, again) {
  try {
    await call("PUT", path(["jobs", id]), { body: { suspended } });
    tell(suspended ? `Job ${id} is suspended: it is kept, and not fired.` : `Job ${id} fires again.`);
  } catch (error) {
    tell(error.message, { bad: true });
  }
  again();
}

async function remove(id, again, gone) {
  let untold = "";
  const done = await ask({
    title: `Delete the job ${id}?`,
    lines: [
      "Its live runs end, and what they launched is stopped.",
      "The document cannot be brought back from here; Airflow keeps the history of its DAG.",
    ],
    action: `Delete ${id}`,
    cancel: "Keep it",
    danger: true,
    act: () =>
      call("DELETE", path(["jobs", id])).catch((error) =>
        error.saved ? (untold = error.message) : Promise.reject(error),
      ),
  });
  if (!done) return;
  tell(untold || `Job ${id} is deleted.`, { bad: Boolean(untold) });
  gone();
  again();
}
