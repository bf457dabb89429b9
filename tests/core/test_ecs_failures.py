"""What ECS says when it starts nothing, and how much of the world that speaks of: the tables, row by row."""

import pytest

from airflow_transient.core.ecs.failures import fix_for, scope_of_error, scope_of_failure, scope_of_start
from airflow_transient.core.fallback import Scope

CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
MANIFEST = 'CannotPullContainerError: failed to do request: Head "https://registry-1.docker.io/v2/a/manifests/latest"'
SUBNET = "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': "


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        ("RESOURCE:CPU", Scope.POOL),
        ("RESOURCE:MEMORY", Scope.POOL),
        ("RESOURCE:GPU", Scope.POOL),
        ("RESOURCE:PORTS", Scope.POOL),
        ("RESOURCE:ENI", Scope.POOL),
        ("AGENT", Scope.AGAIN),
        ("LOCATION", Scope.SPEC),
        ("ATTRIBUTE", Scope.SPEC),
        ("ATTRIBUTE: ecs.capability.x is missing", Scope.SPEC),
        ("MemberOf", Scope.SPEC),
        ("memberOf placement constraint unsatisfied.", Scope.SPEC),
        ("MISSING", Scope.SPEC),
        ("INACTIVE", Scope.SPEC),
        (CAPACITY, Scope.POOL),
        ("You've reached the limit on the number of tasks you can run concurrently", Scope.POOL),
        ("You've reached the limit on the number of vCPUs you can run concurrently", Scope.POOL),
        ("Rate exceeded", Scope.AGAIN),
        ("something new", Scope.POOL),
        ("no reason", Scope.POOL),
    ],
)
def test_a_failure_in_the_answer_speaks_of(reason, scope):
    assert scope_of_failure(reason) is scope


@pytest.mark.parametrize(
    ("code", "message", "status", "scope"),
    [
        pytest.param("ThrottlingException", "Rate exceeded", 400, Scope.PACE, id="throttled"),
        pytest.param(
            "InvalidParameterException",
            "Throttling: Rate exceeded (Service: AmazonEC2; Status Code: 503)",
            400,
            Scope.PACE,
            id="EC2 throttled it",
        ),
        pytest.param("ServerException", "Throttling", 500, Scope.PACE, id="throttled inside"),
        pytest.param("ThrottlingException", "Slow down", 400, Scope.PACE, id="throttled in other words"),
        pytest.param("TooManyRequestsException", "Slow down", 429, Scope.PACE, id="too many"),
        pytest.param(
            "ClientException",
            "You've reached the limit on the number of tasks in the PROVISIONING state",
            400,
            Scope.PACE,
            id="as many as are placed at once",
        ),
        pytest.param("ClientException", "Too many concurrent attempts to create", 400, Scope.PACE, id="concurrent"),
        pytest.param("ClientException", CAPACITY, 400, Scope.POOL, id="no capacity, as an error"),
        pytest.param(
            "ClientException",
            "You've reached the limit on the number of vCPUs you can run concurrently",
            400,
            Scope.POOL,
            id="the account's limit, as an error",
        ),
        pytest.param("LimitExceededException", "limit", 400, Scope.POOL, id="a limit"),
        pytest.param("ConflictException", "token", 400, Scope.TOKEN_USED, id="the token was used"),
        pytest.param("AccessDeniedException", "not authorized", 400, Scope.ACCESS, id="not allowed"),
        pytest.param("BlockedException", "blocked", 400, Scope.ACCESS, id="the account is blocked"),
        pytest.param("UnrecognizedClientException", "token", 400, Scope.ACCESS, id="unknown credentials"),
        pytest.param("ExpiredTokenException", "expired", 400, Scope.ACCESS, id="expired credentials"),
        pytest.param("InvalidSignatureException", "signature", 400, Scope.ACCESS, id="a wrong secret"),
        pytest.param("InvalidParameterException", "subnets", 400, Scope.SPEC, id="a wrong parameter"),
        pytest.param("InvalidParameterException", "No Container Instances", 400, Scope.SPEC, id="no instances"),
        pytest.param("ClusterNotFoundException", "Cluster not found.", 400, Scope.SPEC, id="no cluster"),
        pytest.param("PlatformUnknownException", "1.9", 400, Scope.SPEC, id="no such platform"),
        pytest.param("UnsupportedFeatureException", "x", 400, Scope.SPEC, id="not here"),
        pytest.param("ClientException", "TaskDefinition is inactive", 400, Scope.SPEC, id="inactive definition"),
        pytest.param("ServerException", "Service Unavailable", 500, Scope.UNCLEAR, id="a 500"),
        pytest.param("RequestTimeoutException", "late", 408, Scope.UNCLEAR, id="it came too late, which is a 408"),
        pytest.param("Novelty", "?", 503, Scope.UNCLEAR, id="an unknown 5xx"),
        pytest.param("Novelty", "?", 400, Scope.SPEC, id="an unknown 4xx"),
        pytest.param("Novelty", "?", None, Scope.UNCLEAR, id="no status"),
        pytest.param(None, "Throttling", None, Scope.UNCLEAR, id="no answer at all"),
    ],
)
def test_an_error_speaks_of(code, message, status, scope):
    assert scope_of_error(code, message, status) is scope


@pytest.mark.parametrize(
    ("reason", "containers", "scope"),
    [
        pytest.param(CAPACITY, 0, Scope.POOL, id="capacity, after half an hour"),
        pytest.param(CAPACITY, 1, Scope.POOL, id="capacity, with containers"),
        pytest.param("RESOURCE:ENI", 1, Scope.POOL, id="no interface on the instance"),
        pytest.param("AWS gave no reason", 0, Scope.POOL, id="no reason and no containers: it was given up"),
        pytest.param("AWS gave no reason", 1, None, id="no reason, with containers"),
        pytest.param("Timeout waiting for network interface provisioning to complete.", 1, Scope.AGAIN, id="ENI"),
        pytest.param("Timeout waiting for EphemeralStorage provisioning to complete.", 1, Scope.AGAIN, id="storage"),
        pytest.param(f"{MANIFEST}: dial tcp 1.2.3.4:443: i/o timeout", 1, Scope.AGAIN, id="registry: i/o timeout"),
        pytest.param(f"{MANIFEST}: EOF", 1, Scope.AGAIN, id="registry: EOF"),
        pytest.param("CannotPullContainerError: write /x: invalid argument", 1, Scope.AGAIN, id="invalid argument"),
        pytest.param("CannotPullContainerError: toomanyrequests: rate limit", 1, Scope.AGAIN, id="the hub's limit"),
        pytest.param("CannotPullContainerError: read: connection reset by peer", 1, Scope.AGAIN, id="reset"),
        pytest.param(f"{SUBNET}InsufficientFreeAddressesInSubnet", 1, Scope.AGAIN, id="no address"),
        pytest.param(f"{SUBNET}AuthFailure", 1, Scope.AGAIN, id="the interface's AuthFailure"),
        pytest.param("Task provisioning failed.", 1, Scope.AGAIN, id="provisioning failed"),
        pytest.param("CannotPullContainerError: pull access denied for a", 1, None, id="pull denied"),
        pytest.param("CannotPullContainerError: 401 unauthorized", 1, None, id="unauthorized"),
        pytest.param("CannotPullContainerError: a/b:latest: not found", 1, None, id="no such image"),
        pytest.param("CannotPullContainerError: a/capacity:1: not found", 1, None, id="an image called capacity"),
        pytest.param(
            "CannotPullContainerError: image Manifest does not contain descriptor matching platform", 1, None, id="arm"
        ),
        pytest.param("ResourceInitializationError: unable to pull secrets", 1, None, id="no secret"),
        pytest.param("CannotStartContainerError: exec: no such file", 1, None, id="no such command"),
    ],
)
def test_a_task_that_never_started_speaks_of(reason, containers, scope):
    assert scope_of_start(reason, containers) is scope


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("LOCATION", "zone"),
        ("ATTRIBUTE", "agent's version"),
        ("MemberOf", "placement constraint"),
        ("No Container Instances were found in your cluster.", "launch_type='FARGATE'"),
        ("CannotPullContainerError: pull access denied", "execution role"),
        (f"{MANIFEST}: i/o timeout", "way from its subnet"),
        ("CannotPullContainerError: a:latest: not found", "name and tag"),
        ("OutOfMemoryError: Container killed due to memory usage", "raise the memory"),
        ("ResourceInitializationError: unable to pull secrets or registry auth", "read the secret"),
        ("failed to validate logger args: The specified log group does not exist.", "log group"),
    ],
)
def test_what_would_help_is_said(reason, fix):
    assert fix_for(reason).startswith(" - ")
    assert fix in fix_for(reason)


def test_where_nobody_knows_nothing_is_said():
    assert fix_for("Essential container in task exited") == ""
