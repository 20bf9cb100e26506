//! The profiles that there are, by name.

use std::fmt;
use std::str::FromStr;

use super::ProfileError;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    Diurnal,
    Weekly,
    FlashCrowd,
    Ramp,
    MicroBursts,
    Step,
    Campaign,
    MaintenanceDip,
    GpuInference,
}

impl Profile {
    pub const ALL: [Self; 9] = [
        Self::Diurnal,
        Self::Weekly,
        Self::FlashCrowd,
        Self::Ramp,
        Self::MicroBursts,
        Self::Step,
        Self::Campaign,
        Self::MaintenanceDip,
        Self::GpuInference,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Diurnal => "diurnal",
            Self::Weekly => "weekly",
            Self::FlashCrowd => "flash-crowd",
            Self::Ramp => "ramp",
            Self::MicroBursts => "micro-bursts",
            Self::Step => "step",
            Self::Campaign => "campaign",
            Self::MaintenanceDip => "maintenance-dip",
            Self::GpuInference => "gpu-inference",
        }
    }

    /// What it is like, in a line for `--help`.
    pub fn about(self) -> &'static str {
        match self {
            Self::Diurnal => "a daily cycle",
            Self::Weekly => "a daily cycle with quiet weekends",
            Self::FlashCrowd => "a crowd that nobody announced",
            Self::Ramp => "a steady rise to another level",
            Self::MicroBursts => "bursts of some seconds",
            Self::Step => "two levels in turn",
            Self::Campaign => "a daily cycle with announced campaigns",
            Self::MaintenanceDip => "a daily cycle with a maintenance window each week",
            Self::GpuInference => "inference in business hours, nothing outside",
        }
    }

    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| ProfileError::Unknown { name: text.to_owned() })
    }
}
