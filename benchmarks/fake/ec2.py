"""EC2's Query API: machines as DescribeInstances tells them, by id and by filter, in pages, and RunInstances."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from benchmarks.fake.http import Told
from benchmarks.fake.world import ACCOUNT, REGION, Resource, World, iso

XML = "text/xml;charset=UTF-8"
SPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
#: Results of one answer where nobody says MaxResults.
PAGE = 1000
Said = dict[str, str]


def describe_instances(world: World, said: Said) -> Told:
    if not world.gives("DescribeInstances"):
        return refused("RequestLimitExceeded", "Request limit exceeded.", 503)
    named = values(said, "InstanceId")
    if missing := [id for id in named if id not in world.resources]:
        return refused("InvalidInstanceID.NotFound", f"The instance ID '{missing[0]}' does not exist", 400)
    filtered = [value for value in values(said, "Filter.1.Value") if value in world.resources]
    ids = named or filtered
    start, most = int(said.get("NextToken", 0)), int(said.get("MaxResults", PAGE))
    page = "".join(reservation(world.resources[id].seen()) for id in ids[start : start + most])
    more = f"<nextToken>{start + most}</nextToken>" if start + most < len(ids) else ""
    return told("DescribeInstances", f"<reservationSet>{page}</reservationSet>{more}")


def run_instances(world: World, said: Said) -> Told:
    token, count = said.get("ClientToken"), int(said["MaxCount"])
    if token in world.tokens:
        return Told(world.tokens[token], XML)
    if not (world.gives("RunInstances calls") and world.gives("RunInstances instances", count)):
        return refused("RequestLimitExceeded", "Request limit exceeded.", 503)
    made = "".join(instance(world.new("ec2"), index) for index in range(count))
    answer = told("RunInstances", f"<reservationId>r-1</reservationId><instancesSet>{made}</instancesSet>")
    if token:
        world.tokens[token] = answer.body
    return answer


def get_console_output(world: World, said: Said) -> Told:
    return told("GetConsoleOutput", f"<instanceId>{said['InstanceId']}</instanceId>")


def terminate_instances(world: World, said: Said) -> Told:
    return told("TerminateInstances", "<instancesSet/>")


def describe_images(world: World, said: Said) -> Told:
    image = (
        f"<item><imageId>{said.get('ImageId.1', 'ami-0')}</imageId><rootDeviceType>ebs</rootDeviceType>"
        "<rootDeviceName>/dev/xvda</rootDeviceName><imageState>available</imageState></item>"
    )
    return told("DescribeImages", f"<imagesSet>{image}</imagesSet>")


def get_caller_identity(world: World, said: Said) -> Told:
    result = f"<Account>{ACCOUNT}</Account><UserId>AKIA</UserId><Arn>arn:aws:iam::{ACCOUNT}:user/benchmark</Arn>"
    body = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<GetCallerIdentityResult>{result}</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    return Told(body.encode(), XML)


ANSWERS: dict[str, Callable[[World, Said], Told]] = {
    "DescribeInstances": describe_instances,
    "RunInstances": run_instances,
    "GetConsoleOutput": get_console_output,
    "TerminateInstances": terminate_instances,
    "DescribeImages": describe_images,
    "GetCallerIdentity": get_caller_identity,
}


def values(said: Said, name: str) -> list[str]:
    found: list[str] = []
    while (value := said.get(f"{name}.{len(found) + 1}")) is not None:
        found.append(value)
    return found


def reservation(one: Resource) -> str:
    return (
        f"<item><reservationId>r-{one.id[2:]}</reservationId><ownerId>{ACCOUNT}</ownerId><groupSet/>"
        f"<instancesSet>{instance(one)}</instancesSet></item>"
    )


def instance(one: Resource, index: int = 0) -> str:
    """One machine, with all that AWS tells of it."""
    code, state = (48, "terminated") if one.over else (16, "running")
    reason = (
        "<reason>User initiated</reason><stateReason><code>Client.InstanceInitiatedShutdown</code>"
        "<message>Client.InstanceInitiatedShutdown: Instance initiated shutdown</message></stateReason>"
    )
    return (
        f"<item><instanceId>{one.id}</instanceId><imageId>ami-0123456789abcdef0</imageId>"
        f"<instanceState><code>{code}</code><name>{state}</name></instanceState>"
        f"{_network() if not one.over else ''}{reason if one.over else '<reason/>'}"
        f"<amiLaunchIndex>{index}</amiLaunchIndex><productCodes/><instanceType>t3.small</instanceType>"
        f"<launchTime>{iso(one.begun)}</launchTime><placement><availabilityZone>{REGION}a</availabilityZone>"
        "<groupName/><tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>"
        "<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>"
        f"<rootDeviceName>/dev/xvda</rootDeviceName>{_disk(one)}<virtualizationType>hvm</virtualizationType>"
        f"<clientToken>{one.id}-1-1</clientToken>{_tags(one)}<hypervisor>xen</hypervisor>"
        "<ebsOptimized>false</ebsOptimized><enaSupport>true</enaSupport><cpuOptions><coreCount>1</coreCount>"
        "<threadsPerCore>2</threadsPerCore></cpuOptions><capacityReservationSpecification>"
        "<capacityReservationPreference>open</capacityReservationPreference></capacityReservationSpecification>"
        "<hibernationOptions><configured>false</configured></hibernationOptions><metadataOptions>"
        "<state>applied</state><httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>"
        "<httpEndpoint>enabled</httpEndpoint><httpProtocolIpv6>disabled</httpProtocolIpv6>"
        "<instanceMetadataTags>disabled</instanceMetadataTags></metadataOptions><enclaveOptions>"
        "<enabled>false</enabled></enclaveOptions><bootMode>uefi-preferred</bootMode>"
        "<platformDetails>Linux/UNIX</platformDetails><usageOperation>RunInstances</usageOperation>"
        f"<usageOperationUpdateTime>{iso(one.begun)}</usageOperationUpdateTime></item>"
    )


def _network() -> str:
    group = "<groupSet><item><groupId>sg-0123456789abcdef0</groupId><groupName>default</groupName></item></groupSet>"
    name, address = f"ip-10-0-1-17.{REGION}.compute.internal", "10.0.1.17"
    both = f"<privateDnsName>{name}</privateDnsName><privateIpAddress>{address}</privateIpAddress>"
    place = "<subnetId>subnet-0123456789abcdef0</subnetId><vpcId>vpc-0123456789abcdef0</vpcId>"
    interface = (
        "<item><networkInterfaceId>eni-0123456789abcdef0</networkInterfaceId><description/>"
        f"{place}<ownerId>{ACCOUNT}</ownerId><status>in-use</status><macAddress>0a:00:27:00:00:01</macAddress>{both}"
        f"<sourceDestCheck>true</sourceDestCheck>{group}<attachment><attachmentId>eni-attach-0</attachmentId>"
        "<deviceIndex>0</deviceIndex><status>attached</status><deleteOnTermination>true</deleteOnTermination>"
        "<networkCardIndex>0</networkCardIndex></attachment><privateIpAddressesSet><item>"
        f"{both}<primary>true</primary></item></privateIpAddressesSet><interfaceType>interface</interfaceType></item>"
    )
    return (
        f"{both}<dnsName/>{place}<sourceDestCheck>true</sourceDestCheck>{group}"
        f"<networkInterfaceSet>{interface}</networkInterfaceSet>"
    )


def _disk(one: Resource) -> str:
    made = datetime.fromtimestamp(one.begun, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-0123456789abcdef0</volumeId>"
        f"<status>attached</status><attachTime>{made}</attachTime><deleteOnTermination>true</deleteOnTermination></ebs>"
        "</item></blockDeviceMapping>"
    )


def _tags(one: Resource) -> str:
    said = {
        "transient:managed-by": "airflow_transient",
        "transient:owner": f"benchmark/dag/run/task/{one.id}",
        "transient:dag": "dag",
        "transient:run": "scheduled__2026-01-01T00:00:00+00:00",
        "transient:task": "task",
        "transient:map-index": "0",
        "transient:try": "1",
        "transient:launch": f"{one.id}-1-1",
        "transient:deadline": "1800000000",
    }
    items = "".join(f"<item><key>{name}</key><value>{value}</value></item>" for name, value in said.items())
    return f"<tagSet>{items}</tagSet>"


def told(action: str, inner: str) -> Told:
    return Told(
        f'<?xml version="1.0" encoding="UTF-8"?><{action}Response xmlns="{SPACE}"><requestId>r</requestId>'
        f"{inner}</{action}Response>".encode(),
        XML,
    )


def unknown(action: str) -> Told:
    return refused("InvalidAction", f"{action} is not in this fake", 400)


def refused(code: str, words: str, status: int) -> Told:
    error = f"<Errors><Error><Code>{code}</Code><Message>{words}</Message></Error></Errors>"
    return Told(f"<Response>{error}<RequestID>r</RequestID></Response>".encode(), XML, status)
