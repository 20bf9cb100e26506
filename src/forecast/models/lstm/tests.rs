//! The kernel's gradients against Burn's automatic differentiation, and the speed-independent promises of training.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, activation};
use prescale_domain::{CalendarEvent, Series, ServiceName, Span, Timestamp};

#[cfg(not(feature = "gpu"))]
use super::TrainingDevice;
use super::{Lstm, LstmSettings};
use crate::models::{Forecaster as _, Lesson};
use crate::past::{Past, Request, no_covariates};
use crate::rows::Rows;

use super::network::{Batch, Layout, Room, backward, forward, loss};
use super::tensors;

mod covariates;

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
            let miss = matrix(&filled, size, 1, &device) - value;
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
    let own_loss = loss(&layout, &batch, &mut room, true).unwrap().mean;
    let own = backward(&layout, &weights, &batch, &mut room);
    let (burn_loss, burn) = by_burn(&layout, &weights, &batch);
    assert!((own_loss - f64::from(burn_loss)).abs() < 1e-5, "{own_loss} {burn_loss}");
    let largest = burn.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(largest > 0.01, "{largest}");
    for (index, (a, b)) in own.iter().zip(&burn).enumerate() {
        assert!((a - b).abs() < 2e-5 * (1.0 + largest), "weight {index}: {a} {b}");
    }
}

#[test]
fn a_forecast_is_the_forward_run_of_training_to_the_bit() {
    let (layout, weights, batch) = small();
    let quantiles = |run: fn(&Layout, &[f32], &Batch, &mut Room)| {
        let mut room = Room::default();
        // What a run leaves behind changes nothing.
        run(&layout, &weights, &batch, &mut room);
        run(&layout, &weights, &batch, &mut room);
        let each = (0..batch.decoder_steps).flat_map(|step| (0..batch.size).map(move |sample| (step, sample)));
        let row = |(step, sample)| (0..layout.levels.len()).map(move |q| (step, sample, q));
        let of = |(step, sample, q)| room.quantile(&layout, &batch, step, sample, q);
        each.flat_map(row).map(of).collect::<Vec<_>>()
    };
    assert_eq!(quantiles(super::network::predict), quantiles(forward));
}

#[test]
fn the_network_over_tensors_is_the_kernels() {
    let (layout, weights, mut batch) = small();
    let device = Device::flex();
    let mut room = Room::default();
    forward(&layout, &weights, &batch, &mut room);
    let own_loss = loss(&layout, &batch, &mut room, true).unwrap();
    let (_, burn) = by_burn(&layout, &weights, &batch);
    let (found, gradient) = tensors::loss_and_gradient(&device, &layout, &weights, &batch).unwrap().unwrap();
    assert_eq!(tensors::loss(&device, &layout, &weights, &batch).unwrap(), Some(found));
    assert!((own_loss.mean - found.mean).abs() < 1e-5 && own_loss.known == found.known, "{own_loss:?} {found:?}");
    assert_eq!(gradient.len(), burn.len());
    let largest = burn.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    for (index, (a, b)) in gradient.iter().zip(&burn).enumerate() {
        assert!((a - b).abs() < 2e-5 * (1.0 + largest), "weight {index}: {a} {b}");
    }
    // A quantile at its bound has no slope, and a batch without a target no loss.
    let bias = layout.count() - layout.levels.len() + layout.middle();
    let far: Vec<f32> = weights.iter().enumerate().map(|(i, w)| if i == bias { 50.0 } else { *w }).collect();
    let (_, gradient) = tensors::loss_and_gradient(&device, &layout, &far, &batch).unwrap().unwrap();
    assert_eq!(gradient[bias], 0.0);
    batch.targets.fill(f32::NAN);
    assert_eq!(tensors::loss_and_gradient(&device, &layout, &weights, &batch).unwrap(), None);
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_gpu_that_this_build_does_not_know_is_refused_with_the_way_out() {
    let histories = BTreeMap::from([("a".into(), history(864, wave))]);
    let mut model = Lstm::new(LstmSettings { device: TrainingDevice::Gpu, ..quick(320) }, 1);
    let error = model.fit(&lesson(&histories)).unwrap_err().to_string();
    assert!(error.contains("--features gpu") && error.contains("device = \"cpu\""), "{error}");
    assert_eq!(TrainingDevice::Gpu.open().unwrap_err().to_string(), error);
    assert!(!TrainingDevice::Gpu.is_built() && TrainingDevice::Cpu.open().is_ok());
}

/// Days of a wave with a campaign in every four hours that doubles the load for half an hour, announced an hour before;
/// `begins` is the window of the four hours that the campaign of that number begins with.
fn campaigns(days: usize, begins: impl Fn(usize) -> usize) -> (BTreeMap<ServiceName, Series>, Vec<CalendarEvent>) {
    let start = Timestamp::from_millis(1_750_032_000_000);
    let step = Span::from_minutes(5);
    let value = |i: usize| {
        let first = begins(i / 48);
        let factor = if (first..first + 6).contains(&(i % 48)) { 2.0 } else { 1.0 };
        Some(factor * (100.0 + 30.0 * (i as f64 / 45.84).sin() + (i * 7919 % 17) as f64))
    };
    let series = Series { start, step, values: (0..days * 288).map(value).collect() };
    let event = |k: usize| {
        let from = start + Span::from_minutes((k * 240 + 5 * begins(k)) as i64);
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
    (BTreeMap::from([("a".into(), series)]), (0..days * 6).map(event).collect())
}

#[test]
fn the_effect_of_campaigns_is_learnt_and_forecast_for_the_windows_that_they_cover() {
    let (histories, events) = campaigns(4, |_| 42);
    let series = &histories[&"a".into()];
    let mut model = Lstm::new(LstmSettings { fit_samples: 16_000, ..LstmSettings::default() }, 1);
    let lesson = Lesson {
        histories: &histories,
        covariates: no_covariates(),
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

/// A small model for what does not depend on its size.
fn quick(fit_samples: usize) -> LstmSettings {
    LstmSettings {
        fit_samples,
        refit_samples: 256,
        update_samples: 128,
        hidden: 8,
        batch: 32,
        ..LstmSettings::default()
    }
}

const LEVELS: [f64; 4] = [0.1, 0.5, 0.9, 0.99];
const HORIZON: usize = 12;

fn lesson(histories: &BTreeMap<ServiceName, Series>) -> Lesson<'_> {
    let end = histories.values().next().unwrap().end();
    let covariates = no_covariates();
    Lesson { histories, covariates, events: &[], train_until: end, end, horizon_steps: HORIZON, levels: &LEVELS }
}

fn request<'a>(service: &'a ServiceName, past: Past<'a>) -> Request<'a> {
    Request { service, past, horizon_steps: HORIZON, levels: &LEVELS, events: &[], now: past.end() }
}

fn history(count: usize, value: impl Fn(usize) -> Option<f64>) -> Series {
    let start = Timestamp::from_millis(1_750_032_000_000);
    Series { start, step: Span::from_minutes(5), values: (0..count).map(value).collect() }
}

fn wave(i: usize) -> Option<f64> {
    Some(100.0 + 60.0 * (i as f64 / 45.84).sin() + (i * 7919 % 23) as f64)
}

#[test]
fn hostile_histories_give_finite_ordered_quantiles_or_an_error() {
    let day = 288;
    let histories: Vec<(&str, Series)> = vec![
        (
            "NaN and infinities",
            history(3 * day, |i| match i % 11 {
                3 => Some(f64::NAN),
                5 => Some(f64::INFINITY),
                7 => Some(-3.0),
                8 => None,
                _ => wave(i),
            }),
        ),
        ("only NaN", history(3 * day, |_| Some(f64::NAN))),
        ("only gaps", history(3 * day, |_| None)),
        ("zeros", history(3 * day, |_| Some(0.0))),
        ("constant", history(3 * day, |_| Some(5.0))),
        ("up by 1e9", history(3 * day, |i| Some(if i < 2 * day { 1.0 } else { 1e9 }))),
        ("down by 1e9", history(3 * day, |i| Some(if i < 2 * day { 1e9 } else { 1.0 }))),
        ("back and forth by 1e9", history(3 * day, |i| Some(if i % 2 == 0 { 1e9 } else { 1.0 }))),
        ("tiny", history(3 * day, |i| wave(i).map(|value| value * 1e-30))),
        ("huge", history(3 * day, |i| wave(i).map(|value| value * 1e27))),
        ("beyond all bounds", history(3 * day, |i| wave(i).map(|value| value * 1e300))),
        ("a single point", history(1, wave)),
        ("two points", history(2, wave)),
        ("nothing", history(0, wave)),
        ("one long gap", history(3 * day, |i| if (day..2 * day).contains(&i) { None } else { wave(i) })),
    ];
    let service = ServiceName::new("a");
    let sound = |name: &str, found: crate::Result<Rows>| {
        let Ok(rows) = found else { return };
        assert_eq!(rows.len(), HORIZON, "{name}");
        for row in &rows {
            assert!(row.iter().all(|value| value.is_finite() && *value >= 0.0) && row.is_sorted(), "{name}: {row:?}");
        }
    };
    let usual = BTreeMap::from([(service.clone(), history(3 * day, wave))]);
    let mut of_usual = Lstm::new(quick(640), 1);
    of_usual.fit(&lesson(&usual)).unwrap();
    for (name, series) in &histories {
        let histories = BTreeMap::from([(service.clone(), series.clone())]);
        let mut model = Lstm::new(quick(320), 1);
        let trained = model.fit(&lesson(&histories));
        for count in [0, 1, 2, day + 7, 2 * day + 1, 3 * day] {
            let past = Past::all(series).first(count);
            if trained.is_ok() {
                sound(name, model.predict(&request(&service, past)));
            }
            sound(name, of_usual.predict(&request(&service, past)));
        }
        // A model that knew better days learns on from such a history, or says why not, and still forecasts.
        let mut model = of_usual.clone();
        drop(model.update(&lesson(&histories)));
        drop(model.refit(&lesson(&histories)));
        sound(name, model.predict(&request(&service, Past::all(&usual[&service]))));
    }
}

#[test]
fn what_is_no_load_is_a_gap() {
    let service = ServiceName::new("a");
    let bad = |i: usize| [f64::NAN, f64::INFINITY, -1.0, 1e31][i % 4];
    let with = history(864, |i| if i % 9 == 4 { Some(bad(i)) } else { wave(i) });
    let without = history(864, |i| if i % 9 == 4 { None } else { wave(i) });
    let forecast = |series: &Series| {
        let histories = BTreeMap::from([(service.clone(), series.clone())]);
        let mut model = Lstm::new(quick(320), 1);
        model.fit(&lesson(&histories)).unwrap();
        model.predict(&request(&service, Past::all(series))).unwrap()
    };
    assert_eq!(forecast(&with), forecast(&without));
}

#[test]
fn a_training_gives_the_same_bytes_with_any_number_of_threads() {
    let histories = BTreeMap::from([("a".into(), history(864, wave)), ("b".into(), history(864, |i| wave(i + 50)))]);
    let bytes = [1, 2, 5].map(|threads| {
        let mut model = Lstm::new(LstmSettings { threads, ..quick(640) }, 3);
        model.fit(&lesson(&histories)).unwrap();
        model.update(&lesson(&histories)).unwrap();
        model.refit(&lesson(&histories)).unwrap();
        model.save()
    });
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
}

#[test]
fn forecasts_side_by_side_are_those_of_each_alone_and_errors_stay_with_their_own() {
    let names: Vec<ServiceName> = (0..60).map(|i| ServiceName::new(&format!("service-{i:02}"))).collect();
    let histories: BTreeMap<_, _> =
        names.iter().enumerate().map(|(k, name)| (name.clone(), history(600, |i| wave(i + 31 * k)))).collect();
    let mut model = Lstm::new(quick(640), 3);
    model.fit(&lesson(&histories)).unwrap();
    let stranger = ServiceName::new("stranger");
    let mut requests: Vec<_> =
        names.iter().enumerate().map(|(k, name)| request(name, Past::all(&histories[name]).first(600 - k))).collect();
    requests.insert(7, request(&stranger, Past::all(&histories[&names[0]])));
    requests.insert(50, Request { horizon_steps: HORIZON + 1, ..requests[0] });
    requests.push(Request { horizon_steps: 3, levels: &[0.25, 0.5], ..requests[0] });
    let together = model.predict_many(&requests);
    assert_eq!(together.len(), requests.len());
    for (index, (request, found)) in requests.iter().zip(together).enumerate() {
        match (found, model.predict(request)) {
            (Ok(found), Ok(alone)) => assert_eq!(found, alone, "{index}"),
            (Err(found), Err(alone)) => assert_eq!(found.to_string(), alone.to_string()),
            (found, alone) => panic!("{index}: {found:?} {alone:?}"),
        }
    }
    assert_eq!(model.predict_many(&[]).len(), 0);
}

#[test]
fn an_hour_and_a_half_can_be_forecast() {
    let service = ServiceName::new("a");
    let mut series = history(2880, wave);
    series.step = Span::from_minutes(1);
    let histories = BTreeMap::from([(service.clone(), series)]);
    let mut model = Lstm::new(quick(320), 1);
    let lesson = Lesson { horizon_steps: 90, ..lesson(&histories) };
    model.fit(&lesson).unwrap();
    let past = Past::all(&histories[&service]);
    let rows = model.predict(&Request { horizon_steps: 90, ..request(&service, past) }).unwrap();
    assert!(rows.len() == 90 && rows.iter().flatten().all(|value| value.is_finite()));
}

#[test]
fn damaged_and_foreign_models_are_refused() {
    let histories = BTreeMap::from([("a".into(), history(864, wave))]);
    let mut model = Lstm::new(quick(320), 1);
    model.fit(&lesson(&histories)).unwrap();
    let saved = String::from_utf8(model.save()).unwrap();
    for cut in [0, 1, saved.len() / 2, saved.len() - 1] {
        assert!(Lstm::load(&saved.as_bytes()[..cut]).is_err(), "{cut}");
    }
    let changed = |from: &str, to: &str| {
        assert!(saved.contains(from), "{from}");
        Lstm::load(saved.replacen(from, to, 1).as_bytes()).err().map(|error| error.to_string())
    };
    assert!(changed("prescale-lstm", "prescale-holt").unwrap().contains("format"));
    assert!(changed("\"version\":2", "\"version\":1").unwrap().contains("version 1"));
    // Another width of the hidden state, of the inputs, of the services: the weights don't fit.
    assert!(changed("\"hidden\":8,\"services\"", "\"hidden\":9,\"services\"").unwrap().contains("weights"));
    assert!(changed("\"encoder_inputs\":6", "\"encoder_inputs\":5").is_some());
    assert!(changed("\"index\":0", "\"index\":7").is_some());
}

#[test]
fn an_announced_campaign_lowers_the_error_of_its_windows_by_half() {
    // At another time of each day, so that nothing but the calendar of events tells.
    let begins = |k: usize| k * 29 % 41;
    let (histories, events) = campaigns(6, begins);
    let (service, series) = (ServiceName::new("a"), &histories[&"a".into()]);
    let train_until = series.start + Span::from_minutes(5 * 1440);
    let errors = [&events[..], &[]].map(|events| {
        let mut model =
            Lstm::new(LstmSettings { fit_samples: 6_000, hidden: 16, fit_rate: 1e-2, ..LstmSettings::default() }, 1);
        let (horizon_steps, levels) = (6, &[0.1, 0.5, 0.9][..]);
        model
            .fit(&Lesson {
                histories: &histories,
                covariates: no_covariates(),
                events,
                train_until,
                end: series.end(),
                horizon_steps,
                levels,
            })
            .unwrap();
        let mut sum = 0.0;
        for target in 5 * 288 + 6..6 * 288 {
            let first = begins(target / 48);
            // Windows that are a quarter of an hour ahead.
            if (first..first + 6).contains(&(target % 48)) {
                let past = Past::all(series).first(target - 3);
                let request = Request { service: &service, past, horizon_steps, levels, events, now: past.end() };
                sum += (model.predict(&request).unwrap()[3][1] - series.values[target].unwrap()).abs();
            }
        }
        sum
    });
    assert!(errors[0] < 0.5 * errors[1], "{errors:?}");
}
