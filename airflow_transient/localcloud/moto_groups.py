"""Auto Scaling as moto has it, made to act: what it does by itself is left to the keeper of the groups.

moto starts machines within the call that asks, replaces them within the one that ends them, knows no activities, and
forgets a group's policy at every update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_transient.localcloud import groups
from airflow_transient.localcloud.group_keeper import GROUP_TAG, Keeper, members
from airflow_transient.localcloud.moto_sqs import Seam


def seams(keeper: Keeper) -> Iterator[Seam]:
    from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
    from moto.autoscaling.responses import AutoScalingResponse

    yield FakeAutoScalingGroup, "set_desired_capacity", _setting_desired(keeper)
    yield FakeAutoScalingGroup, "replace_autoscaling_group_instances", lambda group, *_: None
    yield FakeAutoScalingGroup, "update", _updating(FakeAutoScalingGroup.update)
    yield AutoScalingBackend, "notify_terminate_instances", lambda backend, ids: None
    yield AutoScalingBackend, "detach_instances", _detach
    yield AutoScalingBackend, "terminate_instance", _terminate
    yield AutoScalingResponse, "delete_auto_scaling_group", _delete
    yield AutoScalingResponse, "describe_scaling_activities", _describing_activities(keeper)
    yield AutoScalingResponse, "describe_instance_refreshes", _describe_refreshes


def _setting_desired(keeper: Keeper) -> Callable[..., None]:
    """moto: starts and ends machines here and now, and takes any number."""

    def set_desired_capacity(group: Any, capacity: int | None) -> None:
        wanted = group.min_size if capacity is None else capacity
        if not group.min_size <= wanted <= group.max_size:
            raise _validation(
                f"Desired capacity:{wanted} must be between the specified min size:{group.min_size} and max "
                f"size:{group.max_size}"
            )
        group.desired_capacity = wanted
        keeper.wake()

    return set_desired_capacity


def _describing_activities(keeper: Keeper) -> Callable[..., Any]:
    def describe_scaling_activities(response: Any) -> Any:
        from moto.core.responses import ActionResult

        name = response._get_param("AutoScalingGroupName")
        most = response._get_int_param("MaxRecords") or 100
        return ActionResult({"Activities": keeper.activities(response.region, name)[:most]})

    return describe_scaling_activities


def _describe_refreshes(response: Any) -> Any:
    """moto: not known. None is ever in progress, because StartInstanceRefresh is not offered here."""
    from moto.core.responses import ActionResult

    return ActionResult({"InstanceRefreshes": []})


def _validation(message: str) -> Exception:
    from moto.autoscaling.exceptions import ValidationError

    error: Exception = ValidationError(message)
    return error


def _updating(update: Callable[..., Any]) -> Callable[..., Any]:
    """moto: what is not named is lost (a policy), and what is named does not take the place of the other."""

    def updated(group: Any, **words: Any) -> None:
        config, template = words.get("launch_config_name"), words.get("launch_template")
        policy = words.get("mixed_instances_policy")
        kept = group.mixed_instances_policy
        if config:
            group.ec2_launch_template = None
        elif template or policy:
            group.launch_config, group.launch_configuration_name = None, None
        update(group, **words)
        if not (config or template or policy):
            group.mixed_instances_policy = kept

    return updated


def _detach(backend: Any, group_name: str, instance_ids: list[str], should_decrement: bool) -> list[Any]:
    """moto: detaches whatever it is told to, below the minimum too."""
    from moto.autoscaling.models import DetachInstanceActivity

    group = _named(backend, group_name)
    left = group.desired_capacity - len(instance_ids) if should_decrement else group.desired_capacity
    if no := groups.refused_to_detach(instance_ids, members(group), group.name, left, group.min_size):
        raise _validation(no)
    told = [DetachInstanceActivity(one.instance) for one in group.instance_states if one.instance.id in instance_ids]
    for name in instance_ids:
        backend.ec2_backend.delete_tags([name], {GROUP_TAG: group.name})
    group.instance_states = [one for one in group.instance_states if one.instance.id not in instance_ids]
    group.desired_capacity = left
    return told


def _terminate(backend: Any, instance_id: str, should_decrement: bool) -> Any:
    from moto.autoscaling.models import TerminateInstanceActivity

    for group in backend.autoscaling_groups.values():
        found = next((one for one in group.instance_states if one.instance.id == instance_id), None)
        if found is None:
            continue
        before = group.desired_capacity
        if should_decrement and before <= group.min_size:
            raise _validation(f"Currently, desiredSize equals minSize ({before}).")
        group.desired_capacity = before - bool(should_decrement)
        group.instance_states.remove(found)
        backend.ec2_backend.terminate_instances([instance_id])
        return TerminateInstanceActivity(found.instance, before)
    raise _validation(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


def _delete(response: Any) -> Any:
    """moto: never in use."""
    from moto.autoscaling.exceptions import AutoscalingClientError
    from moto.core.responses import EmptyResult

    backend = response.autoscaling_backend
    group = _named(backend, response._get_param("AutoScalingGroupName"))
    ids = [one.instance.id for one in group.instance_states]
    if not response._get_bool_param("ForceDelete", False) and (ids or group.desired_capacity):
        raise AutoscalingClientError(
            "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances."
        )
    group.desired_capacity = 0
    if ids:
        backend.ec2_backend.terminate_instances(ids)
    del backend.autoscaling_groups[group.name]
    return EmptyResult()


def _named(backend: Any, name: str) -> Any:
    if name not in backend.autoscaling_groups:
        raise _validation(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return backend.autoscaling_groups[name]
