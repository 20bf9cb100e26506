//! One LSTM layer over a batch of sequences (Hochreiter & Schmidhuber 1997, with forget gate), forward and by
//! back-propagation through time. Rule: fused gates, and all work on a step while its gates are in the nearest cache; the
//! gradients equal automatic differentiation's.
//!
//! Shapes: inputs `[steps][batch][inputs]`, states `[steps + 1][batch][hidden]` (the first is the initial state), gates
//! `[steps][batch][4 · hidden]` in the order input, forget, candidate, output; weights `[inputs][4 · hidden]` and
//! `[hidden][4 · hidden]`.

use std::array::from_fn;

use super::product::{Left, Sizes, add_product, set_product, turn};

/// Units whose gates are worked on together.
const LANES: usize = 8;

/// Sizes of a layer's run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub steps: usize,
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
}

/// Weights of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights<'a> {
    pub input: &'a [f32],
    pub state: &'a [f32],
}

/// What the forward run keeps for the backward run.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub gates: Vec<f32>,
    /// Cell states, `steps + 1` of them.
    pub cells: Vec<f32>,
    /// Their hyperbolic tangents, `steps` of them.
    pub tanhs: Vec<f32>,
    /// Hidden states, `steps + 1` of them.
    pub states: Vec<f32>,
}

impl Trace {
    /// The last hidden and cell states.
    pub(super) fn last(&self, size: Size) -> (&[f32], &[f32]) {
        let from = size.steps * size.batch * size.hidden;
        (&self.states[from..], &self.cells[from..])
    }
}

/// Runs the layer. `bias` is `[batch][4 · hidden]`, added at every step; `initial` holds hidden and cell state, zero
/// without.
pub(super) fn forward(
    size: Size,
    weights: Weights<'_>,
    bias: &[f32],
    inputs: &[f32],
    initial: Option<(&[f32], &[f32])>,
    trace: &mut Trace,
) {
    let Size { steps, batch, inputs: width, hidden } = size;
    let (row, unit) = (4 * hidden * batch, batch * hidden);
    let by_input = Sizes { m: batch, k: width, n: 4 * hidden };
    let by_state = Sizes { m: batch, k: hidden, n: 4 * hidden };
    trace.gates.resize(steps * row, 0.0);
    trace.states.resize((steps + 1) * unit, 0.0);
    trace.cells.resize((steps + 1) * unit, 0.0);
    trace.tanhs.resize(steps * unit, 0.0);
    begin(initial, &mut trace.states[..unit], &mut trace.cells[..unit]);
    for t in 0..steps {
        let gates = &mut trace.gates[t * row..(t + 1) * row];
        let (before, after) = trace.states.split_at_mut((t + 1) * unit);
        set_product(by_input, &bias[..row], Left::plain(&inputs[t * batch * width..]), weights.input, gates);
        add_product(by_state, Left::plain(&before[t * unit..]), weights.state, gates);
        let (old, new) = trace.cells.split_at_mut((t + 1) * unit);
        let step = Activate {
            hidden,
            gates,
            old: &old[t * unit..],
            new: &mut new[..unit],
            tanh: &mut trace.tanhs[t * unit..(t + 1) * unit],
            state: &mut after[..unit],
        };
        activate(step);
    }
}

/// Hidden and cell state before the first step.
fn begin(initial: Option<(&[f32], &[f32])>, states: &mut [f32], cells: &mut [f32]) {
    if let Some((state, cell)) = initial {
        states.copy_from_slice(state);
        cells.copy_from_slice(cell);
    } else {
        states.fill(0.0);
        cells.fill(0.0);
    }
}

/// Room for one step of [`run`].
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    gates: Vec<f32>,
    /// Cell states before and after, in turns.
    cells: Vec<f32>,
    tanhs: Vec<f32>,
}

impl Step {
    /// The cell states after the last step.
    pub(super) fn last_cells(&self, size: Size) -> &[f32] {
        let unit = size.batch * size.hidden;
        &self.cells[size.steps % 2 * unit..][..unit]
    }
}

/// As [`forward`], to the bit, but keeps only the hidden states, `steps + 1` of them in `states`: a forecast has no
/// backward run, and one step's room stays in the nearest caches.
pub(super) fn run(
    size: Size,
    weights: Weights<'_>,
    bias: &[f32],
    inputs: &[f32],
    initial: Option<(&[f32], &[f32])>,
    step: &mut Step,
    states: &mut Vec<f32>,
) {
    let Size { steps, batch, inputs: width, hidden } = size;
    let (row, unit) = (4 * hidden * batch, batch * hidden);
    let by_input = Sizes { m: batch, k: width, n: 4 * hidden };
    let by_state = Sizes { m: batch, k: hidden, n: 4 * hidden };
    states.resize((steps + 1) * unit, 0.0);
    step.gates.resize(row, 0.0);
    step.cells.resize(2 * unit, 0.0);
    step.tanhs.resize(unit, 0.0);
    begin(initial, &mut states[..unit], &mut step.cells[..unit]);
    for t in 0..steps {
        let (before, after) = states.split_at_mut((t + 1) * unit);
        set_product(by_input, &bias[..row], Left::plain(&inputs[t * batch * width..]), weights.input, &mut step.gates);
        add_product(by_state, Left::plain(&before[t * unit..]), weights.state, &mut step.gates);
        let (first, second) = step.cells.split_at_mut(unit);
        let (old, new) = if t % 2 == 0 { (first, &mut second[..unit]) } else { (&mut second[..unit], first) };
        activate(Activate {
            hidden,
            gates: &mut step.gates,
            old,
            new,
            tanh: &mut step.tanhs[..unit],
            state: &mut after[..unit],
        });
    }
}

/// Gradients of one layer: those of the weights are added to, the others set.
#[derive(Debug)]
pub(super) struct Gradients<'a> {
    pub input: &'a mut [f32],
    pub state: &'a mut [f32],
    /// `[batch][4 · hidden]`: sum over the steps.
    pub bias: &'a mut [f32],
    /// With regard to the initial hidden and cell state, `[batch][hidden]` each. On entry: with regard to the last ones.
    pub hidden: &'a mut [f32],
    pub cell: &'a mut [f32],
}

/// Runs the layer backwards. `outputs` is the gradient with regard to each step's hidden state, none = zero. Overwrites
/// the gates in `trace`.
pub(super) fn backward(
    size: Size,
    weights: Weights<'_>,
    inputs: &[f32],
    outputs: Option<&[f32]>,
    trace: &mut Trace,
    gradients: &mut Gradients<'_>,
) {
    let Size { steps, batch, inputs: width, hidden } = size;
    let (row, unit) = (4 * hidden * batch, batch * hidden);
    let turned = turn(weights.state, hidden, 4 * hidden);
    gradients.bias.fill(0.0);
    for t in (0..steps).rev() {
        if let Some(outputs) = outputs {
            for (sum, value) in gradients.hidden.iter_mut().zip(&outputs[t * unit..(t + 1) * unit]) {
                *sum += value;
            }
        }
        let gates = &mut trace.gates[t * row..(t + 1) * row];
        let step = Derive {
            hidden,
            gates,
            old: &trace.cells[t * unit..(t + 1) * unit],
            tanh: &trace.tanhs[t * unit..(t + 1) * unit],
            by_state: gradients.hidden,
            by_cell: gradients.cell,
            bias: gradients.bias,
        };
        derive(step);
        let gates = &trace.gates[t * row..(t + 1) * row];
        gradients.hidden.fill(0.0);
        add_product(Sizes { m: batch, k: 4 * hidden, n: hidden }, Left::plain(gates), &turned, gradients.hidden);
        let states = Left::turned(&trace.states[t * unit..(t + 1) * unit]);
        add_product(Sizes { m: hidden, k: batch, n: 4 * hidden }, states, gates, gradients.state);
        let inputs = Left::turned(&inputs[t * batch * width..(t + 1) * batch * width]);
        add_product(Sizes { m: width, k: batch, n: 4 * hidden }, inputs, gates, gradients.input);
    }
}

struct Activate<'a> {
    hidden: usize,
    gates: &'a mut [f32],
    old: &'a [f32],
    new: &'a mut [f32],
    tanh: &'a mut [f32],
    state: &'a mut [f32],
}

struct Derive<'a> {
    hidden: usize,
    gates: &'a mut [f32],
    old: &'a [f32],
    tanh: &'a [f32],
    by_state: &'a mut [f32],
    by_cell: &'a mut [f32],
    bias: &'a mut [f32],
}

fn activate(step: Activate<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features.
        unsafe { activate_wide(step) };
        return;
    }
    activate_any::<false>(step);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn activate_wide(step: Activate<'_>) {
    activate_any::<true>(step);
}

#[inline(always)]
fn activate_any<const FUSED: bool>(step: Activate<'_>) {
    let h = step.hidden;
    let rows = step.gates.chunks_exact_mut(4 * h).zip(step.old.chunks_exact(h));
    let outs = step.new.chunks_exact_mut(h).zip(step.tanh.chunks_exact_mut(h)).zip(step.state.chunks_exact_mut(h));
    for ((gates, old), ((new, tanhs), state)) in rows.zip(outs) {
        let (i, rest) = gates.split_at_mut(h);
        let (f, rest) = rest.split_at_mut(h);
        let (g, o) = rest.split_at_mut(h);
        activate_part::<FUSED, LANES>(0, i, f, g, o, old, new, tanhs, state);
        activate_part::<FUSED, 1>(h - h % LANES, i, f, g, o, old, new, tanhs, state);
    }
}

/// Units from `from` on, `N` at a time as long as there are so many: arrays, so that the compiler sees one vector.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the slices of one row, each borrowed by itself")]
fn activate_part<const FUSED: bool, const N: usize>(
    from: usize,
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    old: &[f32],
    new: &mut [f32],
    tanhs: &mut [f32],
    state: &mut [f32],
) {
    let (i, f) = (i[from..].as_chunks_mut::<N>().0, f[from..].as_chunks_mut::<N>().0);
    let (g, o) = (g[from..].as_chunks_mut::<N>().0, o[from..].as_chunks_mut::<N>().0);
    let (old, new) = (old[from..].as_chunks::<N>().0, new[from..].as_chunks_mut::<N>().0);
    let (tanhs, state) = (tanhs[from..].as_chunks_mut::<N>().0, state[from..].as_chunks_mut::<N>().0);
    let gates = i.iter_mut().zip(f).zip(g.iter_mut().zip(o));
    let outs = new.iter_mut().zip(tanhs).zip(state).zip(old);
    for (((i, f), (g, o)), (((new, bent), state), old)) in gates.zip(outs) {
        (*i, *f) = (sigmoids::<FUSED, N>(*i), sigmoids::<FUSED, N>(*f));
        (*g, *o) = (tangents::<FUSED, N>(*g), sigmoids::<FUSED, N>(*o));
        *new = from_fn(|k| f[k] * old[k] + i[k] * g[k]);
        *bent = tangents::<FUSED, N>(*new);
        *state = from_fn(|k| o[k] * bent[k]);
    }
}

fn derive(step: Derive<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features.
        unsafe { derive_wide(step) };
        return;
    }
    derive_any(step);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn derive_wide(step: Derive<'_>) {
    derive_any(step);
}

#[inline(always)]
fn derive_any(step: Derive<'_>) {
    let h = step.hidden;
    let known = step.gates.chunks_exact_mut(4 * h).zip(step.old.chunks_exact(h)).zip(step.tanh.chunks_exact(h));
    let flows = step.by_state.chunks_exact(h).zip(step.by_cell.chunks_exact_mut(h));
    for (((gates, old), tanhs), ((by_state, by_cell), bias)) in known.zip(flows.zip(step.bias.chunks_exact_mut(4 * h)))
    {
        let (i, rest) = gates.split_at_mut(h);
        let (f, rest) = rest.split_at_mut(h);
        let (g, o) = rest.split_at_mut(h);
        for j in 0..h {
            let bent = tanhs[j];
            let flow = by_cell[j] + by_state[j] * o[j] * (1.0 - bent * bent);
            let at_o = by_state[j] * bent * o[j] * (1.0 - o[j]);
            let at_i = flow * g[j] * i[j] * (1.0 - i[j]);
            let at_g = flow * i[j] * (1.0 - g[j] * g[j]);
            let at_f = flow * old[j] * f[j] * (1.0 - f[j]);
            by_cell[j] = flow * f[j];
            (i[j], f[j], g[j], o[j]) = (at_i, at_f, at_g, at_o);
        }
        for (sum, value) in bias.iter_mut().zip(gates.iter()) {
            *sum += value;
        }
    }
}

/// `a · b + c`, rounded once where the processor can.
#[inline(always)]
fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn sigmoids<const FUSED: bool, const N: usize>(x: [f32; N]) -> [f32; N] {
    tangents::<FUSED, N>(x.map(|x| 0.5 * x)).map(|tanh| fused::<FUSED>(0.5, tanh, 0.5))
}

/// Hyperbolic tangents as quotients of polynomials of degree 13 and 6, within a few units in the last place (the
/// approximation of the Eigen library); without branches, one operation on all lanes after the other.
#[inline(always)]
fn tangents<const FUSED: bool, const N: usize>(x: [f32; N]) -> [f32; N] {
    let x = x.map(|x| x.clamp(-7.905_311, 7.905_311));
    let s = x.map(|x| x * x);
    let mut p = [-2.760_768_5e-16_f32; N];
    for factor in [2.000_188e-13, -8.604_672e-11, 5.122_297_1e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_525e-3] {
        p = from_fn(|k| fused::<FUSED>(p[k], s[k], factor));
    }
    let mut q = [1.198_258_4e-6_f32; N];
    for factor in [1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3] {
        q = from_fn(|k| fused::<FUSED>(q[k], s[k], factor));
    }
    from_fn(|k| x[k] * p[k] / q[k])
}

/// `ln(1 + e^x)` of each, in place.
pub(super) fn softplus(values: &mut [f32]) {
    each(values, |x| {
        let y = exponential(if x > 0.0 { -x } else { x });
        // ln(1 + y) = 2 artanh(y / (2 + y)), by its series.
        let s = y / (2.0 + y);
        let square = s * s;
        let mut sum = 1.0 / 11.0;
        for k in [9.0, 7.0, 5.0, 3.0, 1.0] {
            sum = sum * square + 1.0 / k;
        }
        (if x > 0.0 { x } else { 0.0 }) + 2.0 * s * sum
    });
}

/// `e^x` of each, in place; beyond ±87 as there.
pub(super) fn exponentials(values: &mut [f32]) {
    each(values, exponential);
}

/// Within a few units in the last place; no number stays none.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    // x = k ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series.
    const ROUNDING: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.0, 87.0);
    let rounded = bounded * std::f32::consts::LOG2_E + ROUNDING;
    let k = rounded - ROUNDING;
    let r = (bounded - k * 0.693_359_4) - k * -2.121_944_4e-4;
    let mut sum = 1.0 / 5_040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + factor;
    }
    // The low bits of `rounded` are k: adding it to the exponent of 1.
    sum * f32::from_bits(rounded.to_bits().wrapping_shl(23).wrapping_add(1.0_f32.to_bits()))
}

#[inline(always)]
fn each(values: &mut [f32], what: impl Fn(f32) -> f32) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { each_wide(values, what) };
        return;
    }
    values.iter_mut().for_each(|value| *value = what(*value));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn each_wide(values: &mut [f32], what: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|value| *value = what(*value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_approximate_tangent_is_within_a_millionth() {
        for step in -2000..=2000 {
            let x = step as f32 * 0.005;
            let [found] = tangents::<false, 1>([x]);
            assert!((found - x.tanh()).abs() < 1e-6, "{x}: {found} {}", x.tanh());
        }
    }

    #[test]
    fn exponentials_and_softplus_are_within_a_millionth() {
        let values: Vec<f32> = (-8000..=8000).map(|step| step as f32 * 0.01).collect();
        let (mut powers, mut soft) = (values.clone(), values.clone());
        exponentials(&mut powers);
        softplus(&mut soft);
        for ((x, power), soft) in values.iter().zip(&powers).zip(&soft) {
            let (x, power, soft) = (f64::from(*x), f64::from(*power), f64::from(*soft));
            assert!((power - x.exp()).abs() < 1e-6 * x.exp(), "e^{x}: {power}");
            let expected = x.max(0.0) + (-x.abs()).exp().ln_1p();
            assert!((soft - expected).abs() < 1e-6 * expected.max(0.1), "softplus {x}: {soft} {expected}");
        }
        let mut odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        exponentials(&mut odd);
        let bound = 87.0_f32.exp();
        assert!(odd[0].is_nan() && (odd[1] - bound).abs() < 1e-5 * bound && odd[2] > 0.0, "{odd:?}");
    }
}
