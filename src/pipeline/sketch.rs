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
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    zeros: u64,
    positive: Buckets,
    /// Most measurements have none.
    negative: Option<Box<Buckets>>,
}

/// So many values are kept one by one: a dense run of buckets takes far more room for them.
const FEW: usize = 64;

/// How often each bucket was hit.
#[derive(Clone, Debug)]
enum Buckets {
    /// The bucket of each of a few values, in any order.
    Few(Vec<i32>),
    /// The counts of a run of buckets that starts at `first`.
    Many { first: i32, counts: Vec<u64> },
}

impl Default for Buckets {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
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
            self.negative.get_or_insert_default().add(bucket_of(magnitude), 1);
        }
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        other.positive.each(|bucket, count| self.positive.add(bucket, count));
        if let Some(theirs) = &other.negative {
            let mine = self.negative.get_or_insert_default();
            theirs.each(|bucket, count| mine.add(bucket, count));
        }
    }

    pub fn count(&self) -> u64 {
        self.zeros + self.positive.total() + self.negative.as_ref().map_or(0, |negative| negative.total())
    }

    /// The value at `quantile` (0 to 1) of the counted ones, within [`RELATIVE_ACCURACY`]; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The rank of the lower of the two neighbours, as in the paper (§2.2): floor(q (n - 1)).
        let mut rank = (quantile.clamp(0.0, 1.0) * (count - 1) as f64).floor() as u64;
        if let Some(negative) = &self.negative {
            let total = negative.total();
            if rank < total {
                return negative.at(total - 1 - rank).map(|bucket| -middle_of(bucket));
            }
            rank -= total;
        }
        if rank < self.zeros {
            return Some(0.0);
        }
        self.positive.at(rank - self.zeros).map(middle_of)
    }

    /// Memory held, in bytes.
    pub fn size(&self) -> usize {
        let negative = self.negative.as_ref().map_or(0, |negative| size_of::<Buckets>() + negative.held());
        size_of::<Self>() + self.positive.held() + negative
    }

    /// A byte form: zeros, then for each sign the number of buckets and (bucket, count) in ascending order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_bytes(&mut bytes);
        bytes
    }

    /// Appends what [`Sketch::to_bytes`] returns.
    pub(crate) fn write_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.zeros.to_le_bytes());
        for side in [Some(&self.positive), self.negative.as_deref()] {
            let at = bytes.len();
            bytes.extend_from_slice(&[0; 8]);
            let mut length = 0_u64;
            if let Some(side) = side {
                side.each(|bucket, count| {
                    bytes.extend_from_slice(&bucket.to_le_bytes());
                    bytes.extend_from_slice(&count.to_le_bytes());
                    length += 1;
                });
            }
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Adds what [`Sketch::to_bytes`] wrote; `None` when the bytes are cut off.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        self.zeros += u64::from_le_bytes(take(&mut rest)?);
        self.positive.merge_entries(entries(&mut rest)?)?;
        let negative = entries(&mut rest)?;
        if !negative.is_empty() {
            self.negative.get_or_insert_default().merge_entries(negative)?;
        }
        Some(())
    }
}

impl PartialEq for Sketch {
    /// Whether both have counted the same values, however they keep them.
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

/// The (bucket, count) of one sign, 12 bytes each.
fn entries<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u64::from_le_bytes(take(rest)?)).ok()?;
    let (entries, tail) = rest.split_at_checked(length.checked_mul(12)?)?;
    *rest = tail;
    Some(entries)
}

impl Buckets {
    /// Adds (bucket, count) in ascending order, 12 bytes each.
    fn merge_entries(&mut self, entries: &[u8]) -> Option<()> {
        let read = |mut entry: &[u8]| -> Option<(i32, u64)> {
            Some((i32::from_le_bytes(take(&mut entry)?), u64::from_le_bytes(take(&mut entry)?)))
        };
        if entries.len() > 12 * FEW
            && let (Some(first), Some(last)) = (entries.first_chunk::<12>(), entries.last_chunk::<12>())
        {
            self.make_room(read(first)?.0, read(last)?.0);
        }
        for entry in entries.chunks_exact(12) {
            let (bucket, count) = read(entry)?;
            self.add(bucket, count);
        }
        Some(())
    }

    #[inline]
    fn add(&mut self, bucket: i32, count: u64) {
        if let Self::Many { first, counts } = self
            && let Ok(index) = usize::try_from(i64::from(bucket) - i64::from(*first))
            && let Some(found) = counts.get_mut(index)
        {
            *found += count;
            return;
        }
        self.add_slowly(bucket, count);
    }

    fn add_slowly(&mut self, bucket: i32, count: u64) {
        if let Self::Few(values) = self
            && count <= (FEW - values.len()) as u64
        {
            values.extend(std::iter::repeat_n(bucket, count as usize));
            return;
        }
        self.make_room(bucket, bucket);
        if let Self::Many { first, counts } = self {
            counts[index_of(bucket, *first)] += count;
        }
    }

    /// Makes it a run that holds all buckets from one to another, and some more on the side that grows.
    #[cold]
    fn make_room(&mut self, least: i32, most: i32) {
        /// A power of two: a quarter of a power of two of values.
        const STEP: i32 = 32;
        let (mut from, mut to) = (least & !(STEP - 1), most | (STEP - 1));
        match self {
            Self::Few(values) => {
                let values = std::mem::take(values);
                for value in &values {
                    (from, to) = (from.min(value & !(STEP - 1)), to.max(value | (STEP - 1)));
                }
                let mut counts = vec![0; index_of(to, from) + 1];
                values.iter().for_each(|value| counts[index_of(*value, from)] += 1);
                *self = Self::Many { first: from, counts };
            }
            Self::Many { first, counts } => {
                if from < *first {
                    counts.splice(0..0, std::iter::repeat_n(0, index_of(*first, from)));
                    *first = from;
                }
                let length = counts.len().max(index_of(to.max(*first), *first) + 1);
                counts.resize(length, 0);
            }
        }
    }

    fn total(&self) -> u64 {
        match self {
            Self::Few(values) => values.len() as u64,
            Self::Many { counts, .. } => counts.iter().sum(),
        }
    }

    /// The bucket of the value at `rank` in ascending order.
    fn at(&self, rank: u64) -> Option<i32> {
        match self {
            Self::Few(values) => {
                let rank = usize::try_from(rank).ok().filter(|rank| *rank < values.len())?;
                let mut values = values.clone();
                Some(*values.select_nth_unstable(rank).1)
            }
            Self::Many { first, counts } => {
                let mut seen = 0;
                let found = counts.iter().position(|count| {
                    seen += count;
                    seen > rank
                });
                found.and_then(|index| Some(first + i32::try_from(index).ok()?))
            }
        }
    }

    /// All buckets that were hit and how often, in ascending order.
    fn each(&self, mut each: impl FnMut(i32, u64)) {
        match self {
            Self::Few(values) => {
                let mut values = values.clone();
                values.sort_unstable();
                values.chunk_by(|a, b| a == b).for_each(|equal| each(equal[0], equal.len() as u64));
            }
            Self::Many { first, counts } => {
                (*first..)
                    .zip(counts)
                    .filter(|(_, count)| **count > 0)
                    .for_each(|(bucket, count)| each(bucket, *count));
            }
        }
    }

    /// Memory held beside itself, in bytes.
    fn held(&self) -> usize {
        match self {
            Self::Few(values) => values.capacity() * size_of::<i32>(),
            Self::Many { counts, .. } => counts.capacity() * size_of::<u64>(),
        }
    }
}

/// Where a bucket stands in a run that starts at `first`, which is not after it.
fn index_of(bucket: i32, first: i32) -> usize {
    usize::try_from(i64::from(bucket) - i64::from(first)).unwrap_or_default()
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
        fn merging_is_exact_in_any_split(values in prop::collection::vec(-1e6..1e6_f64, 0..400), cut in 0..400_usize) {
            let cut = cut.min(values.len());
            let mut merged = of(&values[cut..]);
            merged.merge(&of(&values[..cut]));
            let mut from_bytes = Sketch::default();
            from_bytes.merge_bytes(&of(&values[..cut]).to_bytes()).unwrap();
            from_bytes.merge_bytes(&of(&values[cut..]).to_bytes()).unwrap();
            let whole = of(&values);
            prop_assert_eq!(whole.to_bytes(), merged.to_bytes());
            prop_assert_eq!(whole.to_bytes(), from_bytes.to_bytes());
            prop_assert_eq!(whole.count(), values.len() as u64);
            for q in [0.0, 0.1, 0.5, 0.99, 1.0] {
                prop_assert_eq!(whole.quantile(q), merged.quantile(q));
            }
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_nan_is_nothing() {
        assert_eq!(of(&[f64::NAN]).quantile(0.5), None);
        assert_eq!(of(&[0.0, f64::INFINITY]).quantile(0.0), Some(0.0));
    }
}
