//! Why a target could not be observed or changed. Rule: one kind for each thing that an operator would do about it.

use std::fmt;

use prescale_domain::{Decision, Mode};
use thiserror::Error;

/// What was attempted on which target, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A verb phrase, such as `describe group`.
    pub operation: &'static str,
    /// The target in a few words.
    pub target: String,
    pub detail: String,
}

/// A target that could not be observed or changed. Nothing was changed, save perhaps after [`ActuateError::Timeout`] and
/// [`ActuateError::Other`]: there the next observation tells.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ActuateError {
    #[error("{0}\nhint: check the target's name, its region and its account")]
    NotFound(Failure),
    #[error("{0}\nhint: check the credentials, and what they allow")]
    Denied(Failure),
    #[error("{0}\nhint: the account's request rate is used up; look for other callers, or decide less often")]
    Throttled(Failure),
    /// Somebody else changes it at the same time, or it is still busy with the change before.
    #[error("{0}\nhint: another change is under way; the next decision tries again")]
    Conflict(Failure),
    #[error(
        "{0}\nhint: the endpoint accepts connections but does not answer in time; see its health, or raise `timeout`"
    )]
    Timeout(Failure),
    #[error("{0}\nhint: check the network, and the endpoint that is configured")]
    Unreachable(Failure),
    #[error("{0}")]
    Invalid(Failure),
    #[error("{0}\nhint: the next decision tries again; the target's own log may say more")]
    Other(Failure),
}

impl ActuateError {
    /// The kind, as recorded in [`prescale_domain::Outcome::Failed`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Denied(_) => "denied",
            Self::Throttled(_) => "throttled",
            Self::Conflict(_) => "conflict",
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Invalid(_) => "invalid",
            Self::Other(_) => "other",
        }
    }

    /// The same of another target.
    #[must_use]
    pub(crate) fn about(&self, target: &str) -> Self {
        let mut error = self.clone();
        match &mut error {
            Self::NotFound(failure)
            | Self::Denied(failure)
            | Self::Throttled(failure)
            | Self::Conflict(failure)
            | Self::Timeout(failure)
            | Self::Unreachable(failure)
            | Self::Invalid(failure)
            | Self::Other(failure) => target.clone_into(&mut failure.target),
        }
        error
    }

    pub fn failure(&self) -> &Failure {
        match self {
            Self::NotFound(failure)
            | Self::Denied(failure)
            | Self::Throttled(failure)
            | Self::Conflict(failure)
            | Self::Timeout(failure)
            | Self::Unreachable(failure)
            | Self::Invalid(failure)
            | Self::Other(failure) => failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.operation, self.target, self.detail)
    }
}

/// The last guard before a target: a decision that was made to be looked at is never carried out.
pub(crate) fn refuse_unless_act(decision: &Decision, target: String) -> Result<(), ActuateError> {
    let mode = match decision.inputs.mode {
        Mode::Act => return Ok(()),
        Mode::Observe => "observe",
        Mode::Recommend => "recommend",
    };
    Err(ActuateError::Invalid(Failure {
        operation: "apply decision",
        target,
        detail: format!("decision `{}` was made in mode `{mode}`, only mode `act` changes a target", decision.id),
    }))
}
