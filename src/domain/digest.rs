//! A hash of what is serialised, while it is. Rule: it is the hash of exactly the bytes that `serde_json` writes.

use std::io::{self, Write};

use blake3::{Hash, Hasher};
use serde::Serialize;

/// Hashed at a time: as many of BLAKE3's chunks of 1 KiB as the widest registers take side by side.
const PIECE: usize = 16 << 10;

/// Gathers what is written in a piece on the stack and hashes that when it is full: a text of the whole would be the largest
/// allocation of a decision.
struct Hashing {
    hasher: Hasher,
    piece: [u8; PIECE],
    length: usize,
}

/// The BLAKE3 hash of `value` as JSON; `None` where it cannot be written as such.
pub(crate) fn digest<T: Serialize + ?Sized>(value: &T) -> Option<Hash> {
    let mut hashing = Hashing { hasher: Hasher::new(), piece: [0; PIECE], length: 0 };
    serde_json::to_writer(&mut hashing, value).ok()?;
    hashing.hasher.update(&hashing.piece[..hashing.length]);
    Some(hashing.hasher.finalize())
}

impl Hashing {
    /// What does not fit into the piece.
    #[cold]
    fn fill(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.length));
            self.piece[self.length..self.length + now.len()].copy_from_slice(now);
            self.length += now.len();
            bytes = later;
            if self.length == PIECE {
                self.hasher.update(&self.piece);
                self.length = 0;
            }
        }
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.length + bytes.len();
        match self.piece.get_mut(self.length..end) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.length = end;
            }
            None => self.fill(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use std::collections::BTreeMap;

    use super::*;

    #[track_caller]
    fn check<T: Serialize + ?Sized>(value: &T) {
        assert_eq!(digest(value), Some(blake3::hash(&serde_json::to_vec(value).unwrap())));
    }

    #[test]
    fn it_is_the_hash_of_the_text() {
        check("a \"quote\" and a \u{1}");
        check(&[0.1, -0.0, 1e21, 5e-324, f64::MAX, f64::NAN]);
        check(&BTreeMap::from([("a", Some(1)), ("b", None)]));
        // Around one piece and several, in one write and in many.
        for length in [0, 1, PIECE - 3, PIECE - 2, PIECE - 1, PIECE, 2 * PIECE - 2, 5 * PIECE + 7] {
            check(&"x".repeat(length));
            check(&vec![7_u8; length / 2]);
            check(&("x".repeat(length), 0.25, "y".repeat(PIECE)));
        }
    }

    #[test]
    fn what_json_cannot_say_has_none() {
        assert_eq!(digest(&BTreeMap::from([(vec![1], 2)])), None);
    }
}
