//! Long curves made short enough to draw. Rule: the first, lowest, highest and last value of every stretch stay (M4: Jugel,
//! Jerzak, Hackenbroich and Markl, VLDB 2014), and a gap stays a gap.

/// Moments in milliseconds with their values; `None` is a gap.
pub(super) type Points = Vec<(i64, Option<f64>)>;

/// At most `limit` of these points, which are ordered by time; at least 5.
pub(super) fn thinned(points: Points, limit: usize) -> Points {
    if points.len() <= limit {
        return points;
    }
    // Four values and a gap at most.
    let buckets = (limit / 5).max(1);
    let size = points.len().div_ceil(buckets);
    points.chunks(size).flat_map(bucket).collect()
}

fn bucket(points: &[(i64, Option<f64>)]) -> Points {
    let known = |index: &usize| points[*index].1.is_some();
    let value = |index: usize| points[index].1.unwrap_or_default();
    let order = |one: &usize, other: &usize| value(*one).total_cmp(&value(*other));
    let indices = || 0..points.len();
    let all = [
        indices().find(known),
        indices().filter(known).min_by(order),
        indices().filter(known).max_by(order),
        indices().rev().find(known),
        indices().find(|index| !known(index)),
    ];
    let mut kept: Vec<usize> = all.into_iter().flatten().collect();
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|index| points[index]).collect()
}

/// Without the points that only repeat the one before, for curves that stay until they change. The last one stays.
pub(super) fn changes(points: Points) -> Points {
    let last = points.len().saturating_sub(1);
    let kept: Vec<bool> =
        (0..points.len()).map(|at| at == 0 || at == last || points[at].1 != points[at - 1].1).collect();
    points.into_iter().zip(kept).filter_map(|(point, kept)| kept.then_some(point)).collect()
}
