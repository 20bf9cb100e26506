//! What a training runs on. Rule: a GPU that can't be used is an error that names the way out, never a training on the
//! processor instead, and never a panic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ForecastCrateError, Result};

/// What the LSTM is trained on. Forecasts are made on the processor with either, from the same saved weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingDevice {
    /// The processor: the same bytes from the same seed.
    #[default]
    Cpu,
    /// The machine's fastest GPU, in a build with the cargo feature `gpu`.
    Gpu,
}

impl TrainingDevice {
    /// Whether this build knows it.
    pub const fn is_built(self) -> bool {
        matches!(self, Self::Cpu) || cfg!(feature = "gpu")
    }

    /// Makes it ready, once in a process, and says what it is.
    ///
    /// # Errors
    /// A GPU that this build does not know or this machine does not have.
    pub fn open(self) -> Result<String> {
        match self {
            Self::Cpu => Ok("processor".to_owned()),
            #[cfg(feature = "gpu")]
            Self::Gpu => gpu().map(|(_, name)| name.clone()),
            #[cfg(not(feature = "gpu"))]
            Self::Gpu => Err(not_built()),
        }
    }
}

#[cfg(not(feature = "gpu"))]
pub(super) fn not_built() -> ForecastCrateError {
    let hint = "build with `--features gpu`, or set `device = \"cpu\"`";
    ForecastCrateError::Gpu { reason: "this build knows none".to_owned(), hint }
}

/// The GPU and its name; the same one for the whole process.
#[cfg(feature = "gpu")]
pub(super) fn gpu() -> Result<&'static (burn::tensor::Device, String)> {
    use std::panic::catch_unwind;
    use std::sync::OnceLock;

    static GPU: OnceLock<std::result::Result<(burn::tensor::Device, String), String>> = OnceLock::new();
    // A driver that is installed by half may panic.
    let found = GPU.get_or_init(|| catch_unwind(find).unwrap_or_else(|_| Err("its driver crashed".to_owned())));
    let hint = "install the GPU's driver and the Vulkan loader (libvulkan.so.1), or set `device = \"cpu\"`";
    found.as_ref().map_err(|reason| ForecastCrateError::Gpu { reason: reason.clone(), hint })
}

#[cfg(feature = "gpu")]
fn find() -> std::result::Result<(burn::tensor::Device, String), String> {
    use burn::tensor::Device;
    use burn::tensor::wgpu::wgpu::DeviceType;

    let (device, setup) = Device::wgpu_options().init_with_setup().map_err(|error| error.to_string())?;
    let info = setup.adapter.get_info();
    if info.device_type == DeviceType::Cpu {
        return Err(format!("`{}` is the processor itself", info.name));
    }
    Ok((device, format!("{} ({})", info.name, info.backend)))
}
