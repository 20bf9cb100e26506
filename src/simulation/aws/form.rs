//! Parameters of the Query protocols. Rule: lists are numbered from 1 without gaps, structures are dotted; what cannot be
//! read is refused in the words of AWS, never guessed.

use std::collections::BTreeMap;

use prescale_domain::Timestamp;

use super::answer::Refusal;

/// Parameters by their dotted names.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// From a body of type `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
                    (decode(&pair[..at]), decode(pair.get(at + 1..).unwrap_or_default()))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| missing(name))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::new(400, "MalformedInput", format!("{name}: `{text}` is not a number")))
    }

    /// A number that is not negative.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        u32::try_from(number).map(Some).map_err(|_| {
            Refusal::validation(format!(
                "1 validation error detected: Value '{number}' at '{}' failed to satisfy constraint: Member must have \
                 value greater than or equal to 0",
                lower_first(name)
            ))
        })
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(Refusal::new(400, "MalformedInput", format!("{name}: `{text}` is not a boolean"))),
        }
    }

    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Refusal::new(400, "InvalidParameterValue", format!("{name}: `{text}`")))
    }

    /// `prefix.1`, `prefix.2`, …
    pub(super) fn list(&self, prefix: &str) -> Vec<&str> {
        (1..).map_while(|number| self.get(&format!("{prefix}.{number}"))).collect()
    }

    /// What is below `prefix.1.`, `prefix.2.`, …, each with names of its own.
    pub(super) fn structures(&self, prefix: &str) -> Vec<Self> {
        (1..).map_while(|number| self.below(&format!("{prefix}.{number}"))).collect()
    }

    /// What is below `prefix.`; `None` = nothing.
    pub(super) fn below(&self, prefix: &str) -> Option<Self> {
        let start = format!("{prefix}.");
        let found = self.0.range(start.clone()..).take_while(|(name, _)| name.starts_with(&start));
        let inner: BTreeMap<_, _> =
            found.map(|(name, value)| (name[start.len()..].to_owned(), value.clone())).collect();
        (!inner.is_empty()).then_some(Self(inner))
    }
}

pub(super) fn missing(name: &str) -> Refusal {
    Refusal::validation(format!(
        "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
        lower_first(name)
    ))
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// Undoes percent-encoding, `+` for a space included; what is no such code stays as it is.
pub(super) fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let code = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                at += 3;
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_structures_are_read() {
        let form = Form::parse(b"A.member.1=x%20y&A.member.2=a%2Bb+c&B.member.1.K=1&B.member.2.K=2&N=%zz&C=");
        assert_eq!(form.list("A.member"), ["x y", "a+b c"]);
        let inner: Vec<_> = form.structures("B.member").iter().map(|one| one.get("K").unwrap().to_owned()).collect();
        assert_eq!(inner, ["1", "2"]);
        assert_eq!((form.get("N"), form.get("C")), (Some("%zz"), Some("")));
        assert!(form.required("C").is_err() && form.number("N").is_err());
    }
}
