//! Which transactions ListTransactions shows.

use oncelog_wire::{ErrorCode, Now, ProducerId, Str};
use regex_lite::Regex;

use super::metadata::{TransactionMetadata, TransactionState};

/// What a ListTransactions request asks for. Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    states: Option<Vec<TransactionState>>,
    producer_ids: Vec<ProducerId>,
    longer_than_ms: Option<i64>,
    pattern: Option<Regex>,
}

impl ListFilter {
    /// The filter of a request, and the names in it that are no states. Empty lists, an empty pattern and a negative
    /// duration stand for no condition.
    pub fn new(
        state_names: &[Str],
        producer_ids: &[ProducerId],
        duration_ms: i64,
        pattern: Option<&str>,
    ) -> Result<(ListFilter, Vec<Str>), ErrorCode> {
        let mut states = Vec::new();
        let mut unknown = Vec::new();
        for name in state_names {
            match TransactionState::ALL.into_iter().find(|state| *name == state.name()) {
                Some(state) => states.push(state),
                // Kafka never persists it, but knows the name.
                None if matches!(name.as_str(), "PrepareEpochFence" | "Dead") => {}
                None => unknown.push(name.clone()),
            }
        }
        let pattern = match pattern {
            None | Some("") => None,
            Some(pattern) => Some(whole_match(pattern).map_err(|_| ErrorCode::InvalidRegularExpression)?),
        };
        let filter = ListFilter {
            states: (!state_names.is_empty()).then_some(states),
            producer_ids: producer_ids.to_vec(),
            longer_than_ms: (duration_ms >= 0).then_some(duration_ms),
            pattern,
        };
        Ok((filter, unknown))
    }

    pub(super) fn accepts(&self, transactional_id: &str, metadata: &TransactionMetadata, now: Now) -> bool {
        self.states.as_ref().is_none_or(|states| states.contains(&metadata.state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&metadata.producer.id))
            && self.longer_than_ms.is_none_or(|longer_than| now.wall.ms_since(metadata.start) > longer_than)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(transactional_id))
    }
}

/// `pattern` as an expression that has to match the whole text, as RE2's `matches` does.
fn whole_match(pattern: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use oncelog_wire::Timestamp;

    use super::*;

    fn accepts(filter: &ListFilter, transactional_id: &str, state: TransactionState) -> bool {
        let mut metadata = TransactionMetadata::unowned(ProducerId(7), Timestamp(0));
        metadata.state = state;
        metadata.start = Timestamp(1_000);
        filter.accepts(transactional_id, &metadata, Now { monotonic: Duration::ZERO, wall: Timestamp(1_500) })
    }

    fn names(names: &[&'static str]) -> Vec<Str> {
        names.iter().map(|name| Str::from_static(name)).collect()
    }

    #[test]
    fn without_conditions_everything_is_listed() {
        let (filter, unknown) = ListFilter::new(&[], &[], -1, Some("")).unwrap();
        assert!(accepts(&filter, "a", TransactionState::Empty));
        assert!(unknown.is_empty());
    }

    #[test]
    fn unknown_states_are_echoed_and_match_nothing() {
        let (filter, unknown) =
            ListFilter::new(&names(&["Ongoing", "ongoing", "Dead"]), &[], -1, None).unwrap();
        assert_eq!(unknown, names(&["ongoing"]));
        assert!(accepts(&filter, "a", TransactionState::Ongoing));
        assert!(!accepts(&filter, "a", TransactionState::Empty));
        let (filter, _) = ListFilter::new(&names(&["Nonsense"]), &[], -1, None).unwrap();
        assert!(!accepts(&filter, "a", TransactionState::Empty));
    }

    #[test]
    fn producer_ids_and_durations_narrow_the_list() {
        for (producer_id, duration_ms, expected) in
            [(7, 499, true), (7, 500, false), (8, -1, false), (7, -1, true)]
        {
            let (filter, _) = ListFilter::new(&[], &[ProducerId(producer_id)], duration_ms, None).unwrap();
            assert_eq!(
                accepts(&filter, "a", TransactionState::Ongoing),
                expected,
                "{producer_id} {duration_ms}"
            );
        }
    }

    #[test]
    fn patterns_match_whole_ids() {
        let (filter, _) = ListFilter::new(&[], &[], -1, Some("pay|order-.*")).unwrap();
        assert!(accepts(&filter, "pay", TransactionState::Empty));
        assert!(accepts(&filter, "order-1", TransactionState::Empty));
        assert!(!accepts(&filter, "payment", TransactionState::Empty));
        for bad in ["(", "a)(b", "*", "(?<n"] {
            assert_eq!(
                ListFilter::new(&[], &[], -1, Some(bad)).unwrap_err(),
                ErrorCode::InvalidRegularExpression
            );
        }
    }
}
