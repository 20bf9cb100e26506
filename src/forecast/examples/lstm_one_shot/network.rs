//! The ablated network: the product's encoder, and in place of decoder and head one linear map from the encoder's last
//! state and the known inputs of the targets to the quantiles of all steps at once. Rule: what it shares with the product
//! (the encoder, its first weights, the form of the quantiles, the loss) is the product's own or equal to it.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use prescale_forecast::Result;

use crate::kernel::{self, Gradients, Size, Trace, Weights};
use crate::product::{Left, Sizes, add_product, turn};
use crate::recurrent::{self, Block, LOG_MAX};
pub(crate) use crate::recurrent::{Batch, Loss};
use crate::train::{Sample, assemble};
use crate::{HORIZON_STEPS, Head};

/// Sizes, named as the product's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub encoder_inputs: usize,
    pub decoder_inputs: usize,
    pub hidden: usize,
    pub services: usize,
    pub levels: Vec<f64>,
}

impl Layout {
    fn outputs(&self) -> usize {
        HORIZON_STEPS * self.levels.len()
    }

    /// Weights of the head by the state, by the known inputs, and its biases.
    fn head<'a>(&self, all: &'a [f32]) -> [&'a [f32]; 3] {
        let [.., by_state, by_input, bias] = self.blocks().map(|block| &all[block]);
        [by_state, by_input, bias]
    }

    /// Number of the head's weights by the known inputs.
    fn inputs(&self) -> usize {
        match Head::chosen() {
            Head::All => HORIZON_STEPS * self.decoder_inputs * self.outputs(),
            Head::Own => self.decoder_inputs * self.levels.len(),
        }
    }

    /// The blocks of the weights: those of the encoder, then those of the head.
    pub(crate) fn blocks(&self) -> [Range<usize>; 6] {
        let own = self.recurrent();
        let [input, state, bias] = [Block::EncoderInput, Block::EncoderState, Block::EncoderBias].map(|b| own.range(b));
        let by_state = bias.end..bias.end + self.hidden * self.outputs();
        let by_input = by_state.end..by_state.end + self.inputs();
        let biases = by_input.end..by_input.end + self.outputs();
        [input, state, bias, by_state, by_input, biases]
    }

    /// The product's layout of the same sizes.
    fn recurrent(&self) -> recurrent::Layout {
        let Self { encoder_inputs, decoder_inputs, hidden, services, levels } = self.clone();
        recurrent::Layout { encoder_inputs, decoder_inputs, hidden, services, levels }
    }

    /// The product's first weights: its encoder, and its head at each step.
    pub(crate) fn initial(&self, seed: u64, spread: &[f64]) -> Vec<f32> {
        let own = self.recurrent();
        let product = own.initial(seed, spread);
        let mut weights = product[..own.range(Block::EncoderBias).end].to_vec();
        for row in product[own.range(Block::HeadState)].chunks_exact(self.levels.len()) {
            weights.extend(row.repeat(HORIZON_STEPS));
        }
        weights.resize(weights.len() + self.inputs(), 0.0);
        weights.extend(product[own.range(Block::HeadBias)].repeat(HORIZON_STEPS));
        weights
    }

    fn encoder(&self, batch: &Batch) -> Size {
        let (steps, inputs, hidden) = (batch.encoder_steps, self.encoder_inputs, self.hidden);
        Size { steps, batch: batch.size, inputs, hidden }
    }

    fn weights<'a>(&self, all: &'a [f32]) -> (Weights<'a>, &'a [f32]) {
        let own = self.recurrent();
        let at = |block| &all[own.range(block)];
        (Weights { input: at(Block::EncoderInput), state: at(Block::EncoderState) }, at(Block::EncoderBias))
    }
}

/// What runs a training: encoder and linear map by the kernel, quantiles and loss by Burn's automatic differentiation.
pub(crate) struct Source {
    device: Device,
}

impl Source {
    /// As the product's, on the processor.
    pub(crate) fn open(_: &crate::LstmSettings) -> Result<Self> {
        Ok(Self { device: Device::flex() })
    }

    /// Loss and gradient over a batch. `None` where no target is known.
    pub(crate) fn gradient_of(&self, layout: &Layout, weights: &[f32], batch: &Batch) -> Option<(f64, Vec<f32>)> {
        let known = known(batch)?;
        let run = Run::forward(layout, weights, batch);
        let outputs = tensor(&run.outputs, [batch.targets.len(), layout.levels.len()], &self.device.clone().autodiff());
        let outputs = outputs.require_grad();
        let mean = pinball(layout, batch, logs(layout, &outputs)).div_scalar((known * layout.levels.len()) as f32);
        let found = mean.backward();
        let by_output = values(outputs.grad(&found).expect("the loss depends on the outputs"));
        Some((f64::from(values(mean)[0]), run.backward(layout, weights, batch, &by_output)))
    }

    /// Loss and gradient over the samples of a drawn batch. `None` where no target is known.
    pub(crate) fn gradient<'a, P: Sync>(
        &mut self,
        layout: &Layout,
        weights: &[f32],
        _: usize,
        picks: &[P],
        sample: &(impl Fn(&P) -> Option<Sample<'a>> + Sync),
    ) -> Result<Option<(f64, Vec<f32>)>> {
        let mut batch = Batch::default();
        assemble(&mut batch, &picks.iter().filter_map(sample).collect::<Vec<_>>());
        Ok(self.gradient_of(layout, weights, &batch))
    }

    /// The loss over a batch.
    pub(crate) fn loss(&mut self, layout: &Layout, weights: &[f32], batch: &Batch) -> Result<Option<Loss>> {
        let Some(known) = known(batch) else { return Ok(None) };
        let sum = values(pinball(layout, batch, forecast(layout, weights, batch, &self.device)))[0];
        Ok(Some(Loss { mean: f64::from(sum) / (known * layout.levels.len()) as f64, known }))
    }
}

/// The logarithms of the quantiles relative to the level: `[step · sample][level]`, one after the other.
pub(crate) fn predict(layout: &Layout, weights: &[f32], batch: &Batch) -> Vec<f32> {
    values(forecast(layout, weights, batch, &Device::flex()))
}

fn forecast(layout: &Layout, weights: &[f32], batch: &Batch, device: &Device) -> Tensor<2> {
    let outputs = Run::forward(layout, weights, batch).outputs;
    logs(layout, &tensor(&outputs, [outputs.len() / layout.levels.len(), layout.levels.len()], device))
}

/// A run of encoder and linear map.
struct Run {
    encoder: Trace,
    /// The known inputs by sample, all steps one after the other.
    flat: Vec<f32>,
    /// `[step][sample][level]`.
    outputs: Vec<f32>,
}

/// From `[outer][inner][width]` to `[inner][outer][width]`.
fn swapped(values: &[f32], outer: usize, width: usize) -> Vec<f32> {
    let inner = values.len() / (outer * width);
    let places = (0..inner).flat_map(|i| (0..outer).map(move |o| (o * inner + i) * width));
    places.flat_map(|from| values[from..from + width].iter().copied()).collect()
}

impl Run {
    fn forward(layout: &Layout, weights: &[f32], batch: &Batch) -> Self {
        let (by, bias) = layout.weights(weights);
        let mut encoder = Trace::default();
        kernel::forward(layout.encoder(batch), by, &bias.repeat(batch.size), &batch.encoder, None, &mut encoder);
        let (m, k, n, width) = (batch.size, layout.hidden, layout.outputs(), layout.decoder_inputs);
        let [by_state, by_input, bias] = layout.head(weights);
        let states = encoder.last(layout.encoder(batch)).0;
        let mut outputs = bias.repeat(m);
        add_product(Sizes { m, k, n }, Left::plain(states), by_state, &mut outputs);
        let flat = swapped(&batch.decoder, HORIZON_STEPS, width);
        let levels = layout.levels.len();
        match Head::chosen() {
            Head::All => {
                let k = HORIZON_STEPS * width;
                add_product(Sizes { m, k, n }, Left::plain(&flat), by_input, &mut outputs);
            }
            Head::Own => {
                let (m, n) = (m * HORIZON_STEPS, levels);
                add_product(Sizes { m, k: width, n }, Left::plain(&flat), by_input, &mut outputs);
            }
        }
        Self { encoder, flat, outputs: swapped(&outputs, m, levels) }
    }

    /// The gradient with regard to all weights, from that with regard to the outputs.
    fn backward(mut self, layout: &Layout, weights: &[f32], batch: &Batch, by_output: &[f32]) -> Vec<f32> {
        let (m, n, h, width) = (batch.size, layout.outputs(), layout.hidden, layout.decoder_inputs);
        let by_output = swapped(by_output, HORIZON_STEPS, layout.levels.len());
        let [by_state, by_input, bias] = layout.head(weights).map(<[f32]>::len);
        let mut head = vec![0.0; by_state + by_input + bias];
        let states = self.encoder.last(layout.encoder(batch)).0;
        add_product(Sizes { m: h, k: m, n }, Left::turned(states), &by_output, &mut head[..by_state]);
        let part = &mut head[by_state..by_state + by_input];
        match Head::chosen() {
            Head::All => {
                let rows = HORIZON_STEPS * width;
                add_product(Sizes { m: rows, k: m, n }, Left::turned(&self.flat), &by_output, part);
            }
            Head::Own => {
                let (k, n) = (m * HORIZON_STEPS, layout.levels.len());
                add_product(Sizes { m: width, k, n }, Left::turned(&self.flat), &by_output, part);
            }
        }
        add_rows(&by_output, &mut head[by_state + by_input..]);
        let mut by_hidden = vec![0.0; m * h];
        let turned = turn(layout.head(weights)[0], h, n);
        add_product(Sizes { m, k: n, n: h }, Left::plain(&by_output), &turned, &mut by_hidden);
        let (by, bias) = layout.weights(weights);
        let (mut input, mut state) = (vec![0.0; by.input.len()], vec![0.0; by.state.len()]);
        let (mut by_bias, mut by_cell) = (vec![0.0; m * bias.len()], vec![0.0; m * h]);
        let mut gradients = Gradients {
            input: &mut input,
            state: &mut state,
            bias: &mut by_bias,
            hidden: &mut by_hidden,
            cell: &mut by_cell,
        };
        kernel::backward(layout.encoder(batch), by, &batch.encoder, None, &mut self.encoder, &mut gradients);
        let mut sums = vec![0.0; bias.len()];
        add_rows(&by_bias, &mut sums);
        [input, state, sums, head].concat()
    }
}

fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// The median, and around it sums of positive steps.
fn logs(layout: &Layout, outputs: &Tensor<2>) -> Tensor<2> {
    let (middle, levels) = (layout.recurrent().middle(), layout.levels.len());
    let column = |q: usize| outputs.clone().narrow(1, q, 1);
    let step = |q: usize| column(q).clamp_min(0.0) + column(q).abs().neg().exp().log1p();
    let mut logs = vec![column(middle)];
    for q in middle + 1..levels {
        logs.push(logs[logs.len() - 1].clone() + step(q));
    }
    for q in (0..middle).rev() {
        logs.insert(0, logs[0].clone() - step(q));
    }
    Tensor::cat(logs, 1).clamp(-LOG_MAX, LOG_MAX)
}

/// The sum of the losses over known targets and levels.
fn pinball(layout: &Layout, batch: &Batch, logs: Tensor<2>) -> Tensor<1> {
    let device = logs.device();
    let (rows, steps) = (batch.targets.len(), batch.decoder_steps);
    let of = |values: Vec<f32>| tensor(&values, [rows, 1], &device);
    let scaled = logs.exp() * of(batch.bases.repeat(steps)) - of(batch.offsets.repeat(steps));
    let known = of(batch.targets.iter().map(|target| f32::from(u8::from(!target.is_nan()))).collect());
    let miss = of(batch.targets.iter().map(|target| if target.is_nan() { 0.0 } else { *target }).collect()) - scaled;
    let levels: Vec<f32> = layout.levels.iter().map(|level| *level as f32).collect();
    let levels = tensor(&levels, [1, levels.len()], &device);
    let loss = (miss.clone() * levels.clone()).max_pair(miss * levels.sub_scalar(1.0));
    (loss * known).sum()
}

fn known(batch: &Batch) -> Option<usize> {
    let known = batch.targets.iter().filter(|target| !target.is_nan()).count();
    (known > 0).then_some(known)
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("all tensors are f32")
}
