//! Encoder LSTM, decoder LSTM, quantile head and pinball loss over one flat vector of weights. Rule: quantiles can't
//! cross: the median plus and minus sums of positive steps.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kernel::{self, Gradients, Size, Step, Trace, Weights};
use super::product::{Left, Sizes, add_product, turn};

/// Width of the learnt vector of a service.
pub(super) const EMBEDDING: usize = 4;
/// No forecast exceeds the level by more than this many times e.
pub(super) const LOG_MAX: f32 = 5.0;

/// The sizes that decide how many weights there are and where each block begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub encoder_inputs: usize,
    pub decoder_inputs: usize,
    pub hidden: usize,
    pub services: usize,
    pub levels: Vec<f64>,
}

/// Blocks of the flat vector, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block {
    EncoderInput,
    EncoderState,
    EncoderBias,
    DecoderInput,
    DecoderState,
    DecoderBias,
    Embedding,
    EmbeddingInput,
    HeadState,
    HeadInput,
    HeadBias,
}

const BLOCKS: [Block; 11] = [
    Block::EncoderInput,
    Block::EncoderState,
    Block::EncoderBias,
    Block::DecoderInput,
    Block::DecoderState,
    Block::DecoderBias,
    Block::Embedding,
    Block::EmbeddingInput,
    Block::HeadState,
    Block::HeadInput,
    Block::HeadBias,
];

impl Layout {
    fn size(&self, block: Block) -> usize {
        let (h, gates, levels) = (self.hidden, 4 * self.hidden, self.levels.len());
        match block {
            Block::EncoderInput => self.encoder_inputs * gates,
            Block::DecoderInput => self.decoder_inputs * gates,
            Block::EncoderState | Block::DecoderState => h * gates,
            Block::EncoderBias | Block::DecoderBias => gates,
            Block::Embedding => self.services * EMBEDDING,
            Block::EmbeddingInput => EMBEDDING * gates,
            Block::HeadState => h * levels,
            Block::HeadInput => self.decoder_inputs * levels,
            Block::HeadBias => levels,
        }
    }

    /// Where a block lies.
    pub(super) fn range(&self, block: Block) -> std::ops::Range<usize> {
        let start = BLOCKS.iter().take_while(|b| **b as u8 != block as u8).map(|b| self.size(*b)).sum();
        start..start + self.size(block)
    }

    /// Number of weights.
    pub(super) fn count(&self) -> usize {
        BLOCKS.iter().map(|block| self.size(*block)).sum()
    }

    /// Index of the median, or of what is nearest to it.
    pub(super) fn middle(&self) -> usize {
        let distance = |level: &f64| (level - 0.5).abs();
        let nearest = self.levels.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        nearest.map_or(0, |(index, _)| index)
    }

    /// First weights: a forget gate that starts open, a median at the level, and quantiles around it at `spread` (the
    /// logarithmic distances of neighbouring quantiles).
    pub(super) fn initial(&self, seed: u64, spread: &[f64]) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = vec![0.0_f32; self.count()];
        let mut fill = |block: Block, bound: f32| {
            weights[self.range(block)].iter_mut().for_each(|w| *w = random.random_range(-bound..bound));
        };
        let bound = 1.0 / (self.hidden as f32).sqrt();
        fill(Block::EncoderInput, bound);
        fill(Block::EncoderState, bound);
        fill(Block::DecoderInput, bound);
        fill(Block::DecoderState, bound);
        fill(Block::Embedding, 0.1);
        fill(Block::EmbeddingInput, bound);
        fill(Block::HeadState, 0.02);
        for block in [Block::EncoderBias, Block::DecoderBias] {
            let start = self.range(block).start + self.hidden;
            weights[start..start + self.hidden].fill(1.0);
        }
        let head = self.range(Block::HeadBias).start;
        let middle = self.middle();
        for q in 0..self.levels.len() {
            if q != middle {
                let gap = spread.get(q.min(spread.len().saturating_sub(1))).copied().unwrap_or(0.2).clamp(1e-3, 3.0);
                // The inverse of softplus.
                weights[head + q] = (gap.exp_m1().ln()) as f32;
            }
        }
        weights
    }
}

/// A batch of samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub size: usize,
    pub encoder_steps: usize,
    pub decoder_steps: usize,
    /// `[step][sample][input]`.
    pub encoder: Vec<f32>,
    pub decoder: Vec<f32>,
    /// Index of the service's vector; `None` = none was learnt.
    pub services: Vec<Option<usize>>,
    /// Level plus offset, and offset of each sample, in units of its service's loss.
    pub bases: Vec<f32>,
    pub offsets: Vec<f32>,
    /// `[step][sample]`, in the same units, NaN where unknown.
    pub targets: Vec<f32>,
}

/// Room for one run, kept between runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    encoder: Trace,
    decoder: Trace,
    encoder_step: Step,
    decoder_step: Step,
    encoder_bias: Vec<f32>,
    decoder_bias: Vec<f32>,
    /// Outputs of the head, then their gradients: `[step][sample][level]`.
    head: Vec<f32>,
    /// Logarithms of the quantiles relative to the level, and what they are the logarithms of: `[step][sample][level]`.
    logs: Vec<f32>,
    ratios: Vec<f32>,
    by_states: Vec<f32>,
    by_hidden: Vec<f32>,
    by_cell: Vec<f32>,
    by_bias: Vec<f32>,
}

impl Room {
    /// The quantile at a place of the last run, in units of the service's loss.
    pub(super) fn quantile(&self, layout: &Layout, batch: &Batch, step: usize, sample: usize, q: usize) -> f64 {
        let ratio = self.ratios[(step * batch.size + sample) * layout.levels.len() + q];
        f64::from(batch.bases[sample]) * f64::from(ratio) - f64::from(batch.offsets[sample])
    }
}

/// Runs the network forwards: quantiles are left in `room`, and all that [`backward`] needs.
pub(super) fn forward(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) {
    let at = |block| &weights[layout.range(block)];
    biases(layout, weights, batch, room);
    let (encoder, decoder) = sizes(layout, batch);
    let by = Weights { input: at(Block::EncoderInput), state: at(Block::EncoderState) };
    kernel::forward(encoder, by, &room.encoder_bias, &batch.encoder, None, &mut room.encoder);
    let by = Weights { input: at(Block::DecoderInput), state: at(Block::DecoderState) };
    let initial = room.encoder.last(encoder);
    kernel::forward(decoder, by, &room.decoder_bias, &batch.decoder, Some(initial), &mut room.decoder);
    head(layout, weights, batch, room);
}

/// As [`forward`], to the bit, without what only [`backward`] needs.
pub(super) fn predict(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) {
    let at = |block| &weights[layout.range(block)];
    biases(layout, weights, batch, room);
    let (encoder, decoder) = sizes(layout, batch);
    let by = Weights { input: at(Block::EncoderInput), state: at(Block::EncoderState) };
    let (step, states) = (&mut room.encoder_step, &mut room.encoder.states);
    kernel::run(encoder, by, &room.encoder_bias, &batch.encoder, None, step, states);
    let by = Weights { input: at(Block::DecoderInput), state: at(Block::DecoderState) };
    let initial = (&states[encoder.steps * encoder.batch * encoder.hidden..], step.last_cells(encoder));
    let (step, states) = (&mut room.decoder_step, &mut room.decoder.states);
    kernel::run(decoder, by, &room.decoder_bias, &batch.decoder, Some(initial), step, states);
    head(layout, weights, batch, room);
}

fn sizes(layout: &Layout, batch: &Batch) -> (Size, Size) {
    let of = |steps, inputs| Size { steps, batch: batch.size, inputs, hidden: layout.hidden };
    (of(batch.encoder_steps, layout.encoder_inputs), of(batch.decoder_steps, layout.decoder_inputs))
}

/// The biases of both layers, one row a sample: the decoder's has the vector of its service.
fn biases(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) {
    let at = |block| &weights[layout.range(block)];
    let gates = 4 * layout.hidden;
    room.encoder_bias.clear();
    room.decoder_bias.clear();
    for service in &batch.services {
        room.encoder_bias.extend_from_slice(at(Block::EncoderBias));
        let start = room.decoder_bias.len();
        room.decoder_bias.extend_from_slice(at(Block::DecoderBias));
        if let Some(service) = service {
            let vector = &at(Block::Embedding)[service * EMBEDDING..(service + 1) * EMBEDDING];
            let out = &mut room.decoder_bias[start..];
            add_product(Sizes { m: 1, k: EMBEDDING, n: gates }, Left::plain(vector), at(Block::EmbeddingInput), out);
        }
    }
}

/// Quantiles from the hidden states of the decoder and its inputs.
fn head(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) {
    let at = |block| &weights[layout.range(block)];
    let (h, levels, size) = (layout.hidden, layout.levels.len(), batch.size);
    let all = batch.decoder_steps * size;
    room.head.clear();
    (0..all).for_each(|_| room.head.extend_from_slice(at(Block::HeadBias)));
    let states = &room.decoder.states[size * h..];
    add_product(Sizes { m: all, k: h, n: levels }, Left::plain(states), at(Block::HeadState), &mut room.head);
    let (inputs, width) = (Left::plain(&batch.decoder), layout.decoder_inputs);
    add_product(Sizes { m: all, k: width, n: levels }, inputs, at(Block::HeadInput), &mut room.head);
    let middle = layout.middle();
    room.logs.clear();
    room.logs.extend_from_slice(&room.head);
    kernel::softplus(&mut room.logs);
    for (logs, head) in room.logs.chunks_exact_mut(levels).zip(room.head.chunks_exact(levels)) {
        logs[middle] = head[middle];
        for q in middle + 1..levels {
            logs[q] += logs[q - 1];
        }
        for q in (0..middle).rev() {
            logs[q] = logs[q + 1] - logs[q];
        }
        logs.iter_mut().for_each(|log| *log = log.clamp(-LOG_MAX, LOG_MAX));
    }
    room.ratios.clear();
    room.ratios.extend_from_slice(&room.logs);
    kernel::exponentials(&mut room.ratios);
}

/// The mean loss and the number of targets that it is a mean over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Loss {
    pub mean: f64,
    pub known: usize,
}

/// Mean pinball loss over known targets and levels after [`forward`]; `None` where no target is known. With `gradients`,
/// the gradient with regard to the heads' outputs replaces them in `room`.
pub(super) fn loss(layout: &Layout, batch: &Batch, room: &mut Room, gradients: bool) -> Option<Loss> {
    let (levels, middle) = (layout.levels.len(), layout.middle());
    let known = batch.targets.iter().filter(|target| !target.is_nan()).count();
    if known == 0 {
        return None;
    }
    let share = 1.0 / (known * levels) as f32;
    let mut sum = 0.0_f64;
    let quantiles = room.logs.chunks_exact(levels).zip(room.ratios.chunks_exact(levels));
    let rows = room.head.chunks_exact_mut(levels).zip(quantiles).zip(&batch.targets);
    for (place, ((head, (logs, ratios)), target)) in rows.enumerate() {
        let sample = place % batch.size;
        let (base, offset) = (batch.bases[sample], batch.offsets[sample]);
        let mut by_log = [0.0_f32; 64];
        let by_log = &mut by_log[..levels];
        if !target.is_nan() {
            for (q, (log, ratio)) in logs.iter().zip(ratios).enumerate() {
                let (level, scaled) = (layout.levels[q] as f32, base * ratio);
                let miss = target - (scaled - offset);
                sum += f64::from(if miss >= 0.0 { level * miss } else { (level - 1.0) * miss });
                let slope = if miss >= 0.0 { -level } else { 1.0 - level };
                let bounded = log.abs() >= LOG_MAX;
                by_log[q] = if bounded { 0.0 } else { share * slope * scaled };
            }
        }
        if gradients {
            let total: f32 = by_log.iter().sum();
            let mut above = 0.0;
            for q in (middle + 1..levels).rev() {
                above += by_log[q];
                head[q] = above * logistic(head[q]);
            }
            let mut below = 0.0;
            for q in 0..middle {
                below += by_log[q];
                head[q] = -below * logistic(head[q]);
            }
            head[middle] = total;
        }
    }
    Some(Loss { mean: sum * f64::from(share), known })
}

/// The gradient with regard to all weights, after [`forward`] and [`loss`] with gradients.
pub(super) fn backward(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) -> Vec<f32> {
    let at = |block| &weights[layout.range(block)];
    let mut out = vec![0.0_f32; layout.count()];
    let (h, gates, levels, size) = (layout.hidden, 4 * layout.hidden, layout.levels.len(), batch.size);
    let all = batch.decoder_steps * size;
    let states = Left::turned(&room.decoder.states[size * h..]);
    add_product(Sizes { m: h, k: all, n: levels }, states, &room.head, &mut out[layout.range(Block::HeadState)]);
    let (inputs, width) = (Left::turned(&batch.decoder), layout.decoder_inputs);
    add_product(Sizes { m: width, k: all, n: levels }, inputs, &room.head, &mut out[layout.range(Block::HeadInput)]);
    for row in room.head.chunks_exact(levels) {
        add(&mut out[layout.range(Block::HeadBias)], row);
    }
    room.by_states.clear();
    room.by_states.resize(all * h, 0.0);
    let turned = turn(at(Block::HeadState), h, levels);
    add_product(Sizes { m: all, k: levels, n: h }, Left::plain(&room.head), &turned, &mut room.by_states);
    for part in [&mut room.by_hidden, &mut room.by_cell] {
        part.clear();
        part.resize(size * h, 0.0);
    }
    room.by_bias.clear();
    room.by_bias.resize(size * gates, 0.0);
    let decoder = Size { steps: batch.decoder_steps, batch: size, inputs: layout.decoder_inputs, hidden: h };
    let by = Weights { input: at(Block::DecoderInput), state: at(Block::DecoderState) };
    {
        let (input, state) = pair(&mut out, layout.range(Block::DecoderInput), layout.range(Block::DecoderState));
        let mut gradients =
            Gradients { input, state, bias: &mut room.by_bias, hidden: &mut room.by_hidden, cell: &mut room.by_cell };
        kernel::backward(decoder, by, &batch.decoder, Some(&room.by_states), &mut room.decoder, &mut gradients);
    }
    let embedding_turned = turn(at(Block::EmbeddingInput), EMBEDDING, gates);
    for (service, row) in batch.services.iter().zip(room.by_bias.chunks_exact(gates)) {
        add(&mut out[layout.range(Block::DecoderBias)], row);
        if let Some(service) = service {
            let place = service * EMBEDDING..(service + 1) * EMBEDDING;
            let vector = &at(Block::Embedding)[place.clone()];
            let by_vector = &mut out[layout.range(Block::Embedding)][place];
            add_product(Sizes { m: 1, k: gates, n: EMBEDDING }, Left::plain(row), &embedding_turned, by_vector);
            let by_input = &mut out[layout.range(Block::EmbeddingInput)];
            add_product(Sizes { m: EMBEDDING, k: 1, n: gates }, Left::plain(vector), row, by_input);
        }
    }
    let encoder = Size { steps: batch.encoder_steps, batch: size, inputs: layout.encoder_inputs, hidden: h };
    let by = Weights { input: at(Block::EncoderInput), state: at(Block::EncoderState) };
    {
        let (input, state) = pair(&mut out, layout.range(Block::EncoderInput), layout.range(Block::EncoderState));
        let mut gradients =
            Gradients { input, state, bias: &mut room.by_bias, hidden: &mut room.by_hidden, cell: &mut room.by_cell };
        kernel::backward(encoder, by, &batch.encoder, None, &mut room.encoder, &mut gradients);
    }
    for row in room.by_bias.chunks_exact(gates) {
        add(&mut out[layout.range(Block::EncoderBias)], row);
    }
    out
}

fn add(sums: &mut [f32], row: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// Two parts of a slice, the first before the second.
fn pair(all: &mut [f32], first: std::ops::Range<usize>, second: std::ops::Range<usize>) -> (&mut [f32], &mut [f32]) {
    let (left, right) = all.split_at_mut(second.start);
    (&mut left[first], &mut right[..second.end - second.start])
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
