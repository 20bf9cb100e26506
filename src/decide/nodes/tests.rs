//! Whether what is packed fits, and how near to the least it is.

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_774_000_800_000);

fn settings() -> NodeSettings {
    NodeSettings {
        step: Span::from_minutes(1),
        node_lead: Span::from_secs(150),
        pod_start: Span::from_secs(20),
        every: Span::from_minutes(1),
        spare: 0,
    }
}

fn takes(cpu_cores: f64, memory_mb: f64) -> Resources {
    Resources { cpu_cores: Some(cpu_cores), memory_mb: Some(memory_mb), ..Resources::default() }
}

fn shape() -> NodeShape {
    NodeShape { allocatable: takes(3.92, 14_500.0), pods_max: Some(58), daemons: takes(0.3, 500.0), daemon_pods: 4 }
}

fn demand(service: &str, pod: Resources, running: u32, wanted: &[u32]) -> PodDemand {
    PodDemand { service: ServiceName::new(service), pod, running, wanted: wanted.to_vec() }
}

#[test]
fn nodes_are_there_when_their_pods_are() {
    // Seven pods a node. A node asked for now is there for the pods of the third minute on, until the fifth.
    let web = |running, wanted: &[u32]| [demand("web", takes(0.5, 1000.0), running, wanted)];
    let plan = |running, wanted: &[u32]| {
        let plan = nodes(&web(running, wanted), &shape(), NOW, &settings());
        (plan.nodes, plan.at.since(NOW).millis() / 60_000, plan.binding)
    };
    assert_eq!(plan(7, &[7, 7, 7, 15, 7, 7]), (3, 3, Some(Resource::Cpu)));
    assert_eq!(plan(7, &[7, 7, 7, 7, 15, 50]), (3, 4, Some(Resource::Cpu)));
    assert_eq!(plan(7, &[7, 7, 7, 7, 7, 50]), (1, 0, Some(Resource::Cpu)));
    // What runs has its nodes, also where less is wanted; without any pods there are none but the spare ones.
    assert_eq!(plan(22, &[7; 6]), (4, 0, Some(Resource::Cpu)));
    assert_eq!(plan(0, &[]), (0, 0, None));
    assert_eq!(nodes(&web(7, &[8]), &shape(), NOW, &NodeSettings { spare: 1, ..settings() }).nodes, 3);
}

#[test]
fn what_binds_is_told_and_what_never_fits_is_named() {
    let plan = |demands: &[PodDemand]| nodes(demands, &shape(), NOW, &settings());
    assert_eq!(plan(&[demand("cache", takes(0.1, 7000.0), 0, &[4])]).binding, Some(Resource::Memory));
    assert_eq!(plan(&[demand("tiny", takes(0.01, 1.0), 0, &[108])]).binding, Some(Resource::Units));
    assert_eq!(plan(&[demand("tiny", takes(0.01, 1.0), 0, &[109])]).nodes, 3);
    // CPU of one beside the memory of the other: together they need fewer nodes than each alone.
    let both = plan(&[demand("cpu", takes(3.0, 1000.0), 0, &[4]), demand("memory", takes(0.5, 12_000.0), 0, &[4])]);
    assert_eq!((both.nodes, both.least), (4, 4));
    let large = plan(&[demand("huge", takes(4.0, 1.0), 0, &[3]), demand("web", takes(0.5, 1.0), 0, &[1])]);
    assert_eq!((large.nodes, large.unplaceable), (1, vec![ServiceName::new("huge")]));
    // Nothing known of the pods: their number alone.
    assert_eq!(plan(&[demand("plain", Resources::default(), 0, &[55])]).nodes, 2);
}

/// Pod by pod, as the method is told in books.
fn one_by_one(groups: &[(u32, Amounts)], room: &Amounts) -> u32 {
    let size =
        |pod: &Amounts| pod.iter().zip(room).map(|(asked, room)| *asked as f64 / *room as f64).fold(0.0, f64::max);
    let mut pods: Vec<Amounts> =
        groups.iter().flat_map(|(pods, pod)| std::iter::repeat_n(*pod, *pods as usize)).collect();
    pods.sort_by(|a, b| size(b).total_cmp(&size(a)).then(b.cmp(a)));
    let mut open: Vec<Amounts> = Vec::new();
    for pod in pods {
        let fits = |left: &Amounts| left.iter().zip(&pod).all(|(left, asked)| left >= asked);
        let at = open.iter().position(fits).unwrap_or_else(|| {
            open.push(*room);
            open.len() - 1
        });
        open[at] = std::array::from_fn(|of| open[at][of] - pod[of]);
    }
    open.len() as u32
}

prop_compose! {
    fn some_demands()(
        pods in prop::collection::vec((0.01f64..3.0, 1.0f64..12_000.0, 0u32..40, prop::collection::vec(0u32..60, 1..8)), 1..7),
    ) -> Vec<PodDemand> {
        let named = pods.into_iter().enumerate();
        named.map(|(at, (cpu, memory, running, wanted))| demand(&format!("s{at}"), takes(cpu, memory), running, &wanted)).collect()
    }
}

proptest! {
    /// The packing is that of pods one by one, hence feasible, and not below what any packing takes.
    #[test]
    fn packing_is_first_fit(demands in some_demands()) {
        let room = room(&shape());
        let groups: Vec<_> = demands.iter().map(|demand| (demand.wanted[0], requests(&demand.pod))).collect();
        let packed = packed(&groups, &room);
        prop_assert_eq!(packed, one_by_one(&groups, &room));
        prop_assert!(packed >= least(&groups, &room).0);
    }

    #[test]
    fn no_window_and_nothing_that_runs_is_left_without_nodes(demands in some_demands(), window in 0usize..8) {
        let plan = nodes(&demands, &shape(), NOW, &settings());
        prop_assert!(plan.unplaceable.is_empty() && plan.nodes >= plan.least);
        let room = room(&shape());
        let of = |pods: &dyn Fn(&PodDemand) -> u32| -> Vec<_> {
            demands.iter().map(|demand| (pods(demand), requests(&demand.pod))).collect()
        };
        prop_assert!(plan.nodes >= one_by_one(&of(&|demand| demand.running), &room));
        let last = |demand: &PodDemand| demand.wanted.get(window.min(4)).or(demand.wanted.last()).copied().unwrap_or(0);
        let longest = demands.iter().map(|demand| demand.wanted.len()).max().unwrap_or(0);
        prop_assert!(window.min(4) >= longest || plan.nodes >= one_by_one(&of(&last), &room));
    }

    /// Pods of one kind more never need fewer nodes but for what first fit is off: no plan is below the least of the other.
    #[test]
    fn more_pods_need_more_nodes(demands in some_demands(), at in any::<prop::sample::Index>(), more in 1u32..20) {
        let at = at.index(demands.len());
        let mut larger = demands.clone();
        larger[at].running += more;
        larger[at].wanted.iter_mut().for_each(|pods| *pods += more);
        let (before, after) = [&demands, &larger].map(|demands| nodes(demands, &shape(), NOW, &settings())).into();
        prop_assert!(after.least >= before.least && after.nodes >= before.least);
        // Of one service alone packing is exact.
        let alone = |demands: &[PodDemand]| nodes(&demands[at..=at], &shape(), NOW, &settings()).nodes;
        prop_assert!(alone(&larger) >= alone(&demands));
    }
}

/// How near first fit is to the least over many mixtures of services, so that what the page says is measured.
#[test]
fn packing_is_near_the_least() {
    let mut state = 7_u64;
    let mut draw = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let room = room(&shape());
    let (mut sum, mut worst) = (0.0, 0.0_f64);
    for _ in 0..1000 {
        let services = 3 + draw(18);
        let groups: Vec<_> =
            (0..services).map(|_| (1 + draw(60) as u32, [100 + draw(1400), 100_000 + draw(4_000_000), 1])).collect();
        let over = f64::from(packed(&groups, &room)) / f64::from(least(&groups, &room).0) - 1.0;
        sum += over;
        worst = worst.max(over);
    }
    assert!(sum / 1000.0 < 0.1 && worst < 0.5, "mean {}, most {worst}", sum / 1000.0);
}
