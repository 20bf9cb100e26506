//! Writing a shadow down piece by piece: what a service is doing, and each of its days. Rule: pieces that are read back give
//! the shadow that wrote them, whatever changed in the configuration since.

use prescale_domain::{ServiceName, Timestamp};

use super::{ServiceShadow, Shadow};

/// One piece of what is known of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub service: ServiceName,
    /// `None` = all but its days.
    pub day: Option<Timestamp>,
    /// `None` = it has gone.
    pub value: Option<String>,
}

impl Shadow {
    /// The pieces that have changed since they were last asked for.
    pub fn changes(&mut self) -> Vec<Kept> {
        let mut changes = Vec::new();
        for (name, service) in &mut self.services {
            if std::mem::take(&mut service.taken) {
                let value = serde_json::to_string(service).ok();
                changes.push(Kept { service: name.clone(), day: None, value });
            }
            for day in std::mem::take(&mut service.touched) {
                let value = service.days.get(&day).and_then(|tally| serde_json::to_string(tally).ok());
                changes.push(Kept { service: name.clone(), day: Some(day), value });
            }
        }
        changes
    }

    /// Takes in pieces that were written down, under the settings of now; those of other services are left out.
    ///
    /// # Errors
    /// A piece that can't be read.
    pub fn restore(&mut self, kept: &[Kept]) -> Result<(), serde_json::Error> {
        for Kept { service, day, value } in kept {
            let (Some(service), Some(value)) = (self.services.get_mut(service), value) else { continue };
            match day {
                Some(day) => drop(service.days.insert(*day, serde_json::from_str(value)?)),
                None => {
                    let read: ServiceShadow = serde_json::from_str(value)?;
                    let days = std::mem::take(&mut service.days);
                    *service = ServiceShadow { settings: service.settings, days, ..read };
                }
            }
        }
        Ok(())
    }
}
