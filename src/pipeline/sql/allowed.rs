//! Which functions a pipeline may use. Rule: a function is allowed if both DataFusion 48, which Arroyo runs on, and our
//! DataFusion have it under the same name, and its result depends on its arguments and on the rows of the window alone;
//! each other one is refused with what to write instead. No function is on both lists or on none.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS};
use datafusion::sql::sqlparser::parser::Parser;

use crate::udf::UdfError;

/// Scalar functions by their names and aliases.
const SCALARS: &str = "
    abs acos acosh arrow_cast arrow_typeof ascii asin asinh atan atan2 atanh bit_length btrim cbrt ceil char_length
    character_length chr coalesce concat concat_ws contains cos cosh cot date_bin date_format date_part date_trunc
    datepart datetrunc decode degrees encode ends_with exp factorial find_in_set floor from_unixtime gcd get_field greatest ifnull
    initcap instr isnan iszero lcm least left length levenshtein ln log log10 log2 lower lpad ltrim make_date nanvl
    nullif nvl nvl2 octet_length overlay pi position pow power radians regexp_count regexp_like regexp_replace
    repeat replace reverse right round rpad rtrim signum sin sinh split_part sqrt starts_with strpos substr
    substr_index substring substring_index tan tanh to_char to_date to_hex to_local_time to_timestamp
    to_timestamp_micros to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime translate trim trunc
    upper
";

/// Aggregate functions by their names and aliases.
const AGGREGATES: &str = "
    approx_distinct approx_percentile_cont avg bit_and bit_or bit_xor bool_and bool_or corr count covar covar_pop
    covar_samp first_value last_value max mean min regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
    regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp sum var var_pop var_population var_samp var_sample
";

/// The scalar functions that a pipeline may use.
pub(super) fn scalars() -> BTreeSet<&'static str> {
    SCALARS.split_whitespace().collect()
}

/// The aggregate functions that a pipeline may use.
pub(super) fn aggregates() -> BTreeSet<&'static str> {
    AGGREGATES.split_whitespace().collect()
}

/// Why a function is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// DataFusion 48 has no function of this name.
    New(&'static str),
    /// Its result depends on more than the rows, such as the clock or the order in which rows came.
    NotDeterministic(&'static str),
    /// Nothing in the profile can hold its result, or it would keep every row.
    NoPlace(&'static str),
}

use Refusal::{New, NoPlace, NotDeterministic};

const EVENT_TIME: &str = "use the event time: the same input must give the same rows";
const NO_CHANCE: &str = "leave it out: the same input must give the same rows";
const FLAT: &str = "write one column for each value";
const CAST: &str = "write CAST(x AS …)";
const QUANTILE: &str = "write approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY x)";
const MEDIAN: &str = "write approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x)";
const ONE: &str = "write first_value(x ORDER BY y), min(x) or max(x)";

/// Functions that one of the two DataFusions or both have and that a pipeline may not use, with what to write instead.
pub(super) const REFUSED: [(&str, Refusal); 38] = [
    ("any_value", New(ONE)),
    ("approx_median", NotDeterministic(MEDIAN)),
    ("approx_percentile_cont_with_weight", NotDeterministic(QUANTILE)),
    ("array_agg", NoPlace("aggregate to a number or a text: count, min, max, first_value(x ORDER BY y)")),
    ("arrow_field", New(CAST)),
    ("arrow_metadata", New("leave it out")),
    ("arrow_try_cast", New(CAST)),
    ("cast_to_type", New(CAST)),
    ("current_date", NotDeterministic(EVENT_TIME)),
    ("current_time", NotDeterministic(EVENT_TIME)),
    ("current_timestamp", NotDeterministic(EVENT_TIME)),
    ("file_row_index", New("declare a column BIGINT METADATA FROM 'offset_id'")),
    ("grouping", NoPlace("write one query for each grouping")),
    ("input_file_name", New("declare a column TEXT METADATA FROM 'topic'")),
    ("make_time", New("write to_timestamp(…) or make_date(…)")),
    ("median", NoPlace(MEDIAN)),
    ("named_struct", NoPlace(FLAT)),
    ("now", NotDeterministic(EVENT_TIME)),
    ("nth_value", NotDeterministic("write first_value(x ORDER BY y) or last_value(x ORDER BY y)")),
    ("percentile_cont", New(QUANTILE)),
    ("quantile_cont", New(QUANTILE)),
    ("rand", NotDeterministic(NO_CHANCE)),
    ("random", NotDeterministic(NO_CHANCE)),
    ("regexp_instr", New("write strpos(text, part), or regexp_like(text, pattern)")),
    ("regexp_match", NoPlace(r"write regexp_replace(text, '^.*(pattern).*$', '\1')")),
    ("row", NoPlace(FLAT)),
    ("string_agg", NotDeterministic("aggregate to a number or a text: count, min, max, first_value(x ORDER BY y)")),
    ("struct", NoPlace(FLAT)),
    ("to_time", New("write to_timestamp(…)")),
    ("today", NotDeterministic(EVENT_TIME)),
    ("try_cast_to_type", New(CAST)),
    ("union_extract", NoPlace(FLAT)),
    ("union_tag", NoPlace(FLAT)),
    ("uuid", NotDeterministic(NO_CHANCE)),
    ("version", NotDeterministic("leave it out")),
    ("with_metadata", New("leave it out")),
    ("unnest", NoPlace(FLAT)),
    ("make_array", NoPlace(FLAT)),
];

/// Why `name` is refused; `None` if it is allowed or unknown.
pub(super) fn refusal(name: &str) -> Option<Refusal> {
    if let Some((_, refusal)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(*refusal);
    }
    let list = ["array_", "arrays_", "list_", "map_"].iter().any(|prefix| name.starts_with(prefix));
    list.then_some(NoPlace(FLAT))
}

/// Whether a UDF may have a name: no function has it here or on Arroyo, and the parser takes it for one.
pub(crate) fn check_udf_name(name: &str) -> Result<(), UdfError> {
    let windows = ["tumble", "hop", "session"];
    let taken = scalars().contains(name) || aggregates().contains(name) || windows.contains(&name);
    let message = if taken || refusal(name).is_some() {
        "SQL has a function of this name already"
    } else if SPECIAL.split_whitespace().any(|word| word == name) || !is_callable(name) {
        "SQL has another meaning for this word"
    } else {
        return Ok(());
    };
    let hint = "give the function and its file another name".to_owned();
    Err(UdfError::Function { name: name.to_owned(), message: message.to_owned(), hint })
}

/// Words that open a form of their own, which the parser tries before it takes them for a function.
const SPECIAL: &str = "
    all any array case cast convert exists extract interval map match not safe_cast some struct try_cast
";

/// Whether `name(x)` is read as a call of a function.
fn is_callable(name: &str) -> bool {
    let reserved = |keyword: &Keyword| format!("{keyword:?}").eq_ignore_ascii_case(name);
    if RESERVED_FOR_COLUMN_ALIAS.iter().any(reserved) {
        return false;
    }
    let parsed =
        Parser::new(&PostgreSqlDialect {}).try_with_sql(&format!("{name}(x)")).and_then(|mut p| p.parse_expr());
    matches!(parsed, Ok(ast::Expr::Function(call)) if call.name.to_string() == name)
}

impl Refusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            New(_) | NoPlace(_) => "function-not-portable",
            NotDeterministic(_) => "not-deterministic",
        }
    }

    pub(super) fn message(self, name: &str) -> String {
        match self {
            New(_) => format!("function `{name}` does not exist on Arroyo"),
            NotDeterministic(_) => format!("function `{name}` is not deterministic"),
            NoPlace(_) => format!("function `{name}` is not in the portable profile"),
        }
    }

    /// What to write instead.
    pub(super) fn hint(self) -> &'static str {
        match self {
            New(hint) | NotDeterministic(hint) | NoPlace(hint) => hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateDefaults;
    use datafusion::logical_expr::Volatility;

    use super::*;
    use crate::sql::functions;

    fn names(name: &str, aliases: &[String]) -> Vec<String> {
        aliases.iter().cloned().chain([name.to_owned()]).collect()
    }

    /// Of `all` that our DataFusion brings, each name is allowed or refused, and not both; what is allowed exists.
    #[track_caller]
    fn divided(all: &BTreeSet<String>, allowed: &BTreeSet<&str>) {
        for name in all {
            let lists = usize::from(allowed.contains(name.as_str())) + usize::from(refusal(name).is_some());
            assert_eq!(lists, 1, "`{name}` is on {lists} lists");
        }
        assert!(allowed.iter().all(|name| all.contains(*name)), "{allowed:?}");
    }

    #[test]
    fn each_scalar_function_is_allowed_or_refused() {
        let all = SessionStateDefaults::default_scalar_functions();
        let all = all.iter().flat_map(|udf| names(udf.name(), udf.aliases())).collect();
        divided(&all, &scalars());
        let windows = [functions::TUMBLE, functions::HOP, functions::SESSION];
        let planner = functions::scalars();
        for udf in &planner {
            assert_eq!(udf.signature().volatility, Volatility::Immutable, "`{}`", udf.name());
            for name in names(udf.name(), udf.aliases()) {
                assert!(windows.contains(&name.as_str()) || scalars().contains(name.as_str()), "`{name}`");
            }
        }
        assert_eq!(planner.iter().map(|udf| udf.aliases().len() + 1).sum::<usize>(), scalars().len() + windows.len());
    }

    #[test]
    fn each_aggregate_function_is_allowed_or_refused() {
        let all = SessionStateDefaults::default_aggregate_functions();
        let all = all.iter().flat_map(|udaf| names(udaf.name(), udaf.aliases())).collect();
        divided(&all, &aggregates());
        let planner = functions::aggregates();
        for name in planner.iter().flat_map(|udaf| names(udaf.name(), udaf.aliases())) {
            assert!(aggregates().contains(name.as_str()), "`{name}`");
        }
        assert_eq!(planner.iter().map(|udaf| udaf.aliases().len() + 1).sum::<usize>(), aggregates().len());
    }
}
