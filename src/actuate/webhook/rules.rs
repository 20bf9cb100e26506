//! What a webhook's caller does when: how it signs, how long it waits, what an answer means. Rule: pure; who draws is told what
//! from, so that a call can be repeated to the millisecond.

use chrono::DateTime;
use hmac::{Hmac, KeyInit, Mac};
use prescale_domain::{Span, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The first wait between two attempts, which doubles, and the longest.
const BACKOFF_FIRST_MILLIS: i64 = 250;
const BACKOFF_MAX_MILLIS: i64 = 8000;

/// What an answer's status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// Another attempt may have another answer.
    Again(Kind),
    Final(Kind),
}

/// The kind of the error, if it stays at that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    Denied,
    Conflict,
    Throttled,
    Timeout,
    Invalid,
    Other,
}

/// What `prescale-signature` holds.
pub(super) fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

/// The wait after attempt number `attempt`, counted from 0: between half of the doubled wait and all of it, so that many who
/// failed together do not come back together.
pub(super) fn backoff(key: &str, attempt: u32) -> Span {
    let full =
        BACKOFF_FIRST_MILLIS.saturating_mul(1_i64.checked_shl(attempt.min(20)).unwrap_or(1)).min(BACKOFF_MAX_MILLIS);
    let mut rng = ChaCha8Rng::from_seed(Sha256::digest(key.as_bytes()).into());
    rng.set_stream(u64::from(attempt));
    Span::from_millis(full / 2 + rng.random_range(0..=full / 2))
}

/// How long the receiver wants to be left alone: `Retry-After` in seconds, or as a date.
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<Span> {
    if let Ok(seconds) = header.trim().parse::<u32>() {
        return Some(Span::from_secs(i64::from(seconds)));
    }
    let at = DateTime::parse_from_rfc2822(header.trim()).ok()?.timestamp_millis();
    Some(Span::from_millis(at.saturating_sub(now.millis()).max(0)))
}

pub(super) fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        401 | 403 => Verdict::Final(Kind::Denied),
        404 | 410 => Verdict::Final(Kind::NotFound),
        408 => Verdict::Again(Kind::Timeout),
        409 => Verdict::Final(Kind::Conflict),
        429 => Verdict::Again(Kind::Throttled),
        504 => Verdict::Again(Kind::Timeout),
        500..=599 => Verdict::Again(Kind::Other),
        // A redirect too: what was signed for one place is not sent to another.
        _ => Verdict::Final(Kind::Invalid),
    }
}

/// A URL without user, password and query.
pub(super) fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://").map_or(("", bare), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = path.map_or_else(String::new, |path| format!("/{path}"));
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}
