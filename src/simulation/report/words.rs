//! How numbers and texts read. Rule: the same number always reads the same, and no text of a user can be markup.

/// What stands for a number that there is not.
pub(super) const ABSENT: &str = "–";

/// With `digits` after the point.
pub(super) fn fixed(value: Option<f64>, digits: usize) -> String {
    // No "-0.000".
    let text =
        |value: f64| format!("{:.digits$}", if value.abs() < 0.5 * 0.1_f64.powi(digits as i32) { 0.0 } else { value });
    value.map_or_else(|| ABSENT.to_owned(), text)
}

/// The same with thousands apart: `12,345.67`.
pub(super) fn grouped(value: Option<f64>, digits: usize) -> String {
    let text = fixed(value, digits);
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut out = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// As text or in quotes of HTML; control characters, which HTML has no place for, are replaced.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(letter),
            control if control.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            other => out.push(other),
        }
    }
    out
}

/// JSON that can stand in a `script` element: nothing in it ends the element or begins a comment.
pub(super) fn embedded(json: &str) -> String {
    let pairs =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    pairs.into_iter().fold(json.to_owned(), |text, (letter, code)| text.replace(letter, code))
}
