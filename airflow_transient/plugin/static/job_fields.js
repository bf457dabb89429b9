// Every field of a job's document as the form shows it: what it is called, holds (converters.js) and says.
//
// A key with a dot is one deeper in the document. The schedule has a field of its own (schedule_field.js).

const field = (holds) => (label, hint, more) => ({ holds, label, hint, ...more });
const [text, long, command, number, scalar] = ["text", "long", "command", "number", "scalar"].map(field);
const [list, listOrJson, textOrJson, pairs, json] = ["list", "listOrJson", "textOrJson", "pairs", "json"].map(field);
const [zone, moment, tick, overrides] = ["zone", "moment", "tick", "overrides"].map(field);

const choice = (label, choices, more) => ({ holds: "choice", label, choices, ...more });
const WIDE = { wide: true };
const MUST = { must: true };

const TRIGGERS = [
  ["", "none: always so many tasks"],
  ["sqs", "sqs: by the depth of a queue"],
  ["noop", "noop: always so many tasks"],
];
const LAUNCH_TYPES = [
  ["", "the cluster's capacity"],
  ...["FARGATE", "EC2", "EXTERNAL", "MANAGED_INSTANCES"].map((name) => [name, name]),
];
const MARKETS = [
  ["", "default: on-demand"],
  ...["on-demand", "spot", "spot-then-on-demand"].map((name) => [name, name]),
];
const ADDRESSES = [
  ["", "the subnet's setting"],
  ["true", "yes"],
  ["false", "no"],
];
const ID = "Letters, digits, - and _.";

const FIELDS = {
  // What
  taskDefinition: text("Task definition", "Its family, without a revision: the latest one runs.", MUST),
  id: text("Id", { ecs: `${ID} Empty: the task definition's name.`, ec2: ID }, { must: ["ec2"], fixed: true }),
  command: command("Command", "For bash; or a JSON list that no shell touches. Give this or a script.", WIDE),
  script: long("Script", "Its text, starting with #!", WIDE),
  results: text("Results", "s3://bucket/prefix for the log, the receipt and the result."),

  // When
  timezone: zone("Time zone", "Of the schedule. Empty: UTC."),
  scheduleStart: moment("Not before", "Such as 2026-12-01T08:00:00+01:00; without an offset it is UTC."),
  scheduleEnd: moment("Not after", "The last moment at which it may still fire."),
  suspended: tick("Suspended: kept, and not fired"),

  // How many
  "trigger.type": choice("Trigger", TRIGGERS),
  "trigger.queueName": text("Queue", "An SQS queue's name.", { ...MUST, when: "sqs" }),
  "trigger.messagesPerTask": number("Messages per task", "One task for so many, rounded up.", { when: "sqs" }),
  taskCount: number("Tasks", "So many run after each fire, at least: 1 to 50. Empty: 1."),
  maxCount: number("At most", "1 to 50. Empty: 50."),

  // On which machine
  imageSsmParameter: text(
    "Image, by SSM parameter",
    "Such as /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    WIDE,
  ),
  imageId: text("or image id", "ami-…"),
  imageName: text("or newest image named", "* may stand for anything."),
  imageOwners: list("of these owners", "Account ids, amazon, self."),
  instanceType: list("Instance types", "With commas between; the next one is tried where EC2 has no room."),
  market: choice("Market", MARKETS),
  count: number("Instances", "All must succeed. Empty: 1."),
  volumeSize: number("Root volume, GiB", "Empty: the image's."),
  instanceProfile: text("Instance profile", "For secrets, and for what the job does on AWS."),
  launchTemplate: textOrJson("Launch template", "Id or name, or JSON with a version."),
  subnetIds: list("Subnets", "Empty: the default VPC's."),
  securityGroupIds: list("Security groups", "Empty: the VPC's default."),
  associatePublicIp: choice("Public address", ADDRESSES, { holds: "flag" }),
  keyName: text("Key pair"),

  // Environment
  overrides: overrides("Containers", null, WIDE),
  environment: pairs("Variables", "NAME=value, one a line. Whoever may describe the instance can read them.", WIDE),
  secrets: pairs("Secrets", "NAME=/ssm/parameter or a Secrets Manager ARN; the instance fetches them.", WIDE),

  // More
  cluster: text("Cluster", "Empty: default."),
  region: text("Region", "Empty: the connection's."),
  launchType: choice("Launch type", LAUNCH_TYPES),
  capacityProviders: listOrJson("Capacity providers", "Tried in order: FARGATE_SPOT, FARGATE; or ECS's items as JSON."),
  networkConfiguration: json(
    "Network, as JSON",
    'Such as {"subnets": ["subnet-0a"], "assignPublicIp": "ENABLED"}',
    WIDE,
  ),
  platformVersion: text("Platform version", "Of Fargate. Empty: LATEST."),
  maxRuntime: number("Longest run, seconds", "Then it is stopped. Empty: 3600."),
  bootTimeout: number("Longest boot, seconds", "Empty: 600."),
  retries: number("Retries", "0 to 10. Empty: 2."),
  minSuccess: scalar("Must succeed", "A number, or a share such as 90%. Empty: all."),
  holdOnFailure: number("Hold after a failure, seconds", "A failed machine stays up so long to be looked at."),
  killScheduleRole: text(
    "Role of the kill schedule",
    "ARN: EventBridge then ends the launch at its deadline, with Airflow down as well.",
    WIDE,
  ),
  tags: pairs("Tags", "NAME=value, one a line.", WIDE),
};

const MACHINE = [
  ...["imageSsmParameter", "imageId", "imageName", "imageOwners", "instanceType", "market", "count", "volumeSize"],
  ...["instanceProfile", "launchTemplate", "subnetIds", "securityGroupIds", "associatePublicIp", "keyName"],
];
const WHEN = ["schedule", "timezone", "scheduleStart", "scheduleEnd", "suspended"];
const MANY = ["trigger.type", "trigger.queueName", "trigger.messagesPerTask", "taskCount", "maxCount"];
const MORE_OF_ECS = [
  ...["cluster", "region", "launchType", "platformVersion", "capacityProviders", "maxRuntime", "retries", "minSuccess"],
  ...["networkConfiguration", "killScheduleRole", "tags"],
];
const MORE_OF_EC2 = ["region", "maxRuntime", "bootTimeout", "retries", "holdOnFailure", "killScheduleRole", "tags"];

const GROUPS = [
  { title: "What to run", ecs: ["taskDefinition", "id"], ec2: ["id", "command", "script", "results"] },
  { title: "When", ecs: WHEN, ec2: WHEN },
  { title: "How many", ecs: MANY },
  { title: "On which machine", ec2: MACHINE },
  { title: "Environment", ecs: ["overrides"], ec2: ["environment", "secrets"] },
  { title: "More: where it runs, for how long, its tags", folded: true, ecs: MORE_OF_ECS, ec2: MORE_OF_EC2 },
];

/** The groups of a kind's form, in order: {title, folded, names}. A saved job's id cannot be changed. */
export function groupsOf(kind, isNew) {
  const shown = (name) => isNew || !FIELDS[name]?.fixed;
  return GROUPS.filter((group) => group[kind]).map(({ title, folded, [kind]: names }) => ({
    title,
    folded,
    names: names.filter(shown),
  }));
}

/** One field as it is for this kind; undefined for the schedule. */
export function fieldOf(name, kind) {
  const known = FIELDS[name];
  if (!known) return undefined;
  const hint = known.hint && typeof known.hint === "object" ? known.hint[kind] : known.hint;
  const must = Array.isArray(known.must) ? known.must.includes(kind) : Boolean(known.must);
  return { ...known, name, hint, must };
}
