//! Rows of one source on their way to the inputs that read it. Rule: a row comes once out of each branch that keeps it, and
//! out of none if it fails in one.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::error::Result;

use crate::exec::pane::Inputs;
use crate::exec::rows::Rows;
use crate::sql::{Branch, Plan};

/// What of a batch goes where.
pub(crate) struct Routed {
    pub(crate) shares: Vec<Share>,
    /// Records that no branch keeps, ascending.
    pub(crate) filtered: Vec<u32>,
    /// By record, why it could not be evaluated.
    pub(crate) failures: BTreeMap<u32, String>,
}

/// Rows for one input.
pub(crate) struct Share {
    pub(crate) input: usize,
    /// For each row the index of its record.
    pub(crate) index: Vec<u32>,
    pub(crate) values: Inputs,
}

/// Sends the rows of `source` through all branches that read it.
pub(crate) fn route(plan: &Plan, source: usize, rows: Rows) -> Result<Routed> {
    let reading = |(input, branch): &(usize, &Branch)| (branch.source == source).then_some(*input);
    let branches: Vec<(usize, &Branch)> = (0..)
        .zip(&plan.inputs)
        .flat_map(|(place, input)| input.branches.iter().map(move |branch| (place, branch)))
        .filter(|branch| reading(branch).is_some())
        .collect();
    match branches[..] {
        [(input, branch)] => one(plan, input, branch, rows),
        _ => many(plan, &branches, rows),
    }
}

fn one(plan: &Plan, input: usize, branch: &Branch, mut rows: Rows) -> Result<Routed> {
    let (mut filtered, mut failures) = (Vec::new(), BTreeMap::new());
    for stage in &branch.stages {
        let (gone, failed) = rows.run(stage)?;
        filtered.extend(gone);
        failures.extend(failed);
    }
    let (values, failed) = Inputs::isolated(&plan.inputs[input].aggregation, &mut rows)?;
    failures.extend(failed);
    filtered.sort_unstable();
    Ok(Routed { shares: vec![Share { input, index: rows.index, values }], filtered, failures })
}

fn many(plan: &Plan, branches: &[(usize, &Branch)], rows: Rows) -> Result<Routed> {
    let mut failures = BTreeMap::new();
    let mut by_input = BTreeMap::<usize, Vec<Rows>>::new();
    for (input, branch) in branches {
        let mut rows = rows.clone();
        for stage in &branch.stages {
            failures.extend(rows.run(stage)?.1);
        }
        by_input.entry(*input).or_default().push(rows);
    }
    let mut united = Vec::with_capacity(by_input.len());
    for (input, mut parts) in by_input {
        let rows = if parts.len() == 1 { parts.remove(0) } else { Rows::union(&parts)? };
        united.push((input, rows));
    }
    for (input, rows) in &mut united {
        failures.extend(Inputs::isolated(&plan.inputs[*input].aggregation, rows)?.1);
    }
    let failed: BTreeSet<u32> = failures.keys().copied().collect();
    let (mut shares, mut kept) = (Vec::with_capacity(united.len()), failed.clone());
    for (input, mut rows) in united {
        if !failed.is_empty() {
            rows.without(&failed)?;
        }
        let values = Inputs::of(&plan.inputs[input].aggregation, &rows.batch)?;
        kept.extend(&rows.index);
        shares.push(Share { input, index: rows.index, values });
    }
    let filtered = rows.index.into_iter().filter(|record| !kept.contains(record)).collect();
    Ok(Routed { shares, filtered, failures })
}
