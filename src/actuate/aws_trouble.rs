//! Why a group does not get what it wants. Rule: asked only where it has been short for a while, and seldom; what AWS says
//! is shown as it is.

use aws_sdk_autoscaling::types::Activity;
use prescale_domain::{Span, Timestamp};
use prescale_telemetry::actuate::LaunchRefused;

/// A group that is short for this long is asked why, and then no oftener.
const PATIENCE: Span = Span::from_minutes(2);
/// Where capacity is split, what spot does not give has to come from elsewhere.
const PATIENCE_OF_SPOT: Span = Span::from_secs(30);

/// What is known of a group's shortage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    short_since: Option<Timestamp>,
    asked: Option<Timestamp>,
    text: Option<String>,
    /// Spot instances were what could not be had.
    refuses_spot: bool,
    is_of_spot: bool,
}

impl Trouble {
    /// Of a group whose capacity is split.
    pub(crate) fn of_spot() -> Self {
        Self { is_of_spot: true, ..Self::default() }
    }

    /// The group was looked at: whether it is to be asked now.
    pub(crate) fn asks(&mut self, short: bool, now: Timestamp) -> bool {
        if !short {
            *self = Self { is_of_spot: self.is_of_spot, ..Self::default() };
            return false;
        }
        let since = *self.short_since.get_or_insert(now);
        let patience = if self.is_of_spot { PATIENCE_OF_SPOT } else { PATIENCE };
        let due = self.asked.is_none_or(|asked| now.since(asked) >= patience);
        let asks = due && now.since(since) >= patience;
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
        let launches =
            activities.iter().filter(|one| one.description().is_some_and(|text| text.starts_with("Launching")));
        let mut over = launches.filter(|one| {
            one.status_code().is_some_and(|code| matches!(code.as_str(), "Failed" | "Cancelled" | "Successful"))
        });
        let last = over.next().filter(|one| one.status_code().is_some_and(|code| code.as_str() == "Failed"));
        self.refuses_spot = last.and_then(Activity::status_message).is_some_and(lacks_spot);
    }

    /// The last launch that ended was one of spot instances, and there were none.
    pub(crate) fn refuses_spot(&self) -> bool {
        self.refuses_spot
    }

    pub(crate) fn text(&self) -> Option<String> {
        self.text.clone()
    }
}

/// Whether a launch failed since no spot capacity could be had: pools without, a price or a quota that is too low.
pub(crate) fn lacks_spot(message: &str) -> bool {
    let lacks = [
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "no Spot capacity",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
    ];
    message.contains("Spot") && lacks.iter().any(|word| message.contains(word))
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
    fn a_refusal_of_spot_is_told_from_others() {
        use aws_sdk_autoscaling::types::ScalingActivityStatusCode::{Failed, InProgress, Successful};
        let activity = |status, description: &str, message: &str| {
            Activity::builder().status_code(status).description(description).status_message(message).build()
        };
        let launch = "Launching a new EC2 instance";
        let none = "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available \
                    that matches your request. Launching EC2 instance failed.";
        let on_demand = "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have \
                         sufficient m5.large capacity. Launching EC2 instance failed.";
        let quota = "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.";
        let mut trouble = Trouble::of_spot();
        for (activities, refuses) in [
            (vec![activity(Failed, launch, none)], true),
            (vec![activity(Failed, launch, quota)], true),
            (vec![activity(Failed, launch, on_demand)], false),
            // What goes on says nothing yet, and an end of others says nothing of launches.
            (vec![activity(InProgress, launch, ""), activity(Failed, launch, none)], true),
            (vec![activity(Successful, "Terminating EC2 instance: i", ""), activity(Failed, launch, none)], true),
            (vec![activity(Successful, launch, ""), activity(Failed, launch, none)], false),
            (vec![], false),
        ] {
            trouble.told(&activities, "web");
            assert_eq!(trouble.refuses_spot(), refuses, "{activities:?}");
        }
        trouble.told(&[activity(Failed, launch, none)], "web");
        assert!(!trouble.asks(false, Timestamp::from_millis(0)) && !trouble.refuses_spot());
        // Asked sooner than others.
        let asked: Vec<i64> = (0..7).filter(|tick| trouble.asks(true, Timestamp::from_millis(tick * 15_000))).collect();
        assert_eq!(asked, [2, 4, 6]);
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
