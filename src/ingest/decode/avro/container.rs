//! Avro's object container file, of which a record is one with one datum. Rule: nothing is read beyond the record's bytes,
//! and nothing unpacked beyond a bound.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::DeflateDecoder;
use prost::encoding::decode_varint;

/// A packed datum may not become larger than this.
const MAX_DATUM_BYTES: u64 = 64 << 20;

pub(super) struct Container<'a> {
    /// The writer's schema, as JSON.
    pub(super) schema: &'a [u8],
    pub(super) datum: Cow<'a, [u8]>,
}

pub(super) fn open(bytes: &[u8]) -> Result<Container<'_>, String> {
    let mut rest = bytes
        .strip_prefix(b"Obj\x01")
        .ok_or("the record is not an Avro object container: it does not begin with `Obj` and 1")?;
    let (mut schema, mut codec) = (None, &b"null"[..]);
    loop {
        let entries = match long(&mut rest)? {
            0 => break,
            // The size of the entries follows a negative count; they are read all the same.
            count if count < 0 => {
                long(&mut rest)?;
                count.unsigned_abs()
            }
            count => count.unsigned_abs(),
        };
        for _ in 0..entries {
            let (name, value) = (bytes_of(&mut rest)?, bytes_of(&mut rest)?);
            match name {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = value,
                _ => {}
            }
        }
    }
    let schema = schema.ok_or("the header of the object container has no `avro.schema`")?;
    let sync = exactly(&mut rest, 16)?;
    let count = long(&mut rest)?;
    let block = bytes_of(&mut rest)?;
    if exactly(&mut rest, 16)? != sync {
        return Err("the block of the object container does not end with the mark of its header".to_owned());
    }
    if count != 1 || !rest.is_empty() {
        let more = if rest.is_empty() { "" } else { " and more blocks" };
        return Err(format!("the object container holds {count} data{more}, expected one a record"));
    }
    let datum = match codec {
        b"null" => Cow::Borrowed(block),
        b"deflate" => Cow::Owned(unpack(block)?),
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!("codec `{other}` of the object container is not supported, only null and deflate"));
        }
    };
    Ok(Container { schema, datum })
}

fn unpack(block: &[u8]) -> Result<Vec<u8>, String> {
    let mut datum = Vec::new();
    let read = DeflateDecoder::new(block).take(MAX_DATUM_BYTES + 1).read_to_end(&mut datum);
    let read = read.map_err(|error| format!("the datum can't be unpacked: {error}"))?;
    if read as u64 > MAX_DATUM_BYTES {
        return Err(format!("the datum is larger than {MAX_DATUM_BYTES} bytes when unpacked"));
    }
    Ok(datum)
}

fn long(rest: &mut &[u8]) -> Result<i64, String> {
    let zigzag = decode_varint(rest).map_err(|_| "the object container ends too early".to_owned())?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

fn bytes_of<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = long(rest)?;
    exactly(rest, usize::try_from(length).map_err(|_| format!("a length in the object container is {length}"))?)
}

fn exactly<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (found, after) = rest.split_at_checked(length).ok_or("the object container ends too early")?;
    *rest = after;
    Ok(found)
}
