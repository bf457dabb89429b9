"""Whether a machine in a subnet will find a way out to report. A warning and not a refusal: the console still tells."""

from __future__ import annotations

from typing import Any

from airflow_transient.aws.launcher import FAILURES, ClientFactory
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.spec import Pool


def warning(client: ClientFactory, spec: Ec2Spec, pool: Pool) -> tuple[str, ...]:
    """One sentence where there is no way out; nothing where there is one, or where nobody may look."""
    if pool.subnet_id is None or spec.associate_public_ip:
        return ()
    ec2 = client("ec2")
    try:
        subnet = ec2.describe_subnets(SubnetIds=[pool.subnet_id])["Subnets"][0]
        routes = _routes(ec2, subnet)
    except (*FAILURES, IndexError):
        return ()  # these two permissions are nobody's duty, and RunInstances will say what is wrong with the subnet
    if any(_is_s3_endpoint(route) for route in routes):
        return ()
    way_out = next((r for r in routes if r.get("DestinationCidrBlock") == "0.0.0.0/0"), None)
    if way_out is None:
        return (f"{pool.subnet_id} has no route out: the machine reports on its console only",)
    public = spec.associate_public_ip is None and subnet.get("MapPublicIpOnLaunch")
    if str(way_out.get("GatewayId", "")).startswith("igw-") and not public:
        return (
            f"{pool.subnet_id} leads to the internet only from public addresses, and the machine gets none: give "
            "associate_public_ip=True, or it reports on its console only",
        )
    return ()


def _routes(ec2: Any, subnet: dict[str, Any]) -> list[dict[str, Any]]:
    """The subnet's own route table, else its VPC's main one."""
    own = [{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}]
    main = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}, {"Name": "association.main", "Values": ["true"]}]
    for filters in (own, main):
        if tables := ec2.describe_route_tables(Filters=filters)["RouteTables"]:
            routes: list[dict[str, Any]] = tables[0]["Routes"]
            return routes
    return []


def _is_s3_endpoint(route: dict[str, Any]) -> bool:
    return str(route.get("GatewayId", "")).startswith("vpce-")
