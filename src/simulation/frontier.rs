//! The cost–violation frontier of a system that has several operating points, and whether one lies on or beyond another.
//! Rule: pure; a point is [cost in USD, percent of time in violation], as in the score card.
//!
//! Between two operating points a system may stand a part of the time at each, so that every mean of the two is one of its
//! own as well: costs in between are read off the lower convex hull.

/// Cost in USD, percent of time in violation.
pub type Point = [f64; 2];

/// How near is on. A frontier is measured with a limited number of seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of the other's cost, in percent.
    pub cost_pct: f64,
    /// Of time, in percentage points.
    pub violation_pct: f64,
}

impl Default for Tolerance {
    /// A percent of cost, and a minute in a week of time: below what seeds differ by.
    fn default() -> Self {
        Self { cost_pct: 1.0, violation_pct: 0.01 }
    }
}

/// How the frontier of A lies to that of B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Points of B's frontier, and how many of them A reaches at no higher cost.
    pub points: usize,
    pub beaten: usize,
    /// Points of B with less violation than A has anywhere.
    pub unreached: usize,
    /// The most that A costs above B at the violation of a point of B, in percent of B's cost; negative where A is cheaper
    /// everywhere. `None` where A reaches none of them.
    pub worst_excess_pct: Option<f64>,
}

impl Comparison {
    /// Whether A's frontier lies on or beyond B's.
    pub fn on_or_beyond(&self) -> bool {
        self.beaten == self.points
    }

    pub fn beaten_share(&self) -> f64 {
        self.beaten as f64 / self.points.max(1) as f64
    }
}

/// The points that no other beats in both numbers, cheapest first: violation falls strictly as cost rises. Points that are
/// not finite count for nothing.
pub fn pareto(points: &[Point]) -> Vec<Point> {
    let mut sorted: Vec<Point> = points.iter().copied().filter(|point| point.iter().all(|x| x.is_finite())).collect();
    sorted.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let mut front: Vec<Point> = Vec::new();
    for point in sorted {
        if front.last().is_none_or(|last| point[1] < last[1]) {
            front.push(point);
        }
    }
    front
}

/// The lower convex hull of the Pareto front, cheapest first.
pub fn hull(points: &[Point]) -> Vec<Point> {
    let mut hull: Vec<Point> = Vec::new();
    for point in pareto(points) {
        while let [.., a, b] = hull[..] {
            // `b` stays if it is below the line from `a` to the new point.
            let below = (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]);
            if below > 0.0 {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

/// The least cost at which at most `violation` is reached, on a hull; `None` where it is nowhere.
pub fn cost_at(hull: &[Point], violation: f64) -> Option<f64> {
    let [cost, most] = *hull.first()?;
    if violation >= most {
        return Some(cost);
    }
    let [a, b] = hull.windows(2).map(|pair| [pair[0], pair[1]]).find(|[_, b]| violation >= b[1])?;
    let share = (violation - a[1]) / (b[1] - a[1]);
    Some(a[0] + share * (b[0] - a[0]))
}

/// Which of the points cost at most `cost_pct` percent more than their lower convex hull does at their violation. Points that
/// are not finite do not.
pub fn near(points: &[Point], cost_pct: f64) -> Vec<bool> {
    let hull = hull(points);
    let is_near = |[cost, violation]: &Point| {
        let least = cost_at(&hull, *violation).filter(|_| cost.is_finite() && violation.is_finite());
        least.is_some_and(|least| *cost <= least * (1.0 + cost_pct / 100.0))
    };
    points.iter().map(is_near).collect()
}

/// Compares all operating points of A with all of B; `None` where one has none.
pub fn compare(a: &[Point], b: &[Point], tolerance: Tolerance) -> Option<Comparison> {
    let (hull, front) = (hull(a), pareto(b));
    if hull.is_empty() || front.is_empty() {
        return None;
    }
    let mut comparison = Comparison { points: front.len(), beaten: 0, unreached: 0, worst_excess_pct: None };
    for [cost, violation] in front {
        let Some(ours) = cost_at(&hull, violation + tolerance.violation_pct) else {
            comparison.unreached += 1;
            continue;
        };
        // Where B costs nothing there is no percentage.
        let excess = if ours == cost { 0.0 } else { 100.0 * (ours / cost - 1.0) };
        comparison.worst_excess_pct = Some(comparison.worst_excess_pct.map_or(excess, |worst| worst.max(excess)));
        comparison.beaten += usize::from(excess <= tolerance.cost_pct);
    }
    Some(comparison)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXACT: Tolerance = Tolerance { cost_pct: 1e-9, violation_pct: 0.0 };

    #[test]
    fn beaten_points_are_left_out_and_the_hull_is_convex() {
        let points = [[10.0, 4.0], [12.0, 5.0], [20.0, 1.0], [15.0, 3.0], [40.0, 0.0], [20.0, 2.0], [f64::NAN, 0.0]];
        assert_eq!(pareto(&points), [[10.0, 4.0], [15.0, 3.0], [20.0, 1.0], [40.0, 0.0]]);
        // (15, 3) is above the line from (10, 4) to (20, 1).
        assert_eq!(hull(&points), [[10.0, 4.0], [20.0, 1.0], [40.0, 0.0]]);
        assert_eq!(pareto(&[]), [[0.0; 2]; 0]);
    }

    #[test]
    fn costs_in_between_are_on_the_line() {
        let hull = [[10.0, 4.0], [20.0, 1.0], [40.0, 0.0]];
        let costs = [9.0, 4.0, 2.5, 1.0, 0.5, 0.0, -0.1].map(|violation| cost_at(&hull, violation));
        assert_eq!(costs, [Some(10.0), Some(10.0), Some(15.0), Some(20.0), Some(30.0), Some(40.0), None]);
    }

    #[test]
    fn near_is_by_cost_at_the_same_violation() {
        // The hull is from (10, 4) over (20, 1) to (40, 0): 15 at 2.5, 30 at 0.5.
        let points = [[10.0, 4.0], [15.7, 2.5], [15.8, 2.5], [20.0, 1.0], [31.6, 0.5], [40.0, 0.0], [f64::NAN, 0.0]];
        assert_eq!(near(&points, 5.0), [true, true, false, true, false, true, false]);
        assert_eq!(near(&[], 5.0), [false; 0]);
    }

    #[test]
    fn a_comparison_tells_where_and_by_how_much() {
        let ours = [[10.0, 4.0], [20.0, 1.0]];
        let comparison = compare(&ours, &[[11.0, 4.5], [14.0, 2.5], [50.0, 0.5], [60.0, 0.6]], EXACT).unwrap();
        assert_eq!((comparison.points, comparison.beaten, comparison.unreached), (3, 1, 1));
        assert!((comparison.worst_excess_pct.unwrap() - 100.0 / 14.0).abs() < 1e-9);
        assert!(!comparison.on_or_beyond());
        // A tenth of a percent of time and eight percent of cost are near enough here.
        let near = Tolerance { cost_pct: 8.0, violation_pct: 0.1 };
        assert!(compare(&ours, &[[11.0, 4.5], [14.0, 2.5], [50.0, 0.9]], near).unwrap().on_or_beyond());
        assert_eq!(compare(&[], &ours, EXACT), None);
    }

    fn points() -> impl Strategy<Value = Vec<Point>> {
        prop::collection::vec((1.0..1000.0, 0.0..100.0).prop_map(|(cost, violation)| [cost, violation]), 1..20)
    }

    proptest! {
        #[test]
        fn every_point_is_on_its_front_or_beaten_by_it(points in points()) {
            let front = pareto(&points);
            prop_assert!(front.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] > pair[1][1]));
            prop_assert!(points.iter().all(|p| front.iter().any(|f| f[0] <= p[0] && f[1] <= p[1])));
            let hull = hull(&points);
            let is_near = near(&points, 1e-9);
            prop_assert!(hull.iter().all(|own| points.iter().zip(&is_near).any(|(point, near)| point == own && *near)));
            for [cost, violation] in front {
                prop_assert!(cost_at(&hull, violation).unwrap() <= cost * (1.0 + 1e-12));
            }
            let slopes: Vec<f64> = hull.windows(2).map(|p| (p[1][0] - p[0][0]) / (p[0][1] - p[1][1])).collect();
            prop_assert!(slopes.windows(2).all(|pair| pair[0] <= pair[1]), "a further percent costs more and more");
        }

        #[test]
        fn everybody_lies_on_his_own_frontier(points in points()) {
            prop_assert!(compare(&points, &points, EXACT).unwrap().on_or_beyond());
        }

        #[test]
        fn one_more_point_never_makes_it_worse(a in points(), b in points(), cost in 1.0..1000.0, violation in 0.0..100.0) {
            let before = compare(&a, &b, EXACT).unwrap();
            let more: Vec<Point> = a.iter().copied().chain([[cost, violation]]).collect();
            let after = compare(&more, &b, EXACT).unwrap();
            prop_assert!(after.beaten >= before.beaten && after.unreached <= before.unreached);
        }

        #[test]
        fn a_system_that_is_dearer_everywhere_lies_before_it(points in points(), factor in 1.02..3.0) {
            let dearer: Vec<Point> = points.iter().map(|[cost, violation]| [cost * factor, *violation]).collect();
            let comparison = compare(&dearer, &hull(&points), Tolerance::default());
            let comparison = comparison.unwrap();
            prop_assert!(compare(&hull(&points), &dearer, EXACT).unwrap().on_or_beyond());
            // At its cheapest point there is nothing cheaper of its own to fall back on.
            prop_assert!(comparison.beaten < comparison.points);
        }
    }
}
