"""The queue and the rules on the local cloud: made once, shown, mended, taken away, and nobody else's touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.aws.events import Events, Region
from airflow_transient.aws.inbox import Inbox
from airflow_transient.core.event_rules import MANAGED_TAG, READER_ACTIONS, FoundRule, Wanted, queue_policy
from airflow_transient.errors import AccessError, SpecError
from airflow_transient.localcloud import events
from tests.waiting import eventually

pytestmark = pytest.mark.sandbox

TEMPLATE = Path(__file__).resolve().parents[2] / "docs" / "events.yaml"
NAMES = ("queue airflow-transient-events", "rule airflow-transient-events-ec2", "rule airflow-transient-events-ecs")
TASK = "arn:aws:ecs:eu-west-1:123456789012:task/default/7f2c"
Make = Callable[..., Events]


@pytest.fixture
def client(cloud: Any) -> Any:
    return lambda service, region_name=None, **_: cloud.client(service, region_name)


@pytest.fixture
def make(client: Any) -> Iterator[Make]:
    """Of what is made by it nothing is left."""
    made: list[Events] = []

    def one(deployment: str = "prod", region: str | None = None, **more: str) -> Events:
        made.append(Events(client, Wanted(deployment, **more), region))
        return made[-1]

    yield one
    for events_ in made:
        events_.teardown()


def words(told: Region) -> dict[str, str]:
    return {step.what: step.words for step in told.steps}


def changes(told: Region) -> list[str]:
    return [step.what for step in told.steps if step.changed]


def test_setup_makes_all_of_it_and_a_second_time_nothing(make: Make) -> None:
    first, again = make().setup(), make().setup()
    assert (words(first), changes(first)) == (dict.fromkeys(NAMES, "made"), [*NAMES])
    assert (words(again), changes(again)) == (dict.fromkeys(NAMES, "is there"), [])
    assert str(again.arn) == str(first.arn) == "arn:aws:sqs:eu-west-1:123456789012:airflow-transient-events"


def test_a_queue_keeps_its_messages_shortly_encrypted_and_takes_them_of_our_rules_only(make: Make) -> None:
    make().setup()
    queue = make()._queue()
    assert queue is not None
    assert queue.attributes["MessageRetentionPeriod"] == "300"
    assert queue.attributes["SqsManagedSseEnabled"] == "true"
    assert queue.policy == queue_policy(queue.arn, Wanted("prod"))


def test_a_dry_run_changes_nothing(make: Make) -> None:
    told = make().setup(dry_run=True)
    assert (words(told), changes(told)) == (dict.fromkeys(NAMES, "would be made"), [])
    assert (told.arn.account, make()._queue()) == ("<account>", None)
    make().setup()
    told = make().teardown(dry_run=True)
    assert (set(words(told).values()), changes(told)) == ({"would be deleted"}, [])
    assert make().show().complete


def test_what_is_not_there_is_shown_so_and_is_incomplete(make: Make) -> None:
    told = make().show()
    assert words(told) == dict.fromkeys(NAMES, "is not there")
    assert not told.complete


def test_teardown_takes_all_of_it_away_and_a_second_time_nothing(make: Make) -> None:
    make().setup()
    first, again = make().teardown(), make().teardown()
    assert set(words(first).values()) == {"deleted"}
    assert set(words(again).values()) == {"is not there"}
    assert changes(again) == []


def test_regions_and_names_are_apart(make: Make) -> None:
    make().setup()
    make(region="us-east-1").setup()
    make(queue="second").setup()
    assert set(words(make(region="us-east-1").teardown()).values()) == {"deleted"}
    assert make().show().complete
    assert make(queue="second").show().complete


MEDDLING = [
    pytest.param("queue", lambda sqs, bridge, url: sqs.delete_queue(QueueUrl=url), "is not there", id="no queue"),
    pytest.param(
        "queue",
        lambda sqs, bridge, url: sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "3600"}),
        "MessageRetentionPeriod is 3600, not 300",
        id="another retention",
    ),
    pytest.param(
        "queue",
        lambda sqs, bridge, url: sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""}),
        "its policy does not let our two rules send, and nobody else",
        id="no policy",
    ),
    pytest.param(
        "ec2", lambda sqs, bridge, url: bridge.disable_rule(Name=RULE), "it is DISABLED", id="a rule that is off"
    ),
    pytest.param(
        "ec2",
        lambda sqs, bridge, url: bridge.put_rule(Name=RULE, EventPattern='{"source": ["aws.ec2"]}'),
        "its pattern is another",
        id="another pattern",
    ),
    pytest.param(
        "ec2",
        lambda sqs, bridge, url: bridge.remove_targets(Rule=RULE, Ids=["queue"]),
        "it does not send to the queue",
        id="no target",
    ),
]
RULE = "airflow-transient-events-ec2"


@pytest.mark.parametrize(("where", "meddle", "says"), MEDDLING)
def test_what_differs_is_shown_and_mended(client: Any, make: Make, where: str, meddle: Any, says: str) -> None:
    make().setup()
    queue = make()._queue()
    assert queue is not None
    meddle(client("sqs"), client("events"), queue.url)
    told = make().show()
    assert not told.complete
    assert says in next(text for what, text in words(told).items() if what.endswith((where, "events")) and says in text)
    make().setup()
    assert make().show().complete


def test_what_is_somebody_else_s_is_not_touched(client: Any) -> None:
    sqs, ours = client("sqs"), Events(client, Wanted("prod", "theirs"))
    url = sqs.create_queue(QueueName="theirs")["QueueUrl"]
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    for act, advice in ((ours.setup, "take another name"), (ours.teardown, "it is left alone")):
        with pytest.raises(SpecError, match=f"not ours .it has no tag {MANAGED_TAG}.: {advice}"):
            act()
    assert not ours.show().steps[0].ours
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] == before
    assert client("events").list_rules(NamePrefix="theirs")["Rules"] == []
    sqs.delete_queue(QueueUrl=url)


def test_another_deployment_s_is_not_touched(client: Any, make: Make) -> None:
    make().setup()
    dev = Events(client, Wanted("dev"))
    for act, advice in ((dev.setup, "take another name with --queue"), (dev.teardown, "it is left alone")):
        with pytest.raises(SpecError, match=f"of deployment 'prod', and this is 'dev': {advice}"):
            act()
    assert make().show().complete


def test_targets_of_others_stay_and_their_rule_with_them(client: Any, make: Make) -> None:
    make().setup()
    client("events").put_targets(Rule=RULE, Targets=[{"Id": "theirs", "Arn": "arn:aws:sqs:eu-west-1:123456789012:x"}])
    told = make().teardown()
    assert words(told)[f"rule {RULE}"] == "left: 1 of its targets is not ours"
    assert not told.complete
    client("events").remove_targets(Rule=RULE, Ids=["theirs"])


# --- what arrives -----------------------------------------------------------------------------------------------------


def emit(state: str, started_by: str = "prod/dag/task-0123456789") -> None:
    detail = {"taskArn": TASK, "lastStatus": state, "startedBy": started_by}
    events.emit("aws.ecs", "ECS Task State Change", detail, [TASK])


def received(inbox: Inbox, count: int) -> list[Any]:
    got: list[Any] = []
    eventually(lambda: got.extend(inbox.receive(1)) or len(got) >= count)
    return got


def test_of_ecs_only_this_deployment_s_ends_arrive(client: Any, make: Make) -> None:
    told = make().setup()
    emit("RUNNING")
    emit("STOPPED", started_by="dev/dag/task-0123456789")
    emit("STOPPED", started_by="production/dag/task-0123456789")
    emit("STOPPED")
    inbox = Inbox(client, str(told.arn))
    (message,) = received(inbox, 1)
    assert json.loads(message.body)["detail"]["startedBy"] == "prod/dag/task-0123456789"
    assert inbox.receive(0) == []


def test_what_is_given_back_comes_again_at_once_and_is_counted(client: Any, make: Make) -> None:
    inbox = Inbox(client, str(make().setup().arn))
    for _ in range(12):
        emit("STOPPED")
    got = received(inbox, 12)
    assert {message.receives for message in got} == {1}
    inbox.release(got[:10])
    inbox.delete(got[10:])
    again = received(inbox, 10)
    assert {message.id for message in again} == {message.id for message in got[:10]}
    assert {message.receives for message in again} == {2}
    inbox.delete(again)
    assert inbox.receive(0) == []


def test_a_queue_that_is_not_there_says_whose_move_it_is(client: Any) -> None:
    with pytest.raises(SpecError, match=r"there is no queue 'nowhere' in eu-west-1 of account 123456789012"):
        Inbox(client, "nowhere")


def test_not_being_allowed_names_the_permission(cloud: Any, make: Make, client: Any) -> None:
    arn = make().setup().arn
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ReceiveMessage")
    inbox = Inbox(client, str(arn))
    inbox._sqs = Refusing(denied)
    with pytest.raises(AccessError, match="sqs:ReceiveMessage on arn:aws:sqs"):
        inbox.receive(0)


class Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(**_: Any) -> None:
            raise self.error

        return refuse


# --- the same by CloudFormation ---------------------------------------------------------------------------------------


def intrinsic(template: Any, told: dict[str, Any]) -> Any:
    """The template's own functions, as far as the policy uses them."""
    if isinstance(template, dict) and len(template) == 1:
        ((name, value),) = template.items()
        if name == "Ref":
            return told[value]
        if name == "Fn::GetAtt":
            return told[".".join(value)]
    if isinstance(template, dict):
        return {name: intrinsic(value, told) for name, value in template.items()}
    return [intrinsic(each, told) for each in template] if isinstance(template, list) else template


def parsed() -> dict[str, Any]:
    from cfnlint.decode import decode

    template, problems = decode(str(TEMPLATE))
    assert problems == []
    return json.loads(json.dumps(template))  # type: ignore[no-any-return]


def test_the_template_makes_what_setup_makes(client: Any, cloud: Any, make: Make) -> None:
    stacks = cloud.client("cloudformation")
    said = [{"ParameterKey": "Deployment", "ParameterValue": "prod"}]
    stacks.create_stack(
        StackName="events", TemplateBody=TEMPLATE.read_text(), Parameters=said, Capabilities=["CAPABILITY_IAM"]
    )
    by_stack = Events(client, Wanted("prod"))
    queue, rules = by_stack._queue(), [by_stack._rule(rule) for rule in by_stack.wanted.rules()]
    assert queue is not None
    arn = queue.arn
    names = {f"{kind}Rule.Arn": arn.rule(f"{arn.queue}-{kind.lower()}") for kind in ("Ec2", "Ecs")}
    told = {"Queue": queue.url, "Queue.Arn": str(arn), "AWS::AccountId": arn.account, **names}
    # moto has no AWS::SQS::QueuePolicy: its document is put there by hand.
    (policy,) = (one for one in parsed()["Resources"].values() if one["Type"] == "AWS::SQS::QueuePolicy")
    document = json.dumps(intrinsic(policy["Properties"]["PolicyDocument"], told))
    client("sqs").set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": document})
    assert words(by_stack.show()) == dict.fromkeys(NAMES, "is as it has to be")
    assert changes(by_stack.setup()) == []

    stacks.delete_stack(StackName="events")
    assert not by_stack.show().complete
    make().setup()
    ours, our_rules = by_stack._queue(), [by_stack._rule(rule) for rule in by_stack.wanted.rules()]
    assert ours is not None
    assert [plain(one) for one in our_rules] == [plain(one) for one in rules]
    assert {name: queue.attributes[name] for name in KEPT} == {name: ours.attributes[name] for name in KEPT}
    assert ours.tags.items() <= queue.tags.items()


KEPT = ("MessageRetentionPeriod", "VisibilityTimeout", "SqsManagedSseEnabled")


def plain(rule: FoundRule | None) -> Any:
    assert rule is not None
    return replace(rule, targets=(), tags={}, pattern=json.dumps(rule.pattern, sort_keys=True))


def test_the_template_is_one_that_cloudformation_takes() -> None:
    from cfnlint.api import lint_file

    assert list(map(str, lint_file(TEMPLATE))) == []


def test_the_template_gives_the_reader_what_it_needs() -> None:
    document = parsed()["Resources"]["ReaderPolicy"]["Properties"]["PolicyDocument"]
    assert document["Statement"][0]["Action"] == list(READER_ACTIONS)
