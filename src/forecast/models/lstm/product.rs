//! Products of small matrices, the way the LSTM needs them: the right factor lies row by row and fits into the first
//! cache, so that nothing is packed. Rule: each element is one sum in the order of the inner index, whatever the sizes, so
//! that a row's result doesn't depend on the rows beside it.

/// Rows and columns of a block whose sums stay in registers: 6 × 2 of AVX2's.
const ROWS: usize = 6;
const COLUMNS: usize = 16;

/// The left factor, as it lies in memory or turned.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    values: &'a [f32],
    turned: bool,
}

impl<'a> Left<'a> {
    pub(super) const fn plain(values: &'a [f32]) -> Self {
        Self { values, turned: false }
    }

    /// Rows in memory are columns of the factor.
    pub(super) const fn turned(values: &'a [f32]) -> Self {
        Self { values, turned: true }
    }
}

/// Rows, inner size, columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub m: usize,
    pub k: usize,
    pub n: usize,
}

/// `out += a · b` for an m × k and a k × n matrix.
pub(super) fn add_product(sizes: Sizes, a: Left<'_>, b: &[f32], out: &mut [f32]) {
    if sizes.k > 0 {
        any(sizes, None, a, b, out);
    }
}

/// `out = base + a · b`.
pub(super) fn set_product(sizes: Sizes, base: &[f32], a: Left<'_>, b: &[f32], out: &mut [f32]) {
    if sizes.k > 0 {
        any(sizes, Some(base), a, b, out);
    } else {
        out.copy_from_slice(base);
    }
}

/// `base` or, without one, `out` itself, and the product; `k` is at least 1.
fn any(sizes: Sizes, base: Option<&[f32]>, a: Left<'_>, b: &[f32], out: &mut [f32]) {
    let Sizes { m, k, n } = sizes;
    assert!(a.values.len() >= m * k && b.len() >= k * n && out.len() >= m * n, "matrix shapes");
    assert!(base.is_none_or(|base| base.len() >= m * n), "matrix shapes");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features.
        unsafe { blocks_wide(sizes, base, a, b, out) };
        return;
    }
    blocks::<false>(sizes, base, a, b, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn blocks_wide(sizes: Sizes, base: Option<&[f32]>, a: Left<'_>, b: &[f32], out: &mut [f32]) {
    blocks::<true>(sizes, base, a, b, out);
}

#[inline(always)]
fn blocks<const FUSED: bool>(sizes: Sizes, base: Option<&[f32]>, a: Left<'_>, b: &[f32], out: &mut [f32]) {
    let Sizes { m, k, n } = sizes;
    // (row, inner) strides of the left factor.
    let strides = if a.turned { (1, m) } else { (k, 1) };
    let mut column = 0;
    while column < n {
        let width = match n - column {
            COLUMNS.. => COLUMNS,
            8.. => 8,
            _ => 1,
        };
        let mut row = 0;
        while row < m {
            let place = Place { a: &a.values[row * strides.0..], strides, k, n, column };
            let (base, out) = (base.map(|base| &base[row * n..]), &mut out[row * n..]);
            row += match width {
                COLUMNS => column_blocks::<FUSED, COLUMNS>(m - row, place, base, b, out),
                8 => column_blocks::<FUSED, 8>(m - row, place, base, b, out),
                _ => column_blocks::<FUSED, 1>(m - row, place, base, b, out),
            };
        }
        column += width;
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    /// From the first row of the block on.
    a: &'a [f32],
    strides: (usize, usize),
    k: usize,
    n: usize,
    column: usize,
}

/// One block of as many rows as are left, at most [`ROWS`]; returns how many.
#[inline(always)]
fn column_blocks<const FUSED: bool, const N: usize>(
    left: usize,
    place: Place<'_>,
    base: Option<&[f32]>,
    b: &[f32],
    out: &mut [f32],
) -> usize {
    match left {
        ROWS.. => block::<FUSED, ROWS, N>(place, base, b, out),
        4.. => block::<FUSED, 4, N>(place, base, b, out),
        2.. => block::<FUSED, 2, N>(place, base, b, out),
        _ => block::<FUSED, 1, N>(place, base, b, out),
    }
}

#[inline(always)]
fn block<const FUSED: bool, const M: usize, const N: usize>(
    place: Place<'_>,
    base: Option<&[f32]>,
    b: &[f32],
    out: &mut [f32],
) -> usize {
    let Place { a, strides: (by_row, by_inner), k, n, column } = place;
    let mut sums = [[0.0_f32; N]; M];
    assert!(a.len() > (M - 1) * by_row + (k - 1) * by_inner && b.len() >= (k - 1) * n + column + N, "inside");
    for inner in 0..k {
        // SAFETY: the assertion bounds both offsets for the largest `inner` and row.
        let right: &[f32; N] = unsafe { &*b.as_ptr().add(inner * n + column).cast() };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let left = unsafe { *a.as_ptr().add(row * by_row + inner * by_inner) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = if FUSED { left.mul_add(*right, *sum) } else { left * right + *sum };
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut out[row * n + column..][..N];
        match base {
            Some(base) => {
                let base = &base[row * n + column..][..N];
                out.iter_mut().zip(base).zip(sums).for_each(|((out, base), sum)| *out = base + sum);
            }
            None => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        }
    }
    M
}

/// The matrix with rows and columns exchanged.
pub(super) fn turn(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (row, values) in values.chunks_exact(columns.max(1)).take(rows).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_shapes_equal_their_sums() {
        for (m, k, n) in [(1, 1, 1), (7, 5, 3), (6, 9, 16), (13, 4, 27), (64, 32, 128), (5, 0, 4), (3, 70, 24)] {
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 1.3).cos()).collect();
            let mut expected = vec![0.5_f32; m * n];
            for (place, sum) in expected.iter_mut().enumerate() {
                let (row, column) = (place / n, place % n);
                *sum += (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum::<f32>();
            }
            let turned = turn(&a, m, k);
            for left in [Left::plain(&a), Left::turned(&turned)] {
                let mut out = vec![0.5_f32; m * n];
                add_product(Sizes { m, k, n }, left, &b, &mut out);
                let close = out.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(close, "{m} × {k} × {n}: {out:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_product_is_set_on_a_base() {
        for (m, n, k) in [(1, 1, 1), (7, 27, 5), (24, 128, 6), (5, 16, 0)] {
            let values = |count: usize, by: f32| (0..count).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
            let (left, right, base) = (values(m * k, 0.7), values(k * n, 1.3), values(m * n, 0.3));
            let (sizes, mut found, mut expected) = (Sizes { m, k, n }, vec![7.0; m * n], base.clone());
            set_product(sizes, &base, Left::plain(&left), &right, &mut found);
            add_product(sizes, Left::plain(&left), &right, &mut expected);
            assert_eq!(found, expected, "{m} × {k} × {n}");
        }
    }

    #[test]
    fn a_row_is_the_same_bits_whatever_lies_beside_it() {
        let (k, n) = (37, 25);
        let a: Vec<f32> = (0..9 * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 1.3).cos()).collect();
        let mut all = vec![0.0; 9 * n];
        add_product(Sizes { m: 9, k, n }, Left::plain(&a), &b, &mut all);
        for row in 0..9 {
            let mut one = vec![0.0; n];
            add_product(Sizes { m: 1, k, n }, Left::plain(&a[row * k..]), &b, &mut one);
            assert_eq!(one, all[row * n..(row + 1) * n]);
        }
    }
}
