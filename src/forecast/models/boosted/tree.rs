//! Gradient-boosted trees for one quantile (Friedman 2001, "Greedy function approximation"), grown leaf by leaf on
//! histograms (Ke et al. 2017, "LightGBM"), with each leaf's value the quantile of what is left in it. Rules: one thread, no
//! clock, chance from a seed, so that the same rows give the same trees.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Bins of an input; the first is for unknown values.
const BINS: usize = 64;
/// Rows that the borders of the bins are read from, at most.
const BORDER_ROWS: usize = 4_000;

/// Size and effort.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Effort {
    pub trees: usize,
    pub leaves: usize,
    pub leaf_rows: usize,
    /// Share of a tree's values that is taken.
    pub rate: f64,
    /// Share of the rows and of the inputs that each tree sees.
    pub row_share: f64,
    pub input_share: f64,
}

/// Rows in bins, column by column.
pub(super) struct Binned {
    rows: usize,
    /// Per input: upper borders of the bins from the second on.
    borders: Vec<Vec<f32>>,
    bins: Vec<Vec<u8>>,
}

impl Binned {
    /// `inputs` holds `width` values for each row; NaN = unknown.
    pub(super) fn new(inputs: &[f32], width: usize) -> Self {
        let rows = inputs.len() / width.max(1);
        let stride = (rows / BORDER_ROWS).max(1);
        let mut borders = Vec::with_capacity(width);
        let mut bins = Vec::with_capacity(width);
        for input in 0..width {
            let column = || (0..rows).map(|row| inputs[row * width + input]);
            let mut sorted: Vec<f32> = column().step_by(stride).filter(|value| value.is_finite()).collect();
            sorted.sort_by(f32::total_cmp);
            let mut own: Vec<f32> =
                (1..BINS - 1).filter_map(|bin| sorted.get(bin * sorted.len() / (BINS - 1)).copied()).collect();
            own.dedup();
            bins.push(column().map(|value| bin_of(&own, value)).collect());
            borders.push(own);
        }
        Self { rows, borders, bins }
    }
}

/// 0 for unknown values, else 1 + the number of borders below the value.
fn bin_of(borders: &[f32], value: f32) -> u8 {
    if value.is_finite() { 1 + borders.partition_point(|border| *border < value) as u8 } else { 0 }
}

/// A node: inner ones send unknown values and those up to `border` left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    input: u16,
    border: f32,
    /// Index of the left child; the right one follows. 0 = leaf.
    left: u16,
    value: f32,
}

/// A sum of trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Forest {
    base: f32,
    trees: Vec<Vec<Node>>,
}

impl Forest {
    pub(super) fn predict(&self, row: &[f32]) -> f64 {
        let mut sum = f64::from(self.base);
        for tree in &self.trees {
            let mut at = 0;
            while let Some(node) = tree.get(at) {
                if node.left == 0 {
                    sum += f64::from(node.value);
                    break;
                }
                let value = row.get(usize::from(node.input)).copied().unwrap_or(f32::NAN);
                // Not `<=`: an unknown value goes left.
                at = usize::from(node.left) + usize::from(value > node.border);
            }
        }
        sum
    }

    /// Whether every node leads to a later one, so that prediction ends.
    pub(super) fn is_sound(&self) -> bool {
        self.base.is_finite()
            && self.trees.iter().all(|tree| {
                tree.iter().enumerate().all(|(index, node)| {
                    let left = usize::from(node.left);
                    node.value.is_finite()
                        && node.border.is_finite()
                        && (left == 0 || (left > index && left + 1 < tree.len()))
                })
            })
    }

    /// Trees for the quantile `level` of `targets`.
    pub(super) fn fit(binned: &Binned, targets: &[f32], level: f64, effort: &Effort, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let base = quantile(&mut targets.to_vec(), level);
        let mut said = vec![base; targets.len()];
        let mut trees = Vec::with_capacity(effort.trees);
        let mut slopes = vec![0.0_f32; targets.len()];
        for _ in 0..effort.trees {
            for ((slope, target), said) in slopes.iter_mut().zip(targets).zip(&said) {
                *slope = if target > said { level as f32 } else { level as f32 - 1.0 };
            }
            let rows: Vec<u32> =
                (0..binned.rows as u32).filter(|_| random.random::<f64>() < effort.row_share).collect();
            let inputs: Vec<usize> =
                (0..binned.bins.len()).filter(|_| random.random::<f64>() < effort.input_share).collect();
            if rows.len() < 2 * effort.leaf_rows || inputs.is_empty() {
                continue;
            }
            let mut grower = Grower { binned, slopes: &slopes, inputs: &inputs, effort };
            let (nodes, leaves) = grower.grow(rows);
            let Some(tree) = finish(nodes, leaves, targets, &said, level, effort.rate) else { continue };
            for (row, said) in said.iter_mut().enumerate() {
                *said += leaf_value(&tree, binned, row);
            }
            trees.push(tree.into_iter().map(|(node, _)| node).collect());
        }
        Self { base, trees }
    }
}

/// Nodes with the bin of their border.
type Grown = Vec<(Node, u8)>;

fn leaf_value(tree: &Grown, binned: &Binned, row: usize) -> f32 {
    let mut at = 0;
    loop {
        let (node, bin) = &tree[at];
        if node.left == 0 {
            return node.value;
        }
        at = usize::from(node.left) + usize::from(binned.bins[usize::from(node.input)][row] > *bin);
    }
}

/// Gives the leaves their values; `None` for a tree that is only a root.
fn finish(mut nodes: Grown, leaves: Vec<Leaf>, targets: &[f32], said: &[f32], level: f64, rate: f64) -> Option<Grown> {
    for leaf in &leaves {
        let mut left: Vec<f32> = leaf.rows.iter().map(|row| targets[*row as usize] - said[*row as usize]).collect();
        nodes[leaf.node].0.value = (rate * f64::from(quantile(&mut left, level))) as f32;
    }
    (nodes.len() > 1).then_some(nodes)
}

fn quantile(values: &mut [f32], level: f64) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let place = ((level * values.len() as f64) as usize).min(values.len() - 1);
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}

struct Leaf {
    node: usize,
    rows: Vec<u32>,
    /// Per input in use and bin: sum of slopes and number of rows.
    histogram: Vec<(f32, u32)>,
    best: Option<Split>,
}

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    input: usize,
    bin: u8,
}

struct Grower<'a> {
    binned: &'a Binned,
    slopes: &'a [f32],
    inputs: &'a [usize],
    effort: &'a Effort,
}

impl Grower<'_> {
    fn grow(&mut self, rows: Vec<u32>) -> (Grown, Vec<Leaf>) {
        let empty = (Node { input: 0, border: 0.0, left: 0, value: 0.0 }, 0);
        let mut nodes: Grown = vec![empty];
        let histogram = self.histogram(&rows);
        let mut leaves = vec![self.leaf(0, rows, histogram)];
        while leaves.len() < self.effort.leaves {
            let gain = |leaf: &Leaf| leaf.best.map_or(0.0, |best| best.gain);
            // The first of equals, so that growth does not depend on the order of floating-point ties.
            let mut next = 0;
            for (index, leaf) in leaves.iter().enumerate() {
                if gain(leaf) > gain(&leaves[next]) {
                    next = index;
                }
            }
            let Some(split) = leaves[next].best else { break };
            let leaf = leaves.swap_remove(next);
            let column = &self.binned.bins[split.input];
            let (left, right): (Vec<u32>, Vec<u32>) =
                leaf.rows.iter().partition(|row| column[**row as usize] <= split.bin);
            let place = nodes.len();
            // The last border of an input is its largest bin: nothing lies beyond.
            let border = usize::from(split.bin).checked_sub(1).and_then(|b| self.binned.borders[split.input].get(b));
            nodes[leaf.node] = (
                Node {
                    input: split.input as u16,
                    border: border.copied().unwrap_or(f32::MIN),
                    left: place as u16,
                    value: 0.0,
                },
                split.bin,
            );
            nodes.extend([empty, empty]);
            let left_is_small = left.len() < right.len();
            let own = self.histogram(if left_is_small { &left } else { &right });
            let mut other = leaf.histogram;
            for (total, part) in other.iter_mut().zip(&own) {
                total.0 -= part.0;
                total.1 -= part.1;
            }
            let (of_left, of_right) = if left_is_small { (own, other) } else { (other, own) };
            leaves.push(self.leaf(place, left, of_left));
            leaves.push(self.leaf(place + 1, right, of_right));
        }
        (nodes, leaves)
    }

    fn histogram(&self, rows: &[u32]) -> Vec<(f32, u32)> {
        let mut histogram = vec![(0.0_f32, 0_u32); self.inputs.len() * BINS];
        for (place, input) in self.inputs.iter().enumerate() {
            let column = &self.binned.bins[*input];
            let own = &mut histogram[place * BINS..(place + 1) * BINS];
            for row in rows {
                let cell = &mut own[usize::from(column[*row as usize]) & (BINS - 1)];
                cell.0 += self.slopes[*row as usize];
                cell.1 += 1;
            }
        }
        histogram
    }

    fn leaf(&self, node: usize, rows: Vec<u32>, histogram: Vec<(f32, u32)>) -> Leaf {
        let mut best: Option<Split> = None;
        let count = rows.len() as f64;
        for (place, input) in self.inputs.iter().enumerate() {
            let own = &histogram[place * BINS..(place + 1) * BINS];
            let total: f64 = own.iter().map(|cell| f64::from(cell.0)).sum();
            let (mut sum, mut below) = (0.0, 0_usize);
            // A split after the last bin is none.
            for (bin, cell) in own.iter().enumerate().take(1 + self.binned.borders[*input].len()) {
                sum += f64::from(cell.0);
                below += cell.1 as usize;
                let above = rows.len() - below;
                if below < self.effort.leaf_rows || above < self.effort.leaf_rows {
                    continue;
                }
                let rest = total - sum;
                let gain = sum * sum / below as f64 + rest * rest / above as f64 - total * total / count;
                if gain > best.map_or(1e-6, |best| best.gain) {
                    best = Some(Split { gain, input: *input, bin: bin as u8 });
                }
            }
        }
        Leaf { node, rows, histogram, best }
    }
}
