//! The network with one head for all steps at the encoder's last state, in place of the decoder: for comparison only. Rule:
//! as much as possible is the same, the linear map of what is known of each target too.
//!
//! Weights: the encoder's as in the layout, `[hidden][step · level]`, the map `[input][level]`, `[step · level]`.

use burn::tensor::{Device, Tensor};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::network::{Batch, Block, Layout, Loss};
use super::tensors::{Head, Parts, Trace, cube, flat, known, matrix, over_steps, read};
use crate::error::Result;

fn encoder_count(layout: &Layout) -> usize {
    layout.range(Block::EncoderBias).end
}

/// First weights, from those of the network with a decoder.
pub(super) fn initial(layout: &Layout, steps: usize, seed: u64, usual: &[f32]) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = usual[..encoder_count(layout)].to_vec();
    let head = layout.hidden * steps * layout.levels.len();
    weights.extend((0..head).map(|_| random.random_range(-0.02_f32..0.02)));
    weights.extend_from_slice(&usual[layout.range(Block::HeadInput)]);
    weights.extend(usual[layout.range(Block::HeadBias)].repeat(steps));
    weights
}

pub(super) fn loss_and_gradient(layout: &Layout, weights: &[f32], batch: &Batch) -> Result<Option<(Loss, Vec<f32>)>> {
    let Some(known) = known(batch) else { return Ok(None) };
    let device = &Device::flex();
    let (size, steps, h, levels) = (batch.size, batch.decoder_steps, layout.hidden, layout.levels.len());
    let (encoder, rest) = weights.split_at(encoder_count(layout));
    let (by_state, rest) = rest.split_at(h * steps * levels);
    let (by_input, bias) = rest.split_at(layout.decoder_inputs * levels);
    let mut usual = encoder.to_vec();
    usual.resize(layout.count(), 0.0);
    let parts = Parts::new(device, layout, &usual);
    let by_state = matrix(by_state, h, steps * levels, device);
    let by_input = matrix(by_input, layout.decoder_inputs, levels, device);
    let bias = matrix(bias, 1, steps * levels, device);

    let zero = || Tensor::zeros([size, h], device);
    let inputs = cube(&batch.encoder, [batch.encoder_steps, size, layout.encoder_inputs], device);
    let encoder = Trace::forward(&parts, &parts.encoder, inputs, parts.encoder.bias.clone(), (zero(), zero()));
    let state = encoder.states[encoder.states.len() - 1].clone();
    let inputs = cube(&batch.decoder, [steps, size, layout.decoder_inputs], device);
    let at_once = (state.clone().matmul(by_state.clone()) + bias).reshape([size, steps, levels]).swap_dims(0, 1);
    let values = at_once.reshape([steps * size, levels])
        + inputs.clone().reshape([steps * size, layout.decoder_inputs]).matmul(by_input);
    let head = Head::of(&parts, Tensor::zeros([1, 1, 1], device), values);
    let (sum, by_log) = head.loss(&parts, batch, device);

    let share = 1.0 / (known * levels) as f32;
    let by_values = head.by_values(&parts, by_log.mul_scalar(share)).reshape([steps, size, levels]);
    let at_once = by_values.clone().swap_dims(0, 1).reshape([size, steps * levels]);
    let flow = (at_once.clone().matmul(by_state.transpose()), zero());
    let (gates, _) = encoder.backward(&parts, &parts.encoder, None, flow);
    let found = vec![
        over_steps(encoder.inputs.clone(), gates.clone()),
        over_steps(encoder.states(false), gates.clone()),
        flat(gates.sum_dim(0).reshape([size, 4 * h]).sum_dim(0)),
        flat(state.transpose().matmul(at_once.clone())),
        over_steps(inputs, by_values),
        flat(at_once.sum_dim(0)),
        sum.mul_scalar(share),
    ];
    let mut gradient = read(Tensor::cat(found, 0))?;
    let mean = gradient.pop().map_or(f64::NAN, f64::from);
    Ok(Some((Loss { mean, known }, gradient)))
}
