//! Decimal digits eight at a time, within one machine word. Rule: safe code, and the same as one by one.

const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many of eight bytes are digits before the first that is none, and their value.
pub(super) fn leading(bytes: [u8; 8]) -> (usize, u64) {
    // A digit becomes its value; whatever is above 9 then has its highest bit set. A carry can only come out of a byte
    // that is no digit, behind which nothing counts.
    let values = u64::from_le_bytes(bytes) ^ 0x3030_3030_3030_3030;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & HIGH;
    if others == 0 {
        return (8, value_of(values));
    }
    let count = others.trailing_zeros() / 8;
    // The digits move to the end, behind zeros.
    let digits = if count == 0 { 0 } else { values << (64 - 8 * count) };
    (count as usize, value_of(digits))
}

/// The number whose decimal digits, the first in the lowest byte, are these: pairs, then fours, then all of them (Lemire,
/// "Quickly parsing eight digits", 2018).
fn value_of(digits: u64) -> u64 {
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & PAIR).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIR).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_read_together_are_those_read_one_by_one(
            bytes in prop::array::uniform8(prop_oneof![b'0'..=b'9', any::<u8>()]),
        ) {
            let digits: Vec<u8> = bytes.into_iter().take_while(u8::is_ascii_digit).collect();
            let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
            prop_assert_eq!(leading(bytes), (digits.len(), value));
        }
    }
}
