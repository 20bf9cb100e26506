//! Where a number is in the JSON. Rule: a path that is shown leads back to its value.

use serde_json::Value;

/// The path of these keys and indices.
pub fn path_of<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> String {
    let escaped = keys.into_iter().map(|key| key.as_ref().replace('\\', "\\\\").replace('.', "\\."));
    escaped.collect::<Vec<_>>().join(".")
}

/// What is at `path`; `None` where nothing is.
pub fn at_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    keys_of(path).iter().try_fold(value, |value, key| match value {
        Value::Array(values) => values.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn keys_of(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        let last = keys.len() - 1;
        match letter {
            '\\' => keys[last].extend(letters.next()),
            '.' => keys.push(String::new()),
            other => keys[last].push(other),
        }
    }
    keys
}

/// Everything in `value` that is neither a list nor an object, with its keys from the top.
pub(super) fn leaves(value: &Value) -> Vec<(Vec<String>, &Value)> {
    let mut found = Vec::new();
    collect(value, &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(value: &'a Value, keys: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'a Value)>) {
    let mut below = |key: String, value: &'a Value| {
        keys.push(key);
        collect(value, keys, found);
        keys.pop();
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| below(key.clone(), value)),
        Value::Array(values) => values.iter().enumerate().for_each(|(index, value)| below(index.to_string(), value)),
        leaf => found.push((keys.clone(), leaf)),
    }
}
