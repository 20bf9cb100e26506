//! An instance. Rule: the state that Auto Scaling tells and the one that EC2 tells are both derived from here.

use prescale_domain::Timestamp;

use crate::market::Tenancy;

/// Where an instance stands in its group, in AWS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lifecycle {
    Pending,
    PendingWait,
    PendingProceed,
    InService,
    Terminating,
    TerminatingWait,
    TerminatingProceed,
    Terminated,
    WarmedPending,
    WarmedPendingWait,
    WarmedPendingProceed,
    WarmedStopped,
    WarmedRunning,
    WarmedHibernated,
    WarmedTerminating,
}

impl Lifecycle {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait => "Pending:Wait",
            Self::PendingProceed => "Pending:Proceed",
            Self::InService => "InService",
            Self::Terminating => "Terminating",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
            Self::Terminated => "Terminated",
            Self::WarmedPending => "Warmed:Pending",
            Self::WarmedPendingWait => "Warmed:Pending:Wait",
            Self::WarmedPendingProceed => "Warmed:Pending:Proceed",
            Self::WarmedStopped => "Warmed:Stopped",
            Self::WarmedRunning => "Warmed:Running",
            Self::WarmedHibernated => "Warmed:Hibernated",
            Self::WarmedTerminating => "Warmed:Terminating",
        }
    }

    /// Serves, or is on the way to.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::PendingProceed | Self::InService)
    }

    /// In the warm pool, or on the way there.
    pub(super) fn is_warm(self) -> bool {
        matches!(
            self,
            Self::WarmedPending
                | Self::WarmedPendingWait
                | Self::WarmedPendingProceed
                | Self::WarmedStopped
                | Self::WarmedRunning
                | Self::WarmedHibernated
        )
    }

    /// Waits in the warm pool to be needed.
    pub(super) fn is_prepared(self) -> bool {
        matches!(self, Self::WarmedStopped | Self::WarmedRunning | Self::WarmedHibernated)
    }

    pub(super) fn is_of_warm_pool(self) -> bool {
        self.is_warm() || self == Self::WarmedTerminating
    }
}

/// A lifecycle action that somebody has to complete.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) hook: String,
    pub(super) token: String,
    pub(super) until: Timestamp,
    /// No heartbeat reaches further.
    pub(super) limit: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) zone: String,
    pub(super) tenancy: Option<Tenancy>,
    pub(super) weight: u32,
    pub(super) launched_at: Timestamp,
    pub(super) lifecycle: Lifecycle,
    /// When its state changes by itself.
    pub(super) due: Option<Timestamp>,
    pub(super) waits: Vec<Wait>,
    pub(super) protected: bool,
    pub(super) healthy: bool,
    /// It was recommended to replace it.
    pub(super) at_risk: bool,
    pub(super) replacement: Option<u64>,
    pub(super) replaces: Option<u64>,
    /// The activity that brings it or takes it away, while that goes on.
    pub(super) activity: Option<String>,
    /// EC2 has ended it, whatever the group knows.
    pub(super) ended_at: Option<Timestamp>,
}

impl Instance {
    pub(super) fn is_spot(&self) -> bool {
        self.tenancy.is_some()
    }

    /// EC2's code and name of the state.
    pub(super) fn ec2_state(&self) -> (u32, &'static str) {
        match self.lifecycle {
            _ if self.ended_at.is_some() => (48, "terminated"),
            Lifecycle::Pending | Lifecycle::WarmedPending => (0, "pending"),
            Lifecycle::Terminating | Lifecycle::TerminatingProceed | Lifecycle::WarmedTerminating => {
                (32, "shutting-down")
            }
            Lifecycle::Terminated => (48, "terminated"),
            Lifecycle::WarmedStopped | Lifecycle::WarmedHibernated => (80, "stopped"),
            _ => (16, "running"),
        }
    }
}
