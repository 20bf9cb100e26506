//! Any text is compiled or refused. Rule: nothing that a user can write makes the compiler panic, and every refusal has a
//! place that is in the text.

use proptest::prelude::*;

use super::compile;

const SHIPPED: [&str; 5] = [
    include_str!("../../../pipelines/requests.sql"),
    include_str!("../../../pipelines/requests_10s.sql"),
    include_str!("../../../pipelines/requests_5m.sql"),
    include_str!("../../../pipelines/metrics.sql"),
    include_str!("../../../pipelines/access_log.sql"),
];

/// Words, numbers, texts, runs of blanks, and each other character by itself.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let class = |c: char| {
            if c.is_alphanumeric() || c == '_' {
                1
            } else if c.is_whitespace() {
                2
            } else {
                0
            }
        };
        let length = match first {
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            _ if class(first) == 0 => first.len_utf8(),
            _ => rest.find(|c| class(c) != class(first)).unwrap_or(rest.len()),
        };
        found.push(&rest[..length]);
        rest = &rest[length..];
    }
    found
}

#[derive(Clone, Debug)]
enum Change {
    Delete(usize),
    Double(usize),
    Swap(usize, usize),
    /// Puts a token of another place, or one that means something, in a token's place.
    Put(usize, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    const WORDS: [&str; 24] = [
        "(",
        ")",
        ",",
        ";",
        "'",
        "\"",
        "NULL",
        "SELECT",
        "FROM",
        "GROUP",
        "BY",
        "window",
        "tumble",
        "hop",
        "INTERVAL",
        "'1 minute'",
        "-9223372036854775808",
        "1e400",
        "CAST",
        "CASE",
        "*",
        "é\u{1f600}",
        "--",
        "/*",
    ];
    let at = any::<usize>();
    prop_oneof![
        at.prop_map(Change::Delete),
        at.prop_map(Change::Double),
        (at, at).prop_map(|(a, b)| Change::Swap(a, b)),
        (at, proptest::sample::select(WORDS.to_vec())).prop_map(|(at, word)| Change::Put(at, word)),
    ]
}

fn changed(text: &'static str, changes: &[Change]) -> String {
    let mut tokens = tokens(text);
    for change in changes {
        let count = tokens.len().max(1);
        match *change {
            Change::Delete(at) => drop(tokens.remove(at % count)),
            Change::Double(at) => tokens.insert(at % count, tokens[at % count]),
            Change::Swap(a, b) => tokens.swap(a % count, b % count),
            Change::Put(at, word) => tokens[at % count] = word,
        }
    }
    tokens.concat()
}

fn refused_in_place(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = compile(text) {
        // Showing it must not fail either.
        prop_assert!(error.to_string().contains(error.code));
        prop_assert!(error.place.line >= 1 && error.place.column >= 1, "{:?} in {text}", error.place);
        prop_assert!(error.place.line <= text.lines().count() + 1, "{:?} in {text}", error.place);
    }
    Ok(())
}

#[test]
fn tokens_are_the_whole_text() {
    for text in SHIPPED {
        assert_eq!(tokens(text).concat(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_refused(text in any::<String>()) {
        refused_in_place(&text)?;
    }

    #[test]
    fn words_of_the_language_in_any_order_are_refused_or_compiled(
        file in 0_usize..4, picks in proptest::collection::vec(any::<usize>(), 0..60),
    ) {
        let tokens = tokens(SHIPPED[file]);
        let text: String = picks.iter().map(|pick| tokens[pick % tokens.len()]).collect();
        refused_in_place(&text)?;
    }

    #[test]
    fn shipped_pipelines_with_changes_are_refused_or_compiled(
        file in 0_usize..4, changes in proptest::collection::vec(change(), 1..6),
    ) {
        refused_in_place(&changed(SHIPPED[file], &changes))?;
    }
}
