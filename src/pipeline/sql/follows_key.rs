//! Whether several processes can share a pipeline: each sees the records of some keys only. Rule: whatever brings rows
//! together, GROUP BY, ROW_NUMBER or a join, does so within one key; a column is the key only where it is one of the
//! source, passed on as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use prescale_ingest::decode::MetadataField;

use super::plan::{Aggregation, Branch, Closed, GroupKey, Join, JoinKind, Plan, SourceTable, Stage, Step};
use super::types::sql_name;

/// Columns that hold the key of the records that their row came from.
type Keys = BTreeSet<usize>;

/// Rows on their way up: which of their columns hold the key, and how many columns there are.
struct Rows {
    keys: Keys,
    width: usize,
}

impl Plan {
    /// Why processes can't share this plan, if they can't: what does not follow the key, and what to do. `record_keys`
    /// names, by table, the column whose text is the key of the table's records, where the SQL does not say it with
    /// METADATA FROM 'key'.
    pub fn unshareable(&self, record_keys: &BTreeMap<String, String>) -> Option<String> {
        let mut sources = Vec::with_capacity(self.sources.len());
        for table in &self.sources {
            match keys_of(table, record_keys) {
                Ok(keys) => sources.push(keys),
                Err(fault) => return Some(fault),
            }
        }
        let reading = Reading { plan: self, sources };
        reading.closed(&self.closed).err()
    }

    /// Sends rows to the dead letters that are not what their record's key says.
    pub fn watch_keys(&mut self, record_keys: &BTreeMap<String, String>) {
        for table in &mut self.sources {
            let column = given(table, record_keys).map(|(_, column)| column);
            table.record_key = column.and_then(|column| table.schema.index_of(column).ok());
        }
    }
}

/// The table as the configuration spells it, and the column that it names.
fn given<'a>(table: &SourceTable, record_keys: &'a BTreeMap<String, String>) -> Option<(&'a String, &'a String)> {
    record_keys.iter().find(|(name, _)| name.eq_ignore_ascii_case(&table.name))
}

fn keys_of(table: &SourceTable, record_keys: &BTreeMap<String, String>) -> Result<Keys, String> {
    let declared = table.metadata.iter().filter(|(_, kind)| *kind == MetadataField::Key).map(|(field, _)| field.name());
    let mut keys: Keys = declared.filter_map(|name| table.schema.index_of(name).ok()).collect();
    if let Some((name, column)) = given(table, record_keys) {
        let known = || table.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        let place = table.schema.index_of(column).map_err(|_| {
            let columns = known();
            format!(
                "features.record_keys.{name}: `{}` has no column `{column}`\nhint: its columns are {columns}",
                table.name
            )
        })?;
        let kind = table.schema.field(place).data_type();
        if !matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            let kind = sql_name(kind);
            return Err(format!("features.record_keys.{name}: column `{column}` is {kind}\nhint: a key is TEXT"));
        }
        keys.insert(place);
    }
    if keys.is_empty() {
        let name = &table.name;
        return Err(format!(
            "which column of `{name}` is the key of its records is not known\nhint: write features.record_keys = {{ {name} = \"COLUMN\" }}, or declare a column METADATA FROM 'key' and group by it"
        ));
    }
    Ok(keys)
}

struct Reading<'a> {
    plan: &'a Plan,
    /// By place of the source.
    sources: Vec<Keys>,
}

impl Reading<'_> {
    fn closed(&self, closed: &Closed) -> Result<Rows, String> {
        match closed {
            Closed::Input(place) => self.input(*place),
            Closed::Steps(from, steps) => steps.iter().try_fold(self.closed(from)?, |rows, step| self.step(rows, step)),
            Closed::Join(join) => self.join(join),
            Closed::Union(parts, schema) => {
                let parts = parts.iter().map(|part| self.closed(part)).collect::<Result<Vec<_>, _>>()?;
                Ok(Rows { keys: common(parts.iter().map(|part| &part.keys)), width: schema.fields().len() })
            }
        }
    }

    fn input(&self, place: usize) -> Result<Rows, String> {
        let Some(input) = self.plan.inputs.get(place) else { return Ok(Rows { keys: Keys::new(), width: 0 }) };
        let branches: Vec<Keys> = input.branches.iter().map(|branch| self.branch(branch)).collect();
        let keys = common(branches.iter());
        let tables = input.branches.iter().filter_map(|branch| self.plan.sources.get(branch.source));
        let tables: BTreeSet<&str> = tables.map(|table| table.name.as_str()).collect();
        let of = tables.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        self.grouped(&input.aggregation, &keys, &format!("the aggregation of {of}"))
    }

    fn branch(&self, branch: &Branch) -> Keys {
        let keys = self.sources.get(branch.source).cloned().unwrap_or_default();
        branch.stages.iter().fold(keys, |keys, stage| after(stage, keys))
    }

    fn step(&self, rows: Rows, step: &Step) -> Result<Rows, String> {
        match step {
            Step::Rows(stage) => {
                let width = match stage {
                    Stage::Filter(_) => rows.width,
                    Stage::Project { exprs, .. } => exprs.len(),
                };
                Ok(Rows { keys: after(stage, rows.keys), width })
            }
            Step::Aggregate(aggregation) => self.grouped(aggregation, &rows.keys, "the aggregation of windows"),
            Step::RowNumber(number) => {
                if !number.partition.iter().any(|expr| column(expr).is_some_and(|place| rows.keys.contains(&place))) {
                    return Err(self.fault("ROW_NUMBER", "is not partitioned by", "PARTITION BY"));
                }
                Ok(Rows { width: number.schema.fields().len(), ..rows })
            }
        }
    }

    fn grouped(&self, aggregation: &Aggregation, keys: &Keys, what: &str) -> Result<Rows, String> {
        let holds = |key: &GroupKey| match key {
            GroupKey::Window => false,
            GroupKey::Column(expr) => column(expr).is_some_and(|place| keys.contains(&place)),
        };
        let held: Keys = (0..).zip(&aggregation.keys).filter(|(_, key)| holds(key)).map(|(place, _)| place).collect();
        if held.is_empty() {
            let fields = aggregation.output.fields().iter().zip(&aggregation.keys);
            let columns = fields.map(|(field, key)| match key {
                GroupKey::Window => "the window".to_owned(),
                GroupKey::Column(_) => format!("`{}`", field.name()),
            });
            let by = format!("groups by {} and not by", columns.collect::<Vec<_>>().join(", "));
            return Err(self.fault(what, &by, "GROUP BY"));
        }
        Ok(Rows { keys: held, width: aggregation.output.fields().len() })
    }

    fn join(&self, join: &Join) -> Result<Rows, String> {
        let (left, right) = (self.closed(&join.left)?, self.closed(&join.right)?);
        let holds = |keys: &Keys, expr| column(expr).is_some_and(|place| keys.contains(&place));
        if !join.on.iter().any(|(a, b)| holds(&left.keys, a) && holds(&right.keys, b)) {
            return Err(self.fault("a join", "does not compare", "the ON of the join"));
        }
        let right_keys = right.keys.iter().map(|place| left.width + place);
        // The columns of a side without a partner are NULL, whatever the key.
        let keys = match join.kind {
            JoinKind::Inner => left.keys.iter().copied().chain(right_keys).collect(),
            JoinKind::Left => left.keys,
            JoinKind::Right => right_keys.collect(),
            JoinKind::Full => Keys::new(),
        };
        Ok(Rows { keys, width: join.schema.fields().len() })
    }

    fn fault(&self, what: &str, does: &str, place: &str) -> String {
        let tables = self.plan.sources.iter().zip(&self.sources);
        let named = tables.map(|(table, keys)| {
            let columns = keys.iter().map(|place| format!("`{}`", table.schema.field(*place).name()));
            format!("{} of `{}`", columns.collect::<Vec<_>>().join(" or "), table.name)
        });
        let key = named.collect::<Vec<_>>().join(", ");
        format!(
            "{what} {does} the key of the records, {key}: processes that share it would each give a part of the result\nhint: put the key into {place}, as it is in the source, or set features.processes = 1"
        )
    }
}

/// What is a key in all of them.
fn common<'a>(mut all: impl Iterator<Item = &'a Keys>) -> Keys {
    let first = all.next().cloned().unwrap_or_default();
    all.fold(first, |keys, more| keys.intersection(more).copied().collect())
}

fn after(stage: &Stage, keys: Keys) -> Keys {
    match stage {
        Stage::Filter(_) => keys,
        Stage::Project { exprs, .. } => {
            let held = (0..).zip(exprs).filter(|(_, expr)| column(expr).is_some_and(|place| keys.contains(&place)));
            held.map(|(place, _)| place).collect()
        }
    }
}

/// The column that an expression is, if it is nothing else.
fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

#[cfg(test)]
mod tests;
