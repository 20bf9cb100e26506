//! Which columns of a payload anything is made of. Rule: a column that is not among them can hold anything without a
//! change in what is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use super::plan::{Aggregation, Branch, GroupKey, Plan, Stage};

/// For each column of a source's payload whether the plan reads its values.
pub(crate) fn columns(plan: &Plan, source: usize) -> Vec<bool> {
    let Some(table) = plan.sources.get(source) else { return Vec::new() };
    let mut used = BTreeSet::new();
    for input in &plan.inputs {
        for branch in input.branches.iter().filter(|branch| branch.source == source) {
            let visible = before_stages(branch, read_by(&input.aggregation));
            used.extend(visible.into_iter().filter_map(|column| table.visible.get(column)));
        }
    }
    used.extend(table.record_key.and_then(|column| table.visible.get(column)));
    // Generated columns are evaluated in any case, and may fail.
    for computed in &table.computed {
        read(&computed.expr, &mut used);
    }
    read(&table.event_time, &mut used);
    read(&table.watermark, &mut used);
    (0..table.payload.fields().len()).map(|column| used.contains(&column)).collect()
}

fn read(expr: &Arc<dyn PhysicalExpr>, used: &mut BTreeSet<usize>) {
    used.extend(collect_columns(expr).iter().map(Column::index));
}

fn read_by(aggregation: &Aggregation) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    for key in &aggregation.keys {
        if let GroupKey::Column(expr) = key {
            read(expr, &mut used);
        }
    }
    for aggregate in &aggregation.aggregates {
        aggregate.function.expressions().iter().for_each(|expr| read(expr, &mut used));
        aggregate.function.order_bys().iter().for_each(|order| read(&order.expr, &mut used));
        aggregate.filter.iter().for_each(|filter| read(filter, &mut used));
    }
    used
}

/// The columns that the stages of a branch read so that `used` can be read after them.
fn before_stages(branch: &Branch, mut used: BTreeSet<usize>) -> BTreeSet<usize> {
    for stage in branch.stages.iter().rev() {
        match stage {
            Stage::Filter(predicate) => read(predicate, &mut used),
            Stage::Project { exprs, .. } => {
                let after = std::mem::take(&mut used);
                for (place, expr) in exprs.iter().enumerate() {
                    // A column that is only passed on can't fail; anything else may, and then its row is bad.
                    if after.contains(&place) || !expr.is::<Column>() {
                        read(expr, &mut used);
                    }
                }
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use crate::sql::compile;

    /// The columns of `requests` that a query reads.
    fn used(columns: &str, query: &str) -> Vec<String> {
        let plan = compile(&format!(
            "CREATE TABLE requests (ts TIMESTAMP NOT NULL, service TEXT NOT NULL, a INT, b INT, c INT, d TEXT{columns},
                WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
                WITH (connector = 'kafka', type = 'source', bootstrap_servers = '', topic = 'requests', format = 'json');
            CREATE TABLE features WITH (connector = 'kafka', type = 'sink', bootstrap_servers = '', topic = 'features',
                format = 'json');
            INSERT INTO features SELECT service, window.start AS window_start, window.end AS window_end, value FROM ({query})"
        ))
        .unwrap();
        let fields = plan.sources[0].payload.fields().iter();
        fields.zip(super::columns(&plan, 0)).filter(|(_, used)| *used).map(|(field, _)| field.name().clone()).collect()
    }

    const BY_MINUTE: &str = "SELECT service, tumble(INTERVAL '1 minute') AS window";

    #[test]
    fn keys_arguments_filters_and_times_are_read() {
        assert_eq!(used("", &format!("{BY_MINUTE}, count(*) AS value FROM requests GROUP BY 1, 2")), ["ts", "service"]);
        let filtered = format!(
            "{BY_MINUTE}, sum(a) FILTER (WHERE b > 1) AS value FROM requests WHERE c = 2 GROUP BY service, window"
        );
        assert_eq!(used("", &filtered), ["ts", "service", "a", "b", "c"]);
        let ordered = format!("{BY_MINUTE}, first_value(a ORDER BY b) AS value FROM requests GROUP BY service, window");
        assert_eq!(used("", &ordered), ["ts", "service", "a", "b"]);
    }

    #[test]
    fn what_a_view_passes_on_and_nobody_reads_is_not_read_but_what_may_fail_is() {
        let from = |view: &str| format!("{BY_MINUTE}, sum(a) AS value FROM ({view}) GROUP BY service, window");
        assert_eq!(used("", &from("SELECT service, a, b, c FROM requests")), ["ts", "service", "a"]);
        assert_eq!(
            used("", &from("SELECT service, a, 10 / c AS e FROM (SELECT service, a, b, c FROM requests)")),
            ["ts", "service", "a", "c"]
        );
    }

    #[test]
    fn what_generated_columns_are_made_of_is_read() {
        let generated = ", e INT GENERATED ALWAYS AS (CAST(d AS INT))";
        let query = format!("{BY_MINUTE}, count(*) AS value FROM requests GROUP BY service, window");
        assert_eq!(used(generated, &query), ["ts", "service", "d"]);
    }
}
