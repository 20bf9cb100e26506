//! A quantile sketch with relative accuracy and exact merging: DDSketch (Masson, Rim and Lee, "DDSketch: a fast and
//! fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019), with the linearly interpolated mapping
//! of a float's own bits to buckets. Rule: counts are integers, so that the result depends on the multiset of values
//! alone, never on their order, on batches or on how parts were merged.

/// Buckets per power of two: neighbouring bounds differ by at most 1/128, so that a bucket's harmonic middle is within
/// 0.4 % of each value in it.
const BITS: u32 = 7;
const SHIFT: u32 = 52 - BITS;
/// The relative error of a quantile is at most this.
pub const RELATIVE_ACCURACY: f64 = 0.005;

/// Counts of values by bucket: zeros, then both signs by magnitude.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    zeros: u64,
    positive: Buckets,
    negative: Buckets,
}

/// A dense run of buckets that starts at `first`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Buckets {
    first: i32,
    counts: Vec<u64>,
}

impl Sketch {
    /// Counts a value. NaN is no value and is left out; infinities count as the greatest finite numbers.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let magnitude = value.abs().min(f64::MAX);
        if magnitude < f64::MIN_POSITIVE {
            self.zeros += 1;
        } else if value > 0.0 {
            self.positive.add(bucket_of(magnitude), 1);
        } else {
            self.negative.add(bucket_of(magnitude), 1);
        }
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (bucket, count) in theirs.entries() {
                mine.add(bucket, count);
            }
        }
    }

    pub fn count(&self) -> u64 {
        self.zeros + self.positive.total() + self.negative.total()
    }

    /// The value at `quantile` (0 to 1) of the counted ones, within [`RELATIVE_ACCURACY`]; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The rank of the lower of the two neighbours, as in the paper (§2.2): floor(q (n - 1)).
        let rank = (quantile.clamp(0.0, 1.0) * (count - 1) as f64).floor() as u64;
        let mut seen = 0;
        for (bucket, count) in self.negative.entries().rev() {
            seen += count;
            if seen > rank {
                return Some(-middle_of(bucket));
            }
        }
        seen += self.zeros;
        if seen > rank {
            return Some(0.0);
        }
        for (bucket, count) in self.positive.entries() {
            seen += count;
            if seen > rank {
                return Some(middle_of(bucket));
            }
        }
        None
    }

    /// Memory held, in bytes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + (self.positive.counts.capacity() + self.negative.counts.capacity()) * size_of::<u64>()
    }

    /// A byte form: zeros, then for each sign the number of buckets and (bucket, count) in ascending order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let buckets = self.positive.counts.len() + self.negative.counts.len();
        let mut bytes = Vec::with_capacity(24 + 12 * buckets);
        bytes.extend_from_slice(&self.zeros.to_le_bytes());
        for side in [&self.positive, &self.negative] {
            let length = side.entries().count() as u64;
            bytes.extend_from_slice(&length.to_le_bytes());
            for (bucket, count) in side.entries() {
                bytes.extend_from_slice(&bucket.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    /// Adds what [`Sketch::to_bytes`] wrote; `None` when the bytes are cut off.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        self.zeros += u64::from_le_bytes(take(&mut rest)?);
        for side in [&mut self.positive, &mut self.negative] {
            let length = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
            let (entries, tail) = rest.split_at_checked(length.checked_mul(12)?)?;
            rest = tail;
            side.merge_entries(entries)?;
        }
        Some(())
    }
}

impl Buckets {
    /// Adds (bucket, count) in ascending order, 12 bytes each.
    fn merge_entries(&mut self, entries: &[u8]) -> Option<()> {
        // Room for the outermost two first: the ones between them lie inside.
        for outermost in [entries.first_chunk::<12>(), entries.last_chunk::<12>()].into_iter().flatten() {
            let mut outermost = &outermost[..];
            self.add(i32::from_le_bytes(take(&mut outermost)?), 0);
        }
        for mut entry in entries.chunks_exact(12) {
            let bucket = i32::from_le_bytes(take(&mut entry)?);
            let index = usize::try_from(bucket.checked_sub(self.first)?).ok()?;
            *self.counts.get_mut(index)? += u64::from_le_bytes(take(&mut entry)?);
        }
        Some(())
    }

    fn add(&mut self, bucket: i32, count: u64) {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = usize::try_from(self.first - bucket).unwrap_or_default();
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = bucket;
        }
        let index = usize::try_from(bucket - self.first).unwrap_or_default();
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
    }

    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> + '_ {
        let pairs = (self.first..).zip(self.counts.iter().copied()).take(self.counts.len());
        pairs.collect::<Vec<_>>().into_iter().filter(|(_, count)| *count > 0)
    }
}

/// The bucket of a positive, normal, finite number: its exponent and the first bits of its mantissa.
fn bucket_of(magnitude: f64) -> i32 {
    // 63 - 45 = 18 bits remain: always within an i32.
    (magnitude.to_bits() >> SHIFT) as i32
}

/// The value whose relative distance to both bounds of the bucket is the same.
fn middle_of(bucket: i32) -> f64 {
    let bound = |bucket: i32| f64::from_bits((bucket as u64) << SHIFT);
    let (low, high) = (bound(bucket), bound(bucket + 1));
    if high.is_infinite() { low } else { 2.0 * low / (1.0 + low / high) }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_relative_accuracy(
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-9..1e12_f64, -1e6..1e6_f64], 1..300),
            q in 0.0..=1.0_f64,
        ) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(q * (sorted.len() - 1) as f64).floor() as usize];
            let found = of(&values).quantile(q).unwrap();
            prop_assert!((found - exact).abs() <= RELATIVE_ACCURACY * exact.abs(), "{found} for {exact}");
        }

        #[test]
        fn merging_is_exact_in_any_split(values in prop::collection::vec(-1e6..1e6_f64, 0..200), cut in 0..200_usize) {
            let cut = cut.min(values.len());
            let mut merged = of(&values[cut..]);
            merged.merge(&of(&values[..cut]));
            let mut from_bytes = Sketch::default();
            from_bytes.merge_bytes(&of(&values[..cut]).to_bytes()).unwrap();
            from_bytes.merge_bytes(&of(&values[cut..]).to_bytes()).unwrap();
            let whole = of(&values);
            prop_assert_eq!(whole.to_bytes(), merged.to_bytes());
            prop_assert_eq!(whole.to_bytes(), from_bytes.to_bytes());
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_nan_is_nothing() {
        assert_eq!(of(&[f64::NAN]).quantile(0.5), None);
        assert_eq!(of(&[0.0, f64::INFINITY]).quantile(0.0), Some(0.0));
    }
}
