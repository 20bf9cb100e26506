//! Keys that sort as their meaning does.

use prescale_domain::{ServiceName, Timestamp};

/// `<service> 0x00 <time, big-endian, sign flipped>`: all of one service together, in time order.
pub fn service_time_key(service: &ServiceName, time: Timestamp) -> Vec<u8> {
    let mut key = Vec::with_capacity(service.as_str().len() + 9);
    key.extend_from_slice(service.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&(time.millis() ^ i64::MIN).to_be_bytes());
    key
}

/// The first key after all keys that start with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}
