//! Where the description of a message comes from: a compiled descriptor set, or the text of a `.proto` file out of a registry.
//! Rule: nothing is read from anywhere else; imports are the registry's references and Google's well-known files.

use prost::encoding::decode_varint;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::file::{ChainFileResolver, File as Source, FileResolver, GoogleFileResolver};
use protox::{Compiler, Error};

use crate::decode::RegisteredSchema;

/// The name that the text of a schema has among its imports.
const ROOT: &str = "registered-schema.proto";

/// Messages in messages; Protobuf's own compiler allows 32.
const MAX_DEPTH: u64 = 32;

/// A message of a descriptor set, by its full name.
pub(super) fn in_set(descriptor_set: &[u8], message: &str) -> Result<MessageDescriptor, String> {
    let pool = DescriptorPool::decode(descriptor_set).map_err(|error| format!("the descriptor set: {error}"))?;
    pool.get_message_by_name(message).ok_or_else(|| {
        let mut names: Vec<String> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
        names.sort();
        names.truncate(10);
        format!("the descriptor set has no message `{message}`; it has {}", names.join(", "))
    })
}

/// The messages of a schema's text, in order.
pub(super) fn of_text(schema: &RegisteredSchema) -> Result<Vec<MessageDescriptor>, String> {
    let mut texts = vec![(ROOT.to_owned(), schema.text.clone())];
    let mut left: Vec<&(String, RegisteredSchema)> = schema.references.iter().collect();
    while let Some((name, reference)) = left.pop() {
        texts.push((name.clone(), reference.text.clone()));
        left.extend(&reference.references);
    }
    let mut files = ChainFileResolver::new();
    files.add(Texts(texts));
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    let opened = compiler.include_imports(true).open_file(ROOT).map(drop);
    opened.map_err(|error| format!("it is not a Protobuf schema: {error}"))?;
    let file = compiler.descriptor_pool().get_file_by_name(ROOT).ok_or("it is not a Protobuf schema")?;
    Ok(file.messages().collect())
}

/// Files that are texts in memory.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<Source, Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) => Source::from_source(name, text),
            None => Err(Error::file_not_found(name)),
        }
    }
}

/// Which message of its file a framed record is, and the message: its count and indexes, each as a zigzag varint; a lone 0
/// stands for the first message.
pub(super) fn message_path(mut body: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let mut next = || -> Result<u64, String> {
        let zigzag = decode_varint(&mut body).map_err(|_| "the message index ends too early".to_owned())?;
        if zigzag % 2 == 0 { Ok(zigzag / 2) } else { Err("the message index is negative".to_owned()) }
    };
    let count = next()?;
    if count > MAX_DEPTH {
        return Err(format!("the message index has {count} parts, more than {MAX_DEPTH}"));
    }
    let mut path = Vec::new();
    for _ in 0..count {
        path.push(usize::try_from(next()?).map_err(|error| error.to_string())?);
    }
    if path.is_empty() {
        path.push(0);
    }
    Ok((path, body))
}

/// The message at a path; entries of maps, which have no place in the text, don't count.
pub(super) fn at_path(messages: &[MessageDescriptor], path: &[usize]) -> Result<MessageDescriptor, String> {
    let none = || format!("it has no message at index {path:?}");
    let (first, inner) = path.split_first().ok_or_else(none)?;
    let mut message = messages.get(*first).cloned().ok_or_else(none)?;
    for index in inner {
        let child = message.child_messages().filter(|child| !child.is_map_entry()).nth(*index);
        message = child.ok_or_else(none)?;
    }
    Ok(message)
}
