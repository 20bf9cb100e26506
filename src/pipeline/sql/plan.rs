//! A validated pipeline, ready to run: physical expressions and where their inputs come from. Rule: data only; running
//! it belongs to the engine.

use std::sync::Arc;

use arrow::compute::SortOptions;
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
    /// The tables that the query reads, in the order in which it names them first.
    pub sources: Vec<SourceTable>,
    pub sink: SinkTable,
    /// The windows of all inputs; of sessions, the panes by which rows are gathered.
    pub windows: Windows,
    /// Windows are sessions: rows of one key that follow each other by less than this, in nanoseconds.
    pub session_gap: Option<i64>,
    /// The aggregations over rows of sources. Several of them are joined or united window by window.
    pub inputs: Vec<Input>,
    /// What is made of the windows of all inputs; ends in the sink's columns.
    pub closed: Closed,
    /// Changes when the query or what it reads changes, not with the layout of its text.
    pub fingerprint: String,
}

/// An aggregation over rows of sources.
#[derive(Clone, Debug)]
pub struct Input {
    /// The aggregation gets what comes out of each.
    pub branches: Vec<Branch>,
    pub aggregation: Aggregation,
}

/// Steps between a source's rows and the aggregation. Each branch gets all rows of its source.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its place in [`Plan::sources`].
    pub source: usize,
    pub stages: Vec<Stage>,
}

/// How the rows of one window come about, once it is complete.
#[derive(Clone, Debug)]
pub enum Closed {
    /// The aggregation of the input at this place in [`Plan::inputs`].
    Input(usize),
    Steps(Box<Closed>, Vec<Step>),
    Join(Box<Join>),
    /// All rows of the first, then of the next.
    Union(Vec<Closed>, SchemaRef),
}

/// Rows of both sides in the same window. Each row of one side that has no partner on the other is there once where
/// `kind` keeps it, with nulls in the other's columns.
#[derive(Clone, Debug)]
pub struct Join {
    pub left: Closed,
    pub right: Closed,
    pub kind: JoinKind,
    /// Pairs over the left and the right columns that have to be equal; NULL equals nothing.
    pub on: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    /// A further condition over the columns of both.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the left, then those of the right.
    pub schema: SchemaRef,
}

/// Which rows without a partner are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
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
    /// The column of `schema` whose text is the key of the records, where processes share them by key; never in the SQL, the
    /// service's configuration says it.
    pub record_key: Option<usize>,
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
    RowNumber(RowNumber),
}

/// `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …)` within the window, as one more column. Among rows that are equal in
/// their order, the one whose grouping columns come first is first.
#[derive(Clone, Debug)]
pub struct RowNumber {
    /// Without the window.
    pub partition: Vec<Arc<dyn PhysicalExpr>>,
    pub order: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>,
    /// The columns of the input, then the number.
    pub schema: SchemaRef,
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
    pub sources: Vec<SourceSummary>,
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

/// A table that a pipeline reads, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceSummary {
    pub table: String,
    pub topic: String,
}

impl Plan {
    pub fn summary(&self) -> PlanSummary {
        let span = |nanos: i64| prescale_domain::Span::from_millis(nanos / 1_000_000);
        let column = |field: &FieldRef| format!("{} {}", field.name(), super::types::sql_name(field.data_type()));
        let source =
            |source: &SourceTable| SourceSummary { table: source.name.clone(), topic: source.options.topic.clone() };
        PlanSummary {
            sources: self.sources.iter().map(source).collect(),
            sink: self.sink.name.clone(),
            sink_topic: self.sink.options.topic.clone(),
            window: if let Some(gap) = self.session_gap {
                format!("session {}", span(gap))
            } else if self.windows.is_tumbling() {
                format!("tumble {}", span(self.windows.width))
            } else {
                format!("hop {} every {}", span(self.windows.width), span(self.windows.slide))
            },
            columns: self.sink.schema.fields().iter().map(column).collect(),
            fingerprint: self.fingerprint.clone(),
            warnings: self.sources.iter().flat_map(|source| source.options.warnings.clone()).collect(),
        }
    }
}

impl Plan {
    /// Whether the rows that it writes have a measure of this name: a column that is a number or a truth value or, where a
    /// column `metric` says what was measured, its text, `_` and such a column.
    pub fn makes(&self, measure: &str) -> bool {
        let fields = self.sink.schema.fields();
        let is_measure = |field: &&FieldRef| field.data_type().is_numeric() || *field.data_type() == DataType::Boolean;
        let mut columns = fields.iter().filter(is_measure).map(|field| field.name().as_str());
        if fields.iter().all(|field| field.name() != "metric" || is_measure(&field)) {
            return columns.any(|column| column == measure);
        }
        columns.any(|column| {
            measure.strip_suffix(column).and_then(|rest| rest.strip_suffix('_')).is_some_and(|it| !it.is_empty())
        })
    }

    /// The first moment at which a row of this time is late: the end of the first window that holds it. A session that
    /// ends before a row can't be the row's, and one that the row could join ends after it.
    pub(crate) fn late_from(&self, time: i64) -> i64 {
        match self.session_gap {
            None => self.windows.pane_end(self.windows.pane_of(time)),
            Some(_) => time.saturating_add(1),
        }
    }

    /// For each column of a source's payload whether anything is made of its values.
    pub(crate) fn used_columns(&self, source: usize) -> Vec<bool> {
        super::used::columns(self, source)
    }

    /// Whether the rows of one partition in a pane are accumulated in segments.
    pub(crate) fn has_segments(&self) -> bool {
        self.session_gap.is_none() && self.windows.segment().is_some()
    }

    /// The place of a source by its name, regardless of case.
    pub fn source(&self, table: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name.eq_ignore_ascii_case(table))
    }

    /// Whether windows can't be told to be complete, given which sources bring nothing: without rows of what a join
    /// keeps, and without rows of all parts of a union, nobody knows whether nothing happened or nothing was heard.
    pub(crate) fn is_blind(&self, silent: &[bool]) -> bool {
        self.closed.is_blind(&|input| {
            let branches = self.inputs.get(input).map_or(&[][..], |input| &input.branches);
            branches.iter().all(|branch| silent.get(branch.source).copied().unwrap_or(false))
        })
    }
}

impl Closed {
    fn is_blind(&self, silent: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Self::Input(input) => silent(*input),
            Self::Steps(from, _) => from.is_blind(silent),
            Self::Union(parts, _) => parts.iter().all(|part| part.is_blind(silent)),
            Self::Join(join) => {
                let (left, right) = (join.left.is_blind(silent), join.right.is_blind(silent));
                match join.kind {
                    JoinKind::Inner => left || right,
                    JoinKind::Left => left,
                    JoinKind::Right => right,
                    JoinKind::Full => left && right,
                }
            }
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
