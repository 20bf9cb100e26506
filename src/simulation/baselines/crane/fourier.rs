//! The discrete Fourier transform of any length that is a product of small primes, as windows of a day and of weeks are.
//! Rule: scalar and in one order, so that its last digit is the same on every machine.

/// A complex number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }

    pub(super) fn norm_sqr(self) -> f64 {
        self.re * self.re + self.im * self.im
    }

    pub(super) fn norm(self) -> f64 {
        self.norm_sqr().sqrt()
    }

    fn times(self, other: Self) -> Self {
        Self::new(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.re + other.re, self.im + other.im)
    }

    fn conjugate(self) -> Self {
        Self::new(self.re, -self.im)
    }
}

/// Transforms of one length.
#[derive(Clone, Debug)]
pub(super) struct Fourier {
    /// exp(−2πi k / n) for each k.
    roots: Vec<Complex>,
}

impl Fourier {
    pub(super) fn new(count: usize) -> Self {
        let angle = |k: usize| -std::f64::consts::TAU * k as f64 / count as f64;
        Self { roots: (0..count).map(|k| Complex::new(angle(k).cos(), angle(k).sin())).collect() }
    }

    /// X(k) = Σ x(j) exp(−2πi j k / n)
    pub(super) fn forward(&self, signal: &[Complex]) -> Vec<Complex> {
        let mut spectrum = signal.to_vec();
        let mut spare = signal.to_vec();
        self.transform(signal, 1, &mut spectrum, &mut spare);
        spectrum
    }

    /// The same with the other sign, not divided by n.
    pub(super) fn inverse(&self, spectrum: &[Complex]) -> Vec<Complex> {
        let conjugate: Vec<Complex> = spectrum.iter().map(|x| x.conjugate()).collect();
        self.forward(&conjugate).into_iter().map(Complex::conjugate).collect()
    }

    /// Cooley and Tukey (1965): of n = p · m the p interleaved signals of length m, then the sums over p. The signal is each
    /// `stride`-th value, as is each root of this length among those of the whole; what comes out is as long as `spectrum`,
    /// and `spare` is as long as that.
    fn transform(&self, signal: &[Complex], stride: usize, spectrum: &mut [Complex], spare: &mut [Complex]) {
        let count = spectrum.len();
        if count <= 1 {
            spectrum.iter_mut().zip(signal).for_each(|(to, from)| *to = *from);
            return;
        }
        let p = (2..=count).find(|p| count.is_multiple_of(*p)).unwrap_or(count);
        let m = count / p;
        // The parts' spectra one after the other; the room for what comes out is their spare room.
        let parts = spare.chunks_exact_mut(m).zip(spectrum.chunks_exact_mut(m)).enumerate();
        for (offset, (part, spare)) in parts {
            let signal = signal.get(offset * stride..).unwrap_or(&[]);
            match (&mut *part, signal) {
                ([only], [first, ..]) => *only = *first,
                _ => self.transform(signal, stride * p, part, spare),
            }
        }
        // The first part's roots are all 1.
        let (first, others) = spare.split_at(m);
        let whole = self.roots.len();
        for (block, sums) in spectrum.chunks_exact_mut(m).enumerate() {
            sums.iter_mut().zip(first).for_each(|(sum, x)| *sum = Complex::default().plus(*x));
            let (jump, mut start) = (block * m * stride, 0);
            for (part, offset) in others.chunks_exact(m).zip(1..) {
                start = turned(start, jump, whole);
                let mut root = start;
                for (sum, x) in sums.iter_mut().zip(part) {
                    *sum = sum.plus(x.times(self.roots[root]));
                    root = turned(root, offset * stride, whole);
                }
            }
        }
    }
}

/// `place + by` around a circle of `whole` places, both of which are on it.
fn turned(place: usize, by: usize, whole: usize) -> usize {
    let on = place + by;
    if on < whole { on } else { on - whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_that_defines_it_and_goes_back() {
        for count in [1, 2, 7, 12, 60, 105, 128] {
            let at = |j: usize| Complex::new(((j * j) % 17) as f64 - 8.0, (j % 5) as f64);
            let signal: Vec<Complex> = (0..count).map(at).collect();
            let fourier = Fourier::new(count);
            let found = fourier.forward(&signal);
            for (k, found) in found.iter().enumerate() {
                let expected = signal.iter().enumerate().fold(Complex::default(), |sum, (j, x)| {
                    let angle = -std::f64::consts::TAU * ((j * k) % count) as f64 / count as f64;
                    sum.plus(x.times(Complex::new(angle.cos(), angle.sin())))
                });
                let apart = Complex::new(found.re - expected.re, found.im - expected.im).norm();
                assert!(apart < 1e-9 * count as f64, "{count} {k}: {apart}");
            }
            for (x, back) in signal.iter().zip(fourier.inverse(&found)) {
                let apart = Complex::new(x.re - back.re / count as f64, x.im - back.im / count as f64).norm();
                assert!(apart < 1e-9, "{count}: {apart}");
            }
        }
    }
}
