// "Jobs": the list, and the editor in its place while one is made or changed.

import { get, path } from "./api.js";
import { focusOn, h, hold } from "./dom.js";
import { JobEditor } from "./job_editor.js";
import { jobColumns } from "./job_columns.js";
import { flat } from "./job_document.js";
import { tell } from "./notices.js";
import { Poll } from "./poll.js";
import { Status } from "./status.js";
import { Table } from "./table.js";
import { many } from "./words.js";

const EVERY = 10_000;
const EVERY_OF_MANY = 30_000;
const PAGE = 250;
const MOST = 1000; // jobs that are read
const AT_ONCE = 100; // rows that are drawn, till more are asked for

export class JobsView {
  constructor(panel) {
    this.poll = new Poll({
      load: (signal) => readAll(signal),
      every: () => (this.poll.state.data?.jobs.length > PAGE ? EVERY_OF_MANY : EVERY),
      show: (state) => this.show(state),
    });
    this.limit = AT_ONCE;
    this.backTo = null;
    this.status = new Status(() => this.poll.again());
    this.list = h("div", {});
    this.editing = h("div", { hidden: true });
    this.editor = new JobEditor(this.editing, (saved) => this.left(saved));
    hold(panel, this.list, this.editing);
    this.frame();
  }

  frame() {
    const again = () => this.poll.again();
    const actions = { again, edit: (id) => this.edit(id), gone: () => focusOn(this.make) };
    this.table = new Table({ caption: "Scheduled jobs", columns: jobColumns(actions), key: (job) => job.id });
    this.make = h("button", { type: "button", class: "primary", onclick: () => this.edit(null) }, "New job");
    this.filter = h("input", {
      type: "search",
      id: "job-filter",
      placeholder: "any word of it",
      oninput: () => this.draw(),
    });
    this.find = h("div", { class: "find" }, h("label", { for: "job-filter" }, "Find"), this.filter);
    this.summary = h("p", { class: "summary", "aria-live": "polite" });
    this.more = h("button", { type: "button", onclick: () => this.showMore() }, "Show more");
    this.scroller = h("div", { class: "scroller" }, this.table.element);
    this.empty = h("div", { class: "empty", hidden: true });
    const tools = h("div", { class: "tools" }, this.make, this.find);
    hold(
      this.list,
      h("div", { class: "line" }, this.summary, this.status.line),
      this.status.element,
      tools,
      this.scroller,
      this.more,
      this.empty,
    );
    this.more.hidden = true;
  }

  show(state) {
    this.status.show(state);
    if (state.data && !state.busy) this.draw();
  }

  draw() {
    const data = this.poll.state.data;
    if (!data) return;
    const found = filtered(data.jobs, this.filter.value);
    this.table.show(found.slice(0, this.limit));
    this.focusBack();
    this.more.hidden = found.length <= this.limit;
    this.scroller.hidden = !found.length;
    this.find.hidden = data.jobs.length < 2;
    this.empty.hidden = found.length > 0;
    if (!found.length) hold(this.empty, emptyOf(data, this.filter.value));
    const summary = summaryOf(data, found.length);
    if (this.summary.textContent !== summary) this.summary.textContent = summary;
  }

  showMore() {
    this.limit += AT_ONCE;
    this.draw();
  }

  /** @param id of a job; null: a new one */
  async edit(id) {
    try {
      await this.editor.open(id);
    } catch (error) {
      tell(error.message, { bad: true });
      return;
    }
    this.poll.stop();
    this.list.hidden = true;
    this.editing.hidden = false;
    focusOn(this.editor.title);
  }

  left(saved) {
    const id = saved ?? this.editor.id;
    hold(this.editing);
    this.editing.hidden = true;
    this.list.hidden = false;
    this.poll.start();
    if (saved) this.poll.again();
    this.backTo = id;
    focusOn(this.make);
    this.focusBack();
  }

  /** To the row that was edited; a new job's comes with the next look, unless the focus has gone elsewhere by then. */
  focusBack() {
    const edit = this.table.row(this.backTo)?.querySelector('[data-act="edit"]');
    if (edit && document.activeElement === this.make) edit.focus();
    if (edit) this.backTo = null;
  }

  start() {
    if (this.editing.hidden) this.poll.start();
  }

  stop() {
    this.poll.stop();
  }
}

/** All the jobs this person may see, a page after the other, up to a bound. */
async function readAll(signal) {
  const jobs = [];
  let more = true;
  while (more && jobs.length < MOST) {
    const page = await get(path(["jobs"], { skip: jobs.length || undefined, count: PAGE }), { signal });
    jobs.push(...page.jobs);
    more = Boolean(page.next) && page.jobs.length > 0;
  }
  return { jobs, more };
}

function filtered(jobs, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return jobs;
  return jobs.filter((job) => {
    const text = JSON.stringify(job).toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

function summaryOf({ jobs, more }, found) {
  if (!jobs.length) return "No job.";
  const suspended = jobs.filter((job) => job.suspended).length;
  const damaged = jobs.filter((job) => flat(job.error).length).length;
  return [
    `${many(jobs.length, "job")}${more ? " (there are more; use the API)" : ""}`,
    suspended && `${suspended} suspended`,
    damaged && `${damaged} that cannot run`,
    found < jobs.length && `${found} found`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function emptyOf({ jobs }, words) {
  if (jobs.length) return h("p", {}, `No job has “${words}” in it.`);
  return [
    h("h2", {}, "No job yet"),
    h(
      "p",
      {},
      "A job runs ECS tasks or a transient EC2 instance, by a schedule or a queue's depth, and needs no DAG file.",
    ),
    h("p", {}, "Make the first one with New job, or POST its document to this address with /jobs at its end."),
  ];
}
