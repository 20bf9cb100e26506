//! What AWS must allow for a target. Rule: exactly the calls that the target makes as it is configured; those that AWS can't
//! hold to a resource name none.

use crate::{
    AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, CloudWatchSettings, EksSettings, MetricQuery, TargetSettings,
};

/// One action of AWS, and what it is needed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// As policies name it.
    pub action: &'static str,
    /// `None` = AWS knows no narrower resource than all of them.
    pub resource: Option<AwsResource>,
}

/// A resource of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsResource {
    /// An Auto Scaling group; the region where it is configured.
    Group { name: String, region: Option<String> },
    /// A managed node group.
    Nodegroup { cluster: String, name: String, region: Option<String> },
    /// A queue of SQS.
    Queue { name: String, region: Option<String> },
}

impl AwsResource {
    /// Its ARN, where `region` counts if none is configured.
    pub fn arn(&self, region: &str, account: &str) -> String {
        match self {
            Self::Group { name, region: own } => {
                let region = own.as_deref().unwrap_or(region);
                format!("arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{name}")
            }
            Self::Nodegroup { cluster, name, region: own } => {
                let region = own.as_deref().unwrap_or(region);
                format!("arn:aws:eks:{region}:{account}:nodegroup/{cluster}/{name}/*")
            }
            Self::Queue { name, region: own } => {
                let region = own.as_deref().unwrap_or(region);
                format!("arn:aws:sqs:{region}:{account}:{name}")
            }
        }
    }
}

impl TargetSettings {
    /// What AWS must allow for this target; empty = it is not in AWS.
    pub fn permissions(&self) -> Vec<Permission> {
        match self {
            Self::AwsAsg(settings) => of_group(settings),
            Self::EksNodegroup(settings) => of_nodegroups(settings),
            _ => Vec::new(),
        }
    }
}

impl CloudWatchSettings {
    /// What AWS must allow for metrics to be sent.
    pub fn permissions(&self) -> Vec<Permission> {
        vec![anywhere("cloudwatch:PutMetricData")]
    }
}

impl MetricQuery {
    /// What AWS must allow for a metric to be read.
    pub fn permission() -> Permission {
        anywhere("cloudwatch:GetMetricData")
    }
}

fn anywhere(action: &'static str) -> Permission {
    Permission { action, resource: None }
}

fn of_group(settings: &AsgSettings) -> Vec<Permission> {
    let resource = AwsResource::Group { name: settings.group.clone(), region: settings.region.clone() };
    let mut permissions = vec![
        anywhere("autoscaling:DescribeAutoScalingGroups"),
        anywhere("autoscaling:DescribeScalingActivities"),
        anywhere("autoscaling:DescribeInstanceRefreshes"),
    ];
    if settings.spot.is_some() {
        // Nothing is launched by Prescale; AWS asks for the third where a policy with a launch template is written.
        permissions.extend(["ec2:DescribeInstances", "ec2:DescribeSpotPriceHistory", "ec2:RunInstances"].map(anywhere));
    }
    let mut on_group = Vec::new();
    if settings.writes != AsgWrites::Floor {
        on_group.push("autoscaling:SetDesiredCapacity");
    }
    if settings.writes != AsgWrites::Desired || settings.spot.is_some() {
        on_group.push("autoscaling:UpdateAutoScalingGroup");
    }
    if settings.scale_in == AsgScaleIn::Targeted || settings.spot.is_some() {
        on_group.push("autoscaling:TerminateInstanceInAutoScalingGroup");
    }
    if settings.scale_out == AsgScaleOut::LaunchInstances {
        on_group.push("autoscaling:LaunchInstances");
    }
    if settings.warm_pool.is_some() {
        on_group.push("autoscaling:PutWarmPool");
    }
    permissions.extend(on_group.into_iter().map(|action| Permission { action, resource: Some(resource.clone()) }));
    permissions
}

fn of_nodegroups(settings: &EksSettings) -> Vec<Permission> {
    let names = [Some(&settings.nodegroup), settings.spot_nodegroup.as_ref()].into_iter().flatten();
    let mut permissions = vec![anywhere("autoscaling:DescribeAutoScalingGroups")];
    if settings.spot.is_some() {
        permissions.push(anywhere("ec2:DescribeSpotPriceHistory"));
    }
    for name in names {
        let (cluster, region) = (settings.cluster.clone(), settings.region.clone());
        let resource = AwsResource::Nodegroup { cluster, name: name.clone(), region };
        permissions.extend(
            ["eks:DescribeNodegroup", "eks:UpdateNodegroupConfig", "eks:DescribeUpdate"]
                .map(|action| Permission { action, resource: Some(resource.clone()) }),
        );
        if settings.drain.is_some() {
            // EKS calls the group behind a node group so.
            let behind = AwsResource::Group { name: format!("eks-{name}-*"), region: settings.region.clone() };
            let action = "autoscaling:TerminateInstanceInAutoScalingGroup";
            permissions.push(Permission { action, resource: Some(behind) });
        }
    }
    permissions
}
