//! The unit with the fewest requests. Rule: every change and every question is done in constant time on average, and ties
//! are broken the same way each time.

/// Units that take requests, by how many they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    /// Units that hold as many requests as their place in this list says.
    levels: Vec<Vec<u32>>,
    /// Level and place in it, by unit.
    places: Vec<Option<(usize, usize)>>,
    /// No unit is below this level.
    lowest: usize,
}

impl Balance {
    /// Takes a unit in; one that is in already only changes its level.
    pub(super) fn set(&mut self, unit: u32, held: u32) {
        self.remove(unit);
        let (index, level) = (unit as usize, held as usize);
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Vec::new());
        }
        self.places[index] = Some((level, self.levels[level].len()));
        self.levels[level].push(unit);
        self.lowest = self.lowest.min(level);
    }

    pub(super) fn remove(&mut self, unit: u32) {
        let Some((level, place)) = self.places.get_mut(unit as usize).and_then(Option::take) else {
            return;
        };
        self.levels[level].swap_remove(place);
        if let Some(moved) = self.levels[level].get(place) {
            self.places[*moved as usize] = Some((level, place));
        }
    }

    /// The unit that holds the fewest requests, and how many those are.
    pub(super) fn least(&mut self) -> Option<(u32, u32)> {
        while self.lowest < self.levels.len() {
            if let Some(unit) = self.levels[self.lowest].last() {
                return Some((*unit, u32::try_from(self.lowest).unwrap_or(u32::MAX)));
            }
            self.lowest += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_is_what_a_look_at_all_would_find(changes in prop::collection::vec((0u32..8, 0u32..9), 0..60)) {
            let (mut balance, mut plain) = (Balance::default(), [None; 8]);
            for (unit, held) in changes {
                // Eight takes the unit out.
                if held == 8 {
                    balance.remove(unit);
                    plain[unit as usize] = None;
                } else {
                    balance.set(unit, held);
                    plain[unit as usize] = Some(held);
                }
                let expected = plain.iter().flatten().min().copied();
                let found = balance.least();
                prop_assert_eq!(found.map(|(_, held)| held), expected);
                prop_assert!(found.is_none_or(|(unit, held)| plain[unit as usize] == Some(held)));
            }
        }
    }
}
