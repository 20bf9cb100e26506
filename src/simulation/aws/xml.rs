//! Writes XML. Rule: every text is escaped; elements that have no value are left out, as AWS does.

use std::fmt::Display;

/// XML in the making.
#[derive(Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn leaf(&mut self, name: &str, value: impl Display) -> &mut Self {
        let text = escape(&value.to_string());
        for part in ["<", name, ">", &text, "</", name, ">"] {
            self.0.push_str(part);
        }
        self
    }

    pub(super) fn maybe(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.leaf(name, value),
            None => self,
        }
    }

    pub(super) fn within(&mut self, name: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        for part in ["<", name, ">"] {
            self.0.push_str(part);
        }
        fill(self);
        for part in ["</", name, ">"] {
            self.0.push_str(part);
        }
        self
    }

    /// A list, each of whose members is an element `member` (Auto Scaling) or `item` (EC2).
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        member: &str,
        values: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.within(name, |xml| {
            for value in values {
                xml.within(member, |xml| fill(xml, value));
            }
        })
    }

    pub(super) fn texts<T: Display>(&mut self, name: &str, values: impl IntoIterator<Item = T>) -> &mut Self {
        self.within(name, |xml| {
            for value in values {
                xml.leaf("member", value);
            }
        })
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A text as the content of an element.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no place for the other control characters.
            letter if letter < ' ' && !matches!(letter, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}
