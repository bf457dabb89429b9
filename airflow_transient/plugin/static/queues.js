// "Queues": how deep the queues in use are and were, and how many tasks each job would ask for, and why.

import { get, path } from "./api.js";
import { chart } from "./chart.js";
import { h, hold } from "./dom.js";
import { History } from "./history.js";
import { airflowLink, dagPath, runPath } from "./links.js";
import { moment, read, span } from "./moments.js";
import { Poll } from "./poll.js";
import { Status } from "./status.js";
import { many } from "./words.js";

const EVERY = 10_000;
const LIMIT = 50;

export function queuesView(panel) {
  const status = new Status(() => poll.again());
  const summary = h("p", { class: "summary", "aria-live": "polite" });
  const list = h("div", { class: "queues" });
  const history = new History();
  const cards = new Map();
  hold(panel, h("div", { class: "line" }, summary, status.line), status.element, list);

  const poll = new Poll({
    load: (signal) => get(path(["queues"], { limit: LIMIT }), { signal }),
    every: EVERY,
    show: (state) => {
      status.show(state);
      if (state.data && !state.busy) show(state.data);
    },
  });

  function show(data) {
    for (const queue of data.queues) {
      if (queue.at && queue.depth) history.add(queue.key, read(queue.at), queue.depth);
    }
    history.keep();
    const words = summaryOf(data);
    if (summary.textContent !== words) summary.textContent = words;
    if (!data.queues.length) {
      cards.clear();
      hold(list, empty());
      return;
    }
    showCards(data.queues);
  }

  /** Cards stay where they are, so that neither focus nor scrolling is lost. */
  function showCards(queues) {
    const wanted = new Set(queues.map((queue) => queue.key));
    for (const key of [...cards.keys()]) if (!wanted.has(key)) cards.delete(key);
    for (const queue of queues) {
      if (!cards.has(queue.key)) cards.set(queue.key, h("article", { class: "card" }));
    }
    const elements = queues.map((queue) => cards.get(queue.key));
    if (elements.length !== list.children.length || elements.some((element, at) => list.children[at] !== element))
      hold(list, elements);
    for (const queue of queues) drawCard(cards.get(queue.key), queue, history.of(queue.key));
  }

  return poll;
}

function summaryOf({ queues, total, truncated }) {
  if (!queues.length) return "No queue is in use.";
  const waiting = queues.reduce((sum, { depth }) => sum + (depth?.visible ?? 0), 0);
  const unread = queues.filter(({ depth }) => !depth).length;
  return [
    truncated ? `the first ${queues.length} of ${many(total, "queue")}` : many(queues.length, "queue"),
    `${many(waiting, "message")} waiting`,
    unread && `${unread} could not be read`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function drawCard(card, queue, points) {
  const told = JSON.stringify([queue, points.length]);
  if (card.told === told) return;
  card.told = told;
  hold(
    card,
    h("h2", {}, queue.queue, queue.region && h("span", { class: "soft" }, ` ${queue.region}`)),
    queue.depth
      ? depthOf(queue.depth)
      : h("p", { class: "bar warn" }, h("strong", {}, "Not read: "), queue.error ?? "no reason given"),
    points.length > 0 && chart(points),
    jobsOf(queue.jobs),
  );
}

function depthOf({ visible, in_flight: inFlight, delayed, oldest_seconds: oldest }) {
  const figure = (count, words, look) => h("div", { class: look }, h("dd", {}, count), h("dt", {}, words));
  return h(
    "dl",
    { class: "figures" },
    figure(visible, "visible", "visible"),
    figure(inFlight, "in flight", "in-flight"),
    figure(delayed, "delayed"),
    oldest !== null && oldest !== undefined && figure(span(oldest), "oldest message"),
  );
}

function jobsOf(jobs) {
  if (!jobs.length) return h("p", { class: "soft" }, "No job and no task is sized by it.");
  return h(
    "ul",
    { class: "asks" },
    jobs.map((job) => h("li", {}, asks(job))),
  );
}

function asks(job) {
  const name = job.job_id ?? `${job.dag_id}, task ${job.task_id}`;
  const would = job.error
    ? h("span", {}, h("strong", {}, "cannot be told: "), job.error)
    : job.would_launch === null
      ? h("strong", {}, "cannot be told")
      : h("span", {}, "would launch ", h("strong", {}, many(job.would_launch, "task")), " now");
  return [
    h(
      "p",
      {},
      airflowLink(dagPath(job.dag_id), name),
      job.suspended && [" ", h("span", { class: "pill unknown" }, "suspended")],
      " ",
      would,
    ),
    job.reason && h("p", { class: "second" }, `Why: ${job.reason}.`),
    h("p", { class: "second" }, `${limits(job)}.`, job.last && last(job)),
  ];
}

function limits({ live, limit, queues }) {
  return [
    live === null ? "What runs of it is not known" : `${live} live`,
    limit !== null && `at most ${limit} at once`,
    queues.length > 1 && `it adds up ${queues.join(", ")}`,
  ]
    .filter(Boolean)
    .join(", ");
}

function last({ dag_id, last: { count, reason, run_id } }) {
  const words = `Its last run asked for ${count}`;
  return [" ", run_id ? airflowLink(runPath(dag_id, run_id), words) : words, reason && `: ${reason}`, "."];
}

function empty() {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "No queue is in use"),
    h("p", {}, "One appears here once a job has the trigger sqs, or a DAG's EcsBurstOperator is given queues."),
  );
}
