//! What is kept beside the load of a service, for models that look at it. Rule: a name is a feature column, or the load of
//! another service; what is derived is derived from one row, without a look at any other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use prescale_domain::ServiceName;

/// In a list of covariates: each of [`STANDARD`] that is measured.
pub const STANDARD_NAME: &str = "standard";

/// Columns that usually say something of the load to come, as `requests.sql` and `metrics.sql` name them: queue length,
/// response time, error rate, system load, memory pressure, network latency.
pub const STANDARD: [&str; 8] = [
    "queue_length_mean",
    "latency_ms_p90",
    ERROR_RATE,
    "cpu_utilization_mean",
    "system_load_mean",
    "memory_utilization_mean",
    "memory_pressure_mean",
    "network_latency_ms_mean",
];

/// The share of the requests that failed: of `errors` and `requests`, where the row does not say it itself.
pub const ERROR_RATE: &str = "error_rate";
/// What it is made of.
pub const ERROR_RATE_OF: [&str; 2] = ["errors", "requests"];
/// Before the name of the service whose load is meant.
const LOAD_OF: &str = "service:";

/// One covariate, as the configuration names it: a column, or `service:` and the name of another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covariate {
    Measure(String),
    /// The load of that service.
    Load(ServiceName),
}

impl FromStr for Covariate {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(match name.strip_prefix(LOAD_OF) {
            Some(service) => Self::Load(service.into()),
            None => Self::Measure(name.to_owned()),
        })
    }
}

impl fmt::Display for Covariate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measure(name) => f.write_str(name),
            Self::Load(service) => write!(f, "{LOAD_OF}{service}"),
        }
    }
}

/// The names of a list, each once, with [`STANDARD`] in the place of its name.
pub fn expanded(names: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let standard = STANDARD.iter().map(|name| (*name).to_owned());
        let meant = if name == STANDARD_NAME { standard.collect() } else { vec![name.clone()] };
        for name in meant {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// The finite value of a column of a row.
pub fn measure(measures: &BTreeMap<String, Option<f64>>, name: &str) -> Option<f64> {
    let column = |name: &str| measures.get(name).copied().flatten().filter(|value| value.is_finite());
    match column(name) {
        None if name == ERROR_RATE => {
            let [errors, requests] = ERROR_RATE_OF.map(column);
            requests.filter(|requests| *requests > 0.0).zip(errors).map(|(requests, errors)| errors / requests)
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_column_or_the_load_of_a_service() {
        for name in ["latency_ms_p90", "service:shop:front"] {
            assert_eq!(name.parse::<Covariate>().unwrap().to_string(), name);
        }
        assert_eq!("service:shop".parse(), Ok(Covariate::Load("shop".into())));
        let names = ["errors", "standard", "service:shop", "error_rate", "errors"].map(str::to_owned);
        let found = expanded(&names);
        assert_eq!(found.len(), STANDARD.len() + 2);
        assert_eq!((found[0].as_str(), found[1].as_str()), ("errors", STANDARD[0]));
        assert_eq!(found.last().map(String::as_str), Some("service:shop"));
    }

    #[test]
    fn the_error_rate_is_derived_where_there_were_requests() {
        let row = |errors: Option<f64>, requests: f64| {
            BTreeMap::from([("errors".to_owned(), errors), ("requests".to_owned(), Some(requests))])
        };
        let rate = |row: &BTreeMap<_, _>| measure(row, ERROR_RATE);
        assert_eq!(rate(&row(Some(3.0), 12.0)), Some(0.25));
        assert_eq!((rate(&row(Some(0.0), 0.0)), rate(&row(None, 5.0))), (None, None));
        let mut told = row(Some(3.0), 12.0);
        told.insert(ERROR_RATE.to_owned(), Some(0.5));
        assert_eq!(rate(&told), Some(0.5));
        told.insert("x".to_owned(), Some(f64::NAN));
        assert_eq!(measure(&told, "x"), None);
    }
}
