//! Files of lines as a source: each file a partition, the line number from 0 its offset. Rule: every line is a record,
//! an empty one too; the same files give the same batches.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use prescale_domain::Span;
use prescale_telemetry::ingest::RecordsRead;

use crate::{PartitionStart, Polled, RawBatch, Source, SourceError};

const MAX_LINES: usize = 8192;
const MAX_BATCH_BYTES: usize = 8 << 20;
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Lines of one or more files, read once to the end. `.gz` is decompressed; `-` is standard input.
pub struct FileSource {
    topic: Arc<str>,
    files: Vec<Lines>,
}

struct Lines {
    path: PathBuf,
    /// `None` at the end.
    reader: Option<Box<dyn BufRead + Send>>,
    next: i64,
}

impl FileSource {
    /// Opens the files; `topic` is the name that their records carry. Lines before a partition's start are skipped.
    pub fn open(topic: &str, paths: &[PathBuf], starts: &[PartitionStart]) -> Result<Self, SourceError> {
        let mut files = Vec::with_capacity(paths.len());
        for (number, path) in (0..).zip(paths) {
            let reader = open(path).map_err(|error| file_error(path, &error))?;
            let mut lines = Lines { path: path.clone(), reader: Some(reader), next: 0 };
            let start = starts.iter().find(|start| start.partition == number).and_then(|start| start.offset);
            let mut skipped = RawBatch::default();
            while start.is_some_and(|start| lines.next < start) && lines.reader.is_some() {
                skipped = RawBatch::new(skipped.topic, number);
                lines.read(&mut skipped, 1)?;
            }
            files.push(lines);
        }
        Ok(Self { topic: topic.into(), files })
    }
}

impl Source for FileSource {
    fn poll(&mut self, _wait: Span) -> Result<Polled, SourceError> {
        let mut polled = Polled::default();
        for (number, file) in (0..).zip(&mut self.files) {
            polled.partitions.push(number);
            let mut batch = RawBatch::new(self.topic.clone(), number);
            file.read(&mut batch, MAX_LINES)?;
            if file.reader.is_none() {
                polled.at_end.push(number);
            }
            if !batch.is_empty() {
                let (records, bytes) = (batch.len() as u64, batch.payload.len() as u64);
                RecordsRead { topic: &self.topic, records, bytes }.emit();
                polled.batches.push(batch);
            }
        }
        polled.ended = polled.at_end.len() == polled.partitions.len();
        Ok(polled)
    }

    fn commit(&mut self, _oldest_needed: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Lines {
    /// Appends up to `max` lines, without their line ends.
    fn read(&mut self, batch: &mut RawBatch, max: usize) -> Result<(), SourceError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        while batch.len() < max && batch.payload.len() < MAX_BATCH_BYTES {
            let start = batch.payload.len();
            let read = reader
                .by_ref()
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut batch.payload)
                .map_err(|error| file_error(&self.path, &error))?;
            if read == 0 {
                self.reader = None;
                break;
            }
            if read as u64 == MAX_LINE_BYTES && batch.payload.last() != Some(&b'\n') {
                let error = format!("line {} is longer than {MAX_LINE_BYTES} bytes", self.next + 1);
                return Err(SourceError::File { path: self.path.display().to_string(), error });
            }
            for end in [b'\n', b'\r'] {
                if batch.payload.len() > start && batch.payload.last() == Some(&end) {
                    batch.payload.pop();
                }
            }
            batch.offsets.push(self.next);
            batch.timestamps.push(i64::MIN);
            batch.ends.push(batch.payload.len());
            self.next += 1;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = BufReader::with_capacity(1 << 16, File::open(path)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

fn file_error(path: &Path, error: &io::Error) -> SourceError {
    SourceError::File { path: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// All lines of the files as `partition:offset=text`.
    fn read_all(paths: &[PathBuf], starts: &[PartitionStart]) -> Vec<String> {
        let mut source = FileSource::open("lines", paths, starts).unwrap();
        let mut seen = Vec::new();
        loop {
            let polled = source.poll(Span::ZERO).unwrap();
            for batch in &polled.batches {
                for index in 0..batch.len() {
                    let text = String::from_utf8_lossy(batch.bytes(index));
                    seen.push(format!("{}:{}={text}", batch.partition, batch.offsets[index]));
                }
            }
            if polled.ended {
                return seen;
            }
        }
    }

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_line_is_a_record_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let plain = file(&folder, "a.log", b"one\r\n\ntwo");
        let packed = file(&folder, "b.log.gz", &[gzip(b"x\n"), gzip(b"y\n")].concat());
        assert_eq!(read_all(&[plain.clone(), packed.clone()], &[]), ["0:0=one", "0:1=", "0:2=two", "1:0=x", "1:1=y"]);
        let starts =
            [PartitionStart { partition: 0, offset: Some(2) }, PartitionStart { partition: 1, offset: Some(9) }];
        assert_eq!(read_all(&[plain, packed], &starts), ["0:2=two"]);
    }

    #[test]
    fn long_files_come_in_bounded_batches() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..20_000).map(|number| format!("{number}\n")).collect();
        let path = file(&folder, "long.ndjson", text.as_bytes());
        let mut source = FileSource::open("lines", std::slice::from_ref(&path), &[]).unwrap();
        assert_eq!(source.poll(Span::ZERO).unwrap().batches[0].len(), MAX_LINES);
        assert_eq!(read_all(&[path], &[]).len(), 20_000);
    }

    #[test]
    fn a_missing_and_a_broken_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.log");
        let error = FileSource::open("lines", &[missing], &[]).err().unwrap().to_string();
        assert!(error.contains("none.log"), "{error}");
        let bytes = gzip(b"some text that is cut off\n");
        let broken = file(&folder, "cut.gz", &bytes[..bytes.len() - 6]);
        let mut source = FileSource::open("lines", &[broken], &[]).unwrap();
        let error = source.poll(Span::ZERO).unwrap_err().to_string();
        assert!(error.contains("cut.gz"), "{error}");
    }
}
