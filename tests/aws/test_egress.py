"""Whether a machine in a subnet finds a way out: its own route table decides, and the VPC's where it has none."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_transient.aws.egress import warning
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.spec import Pool

NAT = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1"}
DOOR = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1"}
BUCKET = {"DestinationPrefixListId": "pl-1", "GatewayId": "vpce-1"}
LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}


class Ec2:
    """One subnet. `own`: the routes of its table, None where it has none; `main`: those of its VPC's."""

    def __init__(self, own: list[Any] | None, main: list[Any], public: bool = False) -> None:
        self.own, self.main, self.public = own, main, public

    def describe_subnets(self, SubnetIds: list[str]) -> Any:
        return {"Subnets": [{"SubnetId": SubnetIds[0], "VpcId": "vpc-1", "MapPublicIpOnLaunch": self.public}]}

    def describe_route_tables(self, Filters: list[Any]) -> Any:
        routes = self.own if Filters[0]["Name"] == "association.subnet-id" else self.main
        return {"RouteTables": [] if routes is None else [{"Routes": routes}]}


@pytest.mark.parametrize(
    ("ec2", "words", "said"),
    [
        pytest.param(Ec2([LOCAL, NAT], []), {}, None, id="through a NAT"),
        pytest.param(Ec2(None, [LOCAL, NAT]), {}, None, id="its VPC's"),
        pytest.param(Ec2([LOCAL], [NAT]), {}, "no route out", id="its own comes first"),
        pytest.param(Ec2([LOCAL, BUCKET], []), {}, None, id="to S3 only"),
        pytest.param(Ec2([DOOR], []), {}, "associate_public_ip=True", id="a door, and no address"),
        pytest.param(Ec2([DOOR], [], public=True), {}, None, id="a door, and the subnet gives addresses"),
        pytest.param(Ec2([DOOR], []), {"associate_public_ip": True}, None, id="a door, and an address is asked for"),
        pytest.param(Ec2([DOOR], [], public=True), {"associate_public_ip": False}, "gets none", id="and is refused"),
    ],
)
def test_the_way_out(ec2: Ec2, words: dict[str, Any], said: str | None) -> None:
    spec = Ec2Spec.of(command="true", image_id="ami-0123456789abcdef0", instance_type="t3.small", **words)
    warned = warning(lambda service: ec2, spec, Pool("t3.small", "subnet-1"))
    assert len(warned) == (said is not None)
    assert all(said in line for line in warned if said)
