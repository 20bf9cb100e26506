//! The nodes under the pods, from the plan of the pods. Rule: never fewer than what runs needs, and never fewer than any
//! packing would; what is not known of a pod or a node limits nothing.
//!
//! A node asked for now carries its first ready pod after the node's lead time and the pod's start: the pods of all windows
//! until then, and until the next plan's nodes would be there, have to fit. Pods are packed by first fit, the largest first.
//! With one resource that takes at most 11/9 of the fewest nodes and one more (Dósa 2007); with d of them first fit takes at
//! most d + 7/10 times as many, asymptotically (Garey, Graham, Johnson and Yao 1976). How far it is off here is said with each
//! plan: [`NodePlan::least`] is what no packing is below.

use prescale_domain::{Resource, Resources, ServiceName, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a service's pods are going to be.
#[derive(Clone, Debug, PartialEq)]
pub struct PodDemand {
    pub service: ServiceName,
    /// What one pod requests.
    pub pod: Resources,
    /// Pods that run now.
    pub running: u32,
    /// Pods wanted in the windows from now on; beyond the last as in the last.
    pub wanted: Vec<u32>,
}

/// A kind of node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeShape {
    /// Allocatable, what daemons take not yet taken off.
    pub allocatable: Resources,
    /// Most pods on a node, those of daemons among them; `None` = no limit.
    pub pods_max: Option<u32>,
    /// What the daemons on each node request together, and how many pods they are.
    pub daemons: Resources,
    pub daemon_pods: u32,
}

/// When nodes and pods are there, and what is kept free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeSettings {
    pub step: Span,
    /// From asking for a node to its being ready for pods.
    pub node_lead: Span,
    /// From a pod's being bound to a node to its being ready.
    pub pod_start: Span,
    /// Until the next plan.
    pub every: Span,
    /// Nodes more than are needed.
    pub spare: u32,
}

/// Nodes to have now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodePlan {
    /// The spare ones among them.
    pub nodes: u32,
    /// What no packing is below, without spare ones.
    pub least: u32,
    /// Start of the window that needs most of them; the present one where it is what runs.
    pub at: Timestamp,
    /// What runs out first there; `None` = no pod asks for anything.
    pub binding: Option<Resource>,
    /// Services of which not one pod fits on an empty node: none is counted.
    pub unplaceable: Vec<ServiceName>,
}

/// Amounts as whole numbers: thousandths of a core, thousandths of a megabyte, pods.
type Amounts = [u64; 3];
const NAMES: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Units];

/// Nodes of this shape to have now, so that the pods of every window fit that this plan is responsible for. The windows of a
/// demand begin at `now`.
pub fn nodes(demands: &[PodDemand], shape: &NodeShape, now: Timestamp, settings: &NodeSettings) -> NodePlan {
    let room = room(shape);
    let pods: Vec<Amounts> = demands.iter().map(|demand| requests(&demand.pod)).collect();
    let fits = |pod: &Amounts| pod.iter().zip(&room).all(|(asked, room)| asked <= room);
    let unplaceable: Vec<ServiceName> =
        demands.iter().zip(&pods).filter(|(_, pod)| !fits(pod)).map(|(demand, _)| demand.service.clone()).collect();
    let placeable: Vec<(&PodDemand, Amounts)> = demands.iter().zip(pods).filter(|(_, pod)| fits(pod)).collect();

    // What runs needs its nodes whatever the plan, and also while it is replaced: each window needs at least its own.
    let running = (now, placeable.iter().map(|(demand, _)| demand.running).collect::<Vec<_>>());
    let horizon = (settings.node_lead + settings.pod_start + settings.every).steps_up(settings.step);
    let longest = demands.iter().map(|demand| demand.wanted.len()).max().unwrap_or(0);
    // Beyond the last forecast nothing new is wanted.
    let windows = (0..=horizon.min(longest.saturating_sub(1))).map(|window| {
        let at = now + Span::from_millis(settings.step.millis().saturating_mul(window as i64));
        let wanted = |demand: &PodDemand| demand.wanted.get(window).or(demand.wanted.last()).copied().unwrap_or(0);
        (at, placeable.iter().map(|(demand, _)| wanted(demand)).collect::<Vec<_>>())
    });

    let mut plan = NodePlan { nodes: 0, least: 0, at: now, binding: None, unplaceable };
    for (at, counts) in std::iter::once(running).chain(windows) {
        let groups: Vec<(u32, Amounts)> = counts.into_iter().zip(placeable.iter().map(|(_, pod)| *pod)).collect();
        let (least, binding) = least(&groups, &room);
        plan.least = plan.least.max(least);
        let needed = packed(&groups, &room);
        if needed > plan.nodes {
            (plan.nodes, plan.at, plan.binding) = (needed, at, binding);
        }
    }
    plan.nodes = plan.nodes.saturating_add(settings.spare);
    plan
}

/// What a node has for pods that are no daemons.
fn room(shape: &NodeShape) -> Amounts {
    let left = |all: Option<f64>, taken: Option<f64>| match all {
        Some(all) => ((all - taken.unwrap_or(0.0)).max(0.0) * 1000.0 + 1e-6).floor() as u64,
        None => u64::MAX,
    };
    let pods = shape.pods_max.map_or(u64::MAX, |most| u64::from(most.saturating_sub(shape.daemon_pods)));
    [
        left(shape.allocatable.cpu_cores, shape.daemons.cpu_cores),
        left(shape.allocatable.memory_mb, shape.daemons.memory_mb),
        pods,
    ]
}

fn requests(pod: &Resources) -> Amounts {
    let asked = |amount: Option<f64>| (amount.unwrap_or(0.0).max(0.0) * 1000.0 - 1e-6).ceil() as u64;
    [asked(pod.cpu_cores), asked(pod.memory_mb), 1]
}

/// What no packing is below, and of which resource.
fn least(groups: &[(u32, Amounts)], room: &Amounts) -> (u32, Option<Resource>) {
    let of = |at: usize| -> (u128, u128) {
        let asked = groups.iter().map(|(pods, pod)| u128::from(*pods) * u128::from(pod[at])).sum();
        (asked, u128::from(room[at].max(1)))
    };
    let all = (0..NAMES.len()).map(|at| (of(at), NAMES[at])).filter(|((asked, _), _)| *asked > 0);
    let share = |(asked, room): (u128, u128)| asked as f64 / room as f64;
    let most = all.reduce(|most, next| if share(next.0) > share(most.0) { next } else { most });
    most.map_or((0, None), |((asked, room), name)| {
        (u32::try_from(asked.div_ceil(room)).unwrap_or(u32::MAX), Some(name))
    })
}

/// Nodes that first fit takes, the largest pods first. Nodes that are filled alike are counted together, so that its time
/// grows with the services and not with the pods. Every pod fits on an empty node.
fn packed(groups: &[(u32, Amounts)], room: &Amounts) -> u32 {
    // The size of a pod is the largest share that it takes of a node.
    let size = |pod: &Amounts| {
        pod.iter().zip(room).map(|(asked, room)| *asked as f64 / (*room).max(1) as f64).fold(0.0, f64::max)
    };
    let mut sorted: Vec<&(u32, Amounts)> = groups.iter().filter(|(pods, _)| *pods > 0).collect();
    sorted.sort_by(|a, b| size(&b.1).total_cmp(&size(&a.1)).then(b.1.cmp(&a.1)));
    // In the order in which they were opened: how many, and what each has left.
    let mut open: Vec<(u32, Amounts)> = Vec::new();
    for (pods, pod) in sorted {
        let fit = |left: &Amounts| -> u32 {
            let each = left.iter().zip(pod).filter(|(_, asked)| **asked > 0).map(|(left, asked)| left / asked);
            each.min().map_or(u32::MAX, |fit| u32::try_from(fit).unwrap_or(u32::MAX))
        };
        let less = |left: &Amounts, pods: u32| -> Amounts {
            std::array::from_fn(|at| left[at].saturating_sub(pod[at].saturating_mul(u64::from(pods))))
        };
        let mut waiting = *pods;
        let mut next = Vec::with_capacity(open.len() + 2);
        let mut place = |nodes: u32, left: Amounts, waiting: &mut u32| {
            let each = fit(&left);
            let full = waiting.checked_div(each).map_or(0, |full| full.min(nodes));
            if full > 0 {
                next.push((full, less(&left, each)));
                *waiting -= full * each;
            }
            let mut untouched = nodes - full;
            if untouched > 0 && *waiting > 0 && each > 0 {
                next.push((1, less(&left, *waiting)));
                *waiting = 0;
                untouched -= 1;
            }
            if untouched > 0 {
                next.push((untouched, left));
            }
        };
        for (nodes, left) in open {
            place(nodes, left, &mut waiting);
        }
        if waiting > 0 {
            let new = waiting.div_ceil(fit(room).max(1));
            place(new, *room, &mut waiting);
        }
        open = next;
    }
    open.iter().fold(0, |sum, (nodes, _)| sum.saturating_add(*nodes))
}

#[cfg(test)]
mod tests;
