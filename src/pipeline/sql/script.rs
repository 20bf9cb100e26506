//! The statements of a pipeline file. Rule: sources and sinks by `CREATE TABLE`, then one `INSERT INTO … SELECT`; all
//! other statements are refused.

use datafusion::sql::sqlparser::ast::{Ident, Query, Spanned};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};

use super::ddl::{self, TableDefinition};
use crate::{Place, SqlError};

/// The statements, in the order in which they stand.
pub(super) struct Script {
    pub(super) tables: Vec<TableDefinition>,
    pub(super) views: Vec<(Ident, Box<Query>)>,
    pub(super) insert: Insert,
}

/// `INSERT INTO sink SELECT …`.
pub(super) struct Insert {
    pub(super) sink: Ident,
    pub(super) query: Box<Query>,
}

/// The text, for error messages.
#[derive(Debug)]
pub(crate) struct SourceText<'a> {
    text: &'a str,
}

impl<'a> SourceText<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text }
    }

    pub(super) fn error(&self, code: &'static str, span: Span, message: impl Into<String>) -> SqlError {
        let line = usize::try_from(span.start.line).unwrap_or(1).max(1);
        let column = usize::try_from(span.start.column).unwrap_or(1).max(1);
        let source_line = self.text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let rest = source_line.chars().count().saturating_sub(column - 1).max(1);
        let width = if span.end.line == span.start.line {
            usize::try_from(span.end.column.saturating_sub(span.start.column)).unwrap_or(1).clamp(1, rest)
        } else {
            rest
        };
        SqlError { code, message: message.into(), place: Place { line, column, width }, hint: None, source_line }
    }

    /// Just after the last character.
    fn end(&self) -> Span {
        let last = self.text.trim_end();
        let line = last.lines().count().max(1) as u64;
        let column = last.lines().last().map_or(0, |line| line.chars().count()) as u64 + 1;
        Span::new(Location { line, column }, Location { line, column })
    }

    /// The first place of `word` as a token, for errors that come without one.
    pub(super) fn find(&self, word: &str) -> Option<Span> {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, self.text).tokenize_with_location().ok()?;
        tokens
            .into_iter()
            .find(|t| matches!(&t.token, Token::Word(w) if w.value.eq_ignore_ascii_case(word)))
            .map(|t| t.span)
    }
}

impl SqlError {
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A parser over the tokens of a text, and the text for its errors.
pub(super) struct Cursor<'a> {
    pub(super) parser: Parser<'a>,
    pub(super) source: &'a SourceText<'a>,
}

impl Cursor<'_> {
    /// The place of the next token.
    pub(super) fn here(&self) -> Span {
        let token = self.parser.peek_token();
        if token.token == Token::EOF { self.source.end() } else { token.span }
    }

    /// Turns an error of sqlparser into ours, at its own place where it names one, else at the last token read.
    pub(super) fn syntax(&mut self, error: ParserError) -> SqlError {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => "expression is nested too deeply".to_owned(),
        };
        let (message, span) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message.to_owned(), parse_place(place).unwrap_or_else(|| self.here())),
            None => (text, self.here()),
        };
        self.source.error("syntax", span, lower_first(&message))
    }

    /// Takes a word regardless of case; `false` when something else follows.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(&self.parser.peek_token().token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        if found {
            self.parser.next_token();
        }
        found
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.parser.consume_token(token) { Ok(()) } else { Err(self.unexpected(&format!("`{token}`"))) }
    }

    pub(super) fn unexpected(&self, expected: &str) -> SqlError {
        let token = self.parser.peek_token();
        let found = if token.token == Token::EOF { "the end of the file".to_owned() } else { format!("`{token}`") };
        self.source.error("syntax", self.here(), format!("expected {expected}, found {found}"))
    }

    pub(super) fn identifier(&mut self) -> Result<Ident, SqlError> {
        let parsed = self.parser.parse_identifier();
        parsed.map(normalised).map_err(|error| self.syntax(error))
    }

    pub(super) fn query(&mut self) -> Result<Box<Query>, SqlError> {
        let parsed = self.parser.parse_query();
        parsed.map_err(|error| self.syntax(error))
    }
}

/// Reads the whole text.
pub(super) fn parse(source: &SourceText<'_>) -> Result<Script, SqlError> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, source.text).tokenize_with_location().map_err(|error| {
        let span = Span::new(error.location, error.location);
        source.error("syntax", span, lower_first(&error.message))
    })?;
    let parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut cursor = Cursor { parser, source };
    let (mut tables, mut views, mut insert) = (Vec::new(), Vec::new(), None);
    loop {
        while cursor.parser.consume_token(&Token::SemiColon) {}
        let start = cursor.here();
        if cursor.parser.peek_token().token == Token::EOF {
            break;
        }
        if cursor.parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
            tables.push(ddl::table(&mut cursor)?);
        } else if cursor.parser.parse_keywords(&[Keyword::CREATE, Keyword::VIEW]) {
            let name = cursor.identifier()?;
            cursor.expect_word("AS")?;
            views.push((name, cursor.query()?));
        } else if cursor.parser.parse_keywords(&[Keyword::INSERT, Keyword::INTO]) {
            if insert.is_some() {
                return Err(source
                    .error("second-insert", start, "a pipeline file holds one INSERT INTO")
                    .hint("put the second query into a file of its own"));
            }
            let sink = cursor.identifier()?;
            insert = Some(Insert { sink, query: cursor.query()? });
        } else {
            return Err(refused(&cursor, start));
        }
        if !matches!(cursor.parser.peek_token().token, Token::SemiColon | Token::EOF) {
            return Err(unexpected_clause(&mut cursor));
        }
    }
    let end = cursor.here();
    let insert = insert.ok_or_else(|| {
        source
            .error("no-insert", end, "the pipeline has no INSERT INTO")
            .hint("end the file with INSERT INTO <sink> SELECT …")
    })?;
    Ok(Script { tables, views, insert })
}

fn refused(cursor: &Cursor<'_>, start: Span) -> SqlError {
    let token = cursor.parser.peek_token();
    let word = token.token.to_string().to_uppercase();
    let next = cursor.parser.peek_nth_token(1).token.to_string().to_uppercase();
    let (what, hint) = match (word.as_str(), next.as_str()) {
        ("SELECT" | "WITH", _) => ("a SELECT without a sink".to_owned(), "write INSERT INTO <sink> SELECT …"),
        ("SET", _) => ("SET".to_owned(), "leave it out: settings live in the service's configuration"),
        ("CREATE", "TEMPORARY" | "TEMP") => {
            ("CREATE TEMPORARY TABLE (a lookup table)".to_owned(), "join two windowed queries")
        }
        _ => (
            format!("the statement `{word}`"),
            "a pipeline holds CREATE TABLE, CREATE VIEW and one INSERT INTO … SELECT",
        ),
    };
    cursor.source.error("unsupported-statement", start, format!("{what} is not supported")).hint(hint)
}

fn unexpected_clause(cursor: &mut Cursor<'_>) -> SqlError {
    let error = cursor.unexpected("`;` or the end of the file");
    // EMIT is read as the alias of a table: what can't be read stands after it.
    cursor.parser.prev_token();
    for _ in 0..2 {
        let token = cursor.parser.next_token();
        if token.token.to_string().eq_ignore_ascii_case("EMIT") {
            let error = cursor.source.error("emit", token.span, "EMIT is not supported");
            return error.hint("leave it out: a window is written once, when the watermark reaches its end");
        }
    }
    error
}

/// Unquoted names are case-insensitive.
pub(super) fn normalised(mut ident: Ident) -> Ident {
    if ident.quote_style.is_none() {
        ident.value = ident.value.to_lowercase();
    }
    ident
}

/// The place of a syntax node; the first character of the text when the parser kept none.
pub(super) fn span_of(node: &impl Spanned) -> Span {
    node.span()
}

fn parse_place(text: &str) -> Option<Span> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
    let location = Location { line: line.trim().parse().ok()?, column: column[..digits].parse().ok()? };
    Some(Span::new(location, location))
}

pub(super) fn lower_first(text: &str) -> String {
    let text = text.trim_start_matches("sql parser error: ");
    let mut chars = text.chars();
    // A keyword stays as it is.
    if chars.clone().take(2).all(char::is_uppercase) {
        return text.to_owned();
    }
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
