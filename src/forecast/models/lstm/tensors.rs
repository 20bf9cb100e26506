//! The network of [`network`](super::network) over Burn's tensors: loss and gradient of a batch on any device of Burn's.
//! Rule: the same weights in the same order and the same loss as the kernel's; few operations a step, because each costs a
//! device the same few microseconds however small it is. What can be made of all steps at once is: the products with the
//! inputs, the head, the loss, and the gradients of all weights.
//!
//! Shapes: `[step][sample][…]`, as in a [`Batch`]. The gradient is written out, not recorded: a tape of the same steps has
//! more than twice as many operations. The test compares it with the tape's.

use burn::tensor::{Device, Tensor, TensorData};

use super::network::{Batch, Block, EMBEDDING, LOG_MAX, Layout, Loss};
use super::product::turn;
use crate::error::{ForecastCrateError, Result};

/// Mean pinball loss over known targets and levels; `None` where no target is known.
///
/// # Errors
/// What the device says went wrong.
pub(super) fn loss(device: &Device, layout: &Layout, weights: &[f32], batch: &Batch) -> Result<Option<Loss>> {
    let Some(known) = known(batch) else { return Ok(None) };
    let parts = Parts::new(device, layout, weights);
    let (_, head) = Run::forward(&parts, batch, device);
    let (sum, _) = head.loss(&parts, batch, device);
    let found = read(sum)?;
    Ok(Some(Loss { mean: f64::from(found[0]) / (known * layout.levels.len()) as f64, known }))
}

/// The loss, and its gradient with regard to all weights.
///
/// # Errors
/// As [`loss`].
pub(super) fn loss_and_gradient(
    device: &Device,
    layout: &Layout,
    weights: &[f32],
    batch: &Batch,
) -> Result<Option<(Loss, Vec<f32>)>> {
    let Some(known) = known(batch) else { return Ok(None) };
    let share = 1.0 / (known * layout.levels.len()) as f32;
    let parts = Parts::new(device, layout, weights);
    let (run, head) = Run::forward(&parts, batch, device);
    let (sum, by_log) = head.loss(&parts, batch, device);
    let mut found = run.backward(&parts, &head, by_log.mul_scalar(share));
    found.push(sum);
    // One transfer for all, which is what waits for the device.
    let mut gradient = read(Tensor::cat(found, 0))?;
    let mean = gradient.pop().map_or(f64::NAN, f64::from) / (known * layout.levels.len()) as f64;
    Ok(Some((Loss { mean, known }, gradient)))
}

pub(super) fn known(batch: &Batch) -> Option<usize> {
    let known = batch.targets.iter().filter(|target| !target.is_nan()).count();
    (known > 0).then_some(known)
}

pub(super) fn read(values: Tensor<1>) -> Result<Vec<f32>> {
    let failed =
        |reason: String| ForecastCrateError::Gpu { reason, hint: "train on the processor, `device = \"cpu\"`" };
    let data = values.try_into_data().map_err(|error| failed(format!("{error:?}")))?;
    data.try_to_vec::<f32>().map_err(|error| failed(format!("{error:?}")))
}

pub(super) fn matrix(values: &[f32], rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, columns]), device)
}

pub(super) fn cube(values: &[f32], shape: [usize; 3], device: &Device) -> Tensor<3> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub(super) fn flat<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    let count = values.dims().iter().product::<usize>();
    values.reshape([count])
}

/// The sum over all steps of the products of `left`, turned, and `right`: the gradient of weights that were used at each.
/// Step by step in one operation, so that the device has as many places to work at as there are steps.
pub(super) fn over_steps(left: Tensor<3>, right: Tensor<3>) -> Tensor<1> {
    flat(left.swap_dims(1, 2).matmul(right).sum_dim(0))
}

/// One LSTM layer's weights.
pub(super) struct Layer {
    input: Tensor<2>,
    state: Tensor<2>,
    state_turned: Tensor<2>,
    pub bias: Tensor<2>,
}

/// The weights on the device, and what the activations and the order of the quantiles are made with.
pub(super) struct Parts {
    pub encoder: Layer,
    decoder: Layer,
    embedding: Tensor<2>,
    embedding_input: Tensor<2>,
    head_state: Tensor<2>,
    head_input: Tensor<2>,
    head_bias: Tensor<2>,
    /// By gate: the tangent is stretched to a sigmoid for all but the candidate, `slope · tanh(slope · z) + shift`.
    slope: Tensor<2>,
    shift: Tensor<2>,
    /// 1 at the median.
    middle: Tensor<2>,
    /// Which steps are added up to which quantile, and their sign.
    sums: Tensor<2>,
    levels: Tensor<2>,
    hidden: usize,
}

impl Parts {
    pub(super) fn new(device: &Device, layout: &Layout, weights: &[f32]) -> Self {
        let (h, gates, levels) = (layout.hidden, 4 * layout.hidden, layout.levels.len());
        let part = |block: Block, columns: usize| {
            let values = &weights[layout.range(block)];
            matrix(values, values.len() / columns, columns, device)
        };
        let layer = |input: Block, state: Block, bias: Block| Layer {
            input: part(input, gates),
            state: part(state, gates),
            state_turned: matrix(&turn(&weights[layout.range(state)], h, gates), gates, h, device),
            bias: part(bias, gates),
        };
        let by_gate = |others: f32, candidate: f32| {
            let row: Vec<f32> = (0..gates).map(|k| if k / h == 2 { candidate } else { others }).collect();
            matrix(&row, 1, gates, device)
        };
        let middle = layout.middle();
        let mut sums = vec![0.0; levels * levels];
        for (from, sums) in sums.chunks_exact_mut(levels).enumerate() {
            for (to, sum) in sums.iter_mut().enumerate() {
                *sum = match from {
                    _ if from == middle => 1.0,
                    _ if from > middle && to >= from => 1.0,
                    _ if from < middle && to <= from => -1.0,
                    _ => 0.0,
                };
            }
        }
        let by_level = |of: &dyn Fn(usize) -> f32| matrix(&(0..levels).map(of).collect::<Vec<_>>(), 1, levels, device);
        Self {
            encoder: layer(Block::EncoderInput, Block::EncoderState, Block::EncoderBias),
            decoder: layer(Block::DecoderInput, Block::DecoderState, Block::DecoderBias),
            embedding: part(Block::Embedding, EMBEDDING),
            embedding_input: part(Block::EmbeddingInput, gates),
            head_state: part(Block::HeadState, levels),
            head_input: part(Block::HeadInput, levels),
            head_bias: part(Block::HeadBias, levels),
            slope: by_gate(0.5, 1.0),
            shift: by_gate(0.5, 0.0),
            middle: by_level(&|q| if q == middle { 1.0 } else { 0.0 }),
            sums: matrix(&sums, levels, levels, device),
            levels: by_level(&|q| layout.levels[q] as f32),
            hidden: h,
        }
    }

    /// The gates of a step, each `[sample][hidden]`, in the order of the kernel.
    fn gates(&self, all: &Tensor<2>) -> [Tensor<2>; 4] {
        std::array::from_fn(|k| all.clone().narrow(1, k * self.hidden, self.hidden))
    }
}

/// What the forward run of a layer keeps for the backward run.
pub(super) struct Trace {
    pub inputs: Tensor<3>,
    /// After their activation, `[sample][4 · hidden]` at each step.
    gates: Vec<Tensor<2>>,
    /// Initial, then after each step.
    cells: Vec<Tensor<2>>,
    pub states: Vec<Tensor<2>>,
    tanhs: Vec<Tensor<2>>,
}

/// A gradient with regard to hidden and cell state.
pub(super) type Flow = (Tensor<2>, Tensor<2>);

impl Trace {
    pub(super) fn forward(parts: &Parts, layer: &Layer, inputs: Tensor<3>, bias: Tensor<2>, initial: Flow) -> Self {
        let [steps, size, width] = inputs.dims();
        let gates = 4 * parts.hidden;
        let by_input = inputs.clone().reshape([steps * size, width]).matmul(layer.input.clone());
        let by_input = by_input.reshape([steps, size, gates]) + bias.unsqueeze::<3>();
        let (state, cell) = initial;
        let mut trace = Self { inputs, gates: vec![], cells: vec![cell], states: vec![state], tanhs: vec![] };
        for t in 0..steps {
            let by_input = by_input.clone().narrow(0, t, 1).reshape([size, gates]);
            let z = trace.states[t].clone().matmul(layer.state.clone()) + by_input;
            let all = (z * parts.slope.clone()).tanh() * parts.slope.clone() + parts.shift.clone();
            let [i, f, g, o] = parts.gates(&all);
            let cell = f * trace.cells[t].clone() + i * g;
            let tanh = cell.clone().tanh();
            trace.states.push(o * tanh.clone());
            trace.gates.push(all);
            trace.cells.push(cell);
            trace.tanhs.push(tanh);
        }
        trace
    }

    /// Gradients with regard to the gates before their activation, `[step][sample][4 · hidden]`, and to the initial
    /// state. `outputs` is with regard to each step's hidden state, `flow` to the last ones.
    pub(super) fn backward(
        &self,
        parts: &Parts,
        layer: &Layer,
        outputs: Option<&Tensor<3>>,
        flow: Flow,
    ) -> (Tensor<3>, Flow) {
        let (mut by_state, mut by_cell) = flow;
        let candidate = parts.shift.clone().mul_scalar(-2.0).add_scalar(1.0);
        let mut all = Vec::with_capacity(self.gates.len());
        for t in (0..self.gates.len()).rev() {
            if let Some(outputs) = outputs {
                let shape = by_state.dims();
                by_state = by_state + outputs.clone().narrow(0, t, 1).reshape(shape);
            }
            let gates = &self.gates[t];
            let [i, f, g, o] = parts.gates(gates);
            let tanh = self.tanhs[t].clone();
            let bent = (tanh.clone() * tanh.clone()).neg().add_scalar(1.0);
            let flow = by_cell + by_state.clone() * o * bent;
            let by_gates =
                vec![flow.clone() * g, flow.clone() * self.cells[t].clone(), flow.clone() * i, by_state * tanh];
            // a (1 − a) of a sigmoid, (1 + a) (1 − a) of the tangent.
            let slope = gates.clone().neg().add_scalar(1.0) * (gates.clone() + candidate.clone());
            let by_gates = Tensor::cat(by_gates, 1) * slope;
            by_cell = flow * f;
            by_state = by_gates.clone().matmul(layer.state_turned.clone());
            all.push(by_gates);
        }
        all.reverse();
        (Tensor::stack(all, 0), (by_state, by_cell))
    }

    /// The hidden states before each step, or after each.
    pub(super) fn states(&self, after: bool) -> Tensor<3> {
        let from = usize::from(after);
        Tensor::stack(self.states[from..from + self.gates.len()].to_vec(), 0)
    }
}

struct Run {
    encoder: Trace,
    decoder: Trace,
    /// `[sample][service]`, 1 at its own.
    services: Tensor<2>,
    /// `[sample][…]` of the services' vectors.
    vectors: Tensor<2>,
}

/// The head's run.
pub(super) struct Head {
    /// `[step][sample][hidden]`.
    states: Tensor<3>,
    /// `[step · sample][level]`: before and after the steps between quantiles are made positive.
    values: Tensor<2>,
    logs: Tensor<2>,
}

impl Run {
    fn forward(parts: &Parts, batch: &Batch, device: &Device) -> (Self, Head) {
        let (size, h) = (batch.size, parts.hidden);
        let count = parts.embedding.dims()[0];
        let mut services = vec![0.0; size * count];
        for (row, service) in services.chunks_exact_mut(count.max(1)).zip(&batch.services) {
            if let Some(place) = service.and_then(|service| row.get_mut(service)) {
                *place = 1.0;
            }
        }
        let services = matrix(&services, size, count, device);
        let vectors = services.clone().matmul(parts.embedding.clone());
        let bias = vectors.clone().matmul(parts.embedding_input.clone()) + parts.decoder.bias.clone();
        let steps =
            |values: &[f32], steps: usize| cube(values, [steps, size, values.len() / (steps * size).max(1)], device);
        let zero = || (Tensor::zeros([size, h], device), Tensor::zeros([size, h], device));
        let inputs = steps(&batch.encoder, batch.encoder_steps);
        let encoder = Trace::forward(parts, &parts.encoder, inputs, parts.encoder.bias.clone(), zero());
        let last = |states: &[Tensor<2>]| states[states.len() - 1].clone();
        let initial = (last(&encoder.states), last(&encoder.cells));
        let inputs = steps(&batch.decoder, batch.decoder_steps);
        let decoder = Trace::forward(parts, &parts.decoder, inputs.clone(), bias, initial);
        let states = decoder.states(true);
        let all = batch.decoder_steps * size;
        let width = inputs.dims()[2];
        let values = states.clone().reshape([all, h]).matmul(parts.head_state.clone())
            + inputs.reshape([all, width]).matmul(parts.head_input.clone())
            + parts.head_bias.clone();
        (Self { encoder, decoder, services, vectors }, Head::of(parts, states, values))
    }

    /// The gradients of all blocks in their order, from that with regard to the logarithms of the quantiles.
    fn backward(&self, parts: &Parts, head: &Head, by_log: Tensor<2>) -> Vec<Tensor<1>> {
        let [steps, size, h] = head.states.dims();
        let levels = by_log.dims()[1];
        let by_head = head.by_values(parts, by_log);
        let outputs = by_head.clone().matmul(parts.head_state.clone().transpose()).reshape([steps, size, h]);
        let head_bias = flat(by_head.clone().sum_dim(0));
        let by_head = by_head.reshape([steps, size, levels]);
        let head_state = over_steps(head.states.clone(), by_head.clone());
        let head_input = over_steps(self.decoder.inputs.clone(), by_head);
        let zero = || Tensor::zeros([size, h], &parts.levels.device());
        let (decoder, flow) = self.decoder.backward(parts, &parts.decoder, Some(&outputs), (zero(), zero()));
        let (encoder, _) = self.encoder.backward(parts, &parts.encoder, None, flow);
        let by_sample = |gates: &Tensor<3>| gates.clone().sum_dim(0).reshape([size, 4 * h]);
        let (encoder_bias, decoder_bias) = (by_sample(&encoder), by_sample(&decoder));
        let by_vectors = decoder_bias.clone().matmul(parts.embedding_input.clone().transpose());
        vec![
            over_steps(self.encoder.inputs.clone(), encoder.clone()),
            over_steps(self.encoder.states(false), encoder),
            flat(encoder_bias.sum_dim(0)),
            over_steps(self.decoder.inputs.clone(), decoder.clone()),
            over_steps(self.decoder.states(false), decoder),
            flat(decoder_bias.clone().sum_dim(0)),
            flat(self.services.clone().transpose().matmul(by_vectors)),
            flat(self.vectors.clone().transpose().matmul(decoder_bias)),
            head_state,
            head_input,
            head_bias,
        ]
    }
}

impl Head {
    pub(super) fn of(parts: &Parts, states: Tensor<3>, values: Tensor<2>) -> Self {
        let positive = values.clone().clamp_min(0.0) + values.clone().abs().neg().exp().log1p();
        let steps = positive.clone() + (values.clone() - positive) * parts.middle.clone();
        let logs = steps.matmul(parts.sums.clone()).clamp(-LOG_MAX, LOG_MAX);
        Self { states, values, logs }
    }

    /// The gradient with regard to its values, from that with regard to the logarithms.
    pub(super) fn by_values(&self, parts: &Parts, by_log: Tensor<2>) -> Tensor<2> {
        // The slope of the softplus, by a tangent as the gates'.
        let slope = self.values.clone().mul_scalar(0.5).tanh().mul_scalar(0.5).add_scalar(0.5);
        let slope = slope.clone() + slope.neg().add_scalar(1.0) * parts.middle.clone();
        by_log.matmul(parts.sums.clone().transpose()) * slope
    }

    /// The sum of the losses, and its gradient with regard to the logarithms of the quantiles.
    pub(super) fn loss(&self, parts: &Parts, batch: &Batch, device: &Device) -> (Tensor<1>, Tensor<2>) {
        let all = batch.targets.len();
        let steps = batch.decoder_steps;
        let repeated = |values: &[f32]| matrix(&values.repeat(steps), all, 1, device);
        let (bases, offsets) = (repeated(&batch.bases), repeated(&batch.offsets));
        let of_targets = |value: &dyn Fn(f32) -> f32| {
            let values: Vec<f32> = batch.targets.iter().map(|target| value(*target)).collect();
            matrix(&values, all, 1, device)
        };
        let targets = of_targets(&|target| if target.is_nan() { 0.0 } else { target });
        let known = of_targets(&|target| if target.is_nan() { 0.0 } else { 1.0 });
        let scaled = self.logs.clone().exp() * bases;
        let miss = targets - (scaled.clone() - offsets);
        let above = miss.clone().greater_equal_elem(0.0).float();
        // level where the target is above, level − 1 where it is below.
        let weight = (above.add_scalar(-1.0) + parts.levels.clone()) * known;
        let inside = self.logs.clone().abs().lower_elem(LOG_MAX).float();
        ((miss * weight.clone()).sum(), weight.neg() * scaled * inside)
    }
}
