//! A validated pipeline, ready to run: physical expressions and where their inputs come from. Rule: data only; running
//! it belongs to the engine.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use prescale_ingest::decode::MetadataField;
use serde::Serialize;

use super::options::{SinkOptions, SourceOptions};
use crate::window::Windows;

/// Everything that the engine needs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub source: SourceTable,
    pub sink: SinkTable,
    pub windows: Windows,
    /// Steps between the source's rows and the aggregation. With several branches (UNION ALL), each gets all rows, and
    /// the aggregation gets what comes out of each.
    pub branches: Vec<Vec<Stage>>,
    pub aggregation: Aggregation,
    /// Steps between the aggregation and the sink, over all rows of one window; the last one ends in the sink's columns.
    pub after: Vec<Step>,
    /// Changes when the query or what it reads changes, not with the layout of its text.
    pub fingerprint: String,
}

/// The table that rows come from.
#[derive(Clone, Debug)]
pub struct SourceTable {
    pub name: String,
    pub options: SourceOptions,
    /// Columns that the payload holds, in the order of the DDL.
    pub payload: SchemaRef,
    /// Columns that the record itself holds.
    pub metadata: Vec<(FieldRef, MetadataField)>,
    /// Generated columns, each over the payload, the metadata and the ones before it.
    pub computed: Vec<Computed>,
    /// Payload, metadata, computed and, last, the watermark.
    pub internal: SchemaRef,
    /// What the query sees: the columns of `internal` in the order of the DDL.
    pub visible: Vec<usize>,
    pub schema: SchemaRef,
    /// Event time as nanoseconds, over `internal`.
    pub event_time: Arc<dyn PhysicalExpr>,
    /// The watermark as nanoseconds, over payload, metadata and computed.
    pub watermark: Arc<dyn PhysicalExpr>,
}

/// A generated column.
#[derive(Clone, Debug)]
pub struct Computed {
    pub field: FieldRef,
    pub expr: Arc<dyn PhysicalExpr>,
    pub is_event_time: bool,
}

/// The table that rows go to.
#[derive(Clone, Debug)]
pub struct SinkTable {
    pub name: String,
    pub options: SinkOptions,
    pub schema: SchemaRef,
    /// Index of the column whose text is the record key.
    pub key: usize,
    pub window_start: usize,
    pub window_end: usize,
}

/// One step over rows.
#[derive(Clone, Debug)]
pub enum Stage {
    Filter(Arc<dyn PhysicalExpr>),
    Project { exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
}

/// One step over all rows of a closed window.
#[derive(Clone, Debug)]
pub enum Step {
    Rows(Stage),
    /// An aggregation within the window.
    Aggregate(Aggregation),
}

/// GROUP BY with its aggregates.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// Of the output, in order.
    pub keys: Vec<GroupKey>,
    pub aggregates: Vec<Aggregate>,
    /// Keys, then aggregates.
    pub output: SchemaRef,
}

/// One column of GROUP BY.
#[derive(Clone, Debug)]
pub enum GroupKey {
    Window,
    Column(Arc<dyn PhysicalExpr>),
}

/// One aggregate call.
#[derive(Clone, Debug)]
pub struct Aggregate {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The index of an earlier quantile of the same values: both are read from one sketch, which that one fills.
    pub shares: Option<usize>,
}

/// What a pipeline does, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanSummary {
    pub source: String,
    pub source_topic: String,
    pub sink: String,
    pub sink_topic: String,
    pub window: String,
    /// `name TYPE` of each output column.
    pub columns: Vec<String>,
    pub fingerprint: String,
    /// What is written in a way that will not stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Plan {
    pub fn summary(&self) -> PlanSummary {
        let span = |nanos: i64| prescale_domain::Span::from_millis(nanos / 1_000_000);
        let column = |field: &FieldRef| format!("{} {}", field.name(), super::types::sql_name(field.data_type()));
        PlanSummary {
            source: self.source.name.clone(),
            source_topic: self.source.options.topic.clone(),
            sink: self.sink.name.clone(),
            sink_topic: self.sink.options.topic.clone(),
            window: if self.windows.is_tumbling() {
                format!("tumble {}", span(self.windows.width))
            } else {
                format!("hop {} every {}", span(self.windows.width), span(self.windows.slide))
            },
            columns: self.sink.schema.fields().iter().map(column).collect(),
            fingerprint: self.fingerprint.clone(),
            warnings: self.source.options.warnings.clone(),
        }
    }
}

impl Aggregation {
    /// The types of the grouping columns without the window.
    pub(crate) fn key_types(&self) -> Vec<DataType> {
        let fields = self.keys.iter().zip(self.output.fields());
        fields
            .filter(|(key, _)| matches!(key, GroupKey::Column(_)))
            .map(|(_, field)| field.data_type().clone())
            .collect()
    }
}
