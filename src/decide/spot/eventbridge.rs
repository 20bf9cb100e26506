//! Spot notices in EventBridge's envelope. Rule: what is not one of the two events is an error that says what it is.
//!
//! Fields as in the EC2 user guide (spot instance interruption notices; rebalance recommendations). Neither event tells the
//! pool; whoever knows the instance does.

use prescale_domain::{SPOT_NOTICE, SpotNotice, SpotNoticeKind, Timestamp};
use serde::Deserialize;
use thiserror::Error;

/// Detail-types of the two events.
pub const INTERRUPTION: &str = "EC2 Spot Instance Interruption Warning";
pub const REBALANCE: &str = "EC2 Instance Rebalance Recommendation";

/// The envelope, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Envelope {
    pub source: String,
    #[serde(rename = "detail-type")]
    pub detail_type: String,
    pub time: String,
    pub detail: Detail,
}

/// What both events tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Detail {
    #[serde(rename = "instance-id")]
    pub instance_id: String,
    /// `terminate`, `stop` or `hibernate`.
    #[serde(rename = "instance-action")]
    pub instance_action: Option<String>,
}

/// A message that is no spot notice.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    #[error("not an event of EventBridge: {0}")]
    Json(#[from] serde_json::Error),
    #[error("event `{detail_type}` of `{source_name}` is not a spot notice")]
    Other { source_name: String, detail_type: String },
    #[error("event `{0}` names no instance")]
    NoInstance(String),
    #[error("event `{detail_type}`: {cause}")]
    Time { detail_type: String, cause: prescale_domain::TimeError },
}

/// Reads a notice from the JSON of an event.
///
/// # Errors
/// What is not JSON, is another event, or names no instance or no time.
pub fn parse(json: &[u8]) -> Result<SpotNotice, EnvelopeError> {
    serde_json::from_slice::<Envelope>(json)?.notice()
}

impl Envelope {
    /// The notice that it is.
    ///
    /// # Errors
    /// Another event, or no instance or time.
    pub fn notice(&self) -> Result<SpotNotice, EnvelopeError> {
        let kind = match (self.source.as_str(), self.detail_type.as_str()) {
            ("aws.ec2", INTERRUPTION) => SpotNoticeKind::Interruption,
            ("aws.ec2", REBALANCE) => SpotNoticeKind::Rebalance,
            _ => {
                let (source_name, detail_type) = (self.source.clone(), self.detail_type.clone());
                return Err(EnvelopeError::Other { source_name, detail_type });
            }
        };
        if self.detail.instance_id.is_empty() {
            return Err(EnvelopeError::NoInstance(self.detail_type.clone()));
        }
        let time = |cause| EnvelopeError::Time { detail_type: self.detail_type.clone(), cause };
        let at: Timestamp = self.time.parse().map_err(time)?;
        // Hibernation begins at once.
        let hibernates = self.detail.instance_action.as_deref() == Some("hibernate");
        let lost_at = match kind {
            SpotNoticeKind::Rebalance => None,
            SpotNoticeKind::Interruption if hibernates => Some(at),
            SpotNoticeKind::Interruption => Some(at + SPOT_NOTICE),
        };
        Ok(SpotNotice { instance: self.detail.instance_id.clone(), pool: None, kind, at, lost_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(detail_type: &str, detail: &str) -> String {
        format!(
            r#"{{"version": "0", "id": "12345678-1234-1234-1234-123456789012", "detail-type": "{detail_type}",
            "source": "aws.ec2", "account": "123456789012", "time": "2026-11-23T08:00:00Z", "region": "us-east-2",
            "resources": ["arn:aws:ec2:us-east-2a:instance/i-1234567890abcdef0"], "detail": {detail}}}"#
        )
    }

    #[test]
    fn a_warning_says_that_the_unit_is_lost_in_two_minutes() {
        let json = event(INTERRUPTION, r#"{"instance-id": "i-1234567890abcdef0", "instance-action": "terminate"}"#);
        let notice = parse(json.as_bytes()).unwrap();
        assert_eq!((notice.instance.as_str(), notice.kind), ("i-1234567890abcdef0", SpotNoticeKind::Interruption));
        assert_eq!(notice.lost_at.unwrap().to_string(), "2026-11-23T08:02:00Z");
        let json = event(INTERRUPTION, r#"{"instance-id": "i-1", "instance-action": "hibernate"}"#);
        assert_eq!(parse(json.as_bytes()).unwrap().lost_at.unwrap().to_string(), "2026-11-23T08:00:00Z");
    }

    #[test]
    fn a_recommendation_says_no_moment() {
        let notice = parse(event(REBALANCE, r#"{"instance-id": "i-1"}"#).as_bytes()).unwrap();
        assert_eq!((notice.kind, notice.lost_at), (SpotNoticeKind::Rebalance, None));
    }

    #[test]
    fn anything_else_says_what_it_is() {
        let fault = |json: &str| parse(json.as_bytes()).unwrap_err().to_string();
        let other = event("EC2 Instance State-change Notification", r#"{"instance-id": "i-1", "state": "running"}"#);
        assert_eq!(fault(&other), "event `EC2 Instance State-change Notification` of `aws.ec2` is not a spot notice");
        assert_eq!(fault(&event(REBALANCE, "{}")), "event `EC2 Instance Rebalance Recommendation` names no instance");
        assert!(fault("{").starts_with("not an event of EventBridge: "));
        let timeless = event(REBALANCE, r#"{"instance-id": "i-1"}"#).replace("2026-11-23T08:00:00Z", "soon");
        assert!(fault(&timeless).contains("`soon` is not an RFC 3339 time"), "{}", fault(&timeless));
    }
}
