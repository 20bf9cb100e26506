//! Quantiles by step ahead, as a model gives them. Rule: one piece of memory for all steps: a service is asked for an hour by
//! a dozen models each minute.

use std::ops::{Index, IndexMut};
use std::slice::{ChunksExact, ChunksExactMut};

/// `rows[k][q]` is level `q` of the window that starts `k + 1` steps after the origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Levels of each step.
    width: usize,
    values: Vec<f64>,
}

impl Rows {
    /// No steps yet, of `width` levels each, with room for so many `steps`.
    pub fn new(width: usize, steps: usize) -> Self {
        Self { width, values: Vec::with_capacity(width * steps) }
    }

    /// So many `steps` of zeros.
    pub(crate) fn zeros(width: usize, steps: usize) -> Self {
        Self { width, values: vec![0.0; width * steps] }
    }

    /// Adds a step; what is missing of its levels is no number, what is too much is left out.
    pub fn push(&mut self, row: impl IntoIterator<Item = f64>) {
        let end = self.values.len() + self.width;
        self.values.extend(row.into_iter().take(self.width));
        self.values.resize(end, f64::NAN);
    }

    /// Adds values to the newest step, and steps as they become full.
    pub(crate) fn extend(&mut self, values: impl Iterator<Item = f64>) {
        self.values.extend(values);
    }

    /// Levels of each step.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Step by step.
    pub fn iter(&self) -> ChunksExact<'_, f64> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Step by step.
    pub fn iter_mut(&mut self) -> ChunksExactMut<'_, f64> {
        self.values.chunks_exact_mut(self.width.max(1))
    }

    /// The row of step `k`, where there is one.
    pub fn get(&self, k: usize) -> Option<&[f64]> {
        self.values.get(k * self.width..(k + 1) * self.width).filter(|row| !row.is_empty())
    }

    /// All values, step by step.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, step by step.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Whether all values are finite and none is negative.
    pub fn is_sound(&self) -> bool {
        // Without a way out in between, so that it is done a vector at a time; no number is not below infinity.
        self.values.iter().fold(true, |sound, value| sound & (*value >= 0.0) & (*value < f64::INFINITY))
    }

    /// Brings each step into order where it isn't.
    pub fn sort(&mut self) {
        for row in self.iter_mut() {
            // Without a way out in between, as in `is_sound`.
            if !row.iter().zip(&row[1..]).fold(true, |rising, (low, high)| rising & (low <= high)) {
                row.sort_by(f64::total_cmp);
            }
        }
    }
}

impl Index<usize> for Rows {
    type Output = [f64];

    fn index(&self, k: usize) -> &[f64] {
        &self.values[k * self.width..(k + 1) * self.width]
    }
}

impl IndexMut<usize> for Rows {
    fn index_mut(&mut self, k: usize) -> &mut [f64] {
        &mut self.values[k * self.width..(k + 1) * self.width]
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a [f64];
    type IntoIter = ChunksExact<'a, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<const WIDTH: usize> From<&[[f64; WIDTH]]> for Rows {
    fn from(rows: &[[f64; WIDTH]]) -> Self {
        Self { width: WIDTH, values: rows.as_flattened().to_vec() }
    }
}

impl From<Rows> for Vec<Vec<f64>> {
    fn from(rows: Rows) -> Self {
        rows.iter().map(<[f64]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_kept_side_by_side() {
        let mut rows = Rows::new(2, 3);
        rows.push([1.0, 2.0, 3.0]);
        rows.push([4.0]);
        assert!(rows.len() == 2 && rows.width() == 2 && rows[1][1].is_nan() && !rows.is_sound());
        rows[1][1] = 3.0;
        rows.sort();
        assert!(rows.is_sound());
        assert_eq!(rows, Rows::from(&[[1.0, 2.0], [3.0, 4.0]][..]));
        assert_eq!((rows.get(1), rows.get(2)), (Some(&[3.0, 4.0][..]), None));
        assert_eq!(Vec::from(rows), [[1.0, 2.0], [3.0, 4.0]]);
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!Rows::from(&[[1.0, bad]][..]).is_sound(), "{bad}");
        }
    }

    #[test]
    fn without_levels_there_are_no_steps() {
        let mut rows = Rows::new(0, 5);
        rows.push([1.0]);
        assert!(rows.is_empty() && rows.iter().next().is_none() && rows.get(0).is_none());
        assert_eq!(rows.len(), 0);
    }
}
