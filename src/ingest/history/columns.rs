//! Which columns of a history hold time, load and service. Rule: names that were given must be there; without them the
//! usual names are looked for, and two candidates are none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Result};

/// Names that a column of times may have where none was given.
const TIMES: [&str; 4] = ["timestamp", "time", "ts", "window_start"];
const VALUE: &str = "value";
const SERVICE: &str = "service";
/// Columns of feature rows that are never loads.
const NEVER: [&str; 1] = ["window_end"];

/// Names of columns; `None` = the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Start of the window; else `timestamp`, `time`, `ts` or `window_start`.
    pub time: Option<String>,
    /// Its load; else `value`, the name of the signal, or the only other column.
    pub value: Option<String>,
    /// The service; else `service` where there is such a column.
    pub service: Option<String>,
}

/// Where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) time: usize,
    pub(super) value: usize,
    pub(super) service: Option<usize>,
}

impl Columns {
    /// Finds them among `names`; `signals` are further names of the load.
    pub(super) fn find(&self, names: &[&str], signals: &[&str]) -> Result<Places> {
        let place = |name: &str| names.iter().position(|found| *found == name);
        let all = || format!("the columns are: {}", names.join(", "));
        let named = |what: &str, name: &str| {
            let hint = format!("name the column of the {what} as it is; CSV has commas between columns");
            place(name).ok_or_else(|| Fault::whole(format!("there is no column `{name}`; {}", all()), hint))
        };
        let time = match &self.time {
            Some(name) => named("time", name)?,
            None => TIMES.iter().find_map(|name| place(name)).ok_or_else(|| {
                let reason = format!("none of the columns {} is there; {}", TIMES.join(", "), all());
                Fault::whole(reason, "name the column of the time; CSV has commas between columns")
            })?,
        };
        let service = match &self.service {
            Some(name) => Some(named("service", name)?),
            None => place(SERVICE),
        };
        let value = match &self.value {
            Some(name) => named("value", name)?,
            None => self.usual_value(names, signals, (time, service))?,
        };
        Ok(Places { time, value, service })
    }

    /// Whether a column of this name may hold text.
    pub(super) fn is_text(&self, name: &str) -> bool {
        let named = [&self.time, &self.value, &self.service];
        named.into_iter().flatten().any(|own| own == name) || TIMES.contains(&name) || name == SERVICE
    }

    fn usual_value(&self, names: &[&str], signals: &[&str], taken: (usize, Option<usize>)) -> Result<usize> {
        let usual = std::iter::once(&VALUE).chain(signals);
        if let Some(found) = usual.filter_map(|name| names.iter().position(|found| found == name)).next() {
            return Ok(found);
        }
        let rest = (0..names.len())
            .filter(|index| *index != taken.0 && Some(*index) != taken.1 && !NEVER.contains(&names[*index]));
        let rest: Vec<usize> = rest.collect();
        match rest[..] {
            [only] => Ok(only),
            [] => Err(Fault::whole(
                format!("there is no column of loads; the columns are: {}", names.join(", ")),
                "have a column `value`; CSV has commas between columns",
            )),
            _ => {
                let names: Vec<&str> = rest.iter().map(|index| names[*index]).collect();
                let reason = format!("several columns could be the load: {}", names.join(", "));
                Err(Fault::whole(reason, "name the column of the value"))
            }
        }
    }
}
