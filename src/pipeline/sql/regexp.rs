//! `regexp_replace` with a pattern that is compiled once, not once for each batch. Rule: same name, same result as
//! DataFusion's; whatever this does not cover goes to DataFusion's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion::scalar::ScalarValue;
use regex::Regex;

pub(super) const NAME: &str = "regexp_replace";

/// More patterns than this are not kept; a pipeline has a few.
const MOST_PATTERNS: usize = 256;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RegexpReplace {
    own: Arc<ScalarUDF>,
}

/// A piece of a replacement: text, or what a group matched.
enum Piece {
    Text(String),
    Group(usize),
}

impl RegexpReplace {
    pub(super) fn new(own: Arc<ScalarUDF>) -> Self {
        Self { own }
    }
}

impl ScalarUDFImpl for RegexpReplace {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        self.own.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.own.return_type(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Array(values), ColumnarValue::Scalar(pattern), ColumnarValue::Scalar(replacement)] =
            &args.args[..]
            && let (Some(values), Some(pattern), Some(replacement)) =
                (values.as_string_opt::<i32>(), text(pattern), text(replacement))
            && let Some(pieces) = pieces(replacement)
        {
            return Ok(ColumnarValue::Array(replace_first(values, &compiled(pattern)?, &pieces)));
        }
        self.own.invoke_with_args(args)
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

fn compiled(pattern: &str) -> Result<Regex> {
    static PATTERNS: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = patterns.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern).map_err(|error| exec_datafusion_err!("regular expression `{pattern}`: {error}"))?;
    if patterns.len() >= MOST_PATTERNS {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

/// Splits a replacement at `\1` … `\9`; `None` where it holds `$`, which has a meaning of its own.
fn pieces(replacement: &str) -> Option<Vec<Piece>> {
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut chars = replacement.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek().and_then(|next| next.to_digit(10))) {
            ('$', _) => return None,
            ('\\', Some(group)) => {
                chars.next();
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Group(group as usize));
                // `\12` is group 12 there: leave it to DataFusion.
                if chars.peek().is_some_and(char::is_ascii_digit) {
                    return None;
                }
            }
            _ => plain.push(char),
        }
    }
    pieces.push(Piece::Text(plain));
    Some(pieces)
}

fn replace_first(values: &StringArray, regex: &Regex, pieces: &[Piece]) -> ArrayRef {
    let mut locations = regex.capture_locations();
    let mut builder = StringBuilder::with_capacity(values.len(), values.value_data().len() / 2);
    let mut replaced = String::new();
    for value in values {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        let Some(found) = regex.captures_read(&mut locations, value) else {
            builder.append_value(value);
            continue;
        };
        replaced.clear();
        replaced.push_str(&value[..found.start()]);
        for piece in pieces {
            match piece {
                Piece::Text(text) => replaced.push_str(text),
                Piece::Group(group) => {
                    let matched = locations.get(*group).map(|(start, end)| &value[start..end]);
                    replaced.push_str(matched.unwrap_or_default());
                }
            }
        }
        replaced.push_str(&value[found.end()..]);
        builder.append_value(&replaced);
    }
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;
    use datafusion::execution::SessionStateDefaults;

    use super::*;

    #[track_caller]
    fn same_as_datafusion(pattern: &str, replacement: &str) {
        let values = StringArray::from(vec![Some("aab b"), None, Some(""), Some("xyz"), Some("über b1")]);
        let scalar = |text: &str| ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.to_owned())));
        let field = || Arc::new(Field::new("f", DataType::Utf8, true));
        let args = || ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(Arc::new(values.clone())), scalar(pattern), scalar(replacement)],
            arg_fields: vec![field(), field(), field()],
            number_rows: values.len(),
            return_field: field(),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let theirs =
            SessionStateDefaults::default_scalar_functions().into_iter().find(|udf| udf.name() == NAME).unwrap();
        let ours = RegexpReplace::new(theirs.clone()).invoke_with_args(args()).unwrap().into_array(5).unwrap();
        let theirs = theirs.invoke_with_args(args()).unwrap().into_array(5).unwrap();
        assert_eq!(ours.as_string::<i32>(), theirs.as_string::<i32>());
    }

    #[test]
    fn it_replaces_as_datafusion_does() {
        same_as_datafusion("(a+)(b)", "[\\2\\1]");
        same_as_datafusion("^([^ ]+) ([a-z])$", "\\2|\\1");
        same_as_datafusion("b(1)?", "<\\1>");
        same_as_datafusion("z", "");
        same_as_datafusion("y", "${0}-$0");
        same_as_datafusion("(x)(y)(z)", "\\9\\3\\n");
    }
}
