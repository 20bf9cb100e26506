//! What AWS tells by itself. Rule: in the envelope of EventBridge, or of Auto Scaling for a hook with a target.

use serde_json::{Value, json};

use super::group::Hook;
use super::instance::Lifecycle;
use super::lifecycle::{LAUNCHING, TERMINATING};
use super::world::World;

impl World {
    /// An event of EC2 about one instance.
    pub(super) fn tell_spot(&mut self, kind: &str, instance: &str, detail: &Value) {
        let resource = format!("arn:aws:ec2:{}:{}:instance/{instance}", self.settings.region, self.settings.account);
        self.tell("aws.ec2", kind, &resource, detail);
    }

    /// An event of Auto Scaling.
    pub(super) fn tell_lifecycle(&mut self, kind: &str, group: &str, instance: &str) {
        let Some(arn) = self.groups.get(group).map(|group| group.arn.clone()) else { return };
        let detail = json!({"AutoScalingGroupName": group, "EC2InstanceId": instance, "RequestId": "", "Details": {}});
        self.tell("aws.autoscaling", kind, &arn, &detail);
    }

    fn tell(&mut self, source: &str, kind: &str, resource: &str, detail: &Value) {
        let Some(queue) = self.settings.event_queue.clone() else { return };
        let event = json!({
            "version": "0",
            "id": self.uuid(),
            "detail-type": kind,
            "source": source,
            "account": self.settings.account,
            "time": self.now.to_string(),
            "region": self.settings.region,
            "resources": [resource],
            "detail": detail,
        });
        self.enqueue(&queue, event.to_string());
    }

    /// A lifecycle action that waits, to the hook's target and to EventBridge.
    pub(super) fn tell_hook(&mut self, hook: &Hook, group: &str, instance: &str, token: &str, state: Lifecycle) {
        let terminating = hook.transition == TERMINATING;
        let warm = state == Lifecycle::WarmedPendingWait;
        let (origin, destination) = match (terminating, warm) {
            (true, _) => ("AutoScalingGroup", "EC2"),
            (false, true) => ("EC2", "WarmPool"),
            (false, false) => ("EC2", "AutoScalingGroup"),
        };
        let mut detail = json!({
            "LifecycleActionToken": token,
            "AutoScalingGroupName": group,
            "LifecycleHookName": hook.name,
            "EC2InstanceId": instance,
            "LifecycleTransition": if terminating { TERMINATING } else { LAUNCHING },
            "Origin": origin,
            "Destination": destination,
        });
        if let (Some(metadata), Some(fields)) = (&hook.metadata, detail.as_object_mut()) {
            fields.insert("NotificationMetadata".to_owned(), json!(metadata));
        }
        let arn = self.groups.get(group).map(|group| group.arn.clone()).unwrap_or_default();
        let kind = if terminating {
            "EC2 Instance-terminate Lifecycle Action"
        } else {
            "EC2 Instance-launch Lifecycle Action"
        };
        self.tell("aws.autoscaling", kind, &arn, &detail);
        if let (Some(target), Some(fields)) = (&hook.target_arn, detail.as_object_mut()) {
            fields.insert("AccountId".to_owned(), json!(self.settings.account));
            fields.insert("Service".to_owned(), json!("AWS Auto Scaling"));
            fields.insert("Time".to_owned(), json!(self.now.to_string()));
            fields.insert("RequestId".to_owned(), json!(self.uuid()));
            let queue = target.rsplit(':').next().unwrap_or_default().to_owned();
            self.enqueue(&queue, detail.to_string());
        }
    }
}
