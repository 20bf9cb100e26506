//! Whether a recorded decision is what its recorded inputs give. Rule: compared byte for byte; the split of a wish has inputs
//! of its own, and which units go is what was seen of them.

use prescale_domain::{Decision, SpotSplit};
use thiserror::Error;

use crate::decision::decide;
use crate::spot;

/// A recorded decision that its inputs do not give: made by another version, or changed since.
#[derive(Debug, Error)]
#[error("decision `{id}` is not what its inputs give: recorded {recorded}, recomputed {recomputed}")]
pub struct Difference {
    pub id: String,
    /// Both decisions as JSON, from the first field that differs on.
    pub recorded: String,
    pub recomputed: String,
}

/// Decides again from the recorded inputs; an error says where the results part.
pub fn recompute(decision: &Decision) -> Result<(), Difference> {
    let again = |split: &SpotSplit| Box::new(SpotSplit { plan: spot::plan(&split.inputs), ..split.clone() });
    let split = decision.split.as_deref().map(again);
    let (recorded, recomputed) = (
        to_json(decision),
        to_json(&Decision { split, victims: decision.victims.clone(), ..decide(&decision.inputs) }),
    );
    let Some(first) = first_difference(recorded.as_bytes(), recomputed.as_bytes()) else {
        return Ok(());
    };
    let excerpt = |text: &str| {
        let from = text[..first.min(text.len())].rfind(",\"").map_or(0, |comma| comma + 1);
        text[from..].chars().take(160).collect()
    };
    Err(Difference { id: decision.id.to_string(), recorded: excerpt(&recorded), recomputed: excerpt(&recomputed) })
}

fn to_json(decision: &Decision) -> String {
    serde_json::to_string(decision).unwrap_or_default()
}

/// The first byte that differs, moved back to the start of its character.
fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    let same = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    if same == left.len() && same == right.len() {
        return None;
    }
    let continues = |at: usize| [left, right].iter().any(|text| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80));
    let mut at = same;
    while at > 0 && continues(at) {
        at -= 1;
    }
    Some(at)
}
