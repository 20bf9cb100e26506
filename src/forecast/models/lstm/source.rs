//! Where the gradients of a training come from: the kernel on the processor, or the tensors on a GPU. Rule: what is drawn,
//! learnt and judged is the same with either; on the processor the result is the same bits with any number of threads.

use super::LstmSettings;
#[cfg(feature = "gpu")]
use super::device;
use super::device::TrainingDevice;
use super::network::{Batch, Layout, Loss, Room, backward, forward, loss};
#[cfg(feature = "gpu")]
use super::tensors;
use super::train::{Sample, assemble};
use crate::error::Result;

/// Parts of each batch whose gradients are added: fixed, so that the number of threads changes nothing.
const PARTS: usize = 2;

/// A part of a batch and the room that it is worked on in.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    batch: Batch,
    room: Room,
}

/// A device that is ready to train, and its room.
pub(super) enum Source {
    Processor(Vec<Part>),
    #[cfg(feature = "gpu")]
    Gpu {
        device: burn::tensor::Device,
        batch: Box<Batch>,
    },
}

impl Source {
    /// Opens the device of the settings.
    ///
    /// # Errors
    /// A GPU that this build does not know or this machine does not have.
    pub(super) fn open(settings: &LstmSettings) -> Result<Self> {
        match settings.device {
            TrainingDevice::Cpu => Ok(Self::Processor(vec![Part::default(); PARTS])),
            #[cfg(feature = "gpu")]
            TrainingDevice::Gpu => Ok(Self::Gpu { device: device::gpu()?.0.clone(), batch: Box::default() }),
            #[cfg(not(feature = "gpu"))]
            TrainingDevice::Gpu => Err(super::device::not_built()),
        }
    }

    /// Loss and gradient over the samples of a drawn batch. `None` where no target is known.
    ///
    /// # Errors
    /// What a GPU says went wrong.
    pub(super) fn gradient<'a, P: Sync>(
        &mut self,
        layout: &Layout,
        weights: &[f32],
        threads: usize,
        picks: &[P],
        sample: &(impl Fn(&P) -> Option<Sample<'a>> + Sync),
    ) -> Result<Option<(f64, Vec<f32>)>> {
        match self {
            Self::Processor(parts) => Ok(by_parts(parts, layout, weights, threads, picks, sample)),
            #[cfg(feature = "gpu")]
            Self::Gpu { device, batch } => {
                let shares: Vec<_> = picks.chunks(picks.len().div_ceil(threads.max(1)).max(1)).collect();
                let work = |picks: &[P]| picks.iter().filter_map(sample).collect::<Vec<_>>();
                let samples: Vec<_> = in_threads(threads, shares, &work).into_iter().flatten().collect();
                assemble(batch, &samples);
                let found = tensors::loss_and_gradient(device, layout, weights, batch)?;
                Ok(found.map(|(loss, gradient)| (loss.mean, gradient)))
            }
        }
    }

    /// The loss over a batch.
    ///
    /// # Errors
    /// As [`Source::gradient`].
    pub(super) fn loss(&mut self, layout: &Layout, weights: &[f32], batch: &Batch) -> Result<Option<Loss>> {
        match self {
            Self::Processor(parts) => {
                let room = &mut parts[0].room;
                forward(layout, weights, batch, room);
                Ok(loss(layout, batch, room, false))
            }
            #[cfg(feature = "gpu")]
            Self::Gpu { device, .. } => tensors::loss(device, layout, weights, batch),
        }
    }
}

/// By the kernel: the parts are fixed and are added in their order.
fn by_parts<'a, P: Sync>(
    parts: &mut [Part],
    layout: &Layout,
    weights: &[f32],
    threads: usize,
    picks: &[P],
    sample: &(impl Fn(&P) -> Option<Sample<'a>> + Sync),
) -> Option<(f64, Vec<f32>)> {
    let each = picks.len().div_ceil(parts.len()).max(1);
    let mut shares = picks.chunks(each);
    let tasks: Vec<_> = parts.iter_mut().map(|part| (part, shares.next().unwrap_or(&[]))).collect();
    let work = |(part, picks): (&mut Part, &[P])| {
        let samples: Vec<_> = picks.iter().filter_map(sample).collect();
        assemble(&mut part.batch, &samples);
        forward(layout, weights, &part.batch, &mut part.room);
        let found = loss(layout, &part.batch, &mut part.room, true)?;
        Some((found, backward(layout, weights, &part.batch, &mut part.room)))
    };
    let found: Vec<_> = in_threads(threads, tasks, &work).into_iter().flatten().collect();
    let known = found.iter().map(|(loss, _)| loss.known).sum::<usize>();
    let mut sum: Option<(f64, Vec<f32>)> = None;
    for (loss, mut gradient) in found {
        let share = loss.known as f64 / known as f64;
        gradient.iter_mut().for_each(|value| *value *= share as f32);
        match &mut sum {
            None => sum = Some((share * loss.mean, gradient)),
            Some((error, all)) => {
                *error += share * loss.mean;
                all.iter_mut().zip(gradient).for_each(|(all, value)| *all += value);
            }
        }
    }
    sum
}

/// Runs `work` on each task, at most as many as `threads` at the same time; results are in the order of the tasks.
fn in_threads<T: Send, R: Send>(threads: usize, tasks: Vec<T>, work: &(impl Fn(T) -> R + Sync)) -> Vec<R> {
    if threads < 2 {
        return tasks.into_iter().map(work).collect();
    }
    let mut tasks = tasks.into_iter();
    let mut results = Vec::new();
    loop {
        let Some(own) = tasks.next() else { return results };
        let others: Vec<T> = tasks.by_ref().take(threads - 1).collect();
        std::thread::scope(|scope| {
            let others: Vec<_> = others.into_iter().map(|task| scope.spawn(move || work(task))).collect();
            results.push(work(own));
            for other in others {
                match other.join() {
                    Ok(result) => results.push(result),
                    // As if it had crashed here: the caller of the training handles that.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
}
