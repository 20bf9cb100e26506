#!/usr/bin/env python3
"""Drives a server of AWS's protocols with boto3 and holds it to what AWS documents.

    aws_witness.py URL                 against the simulator; its clock may run fast, waits are by its answers
    aws_witness.py URL --agree OTHER   moreover, what both must answer alike, moto for one

Prints a line for each check; the exit status is 1 if one fails. Needs boto3. Names are new in each run.
"""

import argparse
import json
import sys
import time
import urllib.request
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError as NoAnswer, HTTPClientError, ReadTimeoutError

REGION = "eu-west-1"
ZONES = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
TYPES = ["m5.large", "m5a.large", "m6i.large", "c5.large"]
WAIT_SECONDS = 60

failures = []


def check(what, found, expected):
    good = found == expected
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {found!r}, expected {expected!r}"))
    if not good:
        failures.append(what)


def client(url, service, attempts=4, timeout=10):
    config = Config(retries={"mode": "standard", "total_max_attempts": attempts}, read_timeout=timeout, connect_timeout=timeout)
    return boto3.client(
        service, endpoint_url=url, region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing",
        config=config,
    )


def refusal(call, **parameters):
    """Code and message of the error that a call must end with."""
    try:
        call(**parameters)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    return None


def until(what, look):
    """Looks until something is found."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    check(f"within {WAIT_SECONDS} s: {what}", False, True)
    return None


def group_of(autoscaling, name):
    found = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return found[0] if found else None


def policy(template, base=2, percent=20):
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "$Latest"},
            "Overrides": [{"InstanceType": kind} for kind in TYPES],
        },
        "InstancesDistribution": {
            "OnDemandAllocationStrategy": "prioritized",
            "OnDemandBaseCapacity": base,
            "OnDemandPercentageAboveBaseCapacity": percent,
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }


def create(url, name, sizes, **more):
    minimum, maximum, desired = sizes
    image = "ami-12c6146b"
    client(url, "ec2").create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"ImageId": image, "InstanceType": "m5.large"}
    )
    client(url, "autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=minimum, MaxSize=maximum, DesiredCapacity=desired, **more
    )


def serving(group):
    return [one for one in group["Instances"] if one["LifecycleState"] == "InService"]


def groups(url):
    autoscaling, ec2 = client(url, "autoscaling"), client(url, "ec2")
    name = f"mixed-{uuid.uuid4().hex[:8]}"
    create(url, name, (0, 60, 6), AvailabilityZones=ZONES, MixedInstancesPolicy=policy(name), DefaultInstanceWarmup=45,
           DefaultCooldown=3600, CapacityRebalance=True, Tags=[{"Key": "team", "Value": "a & <b>", "PropagateAtLaunch": True}])
    full = until("six in service", lambda: len(serving(group_of(autoscaling, name))) == 6)
    group = group_of(autoscaling, name)
    check("a group of 6 has 6", (full, group["DesiredCapacity"], len(group["Instances"])), (True, 6, 6))
    check("its warm-up is kept", group.get("DefaultInstanceWarmup"), 45)
    check("its tag is kept", group["Tags"][0]["Value"], "a & <b>")

    def bought():
        filters = [{"Name": "tag:aws:autoscaling:groupName", "Values": [name]},
                   {"Name": "instance-state-name", "Values": ["pending", "running"]}]
        pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
        found = [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]
        spot = sum(one.get("InstanceLifecycle") == "spot" for one in found)
        return len(found) - spot, spot

    check("2 + 20 % of 4, rounded up, are on demand", bought(), (3, 3))
    zones = sorted(sum(one["AvailabilityZone"] == zone for one in group["Instances"]) for zone in ZONES)
    check("zones are even", zones, [2, 2, 2])
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=50)
    until("fifty in service", lambda: len(serving(group_of(autoscaling, name))) == 50)
    check("2 + 20 % of 48, rounded up, are on demand", bought(), (12, 38))
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, MinSize=1)
    after = group_of(autoscaling, name)
    check("an update of the minimum keeps the policy", after.get("MixedInstancesPolicy"), group["MixedInstancesPolicy"])
    check("and everything else", (after["CapacityRebalance"], after["DefaultInstanceWarmup"], after["MinSize"]), (True, 45, 1))
    pages = autoscaling.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=name, PaginationConfig={"PageSize": 20})
    activities = [one for page in pages for one in page["Activities"]]
    check("each launch has its activity", sum(one["StatusCode"] == "Successful" for one in activities), 50)
    check("activities have causes", all("At 20" in one["Cause"] for one in activities), True)
    check("desired above the maximum", refusal(autoscaling.set_desired_capacity, AutoScalingGroupName=name, DesiredCapacity=61),
          ("ValidationError", "New SetDesiredCapacity value 61 is above max value 60 for the AutoScalingGroup."))
    check("a group that is not there", refusal(autoscaling.set_desired_capacity, AutoScalingGroupName="none", DesiredCapacity=1)[0],
          "ValidationError")
    check("minimum above maximum", refusal(autoscaling.update_auto_scaling_group, AutoScalingGroupName=name, MinSize=61, DesiredCapacity=61),
          ("ValidationError", "Max bound, 60, must be greater than or equal to min bound, 61"))
    check("a cooldown that is honoured", refusal(autoscaling.set_desired_capacity, AutoScalingGroupName=name, DesiredCapacity=49, HonorCooldown=True)[0],
          "ScalingActivityInProgress")
    autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["Terminate"])
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=4)
    time.sleep(1)
    check("suspended processes do nothing", len(serving(group_of(autoscaling, name))), 50)
    kept = [one["InstanceId"] for one in serving(group_of(autoscaling, name))[:2]]
    autoscaling.set_instance_protection(AutoScalingGroupName=name, InstanceIds=kept, ProtectedFromScaleIn=True)
    autoscaling.resume_processes(AutoScalingGroupName=name)
    until("four are left", lambda: len(group_of(autoscaling, name)["Instances"]) == 4)
    left = {one["InstanceId"] for one in group_of(autoscaling, name)["Instances"]}
    check("protected instances stay", set(kept) <= left, True)
    other = sorted(left - set(kept))[0]
    ended = autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=other, ShouldDecrementDesiredCapacity=True)
    check("a named instance goes", ended["Activity"]["StatusCode"], "InProgress")
    check("and desired falls by one", group_of(autoscaling, name)["DesiredCapacity"], 3)
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    until("the group is gone", lambda: group_of(autoscaling, name) is None)


def waits(url):
    autoscaling = client(url, "autoscaling")
    name = f"hooks-{uuid.uuid4().hex[:8]}"
    create(url, name, (0, 6, 0), AvailabilityZones=ZONES[:1], LaunchTemplate={"LaunchTemplateName": name})
    autoscaling.put_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName="in", HeartbeatTimeout=7200,
                                   LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING", DefaultResult="ABANDON")
    check("a name that is taken", refusal(autoscaling.create_auto_scaling_group, AutoScalingGroupName=name, MinSize=0, MaxSize=1,
                                          AvailabilityZones=ZONES[:1], LaunchTemplate={"LaunchTemplateName": name})[0], "AlreadyExists")
    hook = autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"][0]
    check("48 hours are the longest wait", hook["GlobalTimeout"], 172800)
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
    states = lambda: [one["LifecycleState"] for one in group_of(autoscaling, name)["Instances"]]
    until("it waits for its hook", lambda: states() == ["Pending:Wait"])
    waiting = group_of(autoscaling, name)["Instances"][0]["InstanceId"]
    autoscaling.record_lifecycle_action_heartbeat(AutoScalingGroupName=name, LifecycleHookName="in", InstanceId=waiting)
    autoscaling.complete_lifecycle_action(AutoScalingGroupName=name, LifecycleHookName="in", InstanceId=waiting, LifecycleActionResult="CONTINUE")
    until("it serves", lambda: states() == ["InService"])
    # The hook holds for the warm pool, too, which would wait two hours.
    autoscaling.put_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName="in", HeartbeatTimeout=30,
                                   LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING", DefaultResult="CONTINUE")
    autoscaling.put_warm_pool(AutoScalingGroupName=name, MaxGroupPreparedCapacity=4)
    pool = lambda: autoscaling.describe_warm_pool(AutoScalingGroupName=name)
    until("a warm pool of 4 - 1", lambda: [one["LifecycleState"] for one in pool()["Instances"]] == ["Warmed:Stopped"] * 3)
    check("warm instances are not of the group", states(), ["InService"])
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=3)
    until("two came from the pool", lambda: states() == ["InService"] * 3 and len(pool()["Instances"]) == 1)
    before = {one["InstanceId"] for one in group_of(autoscaling, name)["Instances"]}
    refresh = autoscaling.start_instance_refresh(AutoScalingGroupName=name, Preferences={"MinHealthyPercentage": 0})
    refreshes = lambda: autoscaling.describe_instance_refreshes(AutoScalingGroupName=name)["InstanceRefreshes"]
    until("the refresh ends", lambda: refreshes()[0]["Status"] == "Successful")
    check("it is the one that was begun", refreshes()[0]["InstanceRefreshId"], refresh["InstanceRefreshId"])
    check("all are new", before & {one["InstanceId"] for one in group_of(autoscaling, name)["Instances"]}, set())
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def node_groups(url):
    eks, autoscaling = client(url, "eks"), client(url, "autoscaling")
    cluster = f"prod-{uuid.uuid4().hex[:8]}"
    eks.create_cluster(name=cluster, roleArn="arn:aws:iam::123456789012:role/r", resourcesVpcConfig={"subnetIds": ["subnet-a", "subnet-b"]})
    until("the cluster is active", lambda: eks.describe_cluster(name=cluster)["cluster"]["status"] == "ACTIVE")
    of = {"clusterName": cluster, "nodegroupName": "spot"}
    eks.create_nodegroup(**of, nodeRole="r", subnets=["subnet-a"], capacityType="SPOT", instanceTypes=TYPES,
                         scalingConfig={"minSize": 1, "maxSize": 10, "desiredSize": 2})
    look = lambda: eks.describe_nodegroup(**of)["nodegroup"]
    until("the node group is active", lambda: look()["status"] == "ACTIVE")
    name = look()["resources"]["autoScalingGroups"][0]["name"]
    check("its Auto Scaling group is real", len(serving(group_of(autoscaling, name))), 2)
    check("minimum above desired", refusal(eks.update_nodegroup_config, **of, scalingConfig={"minSize": 8}),
          ("InvalidParameterException", "Minimum capacity 8 can't be greater than desired size 2"))
    check("desired above maximum", refusal(eks.update_nodegroup_config, **of, scalingConfig={"desiredSize": 50})[0], "InvalidParameterException")
    update = eks.update_nodegroup_config(**of, scalingConfig={"minSize": 3, "desiredSize": 5})["update"]
    check("an update begins", (update["status"], update["type"]), ("InProgress", "ConfigUpdate"))
    check("one at a time", refusal(eks.update_nodegroup_config, **of, scalingConfig={"minSize": 2})[0], "ResourceInUseException")
    state = lambda: eks.describe_update(name=cluster, updateId=update["id"], nodegroupName="spot")["update"]["status"]
    until("the update ends", lambda: state() == "Successful")
    group = group_of(autoscaling, name)
    check("both services tell the same", (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]), (3, 10, 5))
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=4)
    check("also the other way round", look()["scalingConfig"], {"minSize": 3, "maxSize": 10, "desiredSize": 4})
    check("its updates are listed", eks.list_updates(name=cluster, nodegroupName="spot")["updateIds"], [update["id"]])
    check("and itself", eks.list_nodegroups(clusterName=cluster)["nodegroups"], ["spot"])
    check("an update that is not there", refusal(eks.describe_update, name=cluster, updateId="none", nodegroupName="spot")[0], "ResourceNotFoundException")


def spot(url):
    ec2 = client(url, "ec2")
    history = ec2.describe_spot_price_history(InstanceTypes=["m5.large"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
    check("a price in each zone", sorted({one["AvailabilityZone"] for one in history}), ZONES)
    check("below on demand", all(0.005 < float(one["SpotPrice"]) <= 0.107 for one in history), True)
    score = ec2.get_spot_placement_scores(InstanceTypes=["m5.large"], TargetCapacity=10)["SpotPlacementScores"][0]["Score"]
    check("one type scores low", score <= 3, True)
    check("what is no operation", refusal(ec2.describe_vpcs)[0], "InvalidAction")


def faults(url):
    def script(method, rule=None):
        body = None if rule is None else json.dumps(rule).encode()
        request = urllib.request.Request(f"{url}/__faults", data=body, method=method)
        urllib.request.urlopen(request, timeout=10).close()

    describe = lambda attempts=1, timeout=10: client(url, "autoscaling", attempts, timeout).describe_auto_scaling_groups
    rule = lambda kind, count=1, operation="DescribeAutoScalingGroups": {"operation": operation, "kind": kind, "count": count}
    script("POST", rule("throttle"))
    check("throttled", refusal(describe()), ("Throttling", "Rate exceeded"))
    script("POST", rule("throttle", 2))
    check("throttled twice and retried", "AutoScalingGroups" in describe(attempts=4)(), True)
    script("POST", rule({"error": {"status": 500, "code": "ResourceContention", "message": "busy"}}))
    check("an error by script", refusal(describe()), ("ResourceContention", "busy"))
    script("POST", rule("throttle", operation="DescribeInstances"))
    check("EC2 throttles in its own words", refusal(client(url, "ec2", 1).describe_instances)[0], "RequestLimitExceeded")
    script("POST", rule("throttle", operation="DescribeCluster"))
    check("and EKS", refusal(client(url, "eks", 1).describe_cluster, name="x")[0], "ThrottlingException")

    def ends(kind, timeout=10):
        script("POST", rule(kind))
        try:
            describe(timeout=timeout)()
        except ReadTimeoutError:
            return "silence"
        except (NoAnswer, HTTPClientError):
            return "closed"
        except Exception as error:
            return type(error).__name__
        return "answer"

    check("a dropped connection", ends("drop"), "closed")
    check("silence", ends("hang", timeout=1), "silence")
    check("a late answer", (ends({"delay": "2s"}, timeout=1), ends({"delay": "1s"})), ("silence", "answer"))
    check("a page that is not AWS", ends("html") in ("ResponseParserError", "ClientError"), True)
    script("DELETE")
    log = json.load(urllib.request.urlopen(f"{url}/__log", timeout=10))
    check("every call is in the log", sum(one["operation"] == "DescribeCluster" and one["status"] == 429 for one in log), 1)


def shape(value):
    """An answer without what no two servers share: ids, times, hosts."""
    if isinstance(value, dict):
        drop = {"ResponseMetadata", "CreatedTime", "AutoScalingGroupARN", "ServiceLinkedRoleARN", "InstanceId", "ImageId",
                "LaunchTemplateId", "MessageId", "QueueUrl", "ReceiptHandle"}
        return {key: shape(inner) for key, inner in sorted(value.items()) if key not in drop and inner not in ([], "", None)}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return value


def script_of_both(url, run):
    """Answers to calls that moto gets right: on demand, one zone, no waits but for launches."""
    autoscaling, sqs = client(url, "autoscaling"), client(url, "sqs")
    answers = {}
    a, b, c = names = [f"{letter}-{run}" for letter in "abc"]
    for name in names:
        create(url, name, (1, 9, 3), AvailabilityZones=ZONES[:1], LaunchTemplate={"LaunchTemplateName": name, "Version": "1"},
               DefaultCooldown=60, HealthCheckGracePeriod=30,
               Tags=[{"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": "k", "Value": "v", "PropagateAtLaunch": True}])
        until(f"{name} serves", lambda: len(serving(group_of(autoscaling, name))) == 3)
    told = ("AutoScalingGroupName", "LaunchTemplate", "MinSize", "MaxSize", "DesiredCapacity", "DefaultCooldown", "AvailabilityZones",
            "HealthCheckType", "HealthCheckGracePeriod", "Instances", "Tags", "TerminationPolicies",
            "NewInstancesProtectedFromScaleIn", "SuspendedProcesses")
    described = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[a])["AutoScalingGroups"][0]
    answers["a group"] = shape({key: described[key] for key in told if key in described})
    pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate(
        AutoScalingGroupNames=names, PaginationConfig={"PageSize": 2})
    answers["pages"] = [[one["AutoScalingGroupName"] for one in page["AutoScalingGroups"]] for page in pages]
    answers["none of that name"] = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"]
    answers["set"] = shape(autoscaling.set_desired_capacity(AutoScalingGroupName=a, DesiredCapacity=5))
    until("five serve", lambda: len(serving(group_of(autoscaling, a))) == 5)
    answers["sizes"] = [group_of(autoscaling, a)[key] for key in ("MinSize", "DesiredCapacity", "MaxSize")]
    ids = [one["InstanceId"] for one in group_of(autoscaling, a)["Instances"]]
    autoscaling.set_instance_protection(AutoScalingGroupName=a, InstanceIds=ids[:2], ProtectedFromScaleIn=True)
    ended = autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=ids[4], ShouldDecrementDesiredCapacity=True)
    answers["an ended instance"] = ended["Activity"]["StatusCode"]
    autoscaling.set_desired_capacity(AutoScalingGroupName=a, DesiredCapacity=2)
    until("two are left", lambda: len(group_of(autoscaling, a)["Instances"]) == 2)
    answers["who is left"] = {one["InstanceId"] for one in group_of(autoscaling, a)["Instances"]} == set(ids[:2])
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=b, MinSize=4)
    answers["a minimum above desired moves it"] = group_of(autoscaling, b)["DesiredCapacity"]
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=b, MinSize=1, MaxSize=2)
    answers["a maximum below desired moves it"] = group_of(autoscaling, b)["DesiredCapacity"]
    autoscaling.suspend_processes(AutoScalingGroupName=c, ScalingProcesses=["Launch"])
    answers["suspended"] = [one["ProcessName"] for one in group_of(autoscaling, c)["SuspendedProcesses"]]
    queue = sqs.create_queue(QueueName=f"both-{run}", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    answers["sent"] = shape(sqs.send_message(QueueUrl=queue, MessageBody="{}"))
    first = sqs.receive_message(QueueUrl=queue, AttributeNames=["ApproximateReceiveCount"])["Messages"][0]
    answers["received"] = (first["Body"], first["MD5OfBody"], first["Attributes"]["ApproximateReceiveCount"])
    again = until("it comes again", lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=again[0]["ReceiptHandle"])
    time.sleep(1.5)
    answers["deleted"] = sqs.receive_message(QueueUrl=queue).get("Messages", [])
    answers["no queue"] = refusal(sqs.get_queue_url, QueueName="none")[0]
    for name in names:
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--agree", metavar="OTHER")
    arguments = parser.parse_args()
    for part in (groups, waits, node_groups, spot, faults):
        part(arguments.url)
    if arguments.agree:
        run = uuid.uuid4().hex[:8]
        ours, theirs = script_of_both(arguments.url, run), script_of_both(arguments.agree, run)
        for what in ours:
            check(f"agree: {what}", ours[what], theirs[what])
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
