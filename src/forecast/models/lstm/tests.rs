//! The kernel's gradients against Burn's automatic differentiation, and the speed-independent promises of training.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, activation};
use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};

use super::{Lstm, LstmSettings};
use crate::models::{Forecaster as _, Lesson};
use crate::past::{Past, Request};

use super::network::{Batch, Layout, Room, backward, forward, loss};

fn small() -> (Layout, Vec<f32>, Batch) {
    let layout =
        Layout { encoder_inputs: 2, decoder_inputs: 3, hidden: 4, services: 2, levels: vec![0.1, 0.5, 0.9, 0.99] };
    let wave = |count: usize, by: f32| (0..count).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
    let mut weights = layout.initial(3, &[0.2, 0.2, 0.2, 0.2]);
    // Larger than at the start of a training, so that every gradient shows.
    weights.iter_mut().zip(wave(layout.count(), 1.7)).for_each(|(weight, w)| *weight += 0.3 * w);
    let (size, encoder_steps, decoder_steps) = (3, 4, 2);
    let batch = Batch {
        size,
        encoder_steps,
        decoder_steps,
        encoder: wave(encoder_steps * size * 2, 0.9),
        decoder: wave(decoder_steps * size * 3, 1.3),
        services: vec![Some(0), Some(1), None],
        bases: vec![11.0, 5.0, 7.0],
        offsets: vec![1.0, 0.5, 0.7],
        units: vec![2.0, 1.0, 3.0],
        targets: vec![12.0, 3.0, f32::NAN, 7.0, 9.0, 1.0],
    };
    (layout, weights, batch)
}

fn matrix(values: &[f32], rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, columns]), device)
}

/// The same network written with Burn's tensors, one operation after the other.
fn by_burn(layout: &Layout, weights: &[f32], batch: &Batch) -> (f32, Vec<f32>) {
    let device = Device::flex().autodiff();
    let all = Tensor::<1>::from_data(TensorData::new(weights.to_vec(), [weights.len()]), &device).require_grad();
    let (h, gates, q, size) = (layout.hidden, 4 * layout.hidden, layout.levels.len(), batch.size);
    let mut at = 0;
    let mut take = |rows: usize, columns: usize| {
        let part = all.clone().narrow(0, at, rows * columns).reshape([rows, columns]);
        at += rows * columns;
        part
    };
    let (ew, eh, eb) = (take(layout.encoder_inputs, gates), take(h, gates), take(1, gates));
    let (dw, dh, db) = (take(layout.decoder_inputs, gates), take(h, gates), take(1, gates));
    let (embedding, ei) = (take(layout.services, 4), take(4, gates));
    let (hs, hi, hb) = (take(h, q), take(layout.decoder_inputs, q), take(1, q));
    let cell = |x: Tensor<2>, h0: Tensor<2>, c0: Tensor<2>, w: &Tensor<2>, u: &Tensor<2>, b: Tensor<2>| {
        let z = x.matmul(w.clone()) + h0.matmul(u.clone()) + b;
        let part = |k: usize| z.clone().slice([0..size, k * h..(k + 1) * h]);
        let c = activation::sigmoid(part(1)) * c0 + activation::sigmoid(part(0)) * part(2).tanh();
        (activation::sigmoid(part(3)) * c.clone().tanh(), c)
    };
    let (mut state, mut memory) = (Tensor::zeros([size, h], &device), Tensor::zeros([size, h], &device));
    for t in 0..batch.encoder_steps {
        let width = size * layout.encoder_inputs;
        let x = matrix(&batch.encoder[t * width..(t + 1) * width], size, layout.encoder_inputs, &device);
        let bias = eb.clone().expand([size, gates]);
        (state, memory) = cell(x, state, memory, &ew, &eh, bias);
    }
    let rows: Vec<Tensor<2>> = batch
        .services
        .iter()
        .map(|service| match service {
            Some(s) => db.clone() + embedding.clone().slice([*s..*s + 1, 0..4]).matmul(ei.clone()),
            None => db.clone(),
        })
        .collect();
    let bias = Tensor::cat(rows, 0);
    let known = batch.targets.iter().filter(|t| !t.is_nan()).count();
    let mut sum = Tensor::<1>::zeros([1], &device);
    for t in 0..batch.decoder_steps {
        let width = size * layout.decoder_inputs;
        let x = matrix(&batch.decoder[t * width..(t + 1) * width], size, layout.decoder_inputs, &device);
        (state, memory) = cell(x.clone(), state, memory, &dw, &dh, bias.clone());
        let o = state.clone().matmul(hs.clone()) + x.matmul(hi.clone()) + hb.clone().expand([size, q]);
        let column = |k: usize| o.clone().slice([0..size, k..k + 1]);
        let gap = |k: usize| column(k).exp().add_scalar(1.0).log();
        let logs = [column(1) - gap(0), column(1), column(1) + gap(2), column(1) + gap(2) + gap(3)];
        for (k, log) in logs.into_iter().enumerate() {
            let value = matrix(&batch.bases, size, 1, &device) * log.exp() - matrix(&batch.offsets, size, 1, &device);
            let targets = &batch.targets[t * size..(t + 1) * size];
            let filled: Vec<f32> = targets.iter().map(|t| if t.is_nan() { 0.0 } else { *t }).collect();
            let mask: Vec<f32> = targets.iter().map(|t| if t.is_nan() { 0.0 } else { 1.0 }).collect();
            let miss = (matrix(&filled, size, 1, &device) - value) / matrix(&batch.units, size, 1, &device);
            let level = layout.levels[k] as f32;
            let loss = miss.clone().mul_scalar(level).max_pair(miss.mul_scalar(level - 1.0));
            sum = sum + (loss * matrix(&mask, size, 1, &device)).sum();
        }
    }
    let loss = sum.div_scalar((known * q) as f32);
    let gradients = loss.backward();
    let gradient = all.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
    (loss.into_data().try_to_vec::<f32>().unwrap()[0], gradient)
}

#[test]
fn the_kernels_gradients_equal_automatic_differentiation() {
    let (layout, weights, batch) = small();
    let mut room = Room::default();
    forward(&layout, &weights, &batch, &mut room);
    let own_loss = loss(&layout, &batch, &mut room, true).unwrap();
    let own = backward(&layout, &weights, &batch, &mut room);
    let (burn_loss, burn) = by_burn(&layout, &weights, &batch);
    assert!((own_loss - f64::from(burn_loss)).abs() < 1e-5, "{own_loss} {burn_loss}");
    let largest = burn.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(largest > 0.01, "{largest}");
    for (index, (a, b)) in own.iter().zip(&burn).enumerate() {
        assert!((a - b).abs() < 2e-5 * (1.0 + largest), "weight {index}: {a} {b}");
    }
}

/// Four days of a wave with a campaign every fourth hour that doubles the load for half an hour, announced an hour before.
fn campaigns() -> (BTreeMap<ServiceName, Series>, Vec<CalendarEvent>) {
    let start = Timestamp::from_millis(1_750_032_000_000);
    let step = Span::from_minutes(5);
    let value = |i: usize| {
        let factor = if i % 48 >= 42 { 2.0 } else { 1.0 };
        Some(factor * (100.0 + 30.0 * (i as f64 / 45.84).sin() + (i * 7919 % 17) as f64))
    };
    let series = Series { start, step, values: (0..4 * 288).map(value).collect() };
    let event = |k: i64| {
        let from = start + Span::from_minutes(k * 240 + 210);
        CalendarEvent {
            id: k.to_string(),
            kind: "campaign".into(),
            services: vec![],
            start: from,
            end: from + Span::from_minutes(30),
            expected_uplift: Some(2.0),
            known_at: from - Span::from_minutes(60),
        }
    };
    (BTreeMap::from([("a".into(), series)]), (0..24).map(event).collect())
}

#[test]
fn the_effect_of_campaigns_is_learnt_and_forecast_for_the_windows_that_they_cover() {
    let (histories, events) = campaigns();
    let series = &histories[&"a".into()];
    let mut model = Lstm::new(LstmSettings { fit_samples: 16_000, ..LstmSettings::default() }, 1);
    let lesson = Lesson {
        histories: &histories,
        events: &events,
        train_until: series.start + Span::from_minutes(3 * 1440),
        end: series.end(),
        horizon_steps: 6,
        levels: &[0.1, 0.5, 0.9],
    };
    model.fit(&lesson).unwrap();
    assert!(model.has_learnt("campaign") && !model.has_learnt("launch"));
    // A quarter of an hour before a campaign: the same moment with its announcement and without.
    let service = ServiceName::new("a");
    let past = Past::all(series).first(3 * 288 + 39);
    let mut medians = Vec::new();
    for known in [&events[..], &[]] {
        let (horizon_steps, levels) = (6, &[0.1, 0.5, 0.9][..]);
        let request = Request { service: &service, past, horizon_steps, levels, events: known, now: past.end() };
        let rows = model.predict(&request).unwrap();
        medians.push((rows[1][1], rows[4][1]));
    }
    let (with, without) = (medians[0], medians[1]);
    assert!(with.1 / with.0 > 1.6, "{medians:?}");
    assert!(with.1 / without.1 > 1.2, "{medians:?}");
}
