//! Joins of the rows of one window. Rule: rows come in the order of the left, then of the right; after them those of the
//! left without a partner, then those of the right.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{prep_null_mask_filter, take};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;

use super::rows::new_batch;
use crate::sql::{Join, JoinKind};

/// Joins the two sides of one window.
pub(crate) fn join(plan: &Join, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
    let (mut lefts, mut rights) = pairs(plan, left, right)?;
    if let Some(filter) = &plan.filter {
        let both = gather(plan, (left, &lefts.clone().into()), (right, &rights.clone().into()))?;
        let mask = filter.evaluate(&both)?.into_array(both.num_rows())?;
        let mask = mask.as_boolean();
        let mask = if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() };
        (lefts, rights) = (kept(&lefts, &mask), kept(&rights, &mask));
    }
    let lone_lefts = lone(&lefts, left.num_rows(), matches!(plan.kind, JoinKind::Left | JoinKind::Full));
    let lone_rights = lone(&rights, right.num_rows(), matches!(plan.kind, JoinKind::Right | JoinKind::Full));
    let nulls = |count: usize| std::iter::repeat_n(None, count);
    let some = |rows: Vec<u32>| rows.into_iter().map(Some);
    let (left_count, right_count) = (lone_lefts.len(), lone_rights.len());
    let lefts: UInt32Array = some(lefts).chain(some(lone_lefts)).chain(nulls(right_count)).collect();
    let rights: UInt32Array = some(rights).chain(nulls(left_count)).chain(some(lone_rights)).collect();
    gather(plan, (left, &lefts), (right, &rights))
}

/// Positions of rows whose pairs are equal.
fn pairs(plan: &Join, left: &RecordBatch, right: &RecordBatch) -> Result<(Vec<u32>, Vec<u32>)> {
    let count = |batch: &RecordBatch| u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    if plan.on.is_empty() {
        // Joined by the window alone.
        let all = (0..count(left)).flat_map(|left| (0..count(right)).map(move |right| (left, right)));
        return Ok(all.unzip());
    }
    let keys = |batch: &RecordBatch, side: fn(&Pair) -> &dyn PhysicalExpr| -> Result<Vec<ArrayRef>> {
        plan.on.iter().map(|pair| side(pair).evaluate(batch)?.into_array(batch.num_rows())).collect()
    };
    let (left_keys, right_keys) = (keys(left, |pair| pair.0.as_ref())?, keys(right, |pair| pair.1.as_ref())?);
    let fields = left_keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let (left_rows, right_rows) = (converter.convert_columns(&left_keys)?, converter.convert_columns(&right_keys)?);
    let mut known: HashMap<&[u8], Vec<u32>> = HashMap::with_capacity(right.num_rows());
    for row in (0..count(right)).filter(|row| has_key(&right_keys, *row)) {
        known.entry(bytes(&right_rows, row)).or_default().push(row);
    }
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    for row in (0..count(left)).filter(|row| has_key(&left_keys, *row)) {
        for partner in known.get(bytes(&left_rows, row)).into_iter().flatten() {
            lefts.push(row);
            rights.push(*partner);
        }
    }
    Ok((lefts, rights))
}

type Pair = (std::sync::Arc<dyn PhysicalExpr>, std::sync::Arc<dyn PhysicalExpr>);

fn bytes(rows: &Rows, row: u32) -> &[u8] {
    rows.row(row as usize).data()
}

fn has_key(keys: &[ArrayRef], row: u32) -> bool {
    keys.iter().all(|key| key.is_valid(row as usize))
}

fn kept(rows: &[u32], mask: &BooleanArray) -> Vec<u32> {
    rows.iter().zip(mask.values()).filter_map(|(row, keep)| keep.then_some(*row)).collect()
}

/// Rows that are not in `matched`, where they are wanted.
fn lone(matched: &[u32], count: usize, wanted: bool) -> Vec<u32> {
    if !wanted {
        return Vec::new();
    }
    let mut is_matched = vec![false; count];
    matched.iter().for_each(|row| is_matched[*row as usize] = true);
    (0..).zip(is_matched).filter_map(|(row, is_matched)| (!is_matched).then_some(row)).collect()
}

/// The columns of both sides at some positions; a position that is NULL gives nulls.
fn gather(plan: &Join, left: (&RecordBatch, &UInt32Array), right: (&RecordBatch, &UInt32Array)) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(plan.schema.fields().len());
    for (batch, rows) in [left, right] {
        for column in batch.columns() {
            columns.push(take(column, rows, None)?);
        }
    }
    new_batch(&plan.schema, columns, left.1.len())
}
