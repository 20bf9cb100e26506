//! Histories as lines: CSV and NDJSON. Rule: buffers are reused, so that a line costs no allocation; faults name the line.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use prescale_domain::Timestamp;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::columns::{Columns, Places};
use super::{Fault, Histories, Result, Row, VALUE_HINT, checked, load, time};

/// The longest line of NDJSON.
const LINE_MAX: usize = 1 << 20;

/// Reads `timestamp,value` lines with a header, or without one the first two columns; rows may be in any order of time.
pub(super) fn read_csv(
    source: impl BufRead,
    mut histories: Histories,
    columns: &Columns,
    signals: &[&str],
) -> Result<Histories> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(source);
    let mut record = csv::StringRecord::new();
    let mut places = None;
    loop {
        let read = reader.read_record(&mut record).map_err(|error| unread(&error))?;
        if !read {
            return Ok(histories);
        }
        let number = record.position().map_or(0, csv::Position::line);
        let places = match places {
            Some(places) => places,
            None => {
                let names: Vec<&str> = record.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
                let has_header = names.first().is_none_or(|first| first.parse::<Timestamp>().is_err());
                if has_header {
                    let found = columns.find(&names, signals)?;
                    histories.names_services = found.service.is_some();
                    places = Some(found);
                    continue;
                }
                *places.insert(headless(columns)?)
            }
        };
        take(&mut histories, &record, places, Row::Line(number), number)?;
    }
}

/// Without a header there are no names.
fn headless(columns: &Columns) -> Result<Places> {
    if *columns == Columns::default() {
        return Ok(Places { time: 0, value: 1, service: None });
    }
    Err(Fault::at(
        Row::Line(1),
        "columns were named, but this is no line of names",
        "put the names of the columns first",
    ))
}

fn take(histories: &mut Histories, record: &csv::StringRecord, places: Places, row: Row, number: u64) -> Result<()> {
    let field = |place: usize| {
        let hint = "give each line as many columns as the first has, with commas between them";
        let reason = || format!("has {} columns, column {} is wanted", record.len(), place + 1);
        record.get(place).ok_or_else(|| Fault::at(row, reason(), hint))
    };
    let at = time(field(places.time)?.trim_start_matches('\u{feff}'), row)?;
    let value = load(field(places.value)?, row)?;
    let service = places.service.map(field).transpose()?.unwrap_or("");
    named(histories, service, row)?;
    histories.push(service, (at, value), number);
    Ok(())
}

/// A row that belongs to nobody is none.
fn named(histories: &Histories, service: &str, row: Row) -> Result<()> {
    if histories.names_services && service.is_empty() {
        return Err(Fault::at(row, "the service is empty", "name the service in each row"));
    }
    Ok(())
}

fn unread(error: &csv::Error) -> Fault {
    let hint = "write it as UTF-8 text, and with the ending .gz if it is packed";
    match error.position() {
        Some(position) => Fault::at(Row::Line(position.line()), error.to_string(), hint),
        None => Fault::whole(error.to_string(), hint),
    }
}

/// Reads one JSON object a line; a load that is null or absent is not known.
pub(super) fn read_ndjson(
    mut source: impl BufRead,
    mut histories: Histories,
    columns: &Columns,
    signals: &[&str],
) -> Result<Histories> {
    let (mut line, mut number) = (Vec::new(), 0_u64);
    let mut names: Option<Names> = None;
    loop {
        line.clear();
        number += 1;
        let row = Row::Line(number);
        let read = source.read_until(b'\n', &mut line).map_err(|error| {
            Fault::at(row, error.to_string(), "give it the ending .gz if it is packed, and none if it is not")
        })?;
        if read == 0 {
            return Ok(histories);
        }
        if line.len() > LINE_MAX {
            return Err(Fault::at(row, format!("is longer than {LINE_MAX} bytes"), "write one object a line"));
        }
        let text = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        let names = match &mut names {
            Some(names) => names,
            None => {
                let found = Names::of(text, columns, signals).map_err(|fault| Fault { row: Some(row), ..fault })?;
                histories.names_services = found.service.is_some();
                names.insert(found)
            }
        };
        let json = |error: serde_json::Error| {
            // The line is this one.
            let said = error.to_string();
            let said = said.split(" at line ").next().unwrap_or(&said).to_owned();
            Fault::at(
                row,
                format!("is no row: {said}"),
                format!("write one object a line, with RFC 3339 times; {VALUE_HINT}"),
            )
        };
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let fields = names.deserialize(&mut deserializer).map_err(json)?;
        deserializer.end().map_err(json)?;
        let at = fields
            .time
            .ok_or_else(|| Fault::at(row, format!("has no `{}`", names.time), "name the time in each row"))?;
        let at = time(&at, row)?;
        let value = fields.value.map(|value| checked(value, row)).transpose()?;
        let service = fields.service.unwrap_or_default();
        named(&histories, &service, row)?;
        histories.push(&service, (at, value), number);
    }
}

/// Names of the fields that are looked at.
struct Names {
    time: String,
    value: String,
    service: Option<String>,
}

impl Names {
    /// As the first row has them.
    fn of(line: &[u8], columns: &Columns, signals: &[&str]) -> Result<Self> {
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
            .map_err(|error| Fault::whole(format!("is no JSON object: {error}"), "write one object a line"))?;
        // Labels beside the load, such as the name of a metric, are no candidates for it.
        let counts = |(name, value): &(&String, &serde_json::Value)| {
            value.is_number() || value.is_null() || columns.is_text(name)
        };
        let names: Vec<&str> = fields.iter().filter(counts).map(|(name, _)| name.as_str()).collect();
        let places = columns.find(&names, signals)?;
        let name = |index: usize| names[index].to_owned();
        Ok(Self { time: name(places.time), value: name(places.value), service: places.service.map(name) })
    }
}

/// What one row has of them.
#[derive(Default)]
struct Fields<'de> {
    time: Option<Cow<'de, str>>,
    value: Option<f64>,
    service: Option<Cow<'de, str>>,
}

impl<'de> DeserializeSeed<'de> for &Names {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Names {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(name)) = map.next_key()? {
            if name == self.time {
                fields.time = Some(map.next_value::<Text<'de>>()?.0);
            } else if name == self.value {
                fields.value = map.next_value()?;
            } else if self.service.as_deref() == Some(&*name) {
                fields.service = Some(map.next_value::<Text<'de>>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// A text that is borrowed where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Words)
    }
}
