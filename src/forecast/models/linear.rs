//! Least squares by the normal equations, for a handful of unknowns.

use super::regression::solve as cholesky;

/// Sums of a regression, added up row by row.
#[derive(Clone, Debug)]
pub(super) struct LeastSquares {
    width: usize,
    square: Vec<f64>,
    product: Vec<f64>,
}

impl LeastSquares {
    /// For `width` unknowns.
    pub(super) fn new(width: usize) -> Self {
        Self { width, square: vec![0.0; width * width], product: vec![0.0; width] }
    }

    /// One row: `inputs` of the width, and what they should give.
    pub(super) fn add(&mut self, inputs: &[f64], target: f64) {
        for (row, left) in inputs.iter().enumerate() {
            for (column, right) in inputs[..=row].iter().enumerate() {
                self.square[row * self.width + column] += left * right;
            }
            self.product[row] += left * target;
        }
    }

    /// The coefficients, by Cholesky; a hair of ridge keeps inputs that repeat each other from blowing up. `None` when a sum
    /// is not finite or the inputs say too little.
    pub(super) fn solve(&self) -> Option<Vec<f64>> {
        const RIDGE: f64 = 1e-10;
        let width = self.width;
        let trace: f64 = (0..width).map(|i| self.square[i * width + i]).sum();
        let mut square = self.square.clone();
        for i in 0..width {
            square[i * width + i] += RIDGE * trace + f64::MIN_POSITIVE;
        }
        let answer = cholesky(&mut square, &self.product, width)?;
        answer.iter().all(|value| value.is_finite()).then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_inputs_that_repeat_each_other_share_it() {
        let (mut line, mut twice) = (LeastSquares::new(2), LeastSquares::new(2));
        for x in 0..20 {
            let x = f64::from(x);
            line.add(&[1.0, x], 3.0 - 0.5 * x);
            twice.add(&[x, x], 4.0 * x);
        }
        let line = line.solve().unwrap();
        assert!((line[0] - 3.0).abs() < 1e-6 && (line[1] + 0.5).abs() < 1e-7, "{line:?}");
        let twice = twice.solve().unwrap();
        assert!((twice[0] + twice[1] - 4.0).abs() < 1e-6, "{twice:?}");
    }

    #[test]
    fn nothing_at_all_gives_zeros_and_what_is_not_finite_gives_nothing() {
        assert_eq!(LeastSquares::new(3).solve(), Some(vec![0.0; 3]));
        let mut broken = LeastSquares::new(1);
        broken.add(&[1.0], f64::NAN);
        assert_eq!(broken.solve(), None);
    }
}
