// The page: three tabs; or, where the address names a task instance, the launch of that one.

import { byId } from "./dom.js";
import { JobsView } from "./jobs.js";
import { launchView } from "./launch.js";
import { startClock } from "./moments.js";
import { queuesView } from "./queues.js";
import { runningView } from "./running.js";
import { tabs } from "./tabs.js";

function taskOfAddress() {
  const query = new URLSearchParams(location.search);
  const task = Object.fromEntries(
    ["dag_id", "run_id", "task_id", "map_index"].map((name) => [name, query.get(name) ?? ""]),
  );
  return task.task_id ? task : null;
}

function showTabs() {
  const views = {
    running: runningView(byId("running")),
    jobs: new JobsView(byId("jobs")),
    queues: queuesView(byId("queues")),
  };
  byId("pages").hidden = false;
  tabs(document.querySelector('[role="tablist"]'), (chosen) => {
    for (const [name, view] of Object.entries(views)) {
      if (name === chosen) view.start();
      else view.stop();
    }
  });
}

startClock();
const task = taskOfAddress();
if (task) {
  byId("launch").hidden = false;
  launchView(byId("launch"), task).start();
} else {
  showTabs();
}
