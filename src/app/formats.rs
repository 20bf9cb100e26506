//! What the configuration says of a table's records and the SQL can't. Rule: it is checked against the table before anything
//! runs; a file is read once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prescale_ingest::decode::{AvroEncoding, Decoder, Format, ProtobufEncoding};
use prescale_ingest::registry::RegistrySettings;
use prescale_pipeline::{Plan, SourceTable};

use crate::config::{Config, TableFormat};

/// For all tables of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats {
    /// By table.
    formats: BTreeMap<String, Format>,
    registry: Option<RegistrySettings>,
}

impl Formats {
    /// Reads the files that the configuration names; an error names the key.
    pub(crate) fn load(config: &Config, directory: &Path) -> Result<Self, String> {
        let mut formats = BTreeMap::new();
        for (table, format) in &config.features.formats {
            let path = |file: &str| directory.join(file);
            let fault = |file: &str, error: &dyn std::fmt::Display| {
                format!("features.formats.{table}: read `{}`: {error}", path(file).display())
            };
            let format = match format {
                TableFormat::Protobuf { descriptor_set, message } => {
                    let bytes = std::fs::read(path(descriptor_set)).map_err(|error| fault(descriptor_set, &error))?;
                    let message = message.clone();
                    Format::Protobuf(ProtobufEncoding::Message { descriptor_set: Arc::from(bytes), message })
                }
                TableFormat::ProtobufRegistry {} => Format::Protobuf(ProtobufEncoding::Registry),
                TableFormat::Avro { schema } => {
                    let text = std::fs::read_to_string(path(schema)).map_err(|error| fault(schema, &error))?;
                    Format::Avro(AvroEncoding::Datum(Some(Arc::from(text))))
                }
                TableFormat::AvroRegistry {} => Format::Avro(AvroEncoding::Registry),
            };
            formats.insert(table.clone(), format);
        }
        Ok(Self { formats, registry: config.schema_registry.settings() })
    }

    /// Puts them into a plan in place of what its SQL says.
    pub(crate) fn apply(&self, plan: &mut Plan) -> Result<(), String> {
        plan.sources.iter_mut().try_for_each(|source| self.apply_to(source))
    }

    fn apply_to(&self, source: &mut SourceTable) -> Result<(), String> {
        if let Some((table, format)) = self.formats.iter().find(|(table, _)| table.eq_ignore_ascii_case(&source.name)) {
            Decoder::try_new(format, source.payload.clone())
                .map_err(|error| format!("features.formats.{table}: {error}"))?;
            source.options.format = format.clone();
        }
        if let Some(registry) = &self.registry {
            source.options.schema_registry = Some(registry.clone());
        }
        if source.options.format.needs_registry() && source.options.schema_registry.is_none() {
            return Err(format!(
                "table `{}` reads records that name their schemas by id, and no registry is given\nhint: set endpoint under [schema_registry], or write schema_registry.endpoint = '…' in its WITH",
                source.name
            ));
        }
        Ok(())
    }
}
