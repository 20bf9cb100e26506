//! Training of the LSTM beside PyTorch: the product's kernel, loss, clipping and Adam against `nn.LSTM` and theirs, on
//! the same batches from the same first weights, with the same number of threads, in turns. Rule: a ratio is printed only
//! if both arrive at the same loss.
//!
//! `cargo bench -p prescale-forecast --bench lstm_train`; `-- --quick` is for a first look. The first run installs PyTorch
//! from `lstm_train.txt` into a virtual environment in the cache: some gigabytes.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

// The product's own files: a step of training has no way in from outside.
#[path = "../src/forecast/models/lstm/kernel.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod kernel;
mod kit {
    pub(crate) use report::*;

    #[path = "report.rs"]
    mod report;
    #[allow(dead_code, reason = "each bench uses its own part")]
    #[path = "usage.rs"]
    pub(crate) mod usage;
}
#[path = "../src/forecast/models/lstm/network.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod network;
#[path = "../src/forecast/models/lstm/product.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod product;
#[path = "../src/forecast/models/lstm/weights.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod weights;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use kit::usage::Process;
use kit::{Result, quantile, spread};
use network::{Batch, Layout, Room, backward, forward, loss};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use weights::Trained;

/// The product's shapes: its encoder, half an hour of minutes, its default width and batch, the default quantiles.
const ENCODER_STEPS: usize = 36;
const ENCODER_INPUTS: usize = 6;
const DECODER_STEPS: usize = 30;
const DECODER_INPUTS: usize = 32;
const HIDDEN: usize = 32;
const BATCH: usize = 64;
const LEVELS: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
const RATE: f64 = 1e-3;
const BATCHES: usize = 16;
/// The product splits each batch into so many parts and adds their gradients.
const PARTS: usize = 2;
/// Both round differently at each of many thousand operations.
const LOSS_TOLERANCE: f64 = 0.02;

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let (steps, rounds) = if quick { (32, 3) } else { (160, 9) };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!(
        "encoder {ENCODER_STEPS} × {ENCODER_INPUTS}, decoder {DECODER_STEPS} × {DECODER_INPUTS}, hidden {HIDDEN}, \
         {} quantiles, batches of {BATCH}; {rounds} rounds of {steps} steps",
        LEVELS.len()
    );
    let data = Data::new();
    let folder = Folder::new()?;
    data.write(&folder.0)?;
    let python = python()?;
    for threads in [1, 2] {
        let mut theirs = Theirs::start(&python, &folder.0, threads)?;
        let (mut own_rates, mut their_rates): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
        for round in 0..=rounds {
            let (own, their) = (data.train(steps, threads)?, theirs.train(steps)?);
            if (own.loss - their.loss).abs() > LOSS_TOLERANCE * their.loss {
                return Err(format!("losses differ: {} here, {} by PyTorch", own.loss, their.loss).into());
            }
            if round == 0 {
                // The first round warms up.
                let version = &theirs.version;
                println!("{threads} threads; loss {:.4} here, {:.4} by PyTorch {version}", own.loss, their.loss);
                continue;
            }
            for (rates, took) in [(&mut own_rates, own), (&mut their_rates, their)] {
                let samples = (steps * BATCH) as f64;
                rates[0].push(samples / took.seconds);
                rates[1].push(samples / took.cpu_seconds);
            }
        }
        for (index, what) in ["on the clock", "of processor time"].into_iter().enumerate() {
            let (own, their) = (&own_rates[index], &their_rates[index]);
            let medians = quantile(own, 0.5).zip(quantile(their, 0.5));
            let ratio = medians.map_or(f64::NAN, |(own, their)| own / their);
            println!("  samples/s {what}: Prescale {}, PyTorch {}", spread(own, 0), spread(their, 0));
            println!("  (h) Prescale / PyTorch {ratio:.2} (ratio of the medians; wanted: at least 1.5)");
        }
    }
    Ok(())
}

/// What a run of training took, and the mean loss of its last ten steps.
#[derive(Clone, Copy, Debug)]
struct Took {
    seconds: f64,
    cpu_seconds: f64,
    loss: f64,
}

/// Batches and first weights.
struct Data {
    layout: Layout,
    weights: Vec<f32>,
    /// In the parts that the product works on.
    batches: Vec<[Batch; PARTS]>,
}

impl Data {
    fn new() -> Self {
        let layout = Layout {
            encoder_inputs: ENCODER_INPUTS,
            decoder_inputs: DECODER_INPUTS,
            hidden: HIDDEN,
            services: 1,
            levels: LEVELS.to_vec(),
        };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let weights = layout.initial(1, &[0.2; LEVELS.len()]);
        let part = |random: &mut ChaCha8Rng| {
            let size = BATCH / PARTS;
            let mut some = |count: usize, from: f32, to: f32| -> Vec<f32> {
                (0..count).map(|_| random.random_range(from..to)).collect()
            };
            let decoder = some(DECODER_STEPS * size * DECODER_INPUTS, -1.0, 1.0);
            let bases = some(size, 2.0, 6.0);
            // Something to learn: the load follows the first input of the step.
            let noise = some(DECODER_STEPS * size, 0.8, 1.25);
            let target = |(place, noise): (usize, f32)| {
                bases[place % size] * noise * (0.3 * decoder[place * DECODER_INPUTS]).exp() - 0.5
            };
            let targets = noise.into_iter().enumerate().map(target).collect();
            Batch {
                size,
                encoder_steps: ENCODER_STEPS,
                decoder_steps: DECODER_STEPS,
                encoder: some(ENCODER_STEPS * size * ENCODER_INPUTS, -1.0, 1.0),
                services: vec![None; size],
                offsets: vec![0.5; size],
                targets,
                bases,
                decoder,
            }
        };
        let batches = (0..BATCHES).map(|_| [part(&mut random), part(&mut random)]).collect();
        Self { layout, weights, batches }
    }

    /// So many steps from the first weights.
    fn train(&self, steps: usize, threads: usize) -> Result<Took> {
        let mut now = self.weights.clone();
        let mut rooms = [Room::default(), Room::default()];
        let mut losses = Vec::new();
        let (begin, used) = (Instant::now(), Process::This.cpu_seconds()?);
        let mut trained = Trained::new(&now);
        for step in 0..steps {
            let batch = &self.batches[step % BATCHES];
            let work = |part: &Batch, room: &mut Room| {
                forward(&self.layout, &now, part, room);
                let found = loss(&self.layout, part, room, true).map_or(f64::NAN, |loss| loss.mean);
                (found, backward(&self.layout, &now, part, room))
            };
            let [first_room, second_room] = &mut rooms;
            let [(one, mut gradient), (two, other)] = if threads == 1 {
                [work(&batch[0], first_room), work(&batch[1], second_room)]
            } else {
                std::thread::scope(|scope| {
                    let other = scope.spawn(|| work(&batch[1], second_room));
                    let own = work(&batch[0], first_room);
                    other.join().map(|other| [own, other]).map_err(|_| "a thread crashed")
                })?
            };
            gradient.iter_mut().zip(other).for_each(|(sum, value)| *sum = 0.5 * (*sum + value));
            losses.push(0.5 * (one + two));
            now = trained.step(RATE, gradient);
        }
        let seconds = begin.elapsed().as_secs_f64();
        let last = &losses[losses.len().saturating_sub(10)..];
        let cpu_seconds = Process::This.cpu_seconds()? - used;
        Ok(Took { seconds, cpu_seconds, loss: last.iter().sum::<f64>() / last.len() as f64 })
    }

    /// As PyTorch reads it: whole batches, `[batch][step][sample][…]`.
    fn write(&self, folder: &Path) -> Result<()> {
        let size = BATCH / PARTS;
        let joined = |of: &dyn Fn(&Batch) -> &[f32], width: usize| {
            let mut all = Vec::new();
            for parts in &self.batches {
                for step in 0..of(&parts[0]).len() / (size * width) {
                    for part in parts {
                        all.extend_from_slice(&of(part)[step * size * width..(step + 1) * size * width]);
                    }
                }
            }
            all
        };
        let arrays = [
            ("encoder.f32", joined(&|batch| &batch.encoder, ENCODER_INPUTS)),
            ("decoder.f32", joined(&|batch| &batch.decoder, DECODER_INPUTS)),
            ("targets.f32", joined(&|batch| &batch.targets, 1)),
            ("bases.f32", joined(&|batch| &batch.bases, 1)),
            ("offsets.f32", joined(&|batch| &batch.offsets, 1)),
            ("weights.f32", self.weights.clone()),
        ];
        for (name, values) in arrays {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.join(name), bytes)?;
        }
        let shape = json!({
            "batches": BATCHES, "batch": BATCH, "hidden": HIDDEN,
            "encoder_steps": ENCODER_STEPS, "encoder_inputs": ENCODER_INPUTS,
            "decoder_steps": DECODER_STEPS, "decoder_inputs": DECODER_INPUTS,
            "levels": LEVELS, "middle": self.layout.middle(), "rate": RATE,
        });
        std::fs::write(folder.join("shape.json"), shape.to_string())?;
        Ok(())
    }
}

/// A folder that goes when this goes.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("prescale-lstm-train-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python of an environment with PyTorch.
fn python() -> Result<String> {
    let script = root().join("tests/kit/venv.sh");
    let output = Command::new(script)
        .arg("torch")
        .arg(root().join("benches/lstm_train.txt"))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("PyTorch could not be installed".into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

struct Theirs {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Theirs {
    fn start(python: &str, folder: &Path, threads: usize) -> Result<Self> {
        let script = root().join("benches/lstm_train.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (ask, answers) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
        let mut answers = BufReader::new(answers);
        let mut version = String::new();
        answers.read_line(&mut version)?;
        Ok(Self { child, ask, answers, version: version.trim().to_owned() })
    }

    fn train(&mut self, steps: usize) -> Result<Took> {
        writeln!(self.ask, "{steps}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let figures = answer.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<f64>, _>>()?;
        let [seconds, cpu_seconds, loss] = figures[..] else { return Err("PyTorch has stopped".into()) };
        Ok(Took { seconds, cpu_seconds, loss })
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
