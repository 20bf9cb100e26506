//! The weights as a Burn module, stepped by Burn's Adam. Rule: the gradients come from the kernel, so that no graph is
//! recorded; clipping is by their norm over all weights.

use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};

/// Norm above which a gradient is scaled down.
const NORM_MAX: f32 = 1.0;

/// All weights in one vector; the network knows which part is what.
#[derive(Module, Debug)]
struct Flat {
    weights: Param<Tensor<1>>,
}

/// Weights under training.
pub(super) struct Trained {
    module: Option<Flat>,
    adam: ModuleOptimizer,
    device: Device,
}

impl Trained {
    pub(super) fn new(weights: &[f32]) -> Self {
        let device = Device::flex();
        // The optimizer steps parameters of an autodiff device only; gradients live on the device inside it.
        let module = Flat { weights: Param::from_tensor(tensor(weights, &device.clone().autodiff())) };
        Self { module: Some(module), adam: AdamConfig::new().with_epsilon(1e-8).init(), device }
    }

    /// One step against `gradient`; returns the new weights.
    pub(super) fn step(&mut self, rate: f64, mut gradient: Vec<f32>) -> Vec<f32> {
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        if norm > NORM_MAX {
            gradient.iter_mut().for_each(|g| *g *= NORM_MAX / norm);
        }
        let module = self.module.take().expect("put back at the end of each step");
        let mut gradients = GradientsParams::new();
        gradients.register(module.weights.id, tensor(&gradient, &self.device));
        let module = self.adam.step(rate, module, gradients);
        let data = module.weights.val().inner().into_data();
        self.module = Some(module);
        data.try_to_vec::<f32>().expect("the weights are f32")
    }
}

fn tensor(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}
