//! `WITH (…)` of Arroyo's Kafka connector. Rule: names are Arroyo's, verbatim; an unknown option is an error.

use datafusion::sql::sqlparser::tokenizer::Span;
use prescale_ingest::decode::{AvroEncoding, Format};
use prescale_ingest::registry::RegistrySettings;

use super::ddl::{OptionDefinition, TableDefinition};
use super::older;
use super::script::SourceText;
use crate::SqlError;

/// Where a source begins without a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    Earliest,
    #[default]
    Latest,
    Group,
}

/// A Kafka source as the SQL describes it; the service's configuration may override the first four.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    pub bootstrap_servers: Option<String>,
    /// Of a file, the name of the table.
    pub topic: String,
    /// `single_file`: the file to read.
    pub file: Option<String>,
    pub format: Format,
    /// Where writer schemas are that records name by id.
    pub schema_registry: Option<RegistrySettings>,
    pub start_at: StartAt,
    pub group_id: Option<String>,
    pub group_id_prefix: Option<String>,
    /// As the SQL says; where it does not, only committed records are read.
    pub read_committed: Option<bool>,
    /// Microseconds without rows after which a partition stops holding the watermark back; `None` = never.
    pub idle_micros: Option<i64>,
    /// How far a row may be ahead of its record's timestamp, in milliseconds; never in the SQL, the service's configuration
    /// says it.
    pub max_future_millis: Option<i64>,
    /// Settings passed through to librdkafka.
    pub client_configs: Vec<(String, String)>,
    /// What is written in a way that will not stay.
    pub warnings: Vec<String>,
}

impl SourceOptions {
    /// How long a partition is silent before it stops holding the watermark back; `None` = for ever.
    pub(crate) fn idle(&self) -> Option<prescale_domain::Span> {
        self.idle_micros.map(|micros| prescale_domain::Span::from_millis(micros / 1000))
    }
}

/// A Kafka sink as the SQL describes it; the service's configuration may override the first two.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkOptions {
    pub bootstrap_servers: Option<String>,
    /// Of a file, the name of the table.
    pub topic: String,
    /// `single_file`: the file to write.
    pub file: Option<String>,
    pub key_field: Option<String>,
    pub client_configs: Vec<(String, String)>,
}

/// A table is one or the other.
pub(super) enum TableOptions {
    Source(SourceOptions),
    Sink(SinkOptions),
}

const FIVE_MINUTES_MICROS: i64 = 300_000_000;

const SOURCE_KEYS: [&str; 27] = [
    older::KEYS[0],
    older::KEYS[1],
    "connector",
    "type",
    "bootstrap_servers",
    "topic",
    "format",
    "source.offset",
    "source.read_mode",
    "source.group_id",
    "source.group_id_prefix",
    "idle_micros",
    "bad_data",
    "client_configs",
    "json.timestamp_format",
    "json.unstructured",
    "json.include_schema",
    "json.confluent_schema_registry",
    "avro.confluent_schema_registry",
    "avro.raw_datums",
    "avro.into_unstructured_json",
    "schema_registry.endpoint",
    "schema_registry.api_key",
    "schema_registry.api_secret",
    "framing",
    "value.subject",
    "connection_profile",
];

const FILE_KEYS: [&str; 8] =
    ["connector", "type", "path", "format", "bad_data", "idle_micros", "wait_for_control", "json.timestamp_format"];

const SINK_KEYS: [&str; 10] = [
    "connector",
    "type",
    "bootstrap_servers",
    "topic",
    "format",
    "sink.commit_mode",
    "sink.key_field",
    "client_configs",
    "json.timestamp_format",
    "json.decimal_encoding",
];

/// Checks and reads the options of a table.
pub(super) fn read(source: &SourceText<'_>, table: &TableDefinition) -> Result<TableOptions, SqlError> {
    let options = Options { source, table };
    let is_file = match options.value("connector") {
        Some("kafka") => false,
        Some("single_file") => true,
        Some(other) => {
            let span = options.span("connector");
            return Err(source
                .error("unsupported-connector", span, format!("connector `{other}` is not supported"))
                .hint("write connector = 'kafka', or connector = 'single_file' to try a pipeline out"));
        }
        None => return Err(options.missing("connector", "connector = 'kafka'")),
    };
    let is_source = match options.value("type") {
        Some("source") => true,
        Some("sink") => false,
        Some(other) => {
            let span = options.span("type");
            return Err(source
                .error("option-value", span, format!("type is `{other}`"))
                .hint("type is 'source' or 'sink'"));
        }
        None => return Err(options.missing("type", "type = 'source' or type = 'sink'")),
    };
    match (is_source, is_file) {
        (true, false) => options.source_table().map(TableOptions::Source),
        (true, true) => options.source_file().map(TableOptions::Source),
        (false, false) => options.sink_table().map(TableOptions::Sink),
        (false, true) => options.sink_file().map(TableOptions::Sink),
    }
}

struct Options<'a> {
    source: &'a SourceText<'a>,
    table: &'a TableDefinition,
}

impl Options<'_> {
    fn get(&self, key: &str) -> Option<&OptionDefinition> {
        self.table.options.iter().find(|option| option.key == key)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(|option| option.value.as_str())
    }

    fn owned(&self, key: &str) -> Option<String> {
        self.value(key).map(str::to_owned)
    }

    fn span(&self, key: &str) -> Span {
        self.get(key).map_or(self.table.name.span, |option| option.value_span)
    }

    fn missing(&self, key: &str, write: &str) -> SqlError {
        self.source
            .error(
                "missing-option",
                self.table.name.span,
                format!("table `{}` has no option `{key}`", self.table.name.value),
            )
            .hint(format!("write WITH ({write}, …)"))
    }

    fn refuse(&self, key: &str, message: &str, hint: &str) -> SqlError {
        self.source.error("option-value", self.span(key), message).hint(hint)
    }

    fn check_keys(&self, kind: &str, known: &[&str]) -> Result<(), SqlError> {
        for option in &self.table.options {
            if !known.contains(&option.key.as_str()) {
                let nearest = super::planner::nearest(&option.key, known.iter().copied());
                let message = format!("unknown option `{}` of a {kind}", option.key);
                let hint = match nearest {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the options are {}", known.join(", ")),
                };
                return Err(self.source.error("unknown-option", option.key_span, message).hint(hint));
            }
        }
        Ok(())
    }

    /// Options that exist, of which only one value is supported.
    fn check_only(&self, only: &[(&str, &str)]) -> Result<(), SqlError> {
        for (key, expected) in only {
            if let Some(found) = self.value(key).filter(|found| found != expected) {
                return Err(self.refuse(
                    key,
                    &format!("{key} = '{found}' is not supported"),
                    &format!("write '{expected}', or leave it out"),
                ));
            }
        }
        Ok(())
    }

    fn client_configs(&self) -> Result<Vec<(String, String)>, SqlError> {
        let text = self.value("client_configs").unwrap_or_default();
        text.split(',')
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
                None => Err(self.refuse(
                    "client_configs",
                    &format!("`{pair}` is not k=v"),
                    "write client_configs = 'k=v,k=v'",
                )),
            })
            .collect()
    }

    fn topic(&self) -> Result<String, SqlError> {
        self.owned("topic").ok_or_else(|| self.missing("topic", "topic = '…'"))
    }

    fn source_table(&self) -> Result<SourceOptions, SqlError> {
        self.check_keys("kafka source", &SOURCE_KEYS)?;
        self.check_only(&[
            ("json.timestamp_format", "RFC3339"),
            ("json.unstructured", "false"),
            ("json.include_schema", "false"),
            ("avro.into_unstructured_json", "false"),
        ])?;
        for key in ["framing", "connection_profile"] {
            if self.get(key).is_some() {
                return Err(self.refuse(key, &format!("option `{key}` is not supported here"), "leave it out"));
            }
        }
        self.check_bad_data()?;
        Ok(SourceOptions {
            bootstrap_servers: self.owned("bootstrap_servers"),
            topic: self.topic()?,
            file: None,
            format: self.format()?,
            schema_registry: self.schema_registry()?,
            start_at: match self.value("source.offset") {
                Some("earliest") => StartAt::Earliest,
                None | Some("latest") => StartAt::Latest,
                Some("group") => StartAt::Group,
                Some(other) => {
                    let message = format!("source.offset is `{other}`");
                    return Err(self.refuse(
                        "source.offset",
                        &message,
                        "source.offset is 'earliest', 'latest' or 'group'",
                    ));
                }
            },
            group_id: self.owned("source.group_id"),
            group_id_prefix: self.owned("source.group_id_prefix"),
            read_committed: match self.value("source.read_mode") {
                None => None,
                Some("read_uncommitted") => Some(false),
                Some("read_committed") => Some(true),
                Some(other) => {
                    let message = format!("source.read_mode is `{other}`");
                    return Err(self.refuse(
                        "source.read_mode",
                        &message,
                        "source.read_mode is 'read_uncommitted' or 'read_committed'",
                    ));
                }
            },
            idle_micros: self.idle_micros()?,
            max_future_millis: None,
            client_configs: self.client_configs()?,
            warnings: older::warnings(self.table),
        })
    }

    fn check_bad_data(&self) -> Result<(), SqlError> {
        match self.value("bad_data") {
            None | Some("fail" | "drop") => Ok(()),
            Some(other) => {
                Err(self.refuse("bad_data", &format!("bad_data is `{other}`"), "bad_data is 'fail' or 'drop'"))
            }
        }
    }

    /// A file of lines, for trying a pipeline out.
    fn source_file(&self) -> Result<SourceOptions, SqlError> {
        self.check_keys("file source", &FILE_KEYS)?;
        self.check_only(&[("json.timestamp_format", "RFC3339")])?;
        self.check_bad_data()?;
        Ok(SourceOptions {
            bootstrap_servers: None,
            topic: self.table.name.value.clone(),
            file: Some(self.owned("path").ok_or_else(|| self.missing("path", "path = '…'"))?),
            format: self.format()?,
            schema_registry: None,
            start_at: StartAt::Earliest,
            group_id: None,
            group_id_prefix: None,
            read_committed: None,
            max_future_millis: None,
            warnings: Vec::new(),
            idle_micros: self.idle_micros()?,
            client_configs: Vec::new(),
        })
    }

    fn sink_file(&self) -> Result<SinkOptions, SqlError> {
        self.check_keys("file sink", &FILE_KEYS)?;
        self.check_only(&[("json.timestamp_format", "RFC3339"), ("format", "json")])?;
        self.format()?;
        Ok(SinkOptions {
            bootstrap_servers: None,
            topic: self.table.name.value.clone(),
            file: Some(self.owned("path").ok_or_else(|| self.missing("path", "path = '…'"))?),
            key_field: None,
            client_configs: Vec::new(),
        })
    }

    fn idle_micros(&self) -> Result<Option<i64>, SqlError> {
        let Some(text) = self.value("idle_micros") else { return Ok(Some(FIVE_MINUTES_MICROS)) };
        let micros: i64 = text.parse().map_err(|_| {
            self.refuse(
                "idle_micros",
                &format!("idle_micros is `{text}`"),
                "write a whole number of microseconds; 0 switches it off",
            )
        })?;
        Ok(Some(micros).filter(|micros| *micros > 0))
    }

    fn format(&self) -> Result<Format, SqlError> {
        for kind in ["json", "avro"] {
            self.check_of(kind)?;
        }
        match self.value("format") {
            Some("json") if self.flag("json.confluent_schema_registry")? => Ok(Format::FramedJson),
            Some("json") => Ok(Format::Json),
            Some("raw_string") => Ok(Format::RawString),
            Some("raw_bytes") => Ok(Format::RawBytes),
            Some("avro") => {
                match (self.flag("avro.confluent_schema_registry")?, self.flag("avro.raw_datums")?) {
                    (false, false) => Ok(Format::Avro(AvroEncoding::Container)),
                    (false, true) => Ok(Format::Avro(AvroEncoding::Datum(None))),
                    (true, false) => Ok(Format::Avro(AvroEncoding::Registry)),
                    (true, true) => Err(self.refuse(
                        "avro.raw_datums",
                        "avro.raw_datums and avro.confluent_schema_registry exclude each other",
                        "leave one of them out: a record names its schema by an id, or it is a bare datum",
                    )),
                }
            }
            Some("protobuf") => Err(self.refuse(
                "format",
                "format `protobuf` can't be given in a table",
                "write format = 'json', and name the message under [features.formats] in the configuration of the service",
            )),
            Some(other) => Err(self.refuse(
                "format",
                &format!("format `{other}` is not supported"),
                "format is 'json', 'avro', 'raw_string' or 'raw_bytes'",
            )),
            None => Err(self.missing("format", "format = 'json'")),
        }
    }

    /// Options of a format belong to a table of that format.
    fn check_of(&self, kind: &str) -> Result<(), SqlError> {
        let Some(format) = self.value("format").filter(|format| *format != kind) else { return Ok(()) };
        let prefix = format!("{kind}.");
        match self.table.options.iter().find(|option| option.key.starts_with(&prefix) && option.value != "false") {
            Some(option) if option.key != "json.timestamp_format" => Err(self
                .source
                .error(
                    "option-value",
                    option.key_span,
                    format!("option `{}` goes with format = '{kind}', not '{format}'", option.key),
                )
                .hint("leave it out")),
            _ => Ok(()),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, SqlError> {
        match self.value(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.refuse(key, &format!("{key} is `{other}`"), "write 'true' or 'false'")),
        }
    }

    fn schema_registry(&self) -> Result<Option<RegistrySettings>, SqlError> {
        let endpoint = self.owned("schema_registry.endpoint");
        let (api_key, api_secret) = (self.owned("schema_registry.api_key"), self.owned("schema_registry.api_secret"));
        match endpoint {
            Some(endpoint) => Ok(Some(RegistrySettings { endpoint, api_key, api_secret })),
            None => match ["schema_registry.api_key", "schema_registry.api_secret"]
                .into_iter()
                .find(|k| self.get(k).is_some())
            {
                Some(key) => Err(self.refuse(
                    key,
                    &format!("option `{key}` without schema_registry.endpoint"),
                    "write schema_registry.endpoint = 'https://host:port' as well, or leave it to the configuration",
                )),
                None => Ok(None),
            },
        }
    }

    fn sink_table(&self) -> Result<SinkOptions, SqlError> {
        self.check_keys("kafka sink", &SINK_KEYS)?;
        self.check_only(&[("json.timestamp_format", "RFC3339"), ("sink.commit_mode", "at_least_once")])?;
        match self.value("format") {
            Some("json") => {}
            Some(other) => {
                return Err(self.refuse(
                    "format",
                    &format!("format `{other}` of a sink is not supported"),
                    "write format = 'json': readers of features get JSON, whatever the sources are",
                ));
            }
            None => return Err(self.missing("format", "format = 'json'")),
        }
        Ok(SinkOptions {
            bootstrap_servers: self.owned("bootstrap_servers"),
            topic: self.topic()?,
            file: None,
            key_field: self.owned("sink.key_field"),
            client_configs: self.client_configs()?,
        })
    }
}
