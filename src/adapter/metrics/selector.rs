//! Which labels are asked for, in the grammar of Kubernetes (`a=b,c!=d,e in (f,g),h,!i`). Rule: what is not understood is
//! refused, never passed over.

use std::collections::BTreeMap;

/// Requirements, all of which hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unclear = |part: &str| format!("`{}` in the selector `{text}` is not understood", part.trim());
        let parts = split(text);
        let requirements = parts.map(|part| Requirement::parse(part.trim()).ok_or_else(|| unclear(part)));
        Ok(Self(requirements.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the requirement of a key out, which is to name one value.
    pub(super) fn take(&mut self, key: &str) -> Result<Option<String>, String> {
        let Some(place) = self.0.iter().position(|requirement| requirement.key == key) else { return Ok(None) };
        match self.0.remove(place).operator {
            Operator::In(values) if values.len() == 1 && self.0.iter().all(|other| other.key != key) => {
                Ok(values.into_iter().next())
            }
            _ => Err(format!("`{key}` selects other than by one value")),
        }
    }

    pub(super) fn matches(&self, labels: &BTreeMap<&str, &str>) -> bool {
        self.0.iter().all(|Requirement { key, operator }| {
            let value = labels.get(key.as_str());
            match operator {
                Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
            }
        })
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        let (key, operator) = if let Some(key) = text.strip_prefix('!') {
            (key, Operator::Absent)
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Operator::NotIn(vec![name(value)?]))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (key, Operator::In(vec![name(value)?]))
        } else if let Some((key, set)) = text.split_once(char::is_whitespace) {
            let (word, values) = set.trim().split_once('(')?;
            let values = values.strip_suffix(')')?.split(',').map(name).collect::<Option<Vec<_>>>()?;
            match word.trim() {
                "in" => (key, Operator::In(values)),
                "notin" => (key, Operator::NotIn(values)),
                _ => return None,
            }
        } else {
            (text, Operator::Exists)
        };
        let key = name(key).filter(|key| !key.is_empty())?;
        Some(Self { key, operator })
    }
}

/// A key or a value: none of the signs of the grammar.
fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let sign = |letter: char| letter.is_whitespace() || "=!(),<>".contains(letter);
    (!text.contains(sign)).then(|| text.to_owned())
}

/// The parts between commas that are in no brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts.filter(move |_| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels = labels.iter().copied().collect();
        assert_eq!(Selector::parse(selector).unwrap().matches(&labels), expected, "{selector}");
    }

    #[test]
    fn requirements_hold_as_in_kubernetes() {
        let web = [("service", "web")];
        for (selector, expected) in [
            ("", true),
            ("service=web", true),
            ("service==web", true),
            ("service = web", true),
            ("service=api", false),
            ("service!=api", true),
            ("service!=web", false),
            ("team!=red", true),
            ("team=red", false),
            ("service in (web, api)", true),
            ("service in (api)", false),
            ("service notin (api,db)", true),
            ("service notin (web)", false),
            ("service", true),
            ("team", false),
            ("!team", true),
            ("!service", false),
            ("service=web,!team", true),
            ("service in (web,api),team notin (red),service", true),
            ("service=web,team", false),
        ] {
            check(selector, &web, expected);
        }
        check("service=", &[("service", "")], true);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in
            ["=web", ",", "service=a=b", "service in web", "service in (web", "a > 1", "!", "a b", "service=web,"]
        {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        insta::assert_snapshot!(
            Selector::parse("service=web,a > 1").unwrap_err(),
            @"`a > 1` in the selector `service=web,a > 1` is not understood"
        );
    }

    #[test]
    fn a_key_that_names_one_value_is_taken_out() {
        let mut selector = Selector::parse("service=web,ahead=5m").unwrap();
        assert_eq!(selector.take("ahead"), Ok(Some("5m".to_owned())));
        assert_eq!(selector, Selector::parse("service=web").unwrap());
        assert_eq!(selector.take("ahead"), Ok(None));
        for text in ["ahead!=5m", "ahead in (5m,6m)", "ahead=5m,ahead=6m", "ahead"] {
            assert!(Selector::parse(text).unwrap().take("ahead").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z=!(), <>\\PC]{0,40}") {
            if let Ok(selector) = Selector::parse(&text) {
                selector.matches(&BTreeMap::from([("a", "b")]));
            }
        }
    }
}
