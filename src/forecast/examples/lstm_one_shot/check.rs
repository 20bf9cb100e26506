//! Whether the gradient of the ablated network is the slope of its loss. Rule: block of weights by block, along the
//! gradient itself, so that an error of sign, order or scale in one block shows. Targets lie beyond all quantiles: at a
//! quantile the loss has a kink, and over a few hundred targets differences would tell of kinks.

use prescale_domain::DEFAULT_QUANTILES;
use prescale_forecast::models::LstmSettings;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::HORIZON_STEPS;
use crate::network::{Batch, Layout, Source};

/// What curvature and single precision may put between slope and gradient; 0.14 % measured.
const APART_MAX: f64 = 0.005;
/// By this share of itself a step changes the loss.
const CHANGE: f64 = 1e-4;

/// The largest |slope by central differences ÷ length of the gradient − 1| over the blocks, for the head chosen.
///
/// # Panics
/// Where one is above half a percent, or a block's gradient is zero.
pub(crate) fn slopes() -> f64 {
    let levels = DEFAULT_QUANTILES.to_vec();
    let layout = Layout { encoder_inputs: 5, decoder_inputs: 3, hidden: 8, services: 1, levels };
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut some =
        |count: usize, low: f32, high: f32| (0..count).map(|_| random.random_range(low..high)).collect::<Vec<f32>>();
    let (size, encoder_steps) = (16, 12);
    let mut batch = Batch {
        size,
        encoder_steps,
        decoder_steps: HORIZON_STEPS,
        encoder: some(encoder_steps * size * layout.encoder_inputs, -1.0, 1.0),
        decoder: some(HORIZON_STEPS * size * layout.decoder_inputs, -1.0, 1.0),
        services: vec![Some(0); size],
        bases: some(size, 1.0, 2.0),
        offsets: some(size, 0.1, 0.2),
        targets: some(HORIZON_STEPS * size, 0.0, 1.0).iter().map(|t| if *t < 0.5 { -1.0 } else { 20.0 }).collect(),
    };
    batch.targets[7] = f32::NAN;
    let mut weights = layout.initial(3, &[0.2]);
    let moved = some(weights.len(), -0.1, 0.1);
    weights.iter_mut().zip(moved).for_each(|(weight, by)| *weight += by);

    let mut source = Source::open(&LstmSettings::default()).unwrap();
    let (loss, gradient) = source.gradient_of(&layout, &weights, &batch).unwrap();
    let mut apart_max = 0.0_f64;
    for block in layout.blocks() {
        let length = gradient[block.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(length > 1e-3, "the gradient of the weights {block:?} is {length}");
        let step = CHANGE * loss / length;
        let mut at = |steps: f64| {
            let mut moved = weights.clone();
            for (weight, g) in moved[block.clone()].iter_mut().zip(&gradient[block.clone()]) {
                *weight += (steps * step * f64::from(*g) / length) as f32;
            }
            source.loss(&layout, &moved, &batch).unwrap().unwrap().mean
        };
        let apart = ((at(1.0) - at(-1.0)) / (2.0 * step) / length - 1.0).abs();
        assert!(apart < APART_MAX, "the loss is {apart} off along the gradient of the weights {block:?}");
        apart_max = apart_max.max(apart);
    }
    apart_max
}
