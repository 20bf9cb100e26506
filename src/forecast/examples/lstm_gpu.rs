//! The LSTM's training on the GPU beside that on the processor: `lstm_gpu [--quick | --software]`. First the gradients of one batch, which
//! must agree; then how many samples a second either gets through, by width and batch; then the same lesson by both, and the
//! loss on a day that neither has seen. With `--software` the first alone, on a driver that draws by the processor, such as
//! lavapipe, for a machine without a GPU. Rule: generated data only; a disagreement ends it.
//!
//! `cargo run --release -p prescale-forecast --features gpu --example lstm_gpu`.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

// The product's own files: a step of training has no way in from outside.
#[path = "../models/lstm/kernel.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod kernel;
#[path = "../models/lstm/network.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod network;
#[path = "../models/lstm/product.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod product;
#[path = "../models/lstm/tensors.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the product and its tests use all of it")]
mod tensors;
mod error {
    pub(crate) use prescale_forecast::{ForecastCrateError, Result};
}

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::{Device, DeviceKind};
use network::{Batch, Layout, Room, backward, forward, loss};
use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use prescale_forecast::models::{Forecaster as _, Lesson, Lstm, LstmSettings, TrainingDevice};
use prescale_forecast::past::{Past, Request, no_covariates};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The product's shapes.
const ENCODER_STEPS: usize = 36;
const ENCODER_INPUTS: usize = 6;
const DECODER_STEPS: usize = 30;
const DECODER_INPUTS: usize = 32;
/// By ‖difference‖ / ‖gradient‖: both round f32 differently at each of many thousand operations.
const TOLERANCE: f64 = 1e-4;
const DAY_STEPS: usize = 1440;
const DAYS: usize = 9;
const SERVICES: usize = 10;
/// 2026-11-02 is a Monday.
const START: Timestamp = Timestamp::from_millis(1_793_577_600_000);

fn main() -> Fallible<()> {
    let given = |name: &str| std::env::args().any(|argument| argument == name);
    let (quick, software) = (given("--quick"), given("--software"));
    let device = if software {
        Device::wgpu(DeviceKind::Cpu)
    } else {
        println!("trains on: {}", TrainingDevice::Gpu.open()?);
        println!("beside: {} threads of the processor", std::thread::available_parallelism()?);
        Device::wgpu(DeviceKind::DefaultDevice)
    };
    for (hidden, batch) in [(20, 37), (32, 64), (128, 256)] {
        agree(&device, hidden, batch)?;
    }
    if software {
        return Ok(());
    }
    println!("samples/s of loss and gradient: batch, one thread of the processor, GPU, ratio");
    let shapes: &[(usize, usize)] = if quick {
        &[(32, 64)]
    } else {
        &[(32, 64), (32, 512), (32, 4096), (128, 64), (128, 512), (128, 4096), (256, 512), (256, 4096)]
    };
    for (hidden, batch) in shapes {
        rates(&device, *hidden, *batch, if quick { 2.0 } else { 3.0 })?;
    }
    println!("the same lesson: {SERVICES} services, {} days of minutes; loss on the day after", DAYS - 1);
    let lessons: &[(usize, usize, f64, usize)] = if quick {
        &[(32, 64, 3e-3, 640)]
    } else {
        &[(32, 64, 3e-3, 32_000), (32, 512, 1e-2, 64_000), (128, 512, 5e-3, 16_384)]
    };
    for (hidden, batch, fit_rate, fit_samples) in lessons {
        let settings = LstmSettings {
            hidden: *hidden,
            batch: *batch,
            fit_rate: *fit_rate,
            fit_samples: *fit_samples,
            ..LstmSettings::default()
        };
        learn(&settings)?;
    }
    Ok(())
}

/// A layout, weights, and a batch with something to learn in it.
fn generated(hidden: usize, size: usize) -> (Layout, Vec<f32>, Batch) {
    let levels = DEFAULT_QUANTILES.to_vec();
    let layout =
        Layout { encoder_inputs: ENCODER_INPUTS, decoder_inputs: DECODER_INPUTS, hidden, services: SERVICES, levels };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut weights = layout.initial(1, &[0.2; DEFAULT_QUANTILES.len()]);
    weights.iter_mut().for_each(|weight| *weight += random.random_range(-0.05..0.05));
    let mut some =
        |count: usize, from: f32, to: f32| -> Vec<f32> { (0..count).map(|_| random.random_range(from..to)).collect() };
    let decoder = some(DECODER_STEPS * size * DECODER_INPUTS, -1.0, 1.0);
    let bases = some(size, 2.0, 6.0);
    let noise = some(DECODER_STEPS * size, 0.8, 1.25);
    let target = |(place, noise): (usize, f32)| match place % 29 {
        0 => f32::NAN,
        _ => bases[place % size] * noise * (0.3 * decoder[place * DECODER_INPUTS]).exp() - 0.5,
    };
    let targets = noise.into_iter().enumerate().map(target).collect();
    let encoder = some(ENCODER_STEPS * size * ENCODER_INPUTS, -1.0, 1.0);
    let services = (0..size).map(|i| Some(i % (SERVICES + 1)).filter(|service| *service < SERVICES)).collect();
    let (encoder_steps, decoder_steps, offsets) = (ENCODER_STEPS, DECODER_STEPS, vec![0.5; size]);
    (layout, weights, Batch { size, encoder_steps, decoder_steps, encoder, decoder, services, bases, offsets, targets })
}

fn by_kernel(layout: &Layout, weights: &[f32], batch: &Batch, room: &mut Room) -> Fallible<(f64, Vec<f32>)> {
    forward(layout, weights, batch, room);
    let found = loss(layout, batch, room, true).ok_or("no target")?;
    Ok((found.mean, backward(layout, weights, batch, room)))
}

fn by_tensors(device: &Device, layout: &Layout, weights: &[f32], batch: &Batch) -> Fallible<(f64, Vec<f32>)> {
    let found = tensors::loss_and_gradient(device, layout, weights, batch)?;
    Ok(found.map(|(loss, gradient)| (loss.mean, gradient)).ok_or("no target")?)
}

fn agree(device: &Device, hidden: usize, size: usize) -> Fallible<()> {
    let (layout, weights, batch) = generated(hidden, size);
    let (own_loss, own) = by_kernel(&layout, &weights, &batch, &mut Room::default())?;
    let begin = Instant::now();
    let (gpu_loss, gpu) = by_tensors(device, &layout, &weights, &batch)?;
    let first = begin.elapsed().as_secs_f64();
    let again = by_tensors(device, &layout, &weights, &batch)?;
    let same = if again == (gpu_loss, gpu.clone()) { "the same bits again" } else { "other bits again" };
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let apart = norm(&mut own.iter().zip(&gpu).map(|(a, b)| f64::from(a - b)));
    let apart = apart / norm(&mut own.iter().map(|a| f64::from(*a)));
    println!(
        "hidden {hidden}, batch {size}: loss {own_loss:.6} and {gpu_loss:.6}, gradients apart by {apart:.1e} of {} weights, \
         {same}; first run {first:.1} s",
        own.len()
    );
    // NaN is not below.
    if apart < TOLERANCE && gpu.len() == own.len() && (own_loss - gpu_loss).abs() < TOLERANCE * own_loss {
        Ok(())
    } else {
        Err("the gradients disagree".into())
    }
}

/// Runs for some seconds after a first run.
fn rate(size: usize, seconds: f64, mut step: impl FnMut() -> Fallible<()>) -> Fallible<f64> {
    step()?;
    let (begin, mut steps) = (Instant::now(), 0);
    while steps < 2 || begin.elapsed().as_secs_f64() < seconds {
        step()?;
        steps += 1;
    }
    Ok((steps * size) as f64 / begin.elapsed().as_secs_f64())
}

fn rates(device: &Device, hidden: usize, size: usize, seconds: f64) -> Fallible<()> {
    let (layout, weights, batch) = generated(hidden, size);
    let gpu = rate(size, seconds, || by_tensors(device, &layout, &weights, &batch).map(drop))?;
    // The kernel's rate does not depend on the batch, as long as its step stays in the cache.
    let (layout, weights, batch) = generated(hidden, 32);
    let mut room = Room::default();
    let own = rate(32, 0.5 * seconds, || by_kernel(&layout, &weights, &batch, &mut room).map(drop))?;
    println!("  hidden {hidden:>3}: {size:>4}  {own:>9.0} {gpu:>9.0}  {:.2}", gpu / own);
    Ok(())
}

/// A day's wave with noise, another for each service.
fn histories() -> BTreeMap<ServiceName, Series> {
    let history = |service: usize| {
        let value = |i: usize| {
            let wave = (i as f64 / DAY_STEPS as f64 * std::f64::consts::TAU + service as f64).sin();
            Some((100.0 + service as f64) * (1.0 + 0.6 * wave) + ((i * 7919 + service * 104_729) % 37) as f64)
        };
        Series { start: START, step: Span::from_minutes(1), values: (0..DAYS * DAY_STEPS).map(value).collect() }
    };
    (0..SERVICES).map(|service| (ServiceName::new(&format!("service-{service}")), history(service))).collect()
}

fn learn(settings: &LstmSettings) -> Fallible<()> {
    let histories = histories();
    let until = START + Span::from_minutes(((DAYS - 1) * DAY_STEPS) as i64);
    let levels = &DEFAULT_QUANTILES[..];
    let lesson = Lesson {
        histories: &histories,
        covariates: no_covariates(),
        events: &[],
        train_until: until,
        end: until,
        horizon_steps: DECODER_STEPS,
        levels,
    };
    let mut took = Vec::new();
    let threads = std::thread::available_parallelism()?.get();
    // The processor's batches have two parts.
    for (device, threads) in [(TrainingDevice::Cpu, 1), (TrainingDevice::Cpu, 2), (TrainingDevice::Gpu, threads)] {
        let mut saved = Vec::new();
        for _ in 0..if device == TrainingDevice::Gpu { 2 } else { 1 } {
            let mut model = Lstm::new(LstmSettings { device, threads, ..settings.clone() }, 1);
            let begin = Instant::now();
            model.fit(&lesson)?;
            let seconds = begin.elapsed().as_secs_f64();
            println!(
                "  hidden {}, batches of {}, {} samples, {device:?}, {threads} threads: {seconds:.1} s, {:.0} samples/s, loss {:.4}",
                settings.hidden,
                settings.batch,
                settings.fit_samples,
                settings.fit_samples as f64 / seconds,
                unseen(&model, &histories, levels)?,
            );
            saved.push(model.save());
            took.push(seconds);
        }
        if let [one, other] = &saved[..] {
            println!("  the same seed once more on the GPU: {} bytes", if one == other { "the same" } else { "other" });
        }
    }
    println!("  processor / GPU, by time: one thread {:.2}, two {:.2}", took[0] / took[3], took[1] / took[3]);
    Ok(())
}

/// Mean pinball loss on the last day, by the kernel on the processor for both.
fn unseen(model: &Lstm, histories: &BTreeMap<ServiceName, Series>, levels: &[f64]) -> Fallible<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for origin in ((DAYS - 1) * DAY_STEPS..DAYS * DAY_STEPS - DECODER_STEPS).step_by(15) {
        for (service, series) in histories {
            let past = Past::all(series).first(origin);
            let ask = Request { service, past, horizon_steps: DECODER_STEPS, levels, events: &[], now: past.end() };
            for (lead, row) in model.predict(&ask)?.iter().enumerate() {
                let actual = series.values[origin + lead].ok_or("a gap")?;
                for (level, value) in levels.iter().zip(row) {
                    let miss = actual - value;
                    sum += (level * miss).max((level - 1.0) * miss);
                    count += 1.0;
                }
            }
        }
    }
    Ok(sum / count)
}
