//! Lists of numbers, kept in one piece. Rule: written and read like a list of lists, byte for byte.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of numbers, of any length each. A decision copies what is forecast for dozens of windows, and an allocation for each
/// was dearer than the copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    numbers: Vec<f64>,
    /// Where each row ends in `numbers`.
    ends: Vec<usize>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows in turn.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.numbers[start..*end])
    }
}

impl<'a> From<&'a [Vec<f64>]> for Rows {
    fn from(rows: &'a [Vec<f64>]) -> Self {
        let mut numbers = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        let push = |row: &Vec<f64>| {
            numbers.extend_from_slice(row);
            numbers.len()
        };
        let ends = rows.iter().map(push).collect();
        Self { numbers, ends }
    }
}

impl From<Vec<Vec<f64>>> for Rows {
    fn from(rows: Vec<Vec<f64>>) -> Self {
        rows.as_slice().into()
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|rows: Vec<Vec<f64>>| rows.into())
    }
}

impl JsonSchema for Rows {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<Vec<f64>>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Vec<f64>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use super::*;

    #[test]
    fn rows_read_and_are_written_like_lists() {
        let lists = [vec![0.5, 1e21, -0.0], vec![], vec![7.25], vec![]];
        for length in 0..=lists.len() {
            let lists = &lists[..length];
            let rows = Rows::from(lists);
            assert!(rows.iter().eq(lists.iter().map(Vec::as_slice)));
            assert_eq!((rows.len(), rows.is_empty()), (lists.len(), lists.is_empty()));
            let text = serde_json::to_string(lists).unwrap();
            assert_eq!(serde_json::to_string(&rows).unwrap(), text);
            assert_eq!(serde_json::from_str::<Rows>(&text).unwrap(), rows);
        }
        assert_eq!(schemars::schema_for!(Rows), schemars::schema_for!(Vec<Vec<f64>>));
    }
}
