//! Why a group does not get what it wants. Rule: asked only where it has been short for a while, and seldom; what AWS says
//! is shown as it is.

use aws_sdk_autoscaling::types::Activity;
use prescale_domain::{Span, Timestamp};
use prescale_telemetry::actuate::LaunchRefused;

/// A group that is short for this long is asked why, and then no oftener.
const PATIENCE: Span = Span::from_minutes(2);

/// What is known of a group's shortage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    short_since: Option<Timestamp>,
    asked: Option<Timestamp>,
    text: Option<String>,
}

impl Trouble {
    /// The group was looked at: whether it is to be asked now.
    pub(crate) fn asks(&mut self, short: bool, now: Timestamp) -> bool {
        if !short {
            *self = Self::default();
            return false;
        }
        let since = *self.short_since.get_or_insert(now);
        let due = self.asked.is_none_or(|asked| now.since(asked) >= PATIENCE);
        let asks = due && now.since(since) >= PATIENCE;
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// The group's last activities, newest first.
    pub(crate) fn told(&mut self, activities: &[Activity], group: &str) {
        let ended = activities.iter().find_map(|activity| Some((activity, activity.status_code()?.as_str())));
        let failed = ended.filter(|(_, status)| matches!(*status, "Failed" | "Cancelled"));
        let text = failed.map(|(activity, status)| {
            let said = activity.status_message().or(activity.cause()).unwrap_or("no reason is given");
            format!("group `{group}` does not get what it wants: {status}: {said}")
        });
        if let Some(text) = text.as_ref().filter(|text| Some(*text) != self.text.as_ref()) {
            LaunchRefused { text }.emit();
        }
        self.text = text;
    }

    pub(crate) fn text(&self) -> Option<String> {
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_asked_when_it_has_been_short_for_a_while_and_seldom() {
        let mut trouble = Trouble::default();
        let asked: Vec<i64> = (0..12)
            .filter(|tick| trouble.asks(true, Timestamp::from_millis(tick * 30_000)))
            .map(|tick| tick * 30)
            .collect();
        assert_eq!(asked, [120, 240]);
        assert!(!trouble.asks(false, Timestamp::from_millis(400_000)));
        assert_eq!(trouble, Trouble::default());
    }

    #[test]
    fn a_failure_is_told_and_forgotten_with_a_success() {
        use aws_sdk_autoscaling::types::ScalingActivityStatusCode::{Failed, InProgress, Successful};
        let activity = |status, message: &str| Activity::builder().status_code(status).status_message(message).build();
        let mut trouble = Trouble::default();
        trouble.told(&[activity(Failed, "We currently do not have sufficient m7i.large capacity")], "web");
        assert!(trouble.text().unwrap().contains("Failed: We currently do not have sufficient m7i.large"));
        trouble.told(&[activity(Successful, ""), activity(Failed, "old")], "web");
        assert_eq!(trouble.text(), None);
        trouble.told(&[activity(InProgress, "")], "web");
        assert_eq!(trouble.text(), None);
    }
}
